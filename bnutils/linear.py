"""The deep linear network of App. A.1: all seeds of an arm in one batched pass, in float64.

A linear network sees nothing of its inputs but their mean and covariance, and so does a normalizer that divides by a
second moment (batch, l2). A few inputs with the same two moments therefore stand in for the thousand, exactly:
`condense`. l1 and l-infinity look at the samples themselves and keep them all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from numbers import Real
from typing import ClassVar, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64
from torch import Tensor
from torch.nn import functional as F

from bnutils import data, models, norms, seeds
from bnutils.train import progress

# Normalizers that are a function of mean and covariance alone.
BY_MOMENTS = ("none", "batch", "l2")
NORMS = (*BY_MOMENTS, "l1", "linf")
FEW = 5  # seeds of a normalizer that needs all samples: a step costs many times that of the others
# What a training logs.
MEASURES = (
    *("squared_error", "diverged", "gradient_norm", "loss_along", "gradient_distance", "beta", "gradient_cosine"),
    *("shift_l2", "shift_cosine", "shift_relative"),
)
SHARES = (1.0, 0.5)  # the sum of squares, and half of it
FIRST_LOSS = 3.54e4  # of the paper's Standard network, Fig. 3b


@dataclass(frozen=True)
class Linear:
    """Everything that a run of the deep linear network needs to know except its arm and its seed.

    From App. A.1: 1000 samples, full batch, 10,000 steps at 1e-6; 1e-7 and the layers from Fig. 3; what is logged
    every 50 steps and the step lengths, in units of the learning rate, from the points of Figs 3b, 10 and 11. Not
    stated in the paper, and fitted to its first hundred steps in chapter 3: variance_x and variance_A of the data's
    entries, `share`, what the loss takes of the sum of squares (1, or 1/2), and `net.last`, what follows the last
    matrix.
    """

    net: models.DeepLinear = field(default_factory=partial(models.DeepLinear, last="affine"))
    samples: int = 1000
    variance_x: float = 1.0
    variance_A: float = 0.25
    share: float = 1.0
    steps: int = 10_000
    probe_every: int = 50
    lrs: tuple[float, ...] = (1e-6, 1e-7)
    seeds: tuple[int, ...] = tuple(range(25))
    layers: tuple[int, ...] = (9, 17)
    etas: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0, 10**1.5)
    fitted: ClassVar[int] = 100  # the open choices are fitted on the steps up to this one, and judged on the rest

    def __post_init__(self):
        for name, low in (("samples", self.net.features + 1), ("steps", 1), ("probe_every", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < low:
                raise ValueError(f"linear {name} is {value!r}: accepted is a whole number of at least {low}")
        for name in ("variance_x", "variance_A", "share"):
            if not isinstance(getattr(self, name), Real) or not getattr(self, name) > 0:
                raise ValueError(f"linear {name} is {getattr(self, name)!r}: accepted is a number above 0")
        if len(set(self.seeds)) < max(2, len(self.seeds)):
            raise ValueError(f"linear seeds {self.seeds!r}: accepted are two or more different ones, for a spread")

    @property
    def words(self) -> str:
        """What it chooses where the paper says nothing."""
        share = "sum" if self.share == 1 else f"{self.share:g} x sum"
        return f"var x {self.variance_x:g}, var A {self.variance_A:g}, {share}, last: {self.net.last}"

    def seeds_of(self, norm: str) -> tuple[int, ...]:
        """The seeds that an arm of this normalizer is trained with: all, or the first few where all samples count."""
        return self.seeds if norm in BY_MOMENTS else self.seeds[:FEW]


class Parameters(NamedTuple):
    """Of all seeds: the matrices, and gamma and beta of the normalizers, for no layer where there is none."""

    W: Float64[Tensor, "layers seeds d d"]
    gamma: Float64[Tensor, "normalized seeds d"]
    beta: Float64[Tensor, "normalized seeds d"]


class Task(NamedTuple):
    """Of all seeds: inputs and targets, and by what their sum of squares is multiplied."""

    x: Float64[Tensor, "seeds d n"]
    y: Float64[Tensor, "seeds d n"]
    weight: float


def condense(x: Float64[Tensor, "samples d"]) -> Float64[Tensor, "few d"]:
    r"""d + 1 samples with the mean and the covariance (1/n) of the given ones.

    .. math:: m + \sqrt{d + 1} \, q_i L^\top

    m is the mean, C the covariance, :math:`L L^\top = C`, and the rows :math:`q_i` of a matrix whose d columns are
    orthonormal and orthogonal to (1, ..., 1). Raises torch's LinAlgError where C is singular.
    """
    mean, few = x.mean(0), x.shape[1] + 1
    root = torch.linalg.cholesky(torch.cov(x.mT, correction=0))
    q, _ = torch.linalg.qr(torch.cat([x.new_ones(few, 1), torch.eye(few, few - 1, dtype=x.dtype)], dim=1))
    return mean + few**0.5 * q[:, 1:] @ root.mT


class Networks:
    """The networks of one arm, one for each seed, with the data and the initial weights that each has by itself.

    by_moments: whether `condense` replaces the samples, which is exact for the normalizers `BY_MOMENTS`.
    """

    def __init__(self, setting: Linear, norm: str, chosen: Sequence[int], *, by_moments: bool | None = None):
        if norm not in NORMS:
            raise ValueError(f"norm {norm!r} of the deep linear network: accepted are {', '.join(NORMS)}")
        by_moments = norm in BY_MOMENTS if by_moments is None else by_moments
        self.setting, self.norm = setting, norm
        tasks = [
            data.gaussian(
                seed,
                samples=setting.samples,
                features=setting.net.features,
                variances=(setting.variance_x, setting.variance_A),
            )
            for seed in chosen
        ]
        inputs = [condense(task.x) if by_moments else task.x for task in tasks]
        x = torch.stack(inputs).mT.contiguous()
        y = torch.stack([task.A for task in tasks]) @ x
        self.task = Task(x, y, setting.share * setting.samples / x.shape[2])
        nets = [
            setting.net.build(partial(norms.make, "none"), generator=seeds.generator(seed, "weights"))
            for seed in chosen
        ]
        W = torch.stack(
            [torch.stack([net[place].linear.weight.detach() for net in nets]) for place in range(len(nets[0]))]
        )
        ones = torch.ones_like(W[..., 0]) if norm != "none" else W.new_ones(0, *W.shape[1:3])
        self.parameters = Parameters(W, ones, torch.zeros_like(ones))

    def layer(self, place: int, parameters: Parameters, h: Tensor) -> Tensor:
        """What layer `place`, counted from 0, makes of h [seeds d n]."""
        h = torch.bmm(parameters.W[place], h)
        last = place == self.setting.net.depth - 1
        if self.norm == "none" or (last and self.setting.net.last == "nothing"):
            return h
        return normalize(h, self.norm, parameters.gamma[place], parameters.beta[place])

    def losses(self, parameters: Parameters, *, first: int = 0, h: Tensor | None = None) -> Float64[Tensor, " seeds"]:
        r"""The loss of each seed, a sum over samples; from layer `first` on, with h as its input.

        .. math:: \mathrm{share} \sum \|f(x) - A x\|^2
        """
        h = self.task.x if h is None else h
        parameters = Parameters(
            *map(tuple, parameters)
        )  # taken apart at once: an index each would cost a full gradient
        for place in range(first, self.setting.net.depth):
            h = self.layer(place, parameters, h)
        return self.task.weight * (h - self.task.y).square().sum((1, 2))

    def gradient(self, parameters: Parameters) -> tuple[Float64[Tensor, " seeds"], Parameters]:
        """The losses, and each seed's gradient of its own."""
        parameters = Parameters(*(part.detach().requires_grad_() for part in parameters))
        losses = self.losses(parameters)
        wanted = parameters if self.norm != "none" else parameters[:1]
        gradient = Parameters(
            *torch.autograd.grad(losses.sum(), wanted), *map(torch.zeros_like, parameters[len(wanted) :])
        )
        if self.norm != "none" and self.setting.net.last == "norm":
            gradient.gamma[-1], gradient.beta[-1] = 0, 0
        return losses.detach(), gradient


def normalize(h: Tensor, norm: str, gamma: Tensor, beta: Tensor) -> Tensor:
    """Batch or lp normalization of each seed's units [seeds d n] over its n samples: what `norms.make` gives."""
    if norm == "batch":
        flat = h.reshape(1, -1, h.shape[2])
        return F.batch_norm(flat, None, None, gamma.reshape(-1), beta.reshape(-1), training=True).view_as(h)
    return norms.lp(h, norm, over=2) * gamma[..., None] + beta[..., None]


def moved(parameters: Parameters, direction: Parameters, eta: float) -> Parameters:
    r""":math:`\theta - \eta v` for the parameters theta and the direction v."""
    return Parameters(*(part.sub(step, alpha=eta) for part, step in zip(parameters, direction, strict=True)))


def inner(a: Parameters, b: Parameters) -> Float64[Tensor, " seeds"]:
    """The inner product over all parameters, of each seed."""
    return sum((one * other).transpose(0, 1).flatten(1).sum(1) for one, other in zip(a, b, strict=True))


class Along(NamedTuple):
    """The loss along each seed's gradient, as in `probes.along`."""

    gradient_norm: Float64[Tensor, " seeds"]
    losses: Float64[Tensor, "seeds etas"]
    distances: Float64[Tensor, "seeds etas"]
    betas: Float64[Tensor, "seeds etas"]
    cosines: Float64[Tensor, "seeds etas"]


def along(networks: Networks, parameters: Parameters, g: Parameters, *, etas: Sequence[float]) -> Along:
    r"""`probes.along` for all seeds at once: loss and gradient along the gradient (Figs 10, 11, 13).

    At :math:`\theta - \eta g` for each eta, theta the `parameters` and g the gradient there. What is not finite is
    infinite, a cosine NaN. Leaves its arguments as they were.
    """
    norm = inner(g, g).sqrt()
    losses, distances, cosines = [], [], []
    for eta in etas:
        loss, there = networks.gradient(moved(parameters, g, eta))
        difference = moved(there, g, 1.0)
        losses.append(loss)
        distances.append(inner(difference, difference).sqrt())
        cosines.append(inner(there, g) / (inner(there, there).sqrt() * norm))
    losses, distances = (torch.stack(each, 1).nan_to_num(torch.inf, torch.inf) for each in (losses, distances))
    betas = distances / (torch.tensor(etas, dtype=norm.dtype) * norm[:, None])
    return Along(norm, losses, distances, betas, torch.stack(cosines, 1))


class Shift(NamedTuple):
    """How far the gradients of some layers move, as in `probes.covariate_shift`."""

    l2: Float64[Tensor, "seeds layers"]
    cosine: Float64[Tensor, "seeds layers"]
    relative: Float64[Tensor, "seeds layers"]


def covariate_shift(
    networks: Networks, parameters: Parameters, g: Parameters, *, lr: float, layers: Sequence[int]
) -> Shift:
    """`probes.covariate_shift` for all seeds at once: Definition 2.1 for the layers, counted from 1 (Fig. 3b).

    g is the gradient at `parameters`, which both stay as they were.
    """
    new, before, shifts = moved(parameters, g, lr), networks.task.x, {}
    for place in range(max(layers)):
        if place + 1 in layers:
            W = list(parameters.W)
            W[place] = W[place].clone().requires_grad_()
            losses = networks.losses(parameters._replace(W=W), first=place, h=before)
            (after,) = torch.autograd.grad(losses.sum(), W[place])
            one, other = g.W[place].flatten(1), after.flatten(1)
            l2 = torch.linalg.vector_norm(one - other, dim=1)
            shifts[place + 1] = l2, F.cosine_similarity(one, other), l2 / torch.linalg.vector_norm(one, dim=1)
        before = networks.layer(place, new, before)
    return Shift(*(torch.stack(each, 1) for each in zip(*(shifts[layer] for layer in layers), strict=True)))


def train(setting: Linear, norm: str, lr: float, chosen: Sequence[int], *, probing: bool = True) -> pd.DataFrame:
    r"""Full-batch gradient descent of all chosen seeds at once (App. A.1).

    .. math:: \theta \gets \theta - \mathrm{lr} \, \nabla L

    A tidy frame with columns seed, step, layer, eta, quantity, value: `squared_error`, the loss, every `probe_every`
    steps and at the last; with `probing` also what `along` and `covariate_shift` measure there, at step lengths in
    units of lr. A seed whose loss is no longer finite has a row `diverged` with the first such step that was looked at,
    and no later rows.
    """
    networks = Networks(setting, norm, chosen)
    parameters = Parameters(*(part.clone() for part in networks.parameters))
    etas = [eta * lr for eta in setting.etas]
    looks = sorted({*range(0, setting.steps + 1, setting.probe_every), setting.steps})
    log: dict[tuple[str, str | None], Tensor] = {}

    def keep(quantity: str, values: Tensor, key: str | None = None) -> None:
        # in one tensor each, made at once: small ones in between would pin the heap, hundreds of megabytes of it
        log.setdefault((quantity, key), values.new_empty(len(looks), *values.shape))[looks.index(step)] = values

    for step in progress(range(setting.steps + 1), unit="step"):
        loss, g = networks.gradient(parameters)
        if step in looks:
            keep("squared_error", loss)
            if probing:
                look = along(networks, parameters, g, etas=etas)
                keep("gradient_norm", look.gradient_norm)
                keep("loss_along", look.losses, "eta")
                keep("gradient_distance", look.distances, "eta")
                keep("beta", look.betas, "eta")
                keep("gradient_cosine", look.cosines, "eta")
                shift = covariate_shift(networks, parameters, g, lr=lr, layers=setting.layers)
                for name, values in shift._asdict().items():
                    keep(f"shift_{name}", values, "layer")
        if step < setting.steps:
            for part, slope in zip(parameters, g, strict=True):
                part.sub_(slope, alpha=lr)  # in place: `moved` would ask for half a megabyte more at every step
    keys = {None: [np.nan], "eta": etas, "layer": setting.layers}
    frames = []
    for (quantity, key), values in log.items():
        index = pd.MultiIndex.from_product([looks, chosen, keys[key]], names=["step", "seed", key or "none"])
        frames.append(pd.DataFrame({"value": values.flatten()}, index).reset_index().assign(quantity=quantity))
    frame = pd.concat(frames, ignore_index=True).reindex(columns=["seed", "step", "layer", "eta", "quantity", "value"])
    return _until_divergence(frame)


def _until_divergence(frame: pd.DataFrame) -> pd.DataFrame:
    loss = frame[(frame.quantity == "squared_error") & ~np.isfinite(frame.value)]
    ends = loss.groupby("seed").step.min()
    kept = frame[frame.step < frame.seed.map(ends).fillna(np.inf)]
    diverged = pd.DataFrame({"seed": ends.index, "step": ends, "quantity": "diverged", "value": ends.astype(float)})
    return pd.concat([kept, diverged], ignore_index=True) if len(ends) else kept


def choices(setting: Linear, *, shares: Sequence[float] = SHARES) -> list[Linear]:
    r"""The setting under every choice that the paper leaves open and that its first loss does not rule out.

    Variances of x and A, the share of the sum of squares, and what follows the last matrix. For n samples of d
    independent features the expected loss of a network that gives 0 is

    .. math:: \mathrm{share} \cdot n \, d^2 \sigma_x^2 \sigma_A^2;

    kept are the choices where it is within a factor 2 of what the paper's Standard network starts with.
    """
    found = []
    for share, x, A, last in product(shares, (0.25, 0.5, 1.0, 2.0, 4.0), (0.1, 0.25, 0.5, 1.0), models.LAST):
        expected = share * setting.samples * setting.net.features**2 * x * A
        if FIRST_LOSS / 2 <= expected <= FIRST_LOSS * 2:
            net = replace(setting.net, last=last)
            found.append(replace(setting, net=net, variance_x=x, variance_A=A, share=share))
    return found


def fit(setting: Linear, *, shares: Sequence[float] = SHARES) -> pd.DataFrame:
    """The losses of every choice of these shares over the first steps: none and batch, at each learning rate.

    A tidy frame as of `train`, with columns arm (the choice in words), norm and lr.
    """
    frames, trained = [], {}
    for choice in progress(choices(setting, shares=shares), unit="choice"):
        short = replace(choice, steps=min(setting.fitted, setting.steps))
        for norm, lr in product(("none", "batch"), setting.lrs):
            # without a normalizer `last` says nothing: such choices share one training
            key = replace(short, net=setting.net) if norm == "none" else short, norm, lr
            if key not in trained:
                trained[key] = train(short, norm, lr, setting.seeds, probing=False)
            frames.append(trained[key].assign(arm=choice.words, norm=norm, lr=lr))
    return pd.concat(frames, ignore_index=True)

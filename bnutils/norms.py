r"""Every normalizer behind one interface: `make(name, channels, layer, ...)` gives what follows a linear map.

The noise of the paper's Algorithm 1 is a normalizer like any other. Open choices of the paper, with ours:

- epsilon and momentum of BatchNorm: torch's defaults, 1e-5 and 0.1 (not stated in the paper); the same for lp. Another
  epsilon can be asked for.
- "average lp norm, computed before the mean shift" (Sec. 3.3, in words only): see `lp`.
- noise comes after the learned gamma and beta, before the non-linearity ("added to BatchNorm layers"), unless it is
  asked for before them.
- :math:`N(\sigma, r_\sigma)`: :math:`r_\sigma` is a standard deviation.
- beyond the paper, over the values of one image and learned for each channel (or feature): see `make`.
- at test time the noise is replaced by its expectation, :math:`a \to E[s] a + E[m] = \frac{1 + n_\sigma}{2} a`, so that
  the layers after it meet the scale they were trained on (the paper shows training accuracy only).
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from bnutils import seeds

NORMS = ("none", "batch", "noisy", "noisy_none", "l1", "l2", "linf")
NORMS += ("layer", "group", "instance", "weight", "rms")  # beyond the paper
EPSILON = 1e-5
PLACES = ("after", "before")  # where noise may stand: after gamma and beta or before them


@dataclass(frozen=True)
class NoiseConstants:
    r"""The four constants of Algorithm 1 (Sec. 2.1 and App. A.2): :math:`n_\mu, n_\sigma, r_\mu, r_\sigma`."""

    n_mu: float = 0.5
    n_sigma: float = 1.25
    r_mu: float = 0.1
    r_sigma: float = 0.1

    def times(self, dose: float) -> "NoiseConstants":
        """The same noise, `dose` times as far from doing nothing: dose 0 is the identity, dose 1 the paper's noise."""
        return NoiseConstants(
            n_mu=dose * self.n_mu,
            n_sigma=1 + dose * (self.n_sigma - 1),
            r_mu=dose * self.r_mu,
            r_sigma=dose * self.r_sigma,
        )


class Noise(nn.Module):
    r"""Algorithm 1: :math:`a_{ij} \gets s_{ij} a_{ij} + m_{ij}`, with distributions that change at every step.

    Per unit j and step :math:`\mu_j` and :math:`\sigma_j`; per sample i and unit j, independently, :math:`m_{ij}` and
    :math:`s_{ij}`:

    .. math::

        \mu_j &\sim U(-n_\mu, n_\mu), \qquad \sigma_j \sim U(1, n_\sigma), \\
        m_{ij} &\sim U(\mu_j - r_\mu, \mu_j + r_\mu), \qquad s_{ij} \sim N(\sigma_j, r_\sigma)

    For [n c h w] a unit is a channel and height and width count as samples; for [n c] a unit is a feature.

    The stream is its own: a draw is a function of (seed, layer, step, shape) alone. Each forward pass in train mode
    takes one draw and moves on by one step; inside `frozen` the step stays, so every pass sees the same draw. In eval
    mode the noise is replaced by its expectation.

    Drawn from 16 random bits each, which is cheaper than torch's samplers (benchmarks/steps.py): the uniform lives on
    65,536 evenly spaced points and the normal on the 65,536 mid-quantiles of its distribution (largest deviate 4.3
    sigma).
    """

    def __init__(self, constants: NoiseConstants, *, seed: int, layer: int):
        super().__init__()
        self.constants, self.seed, self.layer = constants, seed, layer
        self.step = 0
        self.is_frozen = False

    def forward(self, a: Float[Tensor, "n c *hw"]) -> Float[Tensor, "n c *hw"]:
        c = self.constants
        if not self.training:
            return a * ((1 + c.n_sigma) / 2)
        shift, scale = self.draw(a)
        if not self.is_frozen:
            self.step += 1
        return torch.addcmul(shift, scale, a)

    def draw(self, like: Float[Tensor, "n c *hw"]) -> tuple[Float[Tensor, "n c *hw"], Float[Tensor, "n c *hw"]]:
        """The shift m and the scale s of this step, in the shape, type and device of `like`."""
        c, generator = self.constants, seeds.generator(self.seed, "noise", self.layer, self.step, device=like.device)
        units = torch.rand(2, like.shape[1], generator=generator, device=like.device, dtype=like.dtype)
        mu, sigma = (2 * units[0] - 1) * c.n_mu, 1 + units[1] * (c.n_sigma - 1)
        # Units last, as in memory format channels_last: the same values whatever the format, and no transposed copy.
        shape = (like.shape[0], *like.shape[2:], like.shape[1])
        count = like.numel()
        bits = torch.empty(2 * (-(-count // 4)), dtype=torch.int64, device=like.device)
        bits = bits.random_(-(2**63), None, generator=generator).view(torch.int16).view(2, -1)[:, :count]
        # A 16-bit integer k in [-2^15, 2^15) stands for the uniform (k + 1/2) / 2^15 and for a quantile of the normal.
        shift = torch.add(mu + c.r_mu / 2**16, bits[0].view(shape), alpha=c.r_mu / 2**15)
        index = bits[1].int().bitwise_and_(0xFFFF)
        normal = _normal_quantiles(like.dtype, like.device).index_select(0, index).view(shape)
        scale = torch.add(sigma, normal, alpha=c.r_sigma)
        return shift.movedim(-1, 1), scale.movedim(-1, 1)


@cache
def _normal_quantiles(dtype: torch.dtype, device: torch.device) -> Float[Tensor, "65536"]:
    """The standard normal's quantiles at (i + 1/2) / 65,536."""
    return torch.special.ndtri((torch.arange(2**16, dtype=torch.float64) + 0.5) / 2**16).to(device, dtype)


def lp(
    a: Float[Tensor, "..."], norm: str, *, over: int | Sequence[int], epsilon: float = EPSILON
) -> Float[Tensor, "..."]:
    r""":math:`(a - \bar{a}) / N` over the dimensions `over`, N the average lp norm of what was there before the shift.

    With a bar for the mean, for l1, l2 and linf (Sec. 3.3):

    .. math:: N_1 = \overline{|a|} + \epsilon, \qquad N_2 = \sqrt{\overline{a^2} + \epsilon}, \qquad
        N_\infty = \max |a| + \epsilon

    So l2 differs from batch normalization by the uncentred moment alone.
    """
    return (a - a.mean(over, keepdim=True)) / _size(a, norm, over, epsilon)


def _size(a: Tensor, norm: str, over: int | Sequence[int], epsilon: float) -> Tensor:
    if norm == "l2":
        return (a.square().mean(over, keepdim=True) + epsilon).sqrt()
    return epsilon + (a.abs().mean(over, keepdim=True) if norm == "l1" else a.abs().amax(over, keepdim=True))


class Lp(nn.Module):
    """`lp` for each unit over the batch (and height and width), then gamma and beta as in batch normalization.

    In eval mode mean and N are their running averages, as in batch normalization.
    """

    def __init__(self, channels: int, norm: str, *, momentum: float = 0.1, epsilon: float = EPSILON):
        super().__init__()
        self.norm, self.momentum, self.epsilon = norm, momentum, epsilon
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_size", torch.ones(channels))

    def forward(self, a: Float[Tensor, "n c *hw"]) -> Float[Tensor, "n c *hw"]:
        shape = (1, -1, *[1] * (a.dim() - 2))
        if self.training:
            over = [0, *range(2, a.dim())]
            out = lp(a, self.norm, over=over, epsilon=self.epsilon)
            with torch.no_grad():
                self.running_mean.lerp_(a.mean(over), self.momentum)
                self.running_size.lerp_(_size(a, self.norm, over, self.epsilon).flatten(), self.momentum)
        else:
            out = (a - self.running_mean.view(shape)) / self.running_size.view(shape)
        return out * self.weight.view(shape) + self.bias.view(shape)


class RMS(nn.Module):
    r""":math:`\gamma a / \sqrt{\overline{a^2} + \epsilon}`, the mean over all values of an image.

    No shift (Zhang and Sennrich 2019). gamma is one for each channel, as elsewhere, where torch.nn.RMSNorm would have
    one for each pixel.
    """

    def __init__(self, channels: int, *, epsilon: float = EPSILON):
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, a: Float[Tensor, "n c *hw"]) -> Float[Tensor, "n c *hw"]:
        size = nn.functional.rms_norm(a, a.shape[1:], eps=self.epsilon)
        return size * self.weight.view(1, -1, *[1] * (a.dim() - 2))


class Affine(nn.Module):
    r""":math:`\gamma a + \beta`, one of each for a channel: the second half of batch normalization.

    For noise to stand before.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, a: Float[Tensor, "n c *hw"]) -> Float[Tensor, "n c *hw"]:
        shape = (1, -1, *[1] * (a.dim() - 2))
        return torch.addcmul(self.bias.view(shape), self.weight.view(shape), a)


class Weight(nn.Identity):
    r"""Weight normalization (Salimans and Kingma 2016): :math:`W_j = g_j v_j / \|v_j\|`.

    Nothing is done to activations. A row j of W is what makes unit or channel j; it is learned as its length
    :math:`g_j` and its direction :math:`v_j`.
    """

    def take(self, linear: nn.Module) -> None:
        r"""Learn the linear map so from here on.

        :math:`g_j` begins as :math:`\|W_j\|` and :math:`v_j` as :math:`W_j`, so the function stays.
        """
        weight_norm(linear)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Inside, every pass through a noise layer of `model` uses one and the same draw, and no step is used up."""
    layers = [module for module in model.modules() if isinstance(module, Noise)]
    before = [layer.is_frozen for layer in layers]
    try:
        for layer in layers:
            layer.is_frozen = True
        yield
    finally:
        for layer, was in zip(layers, before, strict=True):
            layer.is_frozen = was


def check(name: str, *, noise: str = "after") -> None:
    """Raise ValueError, in one line, for a normalizer that does not exist and a place where noise cannot stand."""
    if name not in NORMS:
        raise ValueError(f"unknown norm {name!r}: accepted are {', '.join(NORMS)}")
    if noise not in PLACES:
        raise ValueError(f"noise {noise!r} gamma and beta: accepted are {', '.join(PLACES)}")


def make(
    name: str,
    channels: int,
    *,
    layer: int,
    spatial: bool,
    seed: int = 0,
    dose: float = 1.0,
    epsilon: float = EPSILON,
    noise: str = "after",
) -> nn.Module:
    """The normalizer `name` for one layer: a module that keeps shape [n c h w] (spatial) or [n c].

    none: the identity. batch: batch normalization with learned gamma and beta (Ioffe and Szegedy 2015). noisy: batch,
    then `Noise`. noisy_none: `Noise` on the layer without batch normalization. l1, l2, linf: `Lp`. `dose` multiplies
    the noise's constants; `seed` and `layer` name its stream. `epsilon` is that of every normalizer that has one;
    `noise` says on which side of gamma and beta the noise of `noisy` stands, "after" or "before".

    Beyond the paper, statistics of each image by itself, with gamma and beta for each channel. layer: over all channels
    and pixels (Ba et al. 2016). group: over groups of channels and all pixels (Wu and He 2018), 32 groups as there, or
    as many as leave each four channels. instance: over the pixels of each channel (Ulyanov et al. 2016); the linear
    layers have one value there, and layer normalization instead. rms: `RMS`. weight: `Weight`, which the network asks
    to take its linear map. Raises ValueError for another name or place.
    """
    check(name, noise=noise)
    if name == "weight":
        return Weight()
    between = name == "noisy" and noise == "before"
    normalizer: list[nn.Module] = [Lp(channels, name, epsilon=epsilon)] if name in ("l1", "l2", "linf") else []
    if name in ("batch", "noisy"):
        kind = nn.BatchNorm2d if spatial else nn.BatchNorm1d
        normalizer.append(kind(channels, eps=epsilon, affine=not between))
    if name in ("noisy", "noisy_none"):
        normalizer.append(Noise(NoiseConstants().times(dose), seed=seed, layer=layer))
    if between:
        normalizer.append(Affine(channels))
    if name == "rms":
        normalizer.append(RMS(channels, epsilon=epsilon))
    if name in ("layer", "group") or (name == "instance" and not spatial):
        groups = math.gcd(32, channels // math.gcd(4, channels)) if name == "group" else 1
        normalizer.append(nn.GroupNorm(groups, channels, eps=epsilon))
    elif name == "instance":
        normalizer.append(nn.InstanceNorm2d(channels, eps=epsilon, affine=True))
    return nn.Sequential(*normalizer)

"""Measurements as pure functions of (model, one batch): no training, no files, the model left as it was."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from bnutils import norms

# A GPU would round the inputs of convolutions to ten bits, and smoothness is a difference of nearly equal gradients.
torch.backends.cudnn.allow_tf32 = False

# loss_of(outputs, targets): the scalar that is trained, penalties included.
Loss = Callable[[Tensor, Tensor], Tensor]


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Inside, `model` can be run in train mode; afterwards, error or not, it is as before.

    Buffers (a train-mode pass moves running statistics, also under no_grad), mode of every module, the noise's streams
    and torch's own, of the CPU and of the GPUs that hold the model, are put back. What a module draws inside, as
    dropout does, it draws alike at every call. Parameters and `.grad` are the caller's to leave alone. A copy made
    inside would keep the hooks.
    """
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    modes = [(module, module.training) for module in model.modules()]
    devices = sorted({each.device.index for each in model.parameters() if each.is_cuda})
    generators = [torch.default_generator, *(torch.cuda.default_generators[index] for index in devices)]
    hooks = []
    try:
        with torch.random.fork_rng(devices), norms.frozen(model):
            start = int(torch.randint(2**31, (), device="cpu"))
            for place, module in enumerate(model.modules()):
                hooks.append(module.register_forward_pre_hook(partial(_seed, generators, start + place)))
            yield
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


def _seed(generators: Sequence[torch.Generator], seed: int, *_: object) -> None:
    for generator in generators:
        generator.manual_seed(seed)


class Penalised(nn.Module):
    r"""A network together with the penalty that is part of its training loss; what `Penalised.loss` takes.

    .. math:: L(w) = \frac{1}{m} \sum_b \mathrm{ce}(f_w(x_b), y_b) + \frac{1}{2} \mathrm{decay} \sum w^2

    The sum is over the weights of linear maps (parameters of two dimensions or more), as in `train.train`. Its
    parameters, buffers and mode are the network's own.
    """

    def __init__(self, network: nn.Module, decay: float):
        super().__init__()
        self.network, self.decay = network, decay

    def forward(self, x: Tensor) -> tuple[Tensor, Float[Tensor, ""]]:
        """Logits and penalty."""
        weights = (each for each in self.network.parameters() if each.dim() > 1)
        return self.network(x), self.decay / 2 * sum(weight.square().sum() for weight in weights)

    @staticmethod
    def loss(output: tuple[Tensor, Float[Tensor, ""]], y: Tensor) -> Float[Tensor, ""]:
        """Mean cross-entropy plus penalty, in nats."""
        logits, penalty = output
        return nn.functional.cross_entropy(logits, y) + penalty


@torch.no_grad()
def loss(model: nn.Module, loss_of: Loss, x: Tensor, y: Tensor) -> Float[Tensor, ""]:
    """The loss :math:`L(w)` on the batch (x, y), in train mode, with one draw of the noise: what is trained.

    One forward pass. Leaves parameters, buffers, gradients, mode and random streams as they were.
    """
    with untouched(model):
        model.train()
        return loss_of(model(x), y)


@torch.no_grad()
def activations(model: nn.Module, x: Tensor, *, layers: Sequence[int]) -> dict[int, Float[Tensor, "samples units"]]:
    """What leaves the normalizer of each layer, before the non-linearity, for the batch x in train mode.

    Where there is no normalizer this is the linear map's own output: the same place in every arm. For convolutions
    height and width count as samples (the paper's App. A.2.1). Shapes: samples = n h w, units = channels. Leaves
    parameters, buffers, gradients, mode and random streams as they were. Raises ValueError for a layer the network
    has not.
    """
    seen: dict[int, Tensor] = {}
    hooks = []
    try:
        for number in layers:
            module = model.layer(number).norm
            hooks.append(module.register_forward_hook(lambda _m, _i, out, number=number: seen.__setitem__(number, out)))
        with untouched(model):
            model.train()
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return {number: out.movedim(1, -1).reshape(-1, out.shape[1]) for number, out in seen.items()}


def moments(a: Float[Tensor, "samples units"]) -> tuple[Float[Tensor, " units"], Float[Tensor, " units"]]:
    r"""Mean and variance of each unit over the batch of m samples (Fig. 8).

    .. math:: \mu_j = \frac{1}{m} \sum_i a_{ij}, \qquad \sigma^2_j = \frac{1}{m} \sum_i (a_{ij} - \mu_j)^2
    """
    variance, mean = torch.var_mean(a, dim=0, correction=0)
    return mean, variance


def histogram(a: Float[Tensor, " samples"]) -> tuple[Float[Tensor, " bins"], Float[Tensor, " bins"]]:
    r"""Centres and densities of equal bins from the smallest to the largest value (Figs 1c, 2).

    As many bins as Rice's rule asks for, :math:`2 n^{1/3}` of n samples, and 40 at most: a linear layer has few
    samples.

    .. math:: \mathrm{density}_b = \frac{\mathrm{count}_b}{n \cdot \mathrm{width}}

    The densities times the width sum to 1. No bin is narrower than 1e-6: values that are all alike share the first.
    Raises nothing; leaves `a` as it was.
    """
    bins = min(40, math.ceil(2 * len(a) ** (1 / 3)))
    low, high = a.aminmax()
    width = ((high - low) / bins).clamp_min(1e-6)
    index = ((a - low) / width).long().clamp_(0, bins - 1)
    counts = torch.zeros(bins, dtype=a.dtype, device=a.device).index_add_(0, index, torch.ones_like(a))
    centres = low + width * (torch.arange(bins, dtype=a.dtype, device=a.device) + 0.5)
    return centres, counts / (len(a) * width)


class Along(NamedTuple):
    """The loss along one direction, with every step length's values: a tensor [etas] each, and the point itself."""

    loss: Float[Tensor, ""]
    gradient_norm: Float[Tensor, ""]
    losses: Float[Tensor, " etas"]
    distances: Float[Tensor, " etas"]
    betas: Float[Tensor, " etas"]
    cosines: Float[Tensor, " etas"]


def along(
    model: nn.Module,
    loss_of: Loss,
    x: Tensor,
    y: Tensor,
    *,
    etas: Sequence[float],
    random: torch.Generator | None = None,
) -> Along:
    r"""Loss and gradient at :math:`w - \eta v` for each eta, v the gradient g at w (Figs 4, 10, 11, 12, 13; Sec. 3.2).

    .. math:: g_e = \nabla L(w - \eta_e v), \qquad d_e = \|g_e - g\|, \qquad \beta_e = d_e / (\eta_e \|v\|)

    losses are :math:`L(w - \eta_e v)`; distances :math:`d_e`, in the l2 norm over all parameters; betas
    :math:`\beta_e`, the effective beta-smoothness of one step length; cosines those of the angle between :math:`g_e`
    and g: 1 the same direction, -1 turned round (ours). With `random`, v is a random direction as long as g (stated in
    the paper, not drawn). All on the batch (x, y), in train mode, with one draw of the noise. What is not finite at
    some eta is infinite there, and its cosine NaN; where the gradient vanishes, beta and cosine are NaN. One forward
    and backward pass for each eta and one more; no wait for the device. Leaves parameters, buffers, gradients, mode
    and random streams as they were.
    """
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    # One copy that is moved about in place: it keeps the weights' layout in memory, without which another kernel would
    # round differently, and a large network is not laid out anew for each step length.
    point = {name: value.clone().requires_grad_() for name, value in weights.items()}

    def gradient() -> tuple[Tensor, list[Tensor]]:
        with torch.enable_grad():
            loss = loss_of(functional_call(model, point, (x,)), y)
            return loss.detach(), list(torch.autograd.grad(loss, list(point.values())))

    with untouched(model), torch.no_grad():
        model.train()
        loss, g = gradient()
        norm = _norm(g)
        v = g
        if random is not None:
            drawn = [torch.randn(each.shape, generator=random, device=each.device, dtype=each.dtype) for each in g]
            v = [each * (norm / _norm(drawn)) for each in drawn]
        losses, lengths, distances = [], [], []
        for eta in etas:
            for moved, value, step in zip(point.values(), weights.values(), v, strict=True):
                moved.copy_(value).sub_(step, alpha=eta)
            loss_there, there = gradient()
            losses.append(loss_there)
            lengths.append(_norm(there))
            for other, here in zip(there, g, strict=True):
                other.sub_(here)
            distances.append(_norm(there))
    lengths = torch.stack(lengths)
    losses, distances = (torch.stack(each).nan_to_num(math.inf, math.inf) for each in (losses, distances))
    betas = torch.stack([distance / (norm * eta) for distance, eta in zip(distances, etas, strict=True)])
    cosines = (lengths / norm + norm / lengths - distances / lengths * (distances / norm)) / 2
    return Along(loss, norm, losses, distances, betas, cosines.clamp(-1, 1))


def _flat(tensors: Sequence[Tensor]) -> Float[Tensor, " numbers"]:
    """All numbers in one vector."""
    return torch.cat([tensor.flatten() for tensor in tensors])


def _norm(tensors: Sequence[Tensor]) -> Float[Tensor, ""]:
    """The l2 norm of all numbers together."""
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(tensor) for tensor in tensors]))


def gradient_norms(model: nn.Sequential, loss_of: Loss, x: Tensor, y: Tensor) -> dict[int, Float[Tensor, ""]]:
    r"""How long the gradient of each layer is: :math:`\|\partial L / \partial W_i\|`.

    The l2 norm over the layer's linear map, bias included, for every numbered layer i; a normalizer's gamma and beta do
    not count, so that arms compare (ours). On the batch (x, y), in train mode, with one draw of the noise; in units of
    the loss over those of the weights, and not finite where the gradient is not. One forward and backward pass. Leaves
    parameters, buffers, gradients, mode and random streams as they were.
    """
    with untouched(model), torch.enable_grad():
        model.train()
        weights = [
            {
                name: value.detach().requires_grad_()
                for name, value in m.named_parameters()
                if name.startswith("linear.")
            }
            for m in model
        ]
        loss = loss_of(_through(model, weights, x), y)
        gradients = iter(torch.autograd.grad(loss, [value for own in weights for value in own.values()]))
        return {number: _norm([next(gradients) for _ in own]) for number, own in enumerate(weights, start=1)}


def signal_norms(model: nn.Sequential, loss_of: Loss, x: Tensor, y: Tensor) -> dict[int, Float[Tensor, ""]]:
    r"""How long the gradient is on its way back through the layers: :math:`\|\partial L / \partial a_i\|`.

    :math:`a_i` is what leaves the normalizer of the numbered layer i, before its non-linearity: the same place in every
    arm, as for `activations`. The l2 norm over all samples and units, of the loss that is trained, a mean over the
    batch (after Glorot and Bengio 2010, who draw its distribution). On the batch (x, y), in train mode, with one draw
    of the noise; in units of the loss over those of the activations, and not finite where the gradient is not. One
    forward and backward pass. Leaves parameters, buffers, gradients, mode and random streams as they were.
    """
    seen: list[Tensor] = []
    hooks = [layer.norm.register_forward_hook(lambda _m, _i, out: seen.append(out)) for layer in model]
    try:
        with untouched(model), torch.enable_grad():
            model.train()
            gradients = torch.autograd.grad(loss_of(model(x), y), seen)
    finally:
        for hook in hooks:
            hook.remove()
    return {number: torch.linalg.vector_norm(each) for number, each in enumerate(gradients, start=1)}


@contextmanager
def _hessian(
    model: nn.Module, loss_of: Loss, x: Tensor, y: Tensor
) -> Iterator[tuple[Float[Tensor, " weights"], Callable[[Tensor], Tensor]]]:
    """The gradient g at the weights, and v -> Hv with the Hessian H of the loss over all of them, as flat vectors.

    A product is a backward pass through the graph of g, which is built once. Not by curvlinops (3.0.1), which goes
    through torch.func.jacrev: for batch norm with gamma and beta in train mode that gives, without a word, a matrix
    that is not symmetric and not the Hessian (torch 2.14; test_curvlinops_and_autograd_agree).
    """
    with untouched(model), torch.enable_grad():
        model.train()
        weights = {name: value.detach().requires_grad_() for name, value in model.named_parameters()}
        loss, at = loss_of(functional_call(model, weights, (x,)), y), list(weights.values())
        g = _flat(torch.autograd.grad(loss, at, create_graph=True))
        # materialize_grads: a weight in which the loss is linear has a row of zeros
        yield g.detach(), lambda v: _flat(torch.autograd.grad(g, at, v, retain_graph=True, materialize_grads=True))


def curvature(model: nn.Module, loss_of: Loss, x: Tensor, y: Tensor) -> Float[Tensor, ""]:
    r"""Curvature of the loss along its own gradient: :math:`\kappa = g^\top H g / \|g\|^2`.

    g and H are gradient and Hessian of L over all weights, at the weights, on the batch (x, y), in train mode, with one
    draw of the noise. The second-order term of a step,

    .. math:: L(w - \eta g) = L - \|g\|^2 (\eta - \eta^2 \kappa / 2) + O(\eta^3),

    of which `along` sees the losses; its beta tends to :math:`\|Hg\| / \|g\| \ge |\kappa|` but for kinks, and is
    :math:`|\kappa|` only where g is an eigenvector. Theorem 4.2 bounds the same form over one layer's outputs; over the
    weights it is ours. In units of the loss over those of the weights squared; NaN where the gradient vanishes or the
    loss is not finite. Costs three to six plain passes. Leaves parameters, buffers, gradients, mode and random streams
    as they were.
    """
    with _hessian(model, loss_of, x, y) as (g, product):
        v = g / torch.linalg.vector_norm(g)
        return v @ product(v)


def top_eigenvalues(
    model: nn.Module,
    loss_of: Loss,
    x: Tensor,
    y: Tensor,
    *,
    count: int,
    random: torch.Generator,
    normalized: bool = False,
    tolerance: float | None = None,
) -> Float[Tensor, " count"]:
    r"""The `count` largest eigenvalues of the loss's Hessian H over all weights, descending, signs kept (ours).

    :math:`\lambda_1` is the steepest curvature of any direction: a step of gradient descent is stable on the quadratic
    below :math:`\eta = 2 / \lambda_1`. `normalized`: those of :math:`DHD` with D the `filter_norms`, the Hessian over
    weights in units of their own filter's length, which no rescaling of filters changes; in units of the loss. At the
    weights, on the batch (x, y), in train mode, with one draw of the noise. By SciPy's Lanczos (eigsh) from a starting
    vector drawn from `random`, to within `tolerance` of the eigenvalue, by default :math:`\sqrt{\epsilon}` with epsilon
    that of the weights' type (3e-4 in float32, 1.5e-8 in float64); the same generator, the same numbers. All NaN where
    the loss or H is not finite, or if 30 restarts do not converge. About 20 to 50 products with H, ten for one
    eigenvalue with a tolerance given, two to four plain passes each. float64 on the CPU, where Lanczos runs. Raises
    ValueError for a count that is not between 1 and the number of weights less one. Moves `random`, and leaves
    parameters, buffers, gradients, mode and all other random streams as they were.
    """
    # Late: processes that never come here are spared 17 MiB.
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    size = sum(parameter.numel() for parameter in model.parameters())
    if not 1 <= count < size:
        raise ValueError(f"count is {count}: this network has {size} weights, accepted are 1 to {size - 1}")
    start = torch.randn(size, generator=random, device=random.device, dtype=torch.float64).cpu()
    scale = _flat(list(filter_norms(model).values())) if normalized else None
    with _hessian(model, loss_of, x, y) as (g, plain):

        def product(v: Tensor) -> Tensor:
            return plain(v) if scale is None else scale * plain(scale * v)

        # What ARPACK would answer with an error. A dense random vector shows both: it lies in no kernel but that of 0.
        length = torch.linalg.vector_norm(product(start.to(g))).item()
        if length == 0 or not math.isfinite(length):
            return torch.full((count,), 0.0 if length == 0 else math.nan, dtype=torch.float64)
        hessian = LinearOperator(
            (size, size), lambda v: product(torch.from_numpy(v).to(g)).cpu().numpy(), dtype="float64"
        )
        try:
            found = eigsh(
                hessian,
                count,
                which="LA",
                v0=start.numpy(),
                # fewer vectors than SciPy takes by default are enough for a loose tolerance, and fewer products
                ncv=None if tolerance is None else min(size, max(2 * count + 1, 10)),
                tol=torch.finfo(g.dtype).eps ** 0.5 if tolerance is None else tolerance,
                maxiter=30,
                return_eigenvectors=False,
                rng=random.initial_seed(),  # where Lanczos meets an invariant subspace, it draws another vector
            )
        except ArpackNoConvergence:
            return torch.full((count,), math.nan, dtype=torch.float64)
    return torch.from_numpy(found).sort(descending=True).values


def filter_norms(model: nn.Module) -> dict[str, Tensor]:
    """For every weight the length of the filter that it belongs to, in the shape of its parameter.

    A filter is all that goes into one unit: a row of a matrix, the kernel of one output channel (Li et al. 2018; the
    filter-wise operator of Kwon et al. 2021). Of biases, gammas and betas, which belong to no filter, it is the
    absolute value: where a unit is rescaled they are rescaled with it or not at all, so that what is measured in these
    units stays. Leaves everything as it was.
    """
    return {
        name: (
            value.flatten(1).norm(dim=1).view(-1, *[1] * (value.dim() - 1)).expand_as(value)
            if value.dim() > 1
            else value.abs()
        )
        for name, value in ((name, parameter.detach()) for name, parameter in model.named_parameters())
    }


def sharpness(
    model: nn.Module, loss_of: Loss, x: Tensor, y: Tensor, *, radius: float, adaptive: bool = False, ascents: int = 4
) -> Float[Tensor, ""]:
    r"""How far the loss rises within a ball of radius rho (Keskar 2017, Foret 2021).

    .. math:: \max_{\|e\| \le \rho} L(w + e) - L(w)

    `adaptive`: over :math:`\|T^{-1} e\| \le \rho` with T the diagonal matrix of `filter_norms`, a ball in relative
    lengths that no rescaling of filters changes (Kwon et al. 2021). The maximum is sought, not guaranteed: `ascents`
    steps of gradient ascent over :math:`u = T^{-1} e`, each as long as the radius and brought back into the ball, and
    the highest loss met; the first goes to where sharpness-aware minimization would. On the batch (x, y), in train
    mode, with one draw of the noise, in units of the loss. Infinite where a loss met is not finite, 0 where the
    gradient vanishes. One forward and backward pass for each ascent and a forward one. Leaves parameters, buffers,
    gradients, mode and random streams as they were.
    """
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    scales = filter_norms(model) if adaptive else {name: torch.ones_like(value) for name, value in weights.items()}
    moved = {name: torch.zeros_like(value) for name, value in weights.items()}
    losses = []
    with untouched(model), torch.no_grad():
        model.train()
        for _ in range(ascents):
            point = {name: (weights[name] + scales[name] * moved[name]).requires_grad_() for name in weights}
            with torch.enable_grad():
                loss = loss_of(functional_call(model, point, (x,)), y)
                found = torch.autograd.grad(loss, list(point.values()))
            losses.append(loss.detach())
            gradient = {name: scales[name] * each for name, each in zip(weights, found, strict=True)}
            length = _norm(list(gradient.values())).clamp_min(torch.finfo(loss.dtype).tiny)
            for name, each in gradient.items():
                moved[name] += each * (radius / length)
            out = (_norm(list(moved.values())) / radius).clamp_min(1)
            for each in moved.values():
                each /= out
        point = {name: weights[name] + scales[name] * moved[name] for name in weights}
        losses.append(loss_of(functional_call(model, point, (x,)), y))
    return (torch.stack(losses).max() - losses[0]).nan_to_num(math.inf, math.inf)


def around(
    model: nn.Module,
    loss_of: Loss,
    x: Tensor,
    y: Tensor,
    *,
    first: Sequence[float],
    second: Sequence[float],
    random: torch.Generator,
) -> Float[Tensor, "second first"]:
    """The loss :math:`L(w + a d + b d')` for each a of `first`, b of `second`.

    A surface, or a curve where second is (0,). d and :math:`d'` are filter-normalized random directions (Li et al.
    2018): Gaussian, each filter as long as the network's own (`filter_norms`), and zero for biases, gammas and betas.
    At 1 a filter has moved as far as it is long. On the batch (x, y), in train mode, whose statistics are computed anew
    at every point, with one draw of the noise. Infinite where the loss is not finite. One forward pass for each point.
    The same generator, the same directions, d whatever `second` is. Moves `random`, and leaves parameters, buffers,
    gradients, mode and all other random streams as they were.
    """
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    norms_of = filter_norms(model)
    d, other = (
        {name: _direction(value, norms_of[name], random) for name, value in weights.items() if value.dim() > 1}
        for _ in range(2)
    )
    point = {name: value.clone() for name, value in weights.items()}
    losses = []
    with untouched(model), torch.no_grad():
        model.train()
        for b in second:
            for a in first:
                for name in d:
                    point[name].copy_(weights[name]).add_(d[name], alpha=a).add_(other[name], alpha=b)
                losses.append(loss_of(functional_call(model, point, (x,)), y))
    return torch.stack(losses).nan_to_num(math.inf, math.inf).view(len(second), len(first))


def _direction(value: Tensor, length: Tensor, random: torch.Generator) -> Tensor:
    """A Gaussian direction whose filters are as long as those of `value`."""
    drawn = torch.randn(value.shape, generator=random, device=value.device, dtype=value.dtype)
    return drawn * (length / drawn.flatten(1).norm(dim=1).view(-1, *[1] * (value.dim() - 1)))


class Shift(NamedTuple):
    """How far one layer's gradient moves: l2 distance, cosine of the angle, distance over the gradient's length."""

    l2: Float[Tensor, ""]
    cosine: Float[Tensor, ""]
    relative: Float[Tensor, ""]


def covariate_shift(
    model: nn.Sequential, loss_of: Loss, x: Tensor, y: Tensor, *, lr: float, layers: Sequence[int]
) -> dict[int, Shift]:
    r"""Internal covariate shift of the layers, by Definition 2.1: how an update of the layers before moves a gradient.

    :math:`G_i` is the gradient of the layer's linear map at the weights of now; :math:`G'_i` the same after the layers
    before i have made their step of plain SGD at rate `lr`, layers from i on being as they were.

    .. math::

        \mathrm{l2} = \|G_i - G'_i\|, \qquad
        \mathrm{cosine} = \frac{\langle G_i, G'_i \rangle}{\|G_i\| \|G'_i\|}, \qquad
        \mathrm{relative} = \frac{\mathrm{l2}}{\|G_i\|}

    relative is ours: l2 grows with the scale of the loss. The same batch (x, y) throughout, in train mode, with one
    draw of the noise; the step of a layer moves its normalizer's gamma and beta too. For the first layer l2 is zero.

    The activations before layer i are computed once with the new weights and handed on, and the backward pass stops at
    layer i: of the paper's VGG about a third of a pass for each layer (benchmarks/probes.py). Where a gradient vanishes
    the cosine is 0, and relative infinite or NaN if it is G. `model` is a `models.Network`: layers in a row, each with
    its linear map. Leaves parameters, buffers, gradients, mode and random streams as they were. Raises ValueError for a
    layer that the network has not.
    """
    for number in layers:
        model.layer(number)
    with untouched(model), torch.enable_grad():
        model.train()
        old = [{name: value.detach().clone().requires_grad_() for name, value in m.named_parameters()} for m in model]
        flat = [value for layer in old for value in layer.values()]
        gradients = iter(torch.autograd.grad(loss_of(_through(model, old, x), y), flat))
        steps = [{name: next(gradients) for name in layer} for layer in old]
        shifts, before = {}, x
        for place in range(max(layers, default=0)):
            if place + 1 in layers:
                names = [name for name in old[place] if name.startswith("linear.")]
                wanted = [old[place][name] for name in names]
                after = torch.autograd.grad(loss_of(_through(model[place:], old[place:], before), y), wanted)
                shifts[place + 1] = _shift([steps[place][name] for name in names], after)
            with torch.no_grad():
                new = {name: value - lr * steps[place][name] for name, value in old[place].items()}
                before = functional_call(model[place], new, (before,))
    return {number: shifts[number] for number in layers}


def _through(layers: nn.Sequential, weights: Sequence[dict[str, Tensor]], x: Tensor) -> Tensor:
    """What the layers make of x with these weights."""
    for layer, own in zip(layers, weights, strict=True):
        x = functional_call(layer, own, (x,))
    return x


def _shift(now: Sequence[Tensor], after: Sequence[Tensor]) -> Shift:
    one, other = _flat(now), _flat(after)
    l2 = torch.linalg.vector_norm(one - other)
    return Shift(l2, torch.nn.functional.cosine_similarity(one, other, dim=0), l2 / torch.linalg.vector_norm(one))

r"""Both sides of each theorem of the paper's Sec. 4 and App. C, for one unit of one layer, in float64.

The left side is always autograd through batch normalization itself; the right side is the paper's formula. Two networks
are compared that have the same loss as a function of the layer's outputs z, at the same z:
:math:`\partial\hat{L}/\partial z = \partial L/\partial y`, on which every proof of the paper rests. gamma and beta are
constants. Batch normalization has no epsilon here, as in the paper. Where the paper's formula is misprinted, the form
that its proof gives stands beside the printed one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

# A unit's batch of outputs to the loss: the other units, the layers after and the labels are inside.
Loss = Callable[[Float[Tensor, " m"]], Float[Tensor, ""]]


class Sides(NamedTuple):
    """Both sides of a statement: left and right equal, or left at most right; printed, the right side as the paper
    prints it."""

    left: Float[Tensor, ""]
    right: Float[Tensor, ""]
    printed: Float[Tensor, ""]


class Terms(NamedTuple):
    """What Theorem 4.1 makes of a whole layer's gradient, and what it takes to read Theorem 4.2 as less curvature."""

    scale: Float[Tensor, ""]
    mean: Float[Tensor, ""]
    correlation: Float[Tensor, ""]
    premise: Float[Tensor, ""]


def batch_norm(y: Float[Tensor, " m"], gamma: Tensor, beta: Tensor) -> Float[Tensor, " m"]:
    r""":math:`z = \gamma (y - \mu) / \sigma + \beta` over the batch, by torch's own operation.

    sigma with 1/m and without epsilon.
    """
    columns = (y[:, None], None, None, gamma.reshape(1), beta.reshape(1))
    # torch asks for an epsilon above 0; this one is lost in rounding
    return torch.nn.functional.batch_norm(*columns, training=True, eps=1e-300)[:, 0]


@dataclass(frozen=True)
class Unit:
    r"""One unit of a layer at one moment: its outputs y [m] on the batch, gamma, beta, and the loss as a function of z.

    .. math:: \hat{y} = (y - \mu) / \sigma, \qquad z = \gamma \hat{y} + \beta

    So :math:`\|\hat{y}\|^2 = m` and :math:`\langle 1, \hat{y} \rangle = 0`. :math:`g = \partial L/\partial z` at z,
    which is :math:`\partial L/\partial y` of the network without batch normalization whose outputs are z;
    :math:`u = \partial\hat{L}/\partial y` by autograd. For a convolution a unit is a channel and m = batch x height x
    width. Raises ValueError for outputs that do not vary.
    """

    y: Float[Tensor, " m"]
    gamma: Float[Tensor, ""]
    beta: Float[Tensor, ""]
    loss: Loss

    def __post_init__(self):
        if not self.sigma > 0:
            raise ValueError(f"sigma is {float(self.sigma)}: accepted are outputs that vary over the batch")

    @cached_property
    def sigma(self) -> Float[Tensor, ""]:
        return self.y.std(correction=0)

    @cached_property
    def y_hat(self) -> Float[Tensor, " m"]:
        return (self.y - self.y.mean()) / self.sigma

    @cached_property
    def z(self) -> Float[Tensor, " m"]:
        return batch_norm(self.y, self.gamma, self.beta)

    @cached_property
    def plain(self) -> "Gradient":
        """That of L at z."""
        return Gradient(self.loss, self.z)

    @cached_property
    def normalized(self) -> "Gradient":
        r"""That of :math:`\hat{L}` at y, by autograd through batch normalization."""
        return Gradient(self.normalized_loss, self.y)

    @property
    def g(self) -> Float[Tensor, " m"]:
        return self.plain.value

    @property
    def u(self) -> Float[Tensor, " m"]:
        return self.normalized.value

    @property
    def inner(self) -> Float[Tensor, ""]:
        r""":math:`\langle g, \hat{y} \rangle`, which is :math:`\partial\hat{L}/\partial\gamma`."""
        return self.g @ self.y_hat

    def normalized_loss(self, y: Float[Tensor, " m"]) -> Float[Tensor, ""]:
        r""":math:`\hat{L}(y) = L(\gamma \hat{y} + \beta)`."""
        return self.loss(batch_norm(y, self.gamma, self.beta))


def same_outputs(y: Float[Tensor, " m"], loss: Loss) -> Unit:
    r"""The unit of Observation 4.3: :math:`\gamma = \sigma` and :math:`\beta = \mu`, so that :math:`z = y`."""
    return Unit(y, y.std(correction=0), y.mean(), loss)


class Gradient:
    """The gradient of a function at a point, and quadratic forms with its Hessian there, by autograd: one graph."""

    def __init__(self, function: Loss, at: Tensor):
        self.at = at.detach().requires_grad_()
        self.loss = function(self.at)
        (self.graph,) = torch.autograd.grad(self.loss, self.at, create_graph=True, materialize_grads=True)
        self.value = self.graph.detach()

    def form(self, v: Tensor) -> Float[Tensor, ""]:
        r""":math:`v^\top H v`: one product with H."""
        if not self.graph.requires_grad:  # a linear function
            return torch.zeros_like(v).sum()
        (product,) = torch.autograd.grad(self.graph, self.at, v, retain_graph=True, materialize_grads=True)
        return v @ product


def quadratic_unit(m: int, *, ratio: float, correlation: float, random: torch.Generator) -> Unit:
    r"""A random unit with :math:`\gamma/\sigma` = ratio and :math:`\|g\| = 1`.

    Its g has this correlation with :math:`\hat{y}`: the cosine. :math:`L(z) = \|z - t\|^2 / 2`, so :math:`H = I`, which
    preserves all relative norms. Raises ValueError for a batch below 3, whose z has no third direction.
    """
    if m < 3:
        raise ValueError(f"batch of {m}: accepted are 3 or more")
    y, other = torch.randn(2, m, generator=random, dtype=torch.float64)
    y = 3 * y + 1
    unit = Unit(y, ratio * y.std(correction=0), y.mean(), lambda z: z.square().sum())
    along = unit.y_hat / m**0.5
    across = other - other @ along * along
    g = correlation * along + (1 - correlation**2) ** 0.5 * across / torch.linalg.vector_norm(across)
    target = unit.z - g
    return Unit(y, unit.gamma, unit.beta, lambda z: (z - target).square().sum() / 2)


def network_unit(m: int, *, ratio: float, activation: Loss, random: torch.Generator) -> Unit:
    r"""One of six random units with :math:`\gamma/\sigma` = ratio: two more layers behind it, then cross-entropy."""
    widths, options = (5, 6, 8, 3), {"generator": random, "dtype": torch.float64}
    x = torch.randn(m, widths[0], **options)
    first, second, third = (torch.randn(a, b, **options) / a**0.5 for a, b in zip(widths[:-1], widths[1:], strict=True))
    labels = torch.randint(widths[-1], (m,), generator=random)
    outputs = x @ first
    y, others = 3 * outputs[:, 0] + 1, outputs[:, 1:]

    def loss(z: Tensor) -> Tensor:
        hidden = activation(torch.cat([z[:, None], others], dim=1))
        return torch.nn.functional.cross_entropy(activation(hidden @ second) @ third, labels)

    return Unit(y, ratio * y.std(correction=0), y.mean() / 3, loss)


def jacobian(unit: Unit) -> Float[Tensor, "m m"]:
    r"""Facts C.1 and C.2, the Jacobian of batch normalization.

    .. math:: \frac{\partial z_b}{\partial y_k} =
        \frac{\gamma}{\sigma} \Bigl( 1_{b=k} - \frac{1}{m} - \frac{\hat{y}_b \hat{y}_k}{m} \Bigr)
    """
    m = len(unit.y)
    eye = torch.eye(m, dtype=unit.y.dtype)
    return unit.gamma / unit.sigma * (eye - 1 / m - torch.outer(unit.y_hat, unit.y_hat) / m)


def hessian(unit: Unit, H: Float[Tensor, "m m"]) -> Float[Tensor, "m m"]:
    r"""Eqs 41, 42: the Hessian of :math:`\hat{L}` over y, from H, that of L over z.

    .. math:: (\gamma/\sigma)^2 \Bigl[ P H P - \frac{1}{m \gamma} \Bigl( \bar{g} \hat{y}^\top
        + \hat{y} \bar{g}^\top - \frac{3}{m} \langle g, \hat{y} \rangle \hat{y} \hat{y}^\top
        + \langle g, \hat{y} \rangle (I - \tfrac{1}{m} 1 1^\top) \Bigr) \Bigr]

    P is the Jacobian's projection, :math:`\bar{g}` is g less its mean.
    """
    m, y_hat = len(unit.y), unit.y_hat
    P, centred = jacobian(unit) * unit.sigma / unit.gamma, unit.g - unit.g.mean()
    cross = torch.outer(centred, y_hat)
    centring = torch.eye(m, dtype=y_hat.dtype) - 1 / m
    bent = cross + cross.T - 3 / m * unit.inner * torch.outer(y_hat, y_hat) + unit.inner * centring
    return (unit.gamma / unit.sigma) ** 2 * (P @ H @ P - bent / (m * unit.gamma))


def theorem_4_1(unit: Unit) -> Sides:
    r"""Theorem 4.1, Lipschitzness: an equality.

    .. math:: \|\partial\hat{L}/\partial y\|^2 =
        (\gamma/\sigma)^2 \bigl( \|g\|^2 - \langle 1, g \rangle^2 / m - \langle g, \hat{y} \rangle^2 / m \bigr)

    Printed (v3): :math:`1/\sqrt{m}` in place of the last 1/m. In units of the squared loss over those of y squared.
    """
    m, g = len(unit.y), unit.g
    rest, last = g @ g - g.sum() ** 2 / m, unit.inner**2
    factor = (unit.gamma / unit.sigma) ** 2
    return Sides(unit.u @ unit.u, factor * (rest - last / m), factor * (rest - last / m**0.5))


def theorem_4_2(unit: Unit) -> Sides:
    r"""Theorem 4.2, smoothness, with :math:`u = \partial\hat{L}/\partial y` and H the Hessian of L over z: an equality.

    .. math:: u^\top \frac{\partial^2\hat{L}}{\partial y \partial y} u =
        (\gamma/\sigma)^2 u^\top H u - \frac{\gamma}{m \sigma^2} \langle g, \hat{y} \rangle \|u\|^2

    That is the first line of the theorem. printed: its second line, :math:`g^\top H g` in place of :math:`u^\top H u`,
    stated under the condition that H preserves the relative norms of g and u, which we read as
    :math:`u^\top H u / \|u\|^2 = g^\top H g / \|g\|^2`. Three products with a Hessian.
    """
    left, of_u, of_g = unit.normalized.form(unit.u), unit.plain.form(unit.u), unit.plain.form(unit.g)
    factor = (unit.gamma / unit.sigma) ** 2
    separation = factor * separating(unit)
    return Sides(left, factor * of_u - separation, factor * of_g - separation)


def separating(unit: Unit) -> Float[Tensor, ""]:
    r"""What Theorem 4.2 subtracts inside its bracket: :math:`\kappa = \langle g, \hat{y} \rangle \|u\|^2 / m\gamma`."""
    return unit.inner * (unit.u @ unit.u) / (len(unit.y) * unit.gamma)


def observation_4_3(y: Float[Tensor, " m"], loss: Loss) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    r"""Observation 4.3: with :math:`\gamma = \sigma` and :math:`\beta = \mu` (needed, not printed).

    Then :math:`z = y` and :math:`\hat{L} = L`. Returned are :math:`\|z - y\| / \|y\|` and :math:`|\hat{L} - L| / |L|`:
    zero but for rounding.
    """
    unit = same_outputs(y, loss)
    plain = loss(y)
    lengths = torch.linalg.vector_norm
    return lengths(unit.z - y) / lengths(y), (unit.normalized_loss(y) - plain).abs() / plain.abs()


def steepest(v: Float[Tensor, " m"], *, bound: float) -> Float[Tensor, "m 1"]:
    r"""The input X of spectral norm `bound` that makes :math:`\|X^\top v\|` largest.

    It is bound :math:`v / \|v\|` (a column: more add nothing).
    """
    return bound * v[:, None] / torch.linalg.vector_norm(v)


def theorem_4_4(unit: Unit, *, bound: float) -> Sides:
    r"""Theorem 4.4, Lipschitzness over the weights: an equality.

    The largest :math:`\|\partial\hat{L}/\partial w\|^2` over inputs with :math:`\|X\| \le \lambda`. As in its proof y
    and :math:`\hat{y}` are held fixed while X varies, so :math:`\partial\hat{L}/\partial w = X^\top u` and
    :math:`\partial L/\partial w = X^\top g`. With :math:`G = \max \|X^\top g\|^2` and mu the mean of g

    .. math:: \max \|X^\top u\|^2 = (\gamma/\sigma)^2
        \bigl( G - \lambda^2 m \mu^2 - \lambda^2 \langle g, \hat{y} \rangle^2 / m \bigr).

    Printed (v3), which adds unlike units:

    .. math:: (\gamma/\sigma)^2 \bigl( G^2 - m \mu^2 - \lambda^2 \langle g, \hat{y} \rangle^2 \bigr)

    bound: lambda.
    """
    m, g, factor = len(unit.y), unit.g, (unit.gamma / unit.sigma) ** 2
    left, plain = ((steepest(v, bound=bound).T @ v).square().sum() for v in (unit.u, g))
    taken = m * g.mean() ** 2
    right = factor * (plain - bound**2 * (taken + unit.inner**2 / m))
    return Sides(left, right, factor * (plain**2 - taken - bound**2 * unit.inner**2))


def theorem_4_4_free(unit: Unit, *, bound: float, sigma: float) -> Float[Tensor, ""]:
    r"""The squared gradient of Theorem 4.4 at one input where the outputs :math:`y = Xw` are *not* held fixed.

    :math:`\|\partial\hat{L}/\partial w\|^2` at one X with :math:`\|X\| \le \lambda`. X has two columns,
    :math:`w = (1, 0)`: :math:`y = Xw` is `sigma` times the unit's own :math:`\hat{y}`, which leaves :math:`\hat{y}`, z
    and the loss as they were, and the other column lies along u. The gradient is autograd's, over w. It grows as
    :math:`\sigma^{-2}`: the maximum does not exist. Raises ValueError where lambda is too small for that y.
    """
    y = sigma * unit.y_hat
    if torch.linalg.vector_norm(y) > bound:
        raise ValueError(f"lambda is {bound}: accepted is at least {float(torch.linalg.vector_norm(y)):.3g}")
    X = torch.cat([y[:, None], steepest(unit.u, bound=bound)], dim=1)
    gradient = Gradient(lambda w: unit.normalized_loss(X @ w), torch.tensor([1.0, 0.0], dtype=y.dtype)).value
    return gradient @ gradient


def largest_form(v: Float[Tensor, " m"], H: Float[Tensor, "m m"], *, bound: float) -> Float[Tensor, ""]:
    r"""The largest :math:`v^\top X X^\top H X X^\top v` over :math:`\|X\| \le \lambda`, for any number of columns of X.

    :math:`w = X X^\top v` runs through the ball around :math:`\lambda^2 v / 2` of radius :math:`\lambda^2 \|v\| / 2`,
    so this is the largest quadratic form in a ball: H's eigenvectors, then bisection for the multiplier. Exact but for
    rounding.
    """
    values, vectors = torch.linalg.eigh((H + H.T) / 2)
    centre = bound**2 / 2 * (vectors.T @ v)
    radius = torch.linalg.vector_norm(centre)
    slope = values * centre
    # The step d from the centre solves (t - H) d = H centre with t at least 0 and H's largest eigenvalue, ||d|| =
    # radius, unless t is 0.
    low = values[-1].clamp(min=0)
    high = low + torch.linalg.vector_norm(slope) / radius + 1e-300
    for _ in range(70):
        middle = (low + high) / 2
        outside = torch.linalg.vector_norm(slope / (middle - values)) > radius
        low, high = (middle, high) if outside else (low, middle)
    step = slope / (high - values).clamp(min=1e-300)
    short = radius**2 - step @ step
    if values[-1] > 0 and short > 0:  # the hard case: the rest of the way goes along the steepest eigenvector
        step[-1] = step[-1] + torch.sign(step[-1] + 1e-300) * ((step[-1] ** 2 + short).sqrt() - step[-1].abs())
    w = centre + step
    return (values * w * w).sum().clamp(min=0)


def theorem_c_1(unit: Unit, *, bound: float) -> Sides:
    r"""Theorem C.1, smoothness over the weights, at an input X with :math:`X X^\top = \lambda^2 I`.

    As many columns as samples. By autograd over w, with :math:`y = Xw`, an equality:

    .. math:: \Bigl( \frac{\partial\hat{L}}{\partial w} \Bigr)^\top \frac{\partial^2\hat{L}}{\partial w \partial w}
        \frac{\partial\hat{L}}{\partial w} = \lambda^4 \Bigl( (\gamma/\sigma)^2 u^\top H u
        - \frac{\gamma}{m \sigma^2} \langle g, \hat{y} \rangle \|u\|^2 \Bigr)

    printed: the right side with :math:`g^\top H g` in place of :math:`u^\top H u` at the same X.
    """
    m = len(unit.y)
    # Householder's reflection of y onto the first axis: orthogonal, dense, and a function of y alone
    v = unit.y / torch.linalg.vector_norm(unit.y)
    v[0] = v[0] + torch.sign(v[0] + 1e-300)
    X = bound * (torch.eye(m, dtype=v.dtype) - 2 * torch.outer(v, v) / (v @ v))
    over_weights = Gradient(lambda w: unit.normalized_loss(X @ w), X.T @ unit.y / bound**2)
    _, first, second = theorem_4_2(unit)
    return Sides(over_weights.form(over_weights.value), bound**4 * first, bound**4 * second)


def theorem_c_1_maxima(unit: Unit, *, bound: float) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    r"""Theorem C.1 as printed, both sides: each maximum over :math:`\|X\| \le \lambda` by itself, y held fixed.

    .. math:: \max\, (X^\top u)^\top X^\top \hat{H} X (X^\top u) < (\gamma/\sigma)^2
        \bigl( \max\, (X^\top g)^\top X^\top H X (X^\top g) - \lambda^4 \kappa \bigr)

    kappa is that of `separating`. Both Hessians are autograd's, in full: for small m.
    """
    full = torch.autograd.functional.hessian
    left = largest_form(unit.u, full(unit.normalized_loss, unit.y), bound=bound)
    right = largest_form(unit.g, full(unit.loss, unit.z), bound=bound)
    return left, (unit.gamma / unit.sigma) ** 2 * (right - bound**4 * separating(unit))


def lemma_4_5(
    start: Float[Tensor, "d units"], optimum: Float[Tensor, "d units"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    r"""Lemma 4.5, initialisation, both sides.

    .. math:: \|W_0 - \hat{W}^*\|^2 \le \|W_0 - W^*\|^2 - \frac{(\|W^*\|^2 - \langle W^*, W_0 \rangle)^2}{\|W^*\|^2}

    :math:`W^*` is the optimum of the plain network nearest to :math:`W_0` = start. With batch normalization (gamma,
    beta as in Observation 4.3) :math:`k_j W^*_j` is an optimum for every :math:`k_j > 0`, each unit with its own, since
    :math:`BN(kWx) = BN(Wx)`. :math:`\hat{W}^*` is the nearest of these, found by search. The lemma asks for
    :math:`\langle W_0, W^* \rangle > 0`.
    """
    low, high = (torch.full_like(start[0], value) for value in (-40.0, 10.0))

    def distance(log_k: Tensor) -> Tensor:
        return (start - log_k.exp() * optimum).square().sum(0)

    for _ in range(110):
        first, second = low + (high - low) / 3, high - (high - low) / 3
        nearer = distance(first) < distance(second)
        low, high = torch.where(nearer, low, first), torch.where(nearer, second, high)
    length = (optimum**2).sum()
    plain = (start - optimum).square().sum()
    return distance(low).sum(), plain - (length - (start * optimum).sum()) ** 2 / length


def scale_invariance(unit: Unit, *, times: float) -> Float[Tensor, ""]:
    r"""What Lemma 4.5 rests on: :math:`|\hat{L}(a y) - \hat{L}(y)| / |\hat{L}(y)|` for a > 0, zero but for rounding."""
    before = unit.normalized.loss.detach()
    return (unit.normalized_loss(times * unit.y) - before).abs() / before.abs()


def terms(y: Float[Tensor, "m units"], g: Float[Tensor, "m units"], gamma_over_sigma: Float[Tensor, " units"]) -> Terms:
    r"""Theorem 4.1 summed over the units of a layer.

    .. math:: \sum_j \|u_j\|^2 = \mathrm{scale}^2 (1 - \mathrm{mean} - \mathrm{correlation}) \sum_j \|g_j\|^2

    mean is :math:`\sum_j \langle 1, g_j \rangle^2 / m` over :math:`\sum_j \|g_j\|^2`, correlation
    :math:`\sum_j \langle g_j, \hat{y}_j \rangle^2 / m` over the same: the shares of the squared gradient that the
    theorem's two terms take away. scale is what then remains of :math:`\gamma/\sigma`: its root mean square over units,
    weighted by what is left of each gradient. premise: the share of units with
    :math:`\langle g_j, \hat{y}_j \rangle \ge 0`, weighted by :math:`\|g_j\|^2`, as Theorem 4.2 supposes.
    :math:`g = \partial L/\partial z`.
    """
    m, g = len(y), g / g.abs().max()  # or squares of short gradients vanish in float32
    variance, mu = torch.var_mean(y, dim=0, correction=0)
    inner = (g * (y - mu)).sum(0) / variance.sqrt().clamp(min=1e-30)
    whole, mean, correlation = g.square().sum(0), g.sum(0) ** 2 / m, inner**2 / m
    left = (whole - mean - correlation).clamp(min=0)
    total = whole.sum()
    scale = ((gamma_over_sigma**2 * left).sum() / left.sum()).sqrt()
    return Terms(scale, mean.sum() / total, correlation.sum() / total, whole[inner >= 0].sum() / total)

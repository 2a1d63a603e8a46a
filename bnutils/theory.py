"""Both sides of each theorem of the paper's Sec. 4 and App. C, for one unit of one layer, in float64.

The left side is always autograd through batch normalization itself; the right side is the paper's formula. Two networks
are compared that have the same loss as a function of the layer's outputs z, at the same z: dL^/dz = dL/dy, on which
every proof of the paper rests. gamma and beta are constants. Batch normalization has no epsilon here, as in the paper.
Where the paper's formula is misprinted, the form that its proof gives stands beside the printed one.
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
    """What Theorem 4.1 makes of the gradient of a whole layer, and the premise of Theorem 4.2."""

    scale: Float[Tensor, ""]
    mean: Float[Tensor, ""]
    correlation: Float[Tensor, ""]
    premise: Float[Tensor, ""]


def batch_norm(y: Float[Tensor, " m"], gamma: Tensor, beta: Tensor) -> Float[Tensor, " m"]:
    """z = gamma (y - mu) / sigma + beta over the batch, sigma with 1/m and without epsilon: torch's own operation."""
    columns = (y[:, None], None, None, gamma.reshape(1), beta.reshape(1))
    # torch asks for an epsilon above 0; this one is lost in rounding
    return torch.nn.functional.batch_norm(*columns, training=True, eps=1e-300)[:, 0]


@dataclass(frozen=True)
class Unit:
    """One unit of a layer at one moment: its outputs y [m] on the batch, gamma, beta, and the loss as a function of z.

    y_hat = (y - mu) / sigma, so ||y_hat||^2 = m and <1, y_hat> = 0; z = gamma y_hat + beta. g = dL/dz at z, which is
    dL/dy of the network without batch normalization whose outputs are z; u = dL^/dy by autograd. For a convolution a
    unit is a channel and m = batch x height x width. Raises ValueError for outputs that do not vary.
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
        """That of L^ at y, by autograd through batch normalization."""
        return Gradient(self.normalized_loss, self.y)

    @property
    def g(self) -> Float[Tensor, " m"]:
        return self.plain.value

    @property
    def u(self) -> Float[Tensor, " m"]:
        return self.normalized.value

    @property
    def inner(self) -> Float[Tensor, ""]:
        """<g, y_hat>, which is dL^/dgamma."""
        return self.g @ self.y_hat

    def normalized_loss(self, y: Float[Tensor, " m"]) -> Float[Tensor, ""]:
        """L^(y) = L(gamma y_hat + beta)."""
        return self.loss(batch_norm(y, self.gamma, self.beta))


def same_outputs(y: Float[Tensor, " m"], loss: Loss) -> Unit:
    """The unit of Observation 4.3: gamma = sigma and beta = mu, so that z = y."""
    return Unit(y, y.std(correction=0), y.mean(), loss)


class Gradient:
    """The gradient of a function at a point, and quadratic forms v'Hv with its Hessian there, by autograd: one graph
    for all."""

    def __init__(self, function: Loss, at: Tensor):
        self.at = at.detach().requires_grad_()
        self.loss = function(self.at)
        (self.graph,) = torch.autograd.grad(self.loss, self.at, create_graph=True, materialize_grads=True)
        self.value = self.graph.detach()

    def form(self, v: Tensor) -> Float[Tensor, ""]:
        """v'Hv: one product with H."""
        if not self.graph.requires_grad:  # a linear function
            return torch.zeros_like(v).sum()
        (product,) = torch.autograd.grad(self.graph, self.at, v, retain_graph=True, materialize_grads=True)
        return v @ product


def quadratic_unit(m: int, *, ratio: float, correlation: float, random: torch.Generator) -> Unit:
    """A random unit with gamma / sigma = ratio and ||g|| = 1, whose g has this correlation with y_hat: the cosine.

    L(z) = ||z - t||^2 / 2, so H = I, which preserves all relative norms. Raises ValueError for a batch below 3, whose
    z has no third direction.
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
    """One of six random units with gamma / sigma = ratio in a layer with two more behind it and cross-entropy at the
    end."""
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
    """Facts C.1 and C.2: dz_b/dy_k = (gamma / sigma) (1[b = k] - 1/m - y_hat_b y_hat_k / m)."""
    m = len(unit.y)
    eye = torch.eye(m, dtype=unit.y.dtype)
    return unit.gamma / unit.sigma * (eye - 1 / m - torch.outer(unit.y_hat, unit.y_hat) / m)


def hessian(unit: Unit, H: Float[Tensor, "m m"]) -> Float[Tensor, "m m"]:
    """Eqs 41, 42: the Hessian of L^ over y, from H, that of L over z; P is the Jacobian's projection, gbar = g - mean.

    (gamma/sigma)^2 [P H P - (gbar y_hat' + y_hat gbar' - 3/m <g, y_hat> y_hat y_hat' + <g, y_hat> (I - 11'/m)) / (m
    gamma)]
    """
    m, y_hat = len(unit.y), unit.y_hat
    P, centred = jacobian(unit) * unit.sigma / unit.gamma, unit.g - unit.g.mean()
    cross = torch.outer(centred, y_hat)
    centring = torch.eye(m, dtype=y_hat.dtype) - 1 / m
    bent = cross + cross.T - 3 / m * unit.inner * torch.outer(y_hat, y_hat) + unit.inner * centring
    return (unit.gamma / unit.sigma) ** 2 * (P @ H @ P - bent / (m * unit.gamma))


def theorem_4_1(unit: Unit) -> Sides:
    """Theorem 4.1, Lipschitzness: ||dL^/dy||^2 = (gamma/sigma)^2 (||g||^2 - <1, g>^2 / m - <g, y_hat>^2 / m).

    An equality. Printed (v3): 1/sqrt(m) in place of the last 1/m. In units of the squared loss over those of y squared.
    """
    m, g = len(unit.y), unit.g
    rest, last = g @ g - g.sum() ** 2 / m, unit.inner**2
    factor = (unit.gamma / unit.sigma) ** 2
    return Sides(unit.u @ unit.u, factor * (rest - last / m), factor * (rest - last / m**0.5))


def theorem_4_2(unit: Unit) -> Sides:
    """Theorem 4.2, smoothness, with u = dL^/dy and H the Hessian of L over z.

    u' (d2L^/dy dy) u = (gamma/sigma)^2 u'Hu - gamma / (m sigma^2) <g, y_hat> ||u||^2: an equality, the first line of
    the theorem. printed: its second line, g'Hg in place of u'Hu, stated under the condition that H preserves the
    relative norms of g and u, which we read as u'Hu / ||u||^2 = g'Hg / ||g||^2. Three products with a Hessian.
    """
    left, of_u, of_g = unit.normalized.form(unit.u), unit.plain.form(unit.u), unit.plain.form(unit.g)
    factor = (unit.gamma / unit.sigma) ** 2
    separation = factor * separating(unit)
    return Sides(left, factor * of_u - separation, factor * of_g - separation)


def separating(unit: Unit) -> Float[Tensor, ""]:
    """What Theorem 4.2 subtracts inside its bracket: kappa = <g, y_hat> ||u||^2 / (m gamma)."""
    return unit.inner * (unit.u @ unit.u) / (len(unit.y) * unit.gamma)


def observation_4_3(y: Float[Tensor, " m"], loss: Loss) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Observation 4.3: with gamma = sigma and beta = mu (needed, not printed), z = y and L^ = L.

    ||z - y|| / ||y|| and |L^ - L| / |L|: zero but for rounding.
    """
    unit = same_outputs(y, loss)
    plain = loss(y)
    lengths = torch.linalg.vector_norm
    return lengths(unit.z - y) / lengths(y), (unit.normalized_loss(y) - plain).abs() / plain.abs()


def steepest(v: Float[Tensor, " m"], *, bound: float) -> Float[Tensor, "m 1"]:
    """The input X of spectral norm `bound` that makes ||X'v|| largest: bound v / ||v|| (a column: more add nothing)."""
    return bound * v[:, None] / torch.linalg.vector_norm(v)


def theorem_4_4(unit: Unit, *, bound: float) -> Sides:
    """Theorem 4.4, Lipschitzness over the weights: the largest ||dL^/dw||^2 over inputs with ||X|| <= lambda.

    As in its proof y and y_hat are held fixed while X varies, so dL^/dw = X'u, dL/dw = X'g. G = max ||X'g||^2, mu the
    mean of g: max ||X'u||^2 = (gamma/sigma)^2 (G - lambda^2 m mu^2 - lambda^2 <g, y_hat>^2 / m), an equality. Printed
    (v3): (gamma/sigma)^2 (G^2 - m mu^2 - lambda^2 <g, y_hat>^2), which adds unlike units. bound: lambda.
    """
    m, g, factor = len(unit.y), unit.g, (unit.gamma / unit.sigma) ** 2
    left, plain = ((steepest(v, bound=bound).T @ v).square().sum() for v in (unit.u, g))
    taken = m * g.mean() ** 2
    right = factor * (plain - bound**2 * (taken + unit.inner**2 / m))
    return Sides(left, right, factor * (plain**2 - taken - bound**2 * unit.inner**2))


def theorem_4_4_free(unit: Unit, *, bound: float, sigma: float) -> Float[Tensor, ""]:
    """||dL^/dw||^2 of Theorem 4.4 at one X with ||X|| <= lambda where y = Xw is *not* held fixed.

    X has two columns, w = (1, 0): y = Xw is `sigma` times the unit's own y_hat, which leaves y_hat, z and the loss as
    they were, and the other column lies along u. The gradient is autograd's, over w. It grows as sigma^-2: the maximum
    does not exist. Raises ValueError where lambda is too small for that y.
    """
    y = sigma * unit.y_hat
    if torch.linalg.vector_norm(y) > bound:
        raise ValueError(f"lambda is {bound}: accepted is at least {float(torch.linalg.vector_norm(y)):.3g}")
    X = torch.cat([y[:, None], steepest(unit.u, bound=bound)], dim=1)
    gradient = Gradient(lambda w: unit.normalized_loss(X @ w), torch.tensor([1.0, 0.0], dtype=y.dtype)).value
    return gradient @ gradient


def largest_form(v: Float[Tensor, " m"], H: Float[Tensor, "m m"], *, bound: float) -> Float[Tensor, ""]:
    """The largest v'XX' H XX'v over ||X|| <= lambda, for any number of columns of X.

    w = XX'v runs through the ball around lambda^2 v / 2 of radius lambda^2 ||v|| / 2, so this is the largest quadratic
    form in a ball: H's eigenvectors, then bisection for the multiplier. Exact but for rounding.
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
    """Theorem C.1, smoothness over the weights, at an input X with XX' = lambda^2 I (as many columns as samples).

    By autograd over w, with y = Xw: (dL^/dw)' (d2L^/dw dw) (dL^/dw) = lambda^4 ((gamma/sigma)^2 u'Hu - gamma / (m
    sigma^2) <g, y_hat> ||u||^2): an equality. printed: the right side with g'Hg in place of u'Hu at the same X.
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
    """Theorem C.1 as printed, left and right: each maximum over ||X|| <= lambda taken by itself, y held fixed.

    max (X'u)' X'H^X (X'u) < (gamma/sigma)^2 (max (X'g)' X'HX (X'g) - lambda^4 kappa), kappa that of `separating`. Both
    Hessians are autograd's, in full: for small m.
    """
    full = torch.autograd.functional.hessian
    left = largest_form(unit.u, full(unit.normalized_loss, unit.y), bound=bound)
    right = largest_form(unit.g, full(unit.loss, unit.z), bound=bound)
    return left, (unit.gamma / unit.sigma) ** 2 * (right - bound**4 * separating(unit))


def lemma_4_5(
    start: Float[Tensor, "d units"], optimum: Float[Tensor, "d units"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Lemma 4.5, initialisation: ||W0 - W^*||^2 <= ||W0 - W*||^2 - (||W*||^2 - <W*, W0>)^2 / ||W*||^2, both sides.

    W* is the optimum of the plain network nearest to W0 = start. With batch normalization (gamma, beta as in
    Observation 4.3) k_j W*_j is an optimum for every k_j > 0, each unit with its own, since BN(kWx) = BN(Wx). W^* is
    the nearest of these, found by search. The lemma asks for <W0, W*> > 0.
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
    """What Lemma 4.5 rests on: |L^(a y) - L^(y)| / |L^(y)| for a > 0, zero but for rounding."""
    before = unit.normalized.loss.detach()
    return (unit.normalized_loss(times * unit.y) - before).abs() / before.abs()


def terms(y: Float[Tensor, "m units"], g: Float[Tensor, "m units"], gamma_over_sigma: Float[Tensor, " units"]) -> Terms:
    """Theorem 4.1 summed over the units of a layer: sum_j ||u_j||^2 = scale^2 (1 - mean - correlation) sum_j ||g_j||^2.

    mean = sum_j <1, g_j>^2 / m over sum_j ||g_j||^2, correlation = sum_j <g_j, y_hat_j>^2 / m over the same: the shares
    of the squared gradient that the theorem's two terms take away. scale is what then remains of gamma/sigma: its root
    mean square over units, weighted by what is left of each gradient. premise: the share of units with <g_j, y_hat_j>
    >= 0, weighted by ||g_j||^2, as Theorem 4.2 supposes. g = dL/dz.
    """
    m, g = len(y), g / g.abs().max()  # or squares of short gradients vanish in float32
    variance, mu = torch.var_mean(y, dim=0, correction=0)
    inner = (g * (y - mu)).sum(0) / variance.sqrt().clamp(min=1e-30)
    whole, mean, correlation = g.square().sum(0), g.sum(0) ** 2 / m, inner**2 / m
    left = (whole - mean - correlation).clamp(min=0)
    total = whole.sum()
    scale = ((gamma_over_sigma**2 * left).sum() / left.sum()).sqrt()
    return Terms(scale, mean.sum() / total, correlation.sum() / total, whole[inner >= 0].sum() / total)

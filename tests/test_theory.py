"""Both sides of the theorems against explicit Jacobians and Hessians; each printed form that fails, failing."""

import copy

import pytest
import torch

from bnutils import data, instruments, presets, probes, records, theory

DOUBLE = torch.float64
NAMES = ["theorem_4_1", "theorem_4_2"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def units():
    """Random units of several batch sizes, with further layers behind them."""
    cases = [(4, torch.tanh, 0), (9, torch.relu, 1), (16, torch.sigmoid, 2)]
    return [theory.network_unit(m, ratio=0.7 + s, activation=f, random=generator(s)) for m, f, s in cases]


def close(left, right):
    return torch.allclose(left, right, rtol=1e-10, atol=1e-13)


def full_hessian(function, at):
    return torch.autograd.functional.hessian(function, at)


@pytest.mark.parametrize("unit", units())
def test_the_facts_give_the_jacobian(unit):
    def normalize(y):
        return theory.batch_norm(y, unit.gamma, unit.beta)

    jacobian = torch.autograd.functional.jacobian(normalize, unit.y)
    assert close(jacobian, theory.jacobian(unit))
    assert close(unit.u, jacobian.T @ unit.g)
    by_hand = unit.gamma * (unit.y - unit.y.mean()) / unit.y.var(correction=0).sqrt() + unit.beta
    assert close(unit.z, by_hand)


@pytest.mark.parametrize("unit", units())
def test_equations_41_and_42_give_the_hessian(unit):
    H = full_hessian(unit.loss, unit.z)
    assert close(full_hessian(unit.normalized_loss, unit.y), theory.hessian(unit, H))


@pytest.mark.parametrize("unit", units())
@pytest.mark.parametrize("name", NAMES)
def test_corrected_sides_agree(unit, name):
    sides = getattr(theory, name)(unit)
    assert close(sides.left, sides.right) and not close(sides.left, sides.printed)


@pytest.mark.parametrize("unit", units())
def test_the_left_sides_are_what_they_say(unit):
    u = torch.autograd.functional.jacobian(unit.normalized_loss, unit.y)
    assert close(theory.theorem_4_1(unit).left, u @ u)
    assert close(theory.theorem_4_2(unit).left, u @ full_hessian(unit.normalized_loss, unit.y) @ u)


@pytest.mark.parametrize("unit", units())
def test_the_printed_theorem_4_1_is_false(unit):
    left, _, printed = theory.theorem_4_1(unit)
    assert left > printed


def test_the_printed_theorem_4_1_can_ask_for_less_than_nothing():
    unit = theory.quadratic_unit(64, ratio=1.0, correlation=0.9, random=generator())
    assert theory.theorem_4_1(unit).printed < 0


@pytest.mark.parametrize(("ratio", "holds"), [(0.5, True), (1.0, True), (2.0, False)])
def test_the_second_line_of_theorem_4_2_asks_for_a_small_gamma(ratio, holds):
    """With H the identity its condition is met; it is true or false with gamma / sigma."""
    unit = theory.quadratic_unit(16, ratio=ratio, correlation=0.3, random=generator())
    left, _, printed = theory.theorem_4_2(unit)
    assert (left <= printed) == holds


@pytest.mark.parametrize("correlation", [-0.9, 0.0, 0.4])
@pytest.mark.parametrize("m", [3, 16])
def test_a_quadratic_unit_is_what_was_asked_for(m, correlation):
    unit = theory.quadratic_unit(m, ratio=0.5, correlation=correlation, random=generator())
    assert close(unit.g.norm(), torch.ones((), dtype=DOUBLE))
    assert torch.cosine_similarity(unit.g, unit.y_hat, dim=0).item() == pytest.approx(correlation, abs=1e-12)
    assert (unit.gamma / unit.sigma).item() == pytest.approx(0.5)
    assert close(full_hessian(unit.loss, unit.z), torch.eye(m, dtype=DOUBLE))


def test_a_linear_loss_has_no_curvature_but_batch_norm_gives_it_some():
    y, g = torch.randn(2, 8, generator=generator(), dtype=DOUBLE)
    left, right, _ = theory.theorem_4_2(theory.Unit(y, torch.tensor(2.0, dtype=DOUBLE), y.sum() * 0, lambda z: g @ z))
    assert close(left, right) and left != 0


def test_outputs_that_do_not_vary_are_refused():
    with pytest.raises(ValueError, match="sigma is 0.0: accepted are outputs that vary"):
        theory.same_outputs(torch.ones(4, dtype=DOUBLE), torch.sum)
    with pytest.raises(ValueError, match="batch of 2: accepted are 3 or more"):
        theory.quadratic_unit(2, ratio=1.0, correlation=0.0, random=generator())


@pytest.mark.parametrize("unit", units())
def test_observation_4_3_needs_beta_at_the_mean(unit):
    outputs, loss = theory.observation_4_3(unit.y, unit.loss)
    assert outputs < 1e-14 and loss < 1e-12
    without = theory.batch_norm(unit.y, unit.sigma, torch.zeros_like(unit.sigma))
    assert close((without - unit.y).abs(), unit.y.mean().abs().expand(len(unit.y)))


# ---- over the weights ----------------------------------------------------------------------------------------------


def inputs(m, *, bound, count, seed=0):
    """Random X with ||X|| = bound, of every number of columns."""
    random = generator(seed)
    for trial in range(count):
        X = torch.randn(m, 1 + trial % (m + 2), generator=random, dtype=DOUBLE)
        yield bound * X / torch.linalg.matrix_norm(X, 2)


@pytest.mark.parametrize("unit", units())
def test_theorem_4_4_is_the_maximum(unit):
    """No random input exceeds it, power iteration arrives at it."""
    left, right, _ = theory.theorem_4_4(unit, bound=1.5)
    assert close(left, right)
    m = len(unit.y)
    found = [(X.T @ unit.u).square().sum() for X in inputs(m, bound=1.5, count=300)]
    assert max(found) <= left * (1 + 1e-12)
    X = next(inputs(m, bound=1.5, count=1))
    for _ in range(50):  # ascent of ||X'u||^2, back onto the ball each time
        X = X + 10 * torch.outer(unit.u, unit.u @ X) / (unit.u @ unit.u)
        X = 1.5 * X / torch.linalg.matrix_norm(X, 2)
    assert close((X.T @ unit.u).square().sum(), left)


def test_the_printed_theorem_4_4_adds_unlike_units():
    """With the loss in other units it is true or false."""
    truths = set()
    for unit_of_loss in (1e-3, 1e3):
        y, target = torch.randn(2, 16, generator=generator(), dtype=DOUBLE)
        loss = theory.same_outputs(y, lambda z, c=unit_of_loss, t=target: c * (z - t).square().sum()).loss
        left, right, printed = theory.theorem_4_4(theory.same_outputs(y, loss), bound=2.0)
        assert close(left / right, torch.ones((), dtype=DOUBLE))
        truths.add(bool(left <= printed))
    assert truths == {True, False}


def test_with_outputs_free_theorem_4_4_has_no_maximum():
    unit = units()[0]
    grown = [theory.theorem_4_4_free(unit, bound=2.0, sigma=sigma) for sigma in (0.1, 0.01, 0.001)]
    assert grown[1] / grown[0] == pytest.approx(100) and grown[2] / grown[1] == pytest.approx(100)
    with pytest.raises(ValueError, match="lambda is 2.0: accepted is at least 20"):
        theory.theorem_4_4_free(unit, bound=2.0, sigma=10.0)


@pytest.mark.parametrize("kind", ["random", "positive", "negative", "identity", "nothing"])
@pytest.mark.parametrize("m", [2, 5])
def test_largest_form_is_never_exceeded_and_nearly_reached(m, kind):
    A = torch.randn(m, m, generator=generator(m), dtype=DOUBLE)
    eye = torch.eye(m, dtype=DOUBLE)
    H = {"random": A + A.T, "positive": A @ A.T, "negative": -A @ A.T, "identity": eye, "nothing": 0 * eye}[kind]
    v = torch.randn(m, generator=generator(9), dtype=DOUBLE)
    best = theory.largest_form(v, H, bound=1.5)
    found = [0.0]
    for X in inputs(m, bound=1.5, count=1000):
        w = X @ (X.T @ v)
        found.append((w @ H @ w).item())
    assert max(found) <= best.item() * (1 + 1e-9) + 1e-12
    # ascent in the ball that XX'v runs through, from many points
    centre = 1.5**2 / 2 * v
    w = centre + torch.randn(50, m, generator=generator(1), dtype=DOUBLE)
    for _ in range(3000):
        step = w + 0.05 * w @ H - centre
        w = centre + step * (centre.norm() / step.norm(dim=1, keepdim=True)).clamp(max=1)
    assert max(0.0, (w * (w @ H)).sum(1).max().item()) == pytest.approx(best.item(), rel=1e-4, abs=1e-9)


def test_largest_form_where_the_gradient_misses_the_steepest_direction():
    """The hard case: v orthogonal to the first eigenvector, whose side the maximum still leans to."""
    H, v = torch.diag(torch.tensor([0.1, 5.0], dtype=DOUBLE)), torch.tensor([1.0, 0.0], dtype=DOUBLE)
    angle = torch.linspace(0, torch.pi, 20001, dtype=DOUBLE)
    a = torch.stack([angle.cos(), angle.sin()])  # projections onto lines through the origin
    w = a * (v @ a)
    assert theory.largest_form(v, H, bound=1.0).item() == pytest.approx((w * (H @ w)).sum(0).max().item(), rel=1e-6)


@pytest.mark.parametrize("unit", units())
def test_theorem_c_1_over_the_weights(unit):
    left, right, _ = theory.theorem_c_1(unit, bound=1.3)
    assert close(left, right) and close(left, 1.3**4 * theory.theorem_4_2(unit).left)
    maximum, _ = theory.theorem_c_1_maxima(unit, bound=1.3)
    assert maximum >= left * (1 - 1e-9)


@pytest.mark.parametrize(("ratio", "holds"), [(0.5, True), (2.0, False)])
def test_the_printed_theorem_c_1_asks_for_a_small_gamma(ratio, holds):
    unit = theory.quadratic_unit(16, ratio=ratio, correlation=0.4, random=generator())
    left, right = theory.theorem_c_1_maxima(unit, bound=2.0)
    assert (left < right) == holds


# ---- initialisation ------------------------------------------------------------------------------------------------


def test_lemma_4_5_is_an_equality_for_one_unit_and_a_bound_for_more():
    start, optimum = torch.randn(2, 6, 3, generator=generator(), dtype=DOUBLE)
    optimum = optimum * torch.sign((start * optimum).sum(0))
    left, right = theory.lemma_4_5(start[:, :1], optimum[:, :1])
    assert close(left, right)
    left, right = theory.lemma_4_5(start, optimum)
    assert left < right


def test_lemma_4_5_is_false_without_its_condition():
    start, optimum = torch.randn(2, 6, 1, generator=generator(), dtype=DOUBLE)
    left, right = theory.lemma_4_5(start, -optimum * torch.sign((start * optimum).sum()))
    assert left > right


def test_every_multiple_of_an_optimum_is_one():
    """On a least-squares task whose plain optimum is known: the loss vanishes along the whole ray, and off it does
    not."""
    x = torch.randn(20, 4, generator=generator(), dtype=DOUBLE)
    w, off = torch.randn(2, 4, generator=generator(1), dtype=DOUBLE)
    target = x @ w
    unit = theory.same_outputs(target, lambda z: (z - target).square().mean())
    for k in (0.1, 1.0, 7.0):
        assert unit.normalized_loss(x @ (k * w)) < 1e-25
    assert unit.normalized_loss(x @ (w + 0.1 * off)) > 1e-4
    assert theory.scale_invariance(units()[0], times=3.0) < 1e-12


# ---- in networks ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["none", "batch"])
def trained(request):
    """A run at preset smoke, its network, and a batch."""
    setting, images = presets.get("smoke", device="cpu"), data.load("digits")
    run = records.Run(setting, presets.Arm(request.param, 0.1), 0, images.fingerprint)
    model = records.build(setting, run.arm, 0, images)
    x, y = images.train_x[: setting.batch], images.train_y[: setting.batch]
    for _ in range(3):
        model.zero_grad()
        instruments.LOSS(model(x), y).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
    model.zero_grad()
    return run, images, model, x, y


@pytest.mark.parametrize("kind", [instruments.TermProbe, instruments.TheoremProbe])
def test_a_probe_leaves_the_network_as_it_was(trained, kind):
    run, images, model, x, y = trained
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    rows = list(kind(run, images)(model, x, y))
    assert {row.quantity for row in rows} == set(kind.measures)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state()) and model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_terms_of_a_layer_multiply_to_its_gradient(trained):
    """scale^2 (1 - mean - correlation) is the ratio of squared gradients before and behind the normalizer, as autograd
    has it; without one, the ratio for a normalizer that is put in with equal outputs."""
    run, images, model, x, y = trained
    rows = {(row.layer, row.quantity): row.value for row in instruments.TermProbe(run, images)(model, x, y)}
    number = 5
    layer = model.layer(number)
    with probes.untouched(model):
        model.train()
        a = layer.linear(model[: number - 1](x)).detach().double().requires_grad_()
        norm = layer.norm.double()
        if not len(norm):
            variance, mean = torch.var_mean(a.detach(), (0, 2, 3), correction=0)
            norm = torch.nn.BatchNorm2d(len(mean), eps=1e-300).double()
            norm.weight.data, norm.bias.data = variance.sqrt(), mean
        z = norm(a)
        loss = instruments.LOSS(model[number:](layer.tail(z.float())), y)
        before, behind = torch.autograd.grad(loss, (a, z))
        layer.norm.float()
    ratio = before.square().sum() / behind.square().sum()
    terms = [rows[number, f"term_{name}"] for name in ("scale", "mean", "correlation")]
    assert (terms[0] ** 2 * (1 - terms[1] - terms[2])).item() == pytest.approx(ratio.item(), rel=1e-3)


def test_the_units_loss_is_the_networks(trained):
    """A unit of a layer in a network: its loss at z is the network's, its gradient the network's own."""
    run, images, model, x, y = trained
    double = copy.deepcopy(model).double()
    for module in double.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eps = 1e-300  # as the theorem has it
    probe = instruments.TheoremProbe(run, images)
    for number in probe.layers:
        unit = probe.unit(double, x.double(), y, number)
        layer = double.layer(number)
        with torch.no_grad():
            z = layer.norm(layer.linear(double[: number - 1](x.double())))
        z.requires_grad_()
        loss = instruments.LOSS(double[number:](layer.tail(z)), y)
        (gradient,) = torch.autograd.grad(loss, z)
        columns = gradient.movedim(1, -1).flatten(0, -2)
        assert close(unit.loss(unit.z), loss.detach())
        assert (columns - unit.g[:, None]).norm(dim=0).min() < 1e-9 * unit.g.norm()
        assert unit.g.norm().item() == pytest.approx(columns.norm(dim=0).max().item())
        for sides in (theory.theorem_4_1(unit), theory.theorem_4_2(unit)):
            assert torch.allclose(sides.left, sides.right, rtol=1e-9)


def test_a_layer_of_which_no_unit_varies_has_no_rows(trained):
    run, images, model, x, y = trained
    dead = copy.deepcopy(model)
    for layer in dead:
        torch.nn.init.zeros_(layer.linear.weight)
    assert instruments.TheoremProbe(run, images).unit(dead.double(), x.double(), y, 5) is None

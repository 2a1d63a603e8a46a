"""What lies around a network: quadratics with known answers, brute force in float64, and rescaling that changes
nothing but the naive measures."""

import copy
from functools import partial

import pandas as pd
import pytest
import torch
from test_landscape_probes import Quadratic, batch, convolutional, hessian_of, images, linear, loss_of
from torch import nn
from torch.func import functional_call

from bnutils import data, instruments, models, norms, presets, probes, records, seeds

NOTHING = torch.empty(0), torch.empty(0)


def quadratic(*values: float, at: float = 1.0) -> Quadratic:
    """L(w) = w'diag(values)w / 2 at w = (at, at, ...)."""
    diagonal = torch.diag(torch.tensor(values).double())
    return Quadratic(diagonal, torch.full((len(values),), at, dtype=torch.float64))


def itself(loss, _):
    return loss


def top(model, loss, x, y, **how):
    return probes.top_eigenvalues(model, loss, x, y, count=1, random=seeds.generator(0, "lanczos"), **how)


def vector(model: nn.Module, of: dict) -> torch.Tensor:
    return torch.cat([of[name].flatten() for name, _ in model.named_parameters()])


# ---- filters -------------------------------------------------------------------------------------------------------


def test_filter_norms_by_hand():
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.arange(24.0).view(3, 2, 2, 2))
        model[0].bias.copy_(torch.tensor([-1.0, 0.0, 2.0]))
        model[1].weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    found = probes.filter_norms(model)
    for unit, first in enumerate((0, 8, 16)):
        expected = sum(k * k for k in range(first, first + 8)) ** 0.5
        torch.testing.assert_close(found["0.weight"][unit], torch.full((2, 2, 2), expected))
    assert found["0.bias"].tolist() == [1, 0, 2] and found["1.weight"].tolist() == [[5, 5], [0, 0]]


@pytest.mark.parametrize("norm", ["none", "batch", "noisy"])
def test_the_normalized_eigenvalue_is_brute_force(norm):
    model = linear(norm)
    d = vector(model, probes.filter_norms(model))
    expected = torch.linalg.eigvalsh(d[:, None] * hessian_of(model) * d)[-1:]
    torch.testing.assert_close(top(model, loss_of, *batch(), normalized=True), expected)


def test_the_normalized_eigenvalue_of_a_quadratic_is_known():
    """Weights of one dimension are filters of their own: D H D = diag(value w^2)."""
    model = quadratic(3.0, 7.0, 5.0, at=-2.0)
    assert top(model, itself, *NOTHING, normalized=True).item() == pytest.approx(28)
    assert top(model, itself, *NOTHING).item() == pytest.approx(7)


def test_a_loose_tolerance_is_kept():
    exact, loose = (top(convolutional("batch"), loss_of, *images(), tolerance=each) for each in (None, 0.01))
    assert loose.item() == pytest.approx(exact.item(), rel=0.01)


# ---- rescaling -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["none", "batch", "l1", "linf", "noisy"])
@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_rescaling_changes_weights_and_no_function(norm, factor):
    """But for the normalizer's epsilon, which is 1e-5 of a variance or of a size."""
    model, (x, _) = convolutional(norm), images()
    with torch.no_grad():
        for layer in model:
            layer.linear.bias.normal_(generator=torch.Generator().manual_seed(0))
    before, other = copy.deepcopy(model.state_dict()), models.rescaled(model, factor=factor)
    outputs = [each.train()(x) for each in (model, other)]
    exact = norm == "none"
    torch.testing.assert_close(*outputs, atol=1e-12 if exact else 0.02, rtol=1e-9 if exact else 0.02)
    weights = [each[0].linear.weight for each in (model, other)]
    torch.testing.assert_close(weights[1], factor * weights[0])
    torch.testing.assert_close(other[-1].linear.weight, model[-1].linear.weight)
    assert all(torch.equal(before[name], value) for name, value in model.named_parameters())


def almost_without_epsilon(norm: str) -> models.Network:
    model = linear(norm)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eps = 1e-13
    return model


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("factor", [0.25, 3.0])
def test_what_survives_rescaling_and_what_does_not(norm, factor):
    model = almost_without_epsilon(norm)
    other = models.rescaled(model, factor=factor)
    measures = {
        "eigenvalue": partial(top, normalized=True, tolerance=None),
        "ball": partial(probes.sharpness, radius=0.3, adaptive=True),
        "surface": lambda *of: probes.around(*of, first=(-0.5, 0.0, 1.0), second=(0.0, 0.3), random=generator()),
    }
    for measure in measures.values():
        torch.testing.assert_close(measure(other, loss_of, *batch()), measure(model, loss_of, *batch()))
    naive = [top(each, loss_of, *batch()) for each in (other, model)]
    balls = [probes.sharpness(each, loss_of, *batch(), radius=0.3) for each in (other, model)]
    assert abs(naive[0] / naive[1] - 1) > 0.1 and abs(balls[0] / balls[1] - 1) > 0.1


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_over_the_weights_before_a_normalizer_the_naive_eigenvalue_falls_with_the_factor_squared(factor):
    """gammas, betas and the last layer, which are not rescaled, held fast."""

    def restricted(model: nn.Module) -> torch.Tensor:
        own = [name.endswith("linear.weight") and not name.startswith("3.") for name, _ in model.named_parameters()]
        sizes = [parameter.numel() for parameter in model.parameters()]
        chosen = torch.tensor(own).repeat_interleave(torch.tensor(sizes))
        return torch.linalg.eigvalsh(hessian_of(model)[chosen][:, chosen])[-1]

    model = almost_without_epsilon("batch")
    found = restricted(models.rescaled(model, factor=factor))
    torch.testing.assert_close(found * factor**2, restricted(model))


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan")])
def test_a_factor_that_is_not_above_zero_is_named(factor):
    with pytest.raises(ValueError, match=rf"^factor is {factor}: accepted is a number above 0$"):
        models.rescaled(linear("batch"), factor=factor)


def test_noise_without_a_normalizer_is_not_rescaled():
    with pytest.raises(
        ValueError, match="^noise without a normalizer cannot be rescaled: accepted are the other norms$"
    ):
        models.rescaled(linear("noisy_none"), factor=2.0)


# ---- balls ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ascents", [1, 4])
def test_the_rise_of_a_round_quadratic_is_known(ascents):
    """r ||g|| + value r^2 / 2; in a relative ball every step is the weight's own length, here 2, times as long."""
    model, length = quadratic(3.0, 3.0, at=2.0), 6 * 2**0.5
    found = probes.sharpness(model, itself, *NOTHING, radius=0.1, ascents=ascents)
    assert found.item() == pytest.approx(0.1 * length + 3 * 0.1**2 / 2)
    found = probes.sharpness(model, itself, *NOTHING, radius=0.1, adaptive=True, ascents=ascents)
    assert found.item() == pytest.approx(0.2 * length + 3 * 0.2**2 / 2)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_rise_after_one_ascent_is_brute_force(norm, adaptive):
    """Where sharpness-aware minimization goes: along g, or along T^2 g in a relative ball, by backward() on a copy."""
    model, (x, y) = convolutional(norm), images()
    moved = copy.deepcopy(model).train()
    loss_of(moved(x), y).backward()
    scales = probes.filter_norms(model) if adaptive else {name: 1.0 for name, _ in model.named_parameters()}
    pulls = {name: scales[name] * value.grad for name, value in moved.named_parameters()}
    length = vector(model, pulls).norm()
    with torch.no_grad():
        for name, value in moved.named_parameters():
            value += 0.1 * scales[name] * pulls[name] / length
        expected = loss_of(moved(x), y) - probes.loss(model, loss_of, x, y)
    found = probes.sharpness(model, loss_of, x, y, radius=0.1, adaptive=adaptive, ascents=1)
    assert expected > 0
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_rise_is_the_highest_on_the_circle(adaptive):
    model = quadratic(1.0, 9.0)
    with torch.no_grad():
        model.w.copy_(torch.tensor([0.8, 0.1]))
    angles = torch.linspace(0, 2 * torch.pi, 100_000, dtype=torch.float64)
    steps = 0.5 * torch.stack([angles.cos(), angles.sin()]) * (model.w.detach().abs()[:, None] if adaptive else 1)
    points = model.w.detach()[:, None] + steps
    expected = ((model.hessian @ points) * points).sum(0).max() / 2 - model(points).detach()
    found = probes.sharpness(model, itself, *NOTHING, radius=0.5, adaptive=adaptive, ascents=30)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    few = [probes.sharpness(model, itself, *NOTHING, radius=0.5, adaptive=adaptive, ascents=n) for n in (1, 4)]
    assert few[0] <= few[1] <= found


def test_no_gradient_is_no_rise_and_what_is_not_finite_is_infinite():
    assert probes.sharpness(quadratic(1.0, 2.0, at=0.0), itself, *NOTHING, radius=1.0) == 0
    model = quadratic(1.0, 2.0)
    assert probes.sharpness(model, lambda loss, _: (1.6 - loss).log().neg(), *NOTHING, radius=1.0) == float("inf")


# ---- directions ----------------------------------------------------------------------------------------------------


def generator() -> torch.Generator:
    return seeds.generator(0, "directions")


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_surface_is_brute_force(norm):
    model, (x, y) = convolutional(norm), images()
    first, second = (-1.0, 0.0, 0.5), (0.0, 0.25)
    found = probes.around(model, loss_of, x, y, first=first, second=second, random=generator())
    random, directions = generator(), []
    for _ in range(2):
        directions.append({})
        for name, value in model.named_parameters():
            if value.dim() > 1:
                drawn = torch.randn(value.shape, generator=random, dtype=value.dtype)
                for filter_, own in zip(drawn, value.detach(), strict=True):
                    filter_ *= own.norm() / filter_.norm()
                directions[-1][name] = drawn
    for row, b in enumerate(second):
        for column, a in enumerate(first):
            point = {name: value.detach() for name, value in model.named_parameters()}
            for name in directions[0]:
                point[name] = point[name] + a * directions[0][name] + b * directions[1][name]
            expected = loss_of(functional_call(copy.deepcopy(model).train(), point, (x,)), y)
            torch.testing.assert_close(found[row, column], expected.detach())
    curve = probes.around(model, loss_of, x, y, first=first, second=(0.0,), random=generator())
    torch.testing.assert_close(curve[0], found[0])
    torch.testing.assert_close(found[0, 1], probes.loss(model, loss_of, x, y))


# ---- state ---------------------------------------------------------------------------------------------------------

PROBES = {
    "loss": probes.loss,
    "eigenvalue": partial(top, normalized=True),
    "sharpness": partial(probes.sharpness, radius=0.1, adaptive=True),
    "around": lambda *of: probes.around(*of, first=(0.0, 1.0), second=(0.0, 1.0), random=generator()),
}


def state(model: nn.Module) -> list:
    values = [value.clone() for value in model.state_dict().values()]
    values += [parameter.grad.clone() for parameter in model.parameters()] + [torch.get_rng_state()]
    noise = [(m.step, m.is_frozen) for m in model.modules() if isinstance(m, norms.Noise)]
    flags = [m.training for m in model.modules()], [parameter.requires_grad for parameter in model.parameters()]
    return [values, noise, flags]


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
@pytest.mark.parametrize("training", [True, False])
def test_model_is_left_as_it_was_also_after_an_error(probe, training):
    """The error comes with the last of the losses that the probe asks for."""
    model, calls = linear("noisy").train(training), []
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    model[1].linear.weight.requires_grad_(False)
    before = state(model)

    def counted(outputs, targets, *, fails_at=None):
        calls.append(1)
        if len(calls) == fails_at:
            raise KeyError("in mid-probe")
        return loss_of(outputs, targets)

    def same() -> bool:
        after = state(model)
        return all(map(torch.equal, before[0], after[0])) and before[1:] == after[1:]

    probe(model, counted, *batch())
    assert same()
    last = len(calls)
    calls.clear()
    with pytest.raises(KeyError, match="in mid-probe"):
        probe(model, partial(counted, fails_at=last), *batch())
    assert same()


# ---- in a run ------------------------------------------------------------------------------------------------------


def probe_of(
    kind: type[instruments.MinimaProbe], seed: int = 0
) -> tuple[instruments.MinimaProbe, nn.Module, data.Images]:
    setting, pictures = presets.get("smoke", device="cpu"), data.load("digits")
    run = records.Run(setting, presets.Arm("batch", 0.1), seed, pictures.fingerprint)
    return kind(run, pictures), records.build(setting, run.arm, run.seed, pictures), pictures


def looking(probe, model, monkeypatch, losses) -> list[int]:
    """How many rows each look yields where the loss is as given."""
    given = iter(losses)
    monkeypatch.setattr(probes, "loss", lambda *_: torch.tensor(next(given)))
    return [len(list(probe(model, *NOTHING))) for _ in losses]


@pytest.mark.parametrize(
    ("losses", "place"),
    [
        ((2.0, 0.21, 0.15, 0.15, 0.15), 2),
        ((2.0, 0.05, 0.1001, 0.15, 0.15), 2),  # one that has jumped below comes back
        ((2.0, 0.05, 0.01, 0.01, 0.01), 4),  # the last look, where that never comes
        ((2.0, float("nan"), 2.0, 2.0, 2.0), 4),
    ],
)
def test_it_is_measured_once(losses, place, monkeypatch):
    """Five looks: 8 steps, every second."""
    probe, model, _ = probe_of(instruments.MinimaProbe, seed=1)
    counts = looking(probe, model, monkeypatch, losses)
    assert [bool(count) for count in counts] == [look == place for look in range(5)]


def test_rows_are_the_probes():
    probe, model, pictures = probe_of(instruments.RescaledMinimaProbe)
    probe.looks_left = 0
    found = {row.quantity: row for row in probe(model, *NOTHING)}
    assert set(found) == set(instruments.MinimaProbe.measures)
    at = model, instruments.LOSS, *probe.fixed
    assert len(probe.fixed[0]) == 32
    torch.testing.assert_close(found["minimum_loss"].value, probes.loss(*at))
    torch.testing.assert_close(found["sharpness"].value, probes.sharpness(*at, radius=0.05))
    relative = probes.sharpness(*at, radius=0.5, adaptive=True)
    torch.testing.assert_close(found["sharpness_adaptive"].value, relative)
    naive, normalized = (found[name] for name in ("eigenvalue", "eigenvalue_normalized"))
    assert naive.eta.tolist() == [0.25, 0.5, 1, 2, 4] == normalized.eta.tolist()
    assert naive.value[2].item() == pytest.approx(top(*at).item(), rel=0.02)
    assert (naive.value.diff() < 0).all() and naive.value[0] > 10 * naive.value[2]
    torch.testing.assert_close(normalized.value, normalized.value[2].expand(5), rtol=0.05, atol=0)
    around = pd.DataFrame({name: getattr(found["loss_around"], name).tolist() for name in ("eta", "bin", "value")})
    assert len(around) == 15 * 11 and not around.duplicated(["eta", "bin"]).any()
    middle = around[(around.eta == 0) & (around.bin == 0)].value.item()
    assert middle == pytest.approx(found["minimum_loss"].value.item(), rel=1e-5)


def test_other_seeds_have_the_curve_and_no_surface():
    probe, model, _ = probe_of(instruments.MinimaProbe, seed=1)
    probe.looks_left = 0
    row = next(row for row in probe(model, *NOTHING) if row.quantity == "loss_around")
    assert len(row.value) == 15 and (row.bin == 0).all()


def test_the_shallow_network_is_shallow_and_carries_one_probe():
    setting = presets.get("smoke", device="cpu").shallow
    assert setting.vgg.layers == 6
    run = records.ShallowRun(setting, presets.Arm("none", 0.1), 0, "data")
    assert run.kinds == [instruments.RescaledMinimaProbe]
    assert run.key != records.Run(setting, run.arm, run.seed, "data").key

"""Normalizers against their equations, torch's own layers and the theory of Algorithm 1."""

import copy
from functools import partial

import pytest
import torch
from scipy import stats
from torch import nn

from bnutils import models, norms, probes, seeds

SHAPES = {"linear": (64, 5), "convolution": (16, 5, 6, 7)}


def noise(dose: float = 1.0, *, seed: int = 0, layer: int = 3) -> norms.Noise:
    return norms.Noise(norms.NoiseConstants().times(dose), seed=seed, layer=layer)


def by_unit(a: torch.Tensor) -> torch.Tensor:
    """[samples, units] with height and width counted as samples."""
    return a.movedim(1, -1).reshape(-1, a.shape[1])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_batch_is_the_equation_and_torchs_layer(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3 + 2
    ours = norms.make("batch", 5, layer=1, spatial=len(shape) == 4).double()
    torch.nn.init.uniform_(ours[0].weight, 0.5, 2)
    torch.nn.init.uniform_(ours[0].bias, -1, 1)
    y = by_unit(x)
    hat = (y - y.mean(0)) / (y.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(by_unit(ours(x)), hat * ours[0].weight + ours[0].bias)
    theirs = nn.functional.batch_norm(x, None, None, ours[0].weight, ours[0].bias, training=True, eps=1e-5)
    torch.testing.assert_close(ours(x), theirs)


def test_none_gives_what_it_gets():
    x = torch.randn(4, 5)
    assert torch.equal(norms.make("none", 5, layer=1, spatial=False)(x), x)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_noise_has_the_moments_of_algorithm_1(shape):
    """Over many steps mu_j ~ U(-.5, .5), sigma_j ~ U(1, 1.25); in a unit m ~ mu_j + U(-.1, .1), s ~ N(sigma_j, .1)."""
    layer, like, steps = noise(), torch.zeros(shape), 400
    shifts, scales = [], []
    for layer.step in range(steps):
        shift, scale = layer.draw(like)
        shifts.append(by_unit(shift))
        scales.append(by_unit(scale))
    shift, scale = torch.stack(shifts), torch.stack(scales)  # steps, samples, units
    mu, sigma = shift.mean(1).flatten(), scale.mean(1).flatten()
    spread = 0.1 / shape[0] ** 0.5  # of a unit's mean over its samples, at most
    assert mu.min() > -0.5 - 4 * spread and mu.max() < 0.5 + 4 * spread
    assert stats.kstest(mu.numpy(), stats.uniform(-0.5, 1).cdf).pvalue > 1e-3
    assert stats.kstest(sigma.numpy(), stats.uniform(1, 0.25).cdf).pvalue > 1e-4
    within = (shift - shift.mean(1, keepdim=True)).flatten()
    assert within.abs().max() < 0.1 + 0.1 * 4 / shape[0] ** 0.5
    degrees = 1 - 1 / by_unit(like).shape[0]
    assert within.var().item() == pytest.approx(0.2**2 / 12 * degrees, rel=0.02)
    normal = (scale - scale.mean(1, keepdim=True)).flatten()
    assert normal.var().item() == pytest.approx(0.1**2 * degrees, rel=0.02)
    assert stats.kurtosis(normal.numpy()) == pytest.approx(0, abs=0.1)


def test_samples_of_a_unit_and_units_of_a_step_are_independent():
    shift, scale = noise().draw(torch.zeros(20_000, 4))
    within = torch.cat([shift - shift.mean(0), scale - scale.mean(0)], dim=1)
    correlation = torch.corrcoef(within.T) - torch.eye(8)
    assert correlation.abs().max() < 4 / 20_000**0.5 * 1.5
    following = torch.corrcoef(torch.stack([within[:-1, 0], within[1:, 0]]))[0, 1]
    assert abs(following) < 4 / 20_000**0.5


def test_noise_is_what_forward_applies():
    layer, a = noise(), torch.randn(8, 5, 4, 4)
    shift, scale = layer.draw(a)
    torch.testing.assert_close(layer(a), scale * a + shift)


def test_noise_is_fresh_at_each_step_and_frozen_on_request():
    layer, a = noise(), torch.ones(8, 5)
    first, second = layer(a), layer(a)
    assert not torch.equal(first, second)
    with norms.frozen(nn.Sequential(layer)):
        third, again = layer(a), layer(a)
    assert torch.equal(third, again)
    assert torch.equal(layer(a), third), "a frozen pass must use up no step"
    assert not torch.equal(layer(a), third)


def test_frozen_thaws_after_an_error():
    layer = noise()
    with pytest.raises(KeyError), norms.frozen(layer):
        raise KeyError
    assert not layer.is_frozen


def test_noise_is_a_function_of_seed_layer_and_step():
    a = torch.ones(8, 5)
    state = torch.get_rng_state()
    assert torch.equal(noise(seed=1)(a), noise(seed=1)(a))
    assert not torch.equal(noise(seed=1)(a), noise(seed=2)(a))
    assert not torch.equal(noise(layer=1)(a), noise(layer=2)(a))
    assert torch.equal(torch.get_rng_state(), state), "the global stream must not move"


def test_noise_does_not_depend_on_the_memory_format():
    a = torch.randn(8, 5, 4, 4)
    torch.testing.assert_close(noise()(a), noise()(a.to(memory_format=torch.channels_last)))


def test_dose_zero_is_the_identity_and_dose_scales():
    a = torch.randn(64, 5)
    torch.testing.assert_close(noise(0.0)(a), a)
    assert norms.NoiseConstants().times(4.0) == norms.NoiseConstants(n_mu=2.0, n_sigma=2.0, r_mu=0.4, r_sigma=0.4)
    torch.testing.assert_close(noise(2.0)(a) - a, 2 * (noise(1.0)(a) - a))


def test_eval_is_the_expectation_of_train():
    layer, a = noise(), torch.randn(4, 3)
    mean = sum(layer(a) for _ in range(4000)) / 4000
    torch.testing.assert_close(layer.eval()(a), mean, atol=0.03, rtol=0)


def test_gradient_flows_through_the_scale():
    layer, a = noise(), torch.randn(8, 5, requires_grad=True)
    _, scale = layer.draw(a)
    layer(a).sum().backward()
    torch.testing.assert_close(a.grad, scale)


def test_noisy_is_batch_then_noise():
    x = torch.randn(16, 5)
    noisy = norms.make("noisy", 5, layer=3, spatial=False, seed=0, dose=1.0)
    batch = norms.make("batch", 5, layer=3, spatial=False)
    torch.testing.assert_close(noisy(x), noise()(batch(x)))
    torch.testing.assert_close(norms.make("noisy_none", 5, layer=3, spatial=False)(x), noise()(x))


def test_noise_before_gamma_and_beta_by_hand():
    """gamma (s (a - mean) / sqrt(var + eps) + m) + beta, with the draw that the noise layer of that place has."""
    a = torch.randn(16, 5, 4, 4, dtype=torch.float64)
    chosen = {"layer": 3, "spatial": True, "seed": 0, "dose": 1.0, "epsilon": 1e-3}
    before, after = (norms.make("noisy", 5, **chosen, noise=place).double() for place in ("before", "after"))
    gamma, beta = torch.rand(5, dtype=torch.float64) + 0.5, torch.randn(5, dtype=torch.float64)
    for module, place in ((before, 2), (after, 0)):
        assert [tuple(each.shape) for each in module.parameters()] == [(5,), (5,)]
        with torch.no_grad():
            module[place].weight.copy_(gamma)
            module[place].bias.copy_(beta)
    gamma, beta = gamma.view(-1, 1, 1), beta.view(-1, 1, 1)
    shift, scale = noise().draw(a)
    mean = a.mean((0, 2, 3), keepdim=True)
    normalized = (a - mean) / (a.var((0, 2, 3), correction=0, keepdim=True) + 1e-3).sqrt()
    torch.testing.assert_close(before(a), gamma * (scale * normalized + shift) + beta)
    torch.testing.assert_close(after(a), scale * (gamma * normalized + beta) + shift)


@pytest.mark.parametrize("name", [name for name in norms.NORMS if not name.startswith("noisy")])
def test_only_noise_between_knows_its_place(name):
    """All other normalizers are the same wherever noise would stand."""
    for place in norms.PLACES:
        made = norms.make(name, 8, layer=1, spatial=True, noise=place)
        assert str(made) == str(norms.make(name, 8, layer=1, spatial=True))


@pytest.mark.parametrize("name", ["batch", "noisy", "l1", "l2", "linf", "layer", "group", "instance", "rms"])
def test_epsilon_is_that_of_every_normalizer_that_has_one(name):
    """Of values far below epsilon, what is left is the value over epsilon or over its root."""
    a = 1e-8 * torch.randn(8, 4, 3, 3, dtype=torch.float64)
    few, many = (norms.make(name, 4, layer=1, spatial=True, dose=0.0, epsilon=e).double()(a) for e in (0.01, 1.0))
    torch.testing.assert_close(few, many * (100 if name in ("l1", "linf") else 10), rtol=1e-4, atol=0)


def test_unknown_place_of_noise_is_named():
    with pytest.raises(ValueError, match=r"^noise 'beside' gamma and beta: accepted are after, before$"):
        norms.make("noisy", 5, layer=1, spatial=False, noise="beside")


def test_unknown_norm_is_named():
    with pytest.raises(
        ValueError,
        match=r"^unknown norm 'bacth': accepted are none, batch, .*, linf, layer, group, instance, weight, rms$",
    ):
        norms.make("bacth", 5, layer=1, spatial=False)


SIZES = {
    "l1": lambda unit: unit.abs().mean(),
    "l2": lambda unit: unit.square().mean().sqrt(),
    "linf": lambda unit: unit.abs().max(),
}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("shape", [(16, 3), (8, 3, 4, 4)])
def test_lp_is_the_papers_words_by_hand(name, shape):
    """Subtract the mean of each unit, divide by the average lp norm of what was there before; gamma, beta after."""
    a = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1
    layer = norms.make(name, 3, layer=1, spatial=len(shape) == 4).double()
    with torch.no_grad():
        layer[0].weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
        layer[0].bias.copy_(torch.tensor([0.0, 0.5, 1.0]))
    out = layer(a)
    for unit in range(3):
        values = a[:, unit]
        expected = (values - values.mean()) / SIZES[name](values) * (unit + 1) + unit / 2
        torch.testing.assert_close(out[:, unit], expected, rtol=1e-4, atol=1e-4)


def test_l2_of_centred_units_is_batch_normalization():
    a = torch.randn(16, 3, dtype=torch.float64)
    a -= a.mean(0)
    ours, theirs = (norms.make(name, 3, layer=1, spatial=False).double()(a) for name in ("l2", "batch"))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", SIZES)
def test_lp_in_eval_mode_uses_what_it_saw(name):
    a = torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 + 1
    layer = norms.make(name, 3, layer=1, spatial=True)
    for _ in range(200):
        trained = layer(a)
    torch.testing.assert_close(layer.eval()(a), trained, rtol=1e-3, atol=1e-3)


# ---- beyond the paper ----------------------------------------------------------------------------------------------

OVER_AN_IMAGE = ("layer", "group", "instance", "rms")


def learned(name: str, channels: int, *, spatial: bool) -> nn.Module:
    """The normalizer in float64, with gammas and betas that are not those it starts with."""
    layer = norms.make(name, channels, layer=1, spatial=spatial).double()
    for number, parameter in enumerate(layer.parameters(), start=1):
        nn.init.uniform_(parameter, number, number + 1, generator=torch.Generator().manual_seed(number))
    return layer


@pytest.mark.parametrize("name", OVER_AN_IMAGE)
@pytest.mark.parametrize("shape", [(6, 16), (6, 16, 3, 5)], ids=["linear", "convolution"])
def test_statistics_are_those_of_one_image_by_hand(name, shape):
    """Groups of channels and all their pixels; gamma and beta of each channel afterwards."""
    a = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 + 1
    layer = learned(name, 16, spatial=len(shape) == 4)
    out, gamma, beta = layer(a), layer[0].weight, getattr(layer[0], "bias", torch.zeros(16))
    count = {"layer": 1, "group": 4, "instance": 16 if len(shape) == 4 else 1, "rms": 1}[name]
    for image, result in zip(a, out, strict=True):
        for channels in torch.arange(16).chunk(count):
            values = image[channels]
            mean = 0 if name == "rms" else values.mean()
            hat = (values - mean) / ((values - mean).square().mean() + 1e-5).sqrt()
            tail = (-1, *[1] * (values.dim() - 1))
            torch.testing.assert_close(result[channels], hat * gamma[channels].view(tail) + beta[channels].view(tail))


@pytest.mark.parametrize("name", OVER_AN_IMAGE)
def test_an_image_does_not_see_its_batch(name):
    a = torch.randn(6, 16, 3, 5, dtype=torch.float64)
    layer = learned(name, 16, spatial=True)
    torch.testing.assert_close(layer(a)[:2], layer(a[:2]))
    torch.testing.assert_close(layer.eval()(a), layer.train()(a))


def test_torchs_own_layers_agree_where_they_have_one_gamma_a_channel():
    a = torch.randn(6, 16, dtype=torch.float64)
    for name, theirs in {"layer": nn.LayerNorm(16), "rms": nn.RMSNorm(16, eps=1e-5)}.items():
        ours = learned(name, 16, spatial=False)
        theirs.double().load_state_dict({key.removeprefix("0."): value for key, value in ours.state_dict().items()})
        torch.testing.assert_close(ours(a), theirs(a))


@pytest.mark.parametrize(("channels", "groups"), [(2, 1), (6, 1), (8, 2), (64, 16), (128, 32), (512, 32)])
def test_groups_are_thirty_two_or_leave_four_channels_each(channels, groups):
    assert norms.make("group", channels, layer=1, spatial=True)[0].num_groups == groups


def networks(name: str) -> tuple[nn.Module, nn.Module]:
    """A normalized network and the plain one of the same seed, in float64."""
    vgg = models.VGG(depth="A", width=1 / 32)
    build = partial(vgg.build, channels=1, classes=10)
    return tuple(
        build(partial(norms.make, each), generator=seeds.generator(0, "weights")).double() for each in (name, "none")
    )


def test_weight_normalization_begins_as_the_plain_network_and_learns_length_and_direction():
    normalized, plain = networks("weight")
    x = torch.randn(4, 1, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(normalized(x), plain(x))
    linear, own = normalized.layer(2).linear, dict(normalized.layer(2).named_parameters())
    assert len(own) == 3 and all(name.startswith("linear.") for name in own)
    length, direction = linear.parametrizations.weight.original0, linear.parametrizations.weight.original1
    with torch.no_grad():
        direction.mul_(7)
        torch.testing.assert_close(normalized(x), plain(x))  # the length of v says nothing
        length.mul_(2)
        direction.add_(1)
    rows = direction.flatten(1)
    expected = (length.flatten()[:, None] * rows / rows.norm(dim=1, keepdim=True)).view_as(direction)
    torch.testing.assert_close(linear.weight, expected)
    assert not hasattr(normalized.layer(11).linear, "parametrizations"), "the output layer carries no normalizer"


@pytest.mark.parametrize("name", ["layer", "group", "instance", "weight", "rms"])
def test_probes_measure_the_network_and_leave_it_as_it_was(name):
    """Distances and curvature against gradients by backward() on moved copies; covariate shift has every layer."""
    model, _ = networks(name)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 1, 32, 32, dtype=torch.float64, generator=generator)
    y, loss_of = torch.arange(4), nn.functional.cross_entropy
    before = [value.clone() for value in model.state_dict().values()]

    def gradient(eta: float, steps: list[torch.Tensor]) -> list[torch.Tensor]:
        other = copy.deepcopy(model)
        with torch.no_grad():
            [parameter.sub_(step, alpha=eta) for parameter, step in zip(other.parameters(), steps, strict=True)]
        loss_of(other(x), y).backward()
        return [parameter.grad for parameter in other.parameters()]

    g = gradient(0.0, [torch.zeros_like(parameter) for parameter in model.parameters()])
    flat = torch.cat([each.flatten() for each in g])
    there = {eta: torch.cat([each.flatten() for each in gradient(eta, g)]) for eta in (0.1, 1e-8, -1e-8)}
    look = probes.along(model, loss_of, x, y, etas=[0.1])
    torch.testing.assert_close(look.distances[0], (there[0.1] - flat).norm())
    expected = flat @ (there[-1e-8] - there[1e-8]) / 2e-8 / (flat @ flat)
    torch.testing.assert_close(probes.curvature(model, loss_of, x, y), expected, rtol=1e-3, atol=1e-6)
    assert list(probes.covariate_shift(model, loss_of, x, y, lr=0.1, layers=[1, 5])) == [1, 5]
    assert len(probes.gradient_norms(model, loss_of, x, y)) == 11
    assert len(probes.activations(model, x, layers=[3])[3]) == 4 * 8 * 8
    assert all(torch.equal(one, other) for one, other in zip(before, model.state_dict().values(), strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_network_that_normalizes_its_weights_can_be_copied_without_kinks():
    """What the probe of step lengths asks of every network."""
    model, _ = networks("weight")
    x = torch.randn(4, 1, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(models.smoothed(model, sharpness=1e4)(x), model(x), rtol=1e-2, atol=1e-3)

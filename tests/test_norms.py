"""Normalizers against their equations, torch's own layers and the theory of Algorithm 1."""

import pytest
import torch
from scipy import stats
from torch import nn

from bnutils import norms

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


def test_unknown_norm_is_named():
    with pytest.raises(
        ValueError, match=r"^unknown norm 'bacth': accepted are none, batch, noisy, noisy_none, l1, l2, linf$"
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

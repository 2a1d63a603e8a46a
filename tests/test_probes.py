"""Probes against brute force, and the model left as it was."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from bnutils import models, norms, probes, seeds


def network(norm: str) -> models.Network:
    setting = models.VGG(depth="A", width=1 / 32)
    built = setting.build(partial(norms.make, norm), channels=1, classes=10, generator=seeds.generator(0, "weights"))
    return built.to(memory_format=torch.contiguous_format)


def images() -> torch.Tensor:
    return torch.randn(8, 1, 32, 32, generator=seeds.generator(0, "test images"))


@pytest.mark.parametrize("norm", ["none", "batch", "noisy", "noisy_none"])
def test_activations_are_the_values_between_normalizer_and_nonlinearity(norm):
    """Brute force: the layers applied one by one to a copy of the network, in train mode."""
    model, x = network(norm).double(), images().double()
    seen = probes.activations(model, x, layers=[1, 4, 10])
    by_hand = copy.deepcopy(model).train()
    for number, layer in enumerate(by_hand, start=1):
        x = layer.norm(layer.linear(x))
        if number in seen:
            torch.testing.assert_close(seen[number], x.movedim(1, -1).reshape(-1, x.shape[1]))
        x = layer.tail(x)
    assert list(seen) == [1, 4, 10] and seen[1].shape == (8 * 32 * 32, 2) and seen[10].shape == (8, 128)


def state(model: torch.nn.Module) -> list:
    buffers = [value.clone() for value in model.state_dict().values()]
    noise = [(m.step, m.is_frozen) for m in model.modules() if isinstance(m, norms.Noise)]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    return [buffers, noise, hooks, [m.training for m in model.modules()], torch.get_rng_state()]


def same(before: list, after: list) -> bool:
    tensors = all(torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True))
    return tensors and before[1:4] == after[1:4] and torch.equal(before[4], after[4])


@pytest.mark.parametrize("norm", ["batch", "noisy"])
@pytest.mark.parametrize("training", [True, False])
def test_model_is_left_as_it_was(norm, training):
    model = network(norm).train(training)
    model[2].eval()  # a mode of its own must survive too
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = state(model)
    probes.activations(model, images(), layers=[1, 10])
    assert same(before, state(model))
    assert all(parameter.grad.eq(1).all() for parameter in model.parameters())


def test_model_is_left_as_it_was_after_an_error():
    model = network("noisy").eval()
    before = state(model)
    with pytest.raises(RuntimeError):
        probes.activations(model, images()[:, :, :7], layers=[1])  # too small a picture: fails in mid-network
    assert same(before, state(model))
    with pytest.raises(ValueError, match="no layer 99"):
        probes.activations(model, images(), layers=[1, 99])
    assert same(before, state(model))


def test_moments_are_numpys():
    a = torch.randn(50, 3, dtype=torch.float64)
    mean, variance = probes.moments(a)
    np.testing.assert_allclose(mean, a.numpy().mean(0))
    np.testing.assert_allclose(variance, a.numpy().var(0))


def test_shapes_in_annotations_are_checked():
    with pytest.raises(TypeCheckError):
        probes.moments(torch.zeros(2, 3, 4))


@pytest.mark.parametrize("samples", [64, 20_000])
def test_histogram_is_numpys(samples):
    a = torch.randn(samples, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    centres, density = probes.histogram(a)
    expected, edges = np.histogram(a.numpy(), bins=len(density), density=True)
    np.testing.assert_allclose(density, expected)
    np.testing.assert_allclose(centres, (edges[1:] + edges[:-1]) / 2)
    assert len(density) == min(40, int(np.ceil(2 * samples ** (1 / 3))))


def test_histogram_of_one_value_is_finite():
    centres, density = probes.histogram(torch.full((64,), 3.0))
    assert density.isfinite().all() and centres.isfinite().all()
    assert centres[density.argmax()].item() == pytest.approx(3.0, abs=1e-5) and density.gt(0).sum() == 1

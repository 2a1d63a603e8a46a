"""Probes of gradients against quadratics with known answers and against brute force in float64."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from bnutils import models, norms, probes, seeds

ETAS = (0.05, 0.1, 0.4)


class Quadratic(nn.Module):
    """L(w) = w'Hw / 2, whatever the batch."""

    def __init__(self, hessian: torch.Tensor, w: torch.Tensor):
        super().__init__()
        self.w, self.hessian = nn.Parameter(w), hessian

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w @ self.hessian @ self.w / 2


def linear(norm: str) -> models.Network:
    """Four layers of 3 x 3, under a hundred parameters, in float64."""
    setting = models.DeepLinear(depth=4, features=3)
    return setting.build(partial(norms.make, norm), generator=seeds.generator(0, "weights"))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = seeds.generator(0, "a batch")
    return tuple(torch.randn(7, 3, generator=generator, dtype=torch.float64) for _ in range(2))


def loss_of(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs - targets).square().sum()


def by_hand(model: nn.Module) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Loss and gradients of a copy, by backward()."""
    model = copy.deepcopy(model).train()
    x, y = batch()
    with norms.frozen(model):
        loss = loss_of(model(x), y)
    loss.backward()
    return loss.detach(), [parameter.grad for parameter in model.parameters()]


def moved(model: nn.Module, steps: list[torch.Tensor], eta: float) -> nn.Module:
    model = copy.deepcopy(model)
    with torch.no_grad():
        for parameter, step in zip(model.parameters(), steps, strict=True):
            parameter -= eta * step
    return model


def flat(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def test_beta_of_a_quadratic_is_the_hessians_stretch_of_the_gradient():
    root = torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    hessian, w = root @ root.T, torch.ones(5, dtype=torch.float64)
    found = probes.along(Quadratic(hessian, w), lambda loss, _: loss, torch.empty(0), torch.empty(0), etas=ETAS)
    g = hessian @ w
    torch.testing.assert_close(found.gradient_norm, g.norm())
    torch.testing.assert_close(found.betas, ((hessian @ g).norm() / g.norm()).expand(3))
    expected = torch.stack([(w - eta * g) @ hessian @ (w - eta * g) / 2 for eta in ETAS])
    torch.testing.assert_close(found.losses, expected)


def test_beta_along_an_eigenvector_is_its_eigenvalue():
    hessian, w = torch.diag(torch.tensor([3.0, 7.0]).double()), torch.tensor([0.0, 1.0]).double()
    found = probes.along(Quadratic(hessian, w), lambda loss, _: loss, torch.empty(0), torch.empty(0), etas=ETAS)
    torch.testing.assert_close(found.betas, torch.full((3,), 7.0).double())


@pytest.mark.parametrize("norm", ["none", "batch", "noisy"])
def test_along_is_brute_force(norm):
    model = linear(norm).eval()  # by_hand and the probe measure in train mode, whatever the mode
    loss, g = by_hand(model)
    found = probes.along(model, loss_of, *batch(), etas=ETAS)
    torch.testing.assert_close(found.loss, loss)
    for place, eta in enumerate(ETAS):
        there, gradient = by_hand(moved(model, g, eta))
        distance = (flat(gradient) - flat(g)).norm()
        torch.testing.assert_close(found.losses[place], there)
        torch.testing.assert_close(found.distances[place], distance)
        torch.testing.assert_close(found.betas[place], distance / (eta * flat(g).norm()))
        cosine = flat(gradient) @ flat(g) / (flat(gradient).norm() * flat(g).norm())
        torch.testing.assert_close(found.cosines[place], cosine)


def test_the_gradient_turns_round_where_a_step_crosses_the_minimum():
    w = torch.linspace(0.1, 1, 8).double()
    model, nothing = Quadratic(torch.eye(8).double() * 2, w), torch.empty(0)
    found = probes.along(model, lambda loss, _: loss, nothing, nothing, etas=(0.1, 0.49, 0.51, 4.0))
    torch.testing.assert_close(found.cosines, torch.tensor([1.0, 1.0, -1.0, -1.0]).double())
    assert found.cosines.abs().max() <= 1


def test_a_random_direction_is_as_long_as_the_gradient_and_another_one():
    hessian, w = torch.eye(50, dtype=torch.float64) * 2, torch.ones(50, dtype=torch.float64)
    model, nothing = Quadratic(hessian, w), torch.empty(0)
    found = probes.along(model, lambda loss, _: loss, nothing, nothing, etas=ETAS, random=seeds.generator(0, "v"))
    torch.testing.assert_close(found.betas, torch.full((3,), 2.0).double())
    straight = probes.along(model, lambda loss, _: loss, nothing, nothing, etas=ETAS)
    assert (found.losses - straight.losses).abs().min() > 1


def test_what_is_not_finite_is_infinite_at_its_step_length():
    model, nothing = Quadratic(torch.eye(2).double(), torch.ones(2).double()), torch.empty(0)
    found = probes.along(model, lambda loss, _: loss.log(), nothing, nothing, etas=(0.1, 1e200))
    assert found.losses[0].isfinite() and found.losses[1] == float("inf")
    assert not found.losses.isnan().any() and not found.distances.isnan().any()
    assert found.cosines[0].isfinite() and found.cosines[1].isnan()


@pytest.mark.parametrize("norm", ["none", "batch", "noisy"])
def test_covariate_shift_is_brute_force(norm):
    """Definition 2.1 with a copy for each layer: those before it after their step, it and the rest as they were."""
    model, lr = linear(norm).eval(), 0.01
    _, g = by_hand(model)
    updated = moved(model, g, lr)
    found = probes.covariate_shift(model, loss_of, *batch(), lr=lr, layers=[1, 2, 4])
    assert list(found) == [1, 2, 4]
    for number, shift in found.items():
        mixed = copy.deepcopy(model)
        for place in range(number - 1):
            mixed[place].load_state_dict(updated[place].state_dict())
        position = [name for name, _ in model.named_parameters()].index(f"{number - 1}.linear.weight")
        now, after = g[position].flatten(), by_hand(mixed)[1][position].flatten()
        torch.testing.assert_close(shift.l2, (now - after).norm(), atol=1e-10, rtol=1e-7)
        torch.testing.assert_close(shift.cosine, now @ after / (now.norm() * after.norm()))
        torch.testing.assert_close(shift.relative, (now - after).norm() / now.norm(), atol=1e-10, rtol=1e-7)


def test_covariate_shift_of_the_first_layer_is_exactly_zero():
    shift = probes.covariate_shift(linear("batch"), loss_of, *batch(), lr=0.1, layers=[1, 3])
    assert shift[1].l2 == 0 and shift[3].l2 > 0


@pytest.mark.parametrize("norm", ["none", "batch", "noisy"])
def test_gradient_norms_are_those_of_backward(norm):
    """On a convolutional network, whose linear maps have biases."""
    model, (x, y) = convolutional(norm).eval(), images()
    by_hand = copy.deepcopy(model).train()
    with norms.frozen(by_hand):
        loss_of(by_hand(x), y).backward()
    found = probes.gradient_norms(model, loss_of, x, y)
    assert list(found) == list(range(1, 12))
    for number, length in found.items():
        linear_map = by_hand.layer(number).linear
        expected = torch.cat([linear_map.weight.grad.flatten(), linear_map.bias.grad]).norm()
        torch.testing.assert_close(length, expected)


def convolutional(norm: str) -> models.Network:
    """Eleven layers with biases, pooling and ReLU, in float64."""
    setting, generator = models.VGG(depth="A", width=1 / 32), seeds.generator(0, "weights")
    return setting.build(partial(norms.make, norm), channels=1, classes=3, generator=generator).double()


def images() -> tuple[torch.Tensor, torch.Tensor]:
    generator = seeds.generator(0, "images")
    shapes = (8, 1, 32, 32), (8, 3)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


def state(model: nn.Module) -> list:
    values = [value.clone() for value in model.state_dict().values()]
    noise = [(m.step, m.is_frozen) for m in model.modules() if isinstance(m, norms.Noise)]
    grads = [parameter.grad.clone() for parameter in model.parameters()]
    flags = [m.training for m in model.modules()], [parameter.requires_grad for parameter in model.parameters()]
    return [values, grads, noise, flags, torch.get_rng_state()]


def same(before: list, after: list) -> bool:
    tensors = zip([*before[0], *before[1], before[4]], [*after[0], *after[1], after[4]], strict=True)
    return all(torch.equal(a, b) for a, b in tensors) and before[2:4] == after[2:4]


PROBES = {
    "along": lambda *of: probes.along(*of, etas=ETAS),
    "random": lambda *of: probes.along(*of, etas=ETAS, random=torch.Generator()),
    "covariate_shift": lambda *of: probes.covariate_shift(*of, lr=0.1, layers=[2, 4]),
    "gradient_norms": probes.gradient_norms,
}


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
@pytest.mark.parametrize("training", [True, False])
def test_model_is_left_as_it_was_also_after_an_error_in_mid_probe(probe, training):
    """The error comes in the last of the probe's backward passes."""
    model = linear("noisy").train(training)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    model[1].linear.weight.requires_grad_(False)
    before, passes, left = state(model), [], []

    def counts(_) -> None:
        passes.append(1)

    def fails(_) -> None:
        if not left:
            raise KeyError("in mid-probe")
        left.pop()

    def watched(hook, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        outputs.register_hook(hook)
        return loss_of(outputs, targets)

    probe(model, partial(watched, counts), *batch())
    assert same(before, state(model))
    left = passes[1:]
    with pytest.raises(KeyError, match="in mid-probe"):
        probe(model, partial(watched, fails), *batch())
    assert not left and same(before, state(model))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("network", ["linear", "convolutional"])
def test_cpu_and_gpu_agree(network):
    """Every probe, to one part in a million; a random direction is the device's own."""

    def measured(device: str) -> dict:
        model, data = (linear("batch"), batch()) if network == "linear" else (convolutional("batch"), images())
        model, (x, y) = model.to(device), (each.to(device) for each in data)
        found = {name: probe(model, loss_of, x, y) for name, probe in PROBES.items() if name != "random"}
        activations = probes.activations(model, x, layers=[1, 3])
        layers = {
            number: (a, probes.moments(a), probes.histogram(a[:, 0].contiguous())) for number, a in activations.items()
        }
        return found | {"activations": layers}

    torch.testing.assert_close(measured("cuda"), measured("cpu"), check_device=False, rtol=1e-6, atol=1e-8)


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"^no layer 9: this network has layers 1 to 4$"):
        probes.covariate_shift(linear("none"), loss_of, *batch(), lr=0.1, layers=[1, 9])

"""Probes of gradients and curvature against quadratics with known answers and against brute force in float64."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

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


def by_hand(
    model: nn.Module, data: tuple[torch.Tensor, torch.Tensor] | None = None
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Loss and gradients of a copy, by backward()."""
    model = copy.deepcopy(model).train()
    x, y = data or batch()
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
def test_along_a_random_direction_is_brute_force(norm):
    """On a convolutional network; the direction is drawn from the generator, parameter by parameter."""
    model, data = convolutional(norm), images()
    _, g = by_hand(model, data)
    random = seeds.generator(0, "v")
    v = [torch.randn(each.shape, generator=random, dtype=torch.float64) for each in g]
    v = [each * (flat(g).norm() / flat(v).norm()) for each in v]
    found = probes.along(model, loss_of, *data, etas=ETAS, random=seeds.generator(0, "v"))
    for place, eta in enumerate(ETAS):
        there, gradient = by_hand(moved(model, v, eta), data)
        torch.testing.assert_close(found.losses[place], there)
        torch.testing.assert_close(found.distances[place], (flat(gradient) - flat(g)).norm())


@pytest.mark.parametrize("norm", ["none", "batch", "noisy"])
@pytest.mark.parametrize("network", ["linear", "convolutional"])
def test_covariate_shift_is_brute_force(norm, network):
    """Definition 2.1 with a copy for each layer: those before it after their step, it and the rest as they were. The
    gradient is that of the layer's whole linear map, bias included where it has one."""
    model, data = (linear(norm), batch()) if network == "linear" else (convolutional(norm), images())
    model, lr = model.eval(), 0.01
    names = [name for name, _ in model.named_parameters()]
    _, g = by_hand(model, data)
    updated = moved(model, g, lr)
    found = probes.covariate_shift(model, loss_of, *data, lr=lr, layers=[1, 2, 4])
    assert list(found) == [1, 2, 4] and found[1].l2 == 0 < found[2].l2
    for number, shift in found.items():
        mixed = copy.deepcopy(model)
        for place in range(number - 1):
            mixed[place].load_state_dict(updated[place].state_dict())
        mine = [place for place, name in enumerate(names) if name.startswith(f"{number - 1}.linear.")]
        assert len(mine) == (1 if network == "linear" else 2)
        after = by_hand(mixed, data)[1]
        now, after = (flat([each[place] for place in mine]) for each in (g, after))
        torch.testing.assert_close(shift.l2, (now - after).norm(), atol=1e-10, rtol=1e-7)
        torch.testing.assert_close(shift.cosine, now @ after / (now.norm() * after.norm()))
        torch.testing.assert_close(shift.relative, (now - after).norm() / now.norm(), atol=1e-10, rtol=1e-7)


def test_covariate_shift_where_a_gradient_vanishes():
    """Behind a last layer of zeros nothing before it has a gradient, and nothing moves."""
    model = linear("none")
    with torch.no_grad():
        model[-1].linear.weight.zero_()
    shift = probes.covariate_shift(model, loss_of, *batch(), lr=0.1, layers=[2, 4])
    assert shift[2].l2 == shift[2].cosine == 0 and shift[2].relative.isnan()
    assert shift[4].l2 == 0 and shift[4].cosine == pytest.approx(1)


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


@pytest.mark.parametrize("norm", ["none", "batch", "noisy"])
def test_signal_norms_are_those_of_backward(norm):
    """The layers one by one, what leaves each normalizer kept with its gradient."""
    model, (x, y) = convolutional(norm).eval(), images()
    by_hand, kept, a = copy.deepcopy(model).train(), [], x
    with norms.frozen(by_hand):
        for layer in by_hand:
            kept.append(layer.norm(layer.linear(a)))
            kept[-1].retain_grad()
            a = layer.tail(kept[-1])
    loss_of(a, y).backward()
    found = probes.signal_norms(model, loss_of, x, y)
    assert list(found) == list(range(1, 12))
    for each, length in zip(kept, found.values(), strict=True):
        torch.testing.assert_close(length, each.grad.norm())


def random_quadratic() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """One with positive and negative eigenvalues, its Hessian and its gradient."""
    root = torch.randn(30, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    hessian, w = root + root.T, torch.ones(30, dtype=torch.float64)
    return Quadratic(hessian, w), hessian, hessian @ w


def test_curvature_of_a_quadratic_is_the_rayleigh_quotient_of_the_gradient():
    model, hessian, g = random_quadratic()
    found = probes.curvature(model, lambda loss, _: loss, torch.empty(0), torch.empty(0))
    torch.testing.assert_close(found, g @ hessian @ g / (g @ g))


def test_curvature_along_an_eigenvector_is_its_eigenvalue():
    hessian, w = torch.diag(torch.tensor([3.0, 7.0]).double()), torch.tensor([0.0, 1.0]).double()
    found = probes.curvature(Quadratic(hessian, w), lambda loss, _: loss, torch.empty(0), torch.empty(0))
    torch.testing.assert_close(found, torch.tensor(7.0).double())


def top(model: nn.Module, loss=loss_of, data=None, *, count: int = 3) -> torch.Tensor:
    x, y = data or batch()
    return probes.top_eigenvalues(model, loss, x, y, count=count, random=seeds.generator(0, "lanczos"))


def test_top_eigenvalues_of_a_quadratic_are_known():
    model, hessian, _ = random_quadratic()
    found = top(model, lambda loss, _: loss, count=4)
    torch.testing.assert_close(found, torch.linalg.eigvalsh(hessian).flip(0)[:4])


@pytest.mark.parametrize("values", [[5.0, 5.0, 5.0, 1.0, 0.0, -9.0], [5.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0.0] * 6])
def test_eigenvalues_that_repeat_or_vanish_are_found(values):
    model = Quadratic(torch.diag(torch.tensor(values).double()), torch.ones(6).double())
    found = top(model, lambda loss, _: loss, count=4)
    torch.testing.assert_close(found, torch.tensor(values[:4]).double(), atol=1e-12, rtol=1e-7)


def test_a_loss_that_is_linear_in_some_weights_is_no_error():
    """Here in the last bias: its gradient depends on no weight."""
    assert probes.curvature(convolutional("none"), lambda outputs, _: outputs.sum(), *images()).isfinite()


def spread(model: nn.Module) -> tuple[list[str], list[torch.Tensor]]:
    return [name for name, _ in model.named_parameters()], [each.detach() for each in model.parameters()]


def hessian_of(model: nn.Module) -> torch.Tensor:
    """The full matrix, by torch.autograd.functional.hessian, of a copy in train mode with frozen noise."""
    model, (x, y) = copy.deepcopy(model).train(), batch()
    names, values = spread(model)

    def loss(w: torch.Tensor) -> torch.Tensor:
        parts = w.split([value.numel() for value in values])
        point = {name: part.view_as(value) for name, part, value in zip(names, parts, values, strict=True)}
        return loss_of(functional_call(model, point, (x,)), y)

    with norms.frozen(model):
        return torch.autograd.functional.hessian(loss, flat(values))


@pytest.mark.parametrize("norm", ["none", "batch", "noisy"])
def test_curvature_and_top_eigenvalues_are_brute_force(norm):
    model, g = linear(norm).eval(), flat(by_hand(linear(norm))[1])
    hessian = hessian_of(model)
    assert len(hessian) < 100
    torch.testing.assert_close(probes.curvature(model, loss_of, *batch()), g @ hessian @ g / (g @ g))
    torch.testing.assert_close(top(model), torch.linalg.eigvalsh(hessian).flip(0)[:3])


@pytest.mark.parametrize("norm", ["none", "batch", "noisy"])
def test_the_hessian_is_what_differences_of_gradients_say(norm):
    """Central differences of by-hand gradients know nothing of second derivatives."""
    model, h = linear(norm), 1e-5
    _, values = spread(model)
    columns = []
    for unit in torch.eye(len(flat(values)), dtype=torch.float64):
        steps = [
            part.view_as(value) for part, value in zip(unit.split([v.numel() for v in values]), values, strict=True)
        ]
        ahead, behind = (flat(by_hand(moved(model, steps, eta))[1]) for eta in (-h, h))
        columns.append((ahead - behind) / (2 * h))
    torch.testing.assert_close(torch.stack(columns), hessian_of(model), atol=1e-5, rtol=1e-6)


class WrittenOut(nn.Module):
    """Batch norm in train mode from elementary operations."""

    def __init__(self, norm: nn.BatchNorm1d):
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, a: torch.Tensor) -> torch.Tensor:
        variance, mean = torch.var_mean(a, dim=0, correction=0)
        return (a - mean) / (variance + self.eps).sqrt() * self.weight + self.bias


class AsModule(nn.Module):
    """loss_of as curvlinops takes it; `sum`: the loss is used as it is."""

    reduction = "sum"
    forward = staticmethod(loss_of)


FUSED = pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="torch.func.jacrev, which curvlinops uses, is wrong for torch's batch norm",
)


@pytest.mark.parametrize("norm", ["none", "batch written out", pytest.param("batch", marks=FUSED)])
def test_curvlinops_and_autograd_agree(norm):
    """Forward over reverse, by an independent library, against reverse over reverse."""
    from curvlinops import HessianLinearOperator

    model = linear(norm.split()[0])
    expected, eigenvalues = hessian_of(model), top(model)
    model = torch.func.replace_all_batch_norm_modules_(model)  # curvlinops cannot move running statistics
    if norm == "batch written out":
        for layer in list(model)[:-1]:
            layer.norm[0] = WrittenOut(layer.norm[0])
    # The check for determinism draws from torch's global generator.
    operator = HessianLinearOperator(model, AsModule(), list(model.parameters()), [batch()], check_deterministic=False)
    found = operator @ torch.eye(len(expected), dtype=torch.float64)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.linalg.eigvalsh(found).flip(0)[:3], eigenvalues)


def test_the_starting_vector_is_the_generators_and_no_global_one_is_read():
    model, drawn, random = linear("noisy"), [], seeds.generator(0, "lanczos")
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)
        before = torch.get_rng_state(), np.random.get_state()[1].copy()
        drawn.append(top(model))
        assert torch.equal(before[0], torch.get_rng_state()) and (before[1] == np.random.get_state()[1]).all()
    assert torch.equal(*drawn)
    first, second = (probes.top_eigenvalues(model, loss_of, *batch(), count=3, random=random) for _ in range(2))
    assert torch.equal(first, drawn[0]) and not torch.equal(second, first)
    torch.testing.assert_close(second, first)


def test_vectors_that_lanczos_draws_on_its_way_are_reproducible_too():
    """A Hessian of rank one: after two products there is nowhere to go but to a fresh vector."""
    model = Quadratic(torch.ones(6, 6).double(), torch.ones(6).double())
    assert torch.equal(*(top(model, lambda loss, _: loss) for _ in range(2)))


def test_what_diverged_has_no_curvature_and_does_not_crash():
    model = linear("none")
    with torch.no_grad():
        model[0].linear.weight.fill_(1e200)
    assert probes.curvature(model, loss_of, *batch()).isnan()
    assert top(model).isnan().all() and len(top(model)) == 3
    assert not any(norm.isfinite() for norm in probes.gradient_norms(model, loss_of, *batch()).values())


def test_eigenvalues_that_do_not_converge_are_nan():
    """A thousand eigenvalues that crowd at both ends of their range."""
    model = Quadratic(torch.linspace(0, torch.pi, 1000).double().cos().diag(), torch.ones(1000).double())
    assert top(model, lambda loss, _: loss, count=1).isnan().all()


@pytest.mark.parametrize("count", [0, 36])
def test_a_count_of_eigenvalues_that_there_are_not_is_named(count):
    with pytest.raises(ValueError, match=rf"^count is {count}: this network has 36 weights, accepted are 1 to 35$"):
        top(linear("none"), count=count)


def convolutional(norm: str) -> models.Network:
    """Eleven layers with biases, pooling and ReLU, in float64."""
    setting, generator = models.VGG(depth="A", width=1 / 32), seeds.generator(0, "weights")
    return setting.build(partial(norms.make, norm), channels=1, classes=3, generator=generator).double()


def images() -> tuple[torch.Tensor, torch.Tensor]:
    generator = seeds.generator(0, "images")
    shapes = (8, 1, 32, 32), (8, 3)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


class WithDropout(nn.Sequential):
    """Draws from torch's global generator at every pass."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(nn.Linear(3, 40), nn.Dropout(0.5), nn.Linear(40, 40), nn.Dropout(0.5), nn.Linear(40, 3))
        self.double()


@pytest.mark.parametrize("name", ["along", "random", "curvature", "top_eigenvalues"])
def test_what_a_module_draws_from_torchs_own_generator_is_one_draw_and_the_generator_stays(name):
    model = WithDropout()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = state(model)
    found = [PROBES[name](model, loss_of, *batch()) for _ in range(2)]
    assert same(before, state(model))
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_no_step_is_no_distance_with_dropout_either():
    model = WithDropout()
    found = probes.along(model, loss_of, *batch(), etas=[0.0, 0.1])
    assert found.distances[0] == 0 < found.distances[1]
    assert probes.sharpness(model, loss_of, *batch(), radius=1e-12).abs() < 1e-9
    outputs = []
    with probes.untouched(model.train()):
        for module in model:  # each dropout has a draw of its own
            if isinstance(module, nn.Dropout):
                outputs.append(module(torch.ones(1, 40)))
    assert not torch.equal(*outputs)


def state(model: nn.Module) -> list:
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()]
    values = [value.clone() for value in model.state_dict().values()]
    noise = [(m.step, m.is_frozen) for m in model.modules() if isinstance(m, norms.Noise)]
    grads = [parameter.grad.clone() for parameter in model.parameters()]
    flags = [m.training for m in model.modules()], [parameter.requires_grad for parameter in model.parameters()]
    return [values, grads, (noise, hooks), flags, torch.get_rng_state()]


def same(before: list, after: list) -> bool:
    tensors = zip([*before[0], *before[1], before[4]], [*after[0], *after[1], after[4]], strict=True)
    return all(torch.equal(a, b) for a, b in tensors) and before[2:4] == after[2:4]


PROBES = {
    "loss": probes.loss,
    "along": lambda *of: probes.along(*of, etas=ETAS),
    "random": lambda *of: probes.along(*of, etas=ETAS, random=torch.Generator()),
    "covariate_shift": lambda *of: probes.covariate_shift(*of, lr=0.1, layers=[2, 4]),
    "gradient_norms": probes.gradient_norms,
    "signal_norms": probes.signal_norms,
    "curvature": probes.curvature,
    "top_eigenvalues": lambda *of: probes.top_eigenvalues(*of, count=2, random=seeds.generator(0, "lanczos")),
    "normalized": lambda *of: probes.top_eigenvalues(
        *of, count=2, random=seeds.generator(0, "lanczos"), normalized=True
    ),
    "sharpness": lambda *of: probes.sharpness(*of, radius=0.1),
    "adaptive": lambda *of: probes.sharpness(*of, radius=0.1, adaptive=True),
}


ENDS_FORWARD = ("loss", "sharpness", "adaptive")  # sharpness after an error: test_minima_probes
ENDS_BACKWARD = {name: probe for name, probe in PROBES.items() if name not in ENDS_FORWARD}


@pytest.mark.parametrize("probe", ENDS_BACKWARD.values(), ids=ENDS_BACKWARD)
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


def test_probes_stay_on_the_device_of_the_network():
    """On a device without numbers, where a tensor of the CPU among the others or a look at a value is an error."""
    model, (x, y) = convolutional("batch").to("meta"), (each.to("meta") for each in images())
    names = ("loss", "along", "covariate_shift", "gradient_norms", "signal_norms", "curvature", "sharpness", "adaptive")
    found = [PROBES[name](model, loss_of, x, y) for name in names]
    found += [probes.activations(model, x, layers=[1, 10])]
    found += [(probes.moments(a), probes.histogram(a[:, 0])) for a in found[-1].values()]
    leaves = torch.utils._pytree.tree_leaves(found)
    assert len(leaves) > 40 and {each.device.type for each in leaves} == {"meta"}


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


def test_no_step_is_no_distance_to_the_bit():
    """Also in float32, where weights that are laid out otherwise would be summed in another order."""
    setting = models.VGG(depth="A", width=1 / 32)
    model = setting.build(partial(norms.make, "batch"), channels=1, classes=10, generator=seeds.generator(0, "weights"))
    x = torch.randn(8, 1, 32, 32, generator=seeds.generator(0, "images"))
    measured = probes.along(model, nn.functional.cross_entropy, x, torch.arange(8), etas=[0.0, 0.1])
    assert measured.distances[0] == 0 < measured.distances[1] and measured.losses[0] == measured.loss

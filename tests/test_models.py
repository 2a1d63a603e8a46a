"""Architectures against torchvision's, initialisation against Glorot's formula, arms against each other."""

from functools import partial

import pytest
import torch
import torchvision
from torch import nn

from bnutils import models, norms, seeds


def build(norm: str = "batch", *, seed: int = 0, **fields) -> models.Network:
    setting = models.VGG(**{"depth": "B", "width": 1 / 16} | fields)
    return setting.build(partial(norms.make, norm), channels=3, classes=10, generator=seeds.generator(seed, "weights"))


@pytest.mark.parametrize(
    ("depth", "name"), [("A", "vgg11_bn"), ("B", "vgg13_bn"), ("D", "vgg16_bn"), ("E", "vgg19_bn")]
)
def test_convolutions_are_torchvisions(depth, name):
    """Layer by layer the same types and shapes, and with the same weights the same function."""
    theirs = torchvision.models.get_model(name, weights=None).features
    ours = models.VGG(depth=depth, head=8).build(
        partial(norms.make, "batch"), channels=3, classes=10, generator=torch.Generator()
    )
    steps = [module for layer in ours for module in layer.modules() if not list(module.children())]
    steps = [
        module for module in steps if not isinstance(module, nn.Flatten | nn.Linear | nn.BatchNorm1d | nn.Identity)
    ]
    steps = steps[: len(theirs)]
    assert [type(step) for step in steps] == [type(step) for step in theirs]
    for ours_step, theirs_step in zip(steps, theirs, strict=True):
        theirs_step.load_state_dict(ours_step.state_dict())
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(nn.Sequential(*steps).double()(x), theirs.double()(x))


@pytest.mark.parametrize(("depth", "layers"), [("A", 11), ("B", 13), ("D", 16), ("E", 19)])
def test_layers_are_numbered_as_in_the_name(depth, layers):
    network = build(depth=depth)
    assert models.VGG(depth=depth).layers == len(network) == layers
    assert network.layer(1) is network[0] and network.layer(layers) is network[-1]
    with pytest.raises(ValueError, match=rf"^no layer {layers + 1}: this network has layers 1 to {layers}$"):
        network.layer(layers + 1)


def test_normalizer_stands_between_linear_map_and_nonlinearity():
    for layer in build("batch")[:-1]:
        assert isinstance(layer.norm[0], nn.BatchNorm2d | nn.BatchNorm1d) and isinstance(layer.tail[0], nn.ReLU)
    assert isinstance(build("batch")[-1].norm, nn.Identity)
    assert isinstance(build("batch", norm_head=False)[-2].norm, nn.Identity)


def test_arms_share_their_initial_weights_and_seeds_do_not():
    plain, batch, noisy, other = build("none"), build("batch"), build("noisy"), build("none", seed=1)
    for a, b, c, d in zip(plain, batch, noisy, other, strict=True):
        assert torch.equal(a.linear.weight, b.linear.weight) and torch.equal(a.linear.weight, c.linear.weight)
        assert not torch.equal(a.linear.weight, d.linear.weight)


def test_glorot_initialisation():
    for layer in build("none", width=1 / 4):
        weight = layer.linear.weight
        fan_in, fan_out = weight[0].numel(), weight.shape[0] * weight[0, 0].numel()
        bound = (6 / (fan_in + fan_out)) ** 0.5
        assert weight.abs().max() <= bound
        assert weight.var().item() == pytest.approx(bound**2 / 3, rel=0.15)
        assert not layer.linear.bias.any()


def test_default_initialisation_is_torchs():
    """Drawn from a stream like theirs, all weights and biases are theirs, layer by layer."""
    ours = models.VGG(depth="A", width=1 / 16).build(
        partial(norms.make, "batch"),
        channels=3,
        classes=10,
        generator=torch.Generator().manual_seed(5),
        init="default",
    )
    theirs = build(depth="A")
    with torch.random.fork_rng():
        torch.manual_seed(5)
        for layer in theirs:
            layer.linear.to(memory_format=torch.contiguous_format).reset_parameters()
    for layer, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(layer.linear.weight, other.linear.weight, rtol=1e-6, atol=0)
        torch.testing.assert_close(layer.linear.bias, other.linear.bias, rtol=1e-6, atol=0)


def test_glorot_is_drawn_as_it_always_was():
    """Published runs began with these weights: layer by layer torch's own Glorot from the run's stream."""
    generator = seeds.generator(0, "weights")
    for layer in build():
        expected = nn.init.xavier_uniform_(torch.empty(layer.linear.weight.shape), generator=generator)
        assert torch.equal(layer.linear.weight, expected)


def test_unknown_initialisation_is_named():
    with pytest.raises(ValueError, match=r"^unknown initialisation 'zeros': accepted are glorot, default$"):
        models.VGG(width=1 / 64).build(
            partial(norms.make, "none"), channels=1, classes=10, generator=torch.Generator(), init="zeros"
        )


def test_head_of_4096_gives_the_weight_norm_that_the_paper_implies():
    """models.VGG names 8.9e3 for D and 4.9e3 with a head of 512: expected squared norms of Glorot weights."""

    def expected(head: int) -> float:
        with torch.device("meta"):
            network = models.VGG(head=head).build(
                partial(norms.make, "none"), channels=3, classes=10, generator=torch.Generator()
            )
        weights = [layer.linear.weight for layer in network]
        return sum(2 * w.numel() / (w[0].numel() + w.shape[0] * w[0, 0].numel()) for w in weights)

    assert expected(4096) == pytest.approx(8.9e3, rel=0.01)
    assert expected(512) == pytest.approx(4.9e3, rel=0.01)


def test_deep_linear_network_is_a_product_of_matrices():
    network = models.DeepLinear().build(partial(norms.make, "none"), generator=seeds.generator(0, "weights"))
    x = torch.randn(7, 10, dtype=torch.float64)
    product = x
    for layer in network:
        product = product @ layer.linear.weight.T
    assert len(network) == 25
    torch.testing.assert_close(network(x), product)


def test_deep_linear_network_can_normalize_its_last_layer():
    def last(words: str) -> nn.Module:
        setting = models.DeepLinear(last=words)
        return setting.build(partial(norms.make, "batch"), generator=torch.Generator())[-1].norm

    assert isinstance(last("nothing"), nn.Identity)
    assert isinstance(last("affine")[0], nn.BatchNorm1d) and last("affine")[0].weight.requires_grad
    assert isinstance(last("norm")[0], nn.BatchNorm1d) and not last("norm")[0].weight.requires_grad


def test_smoothed_network_has_no_kinks_and_tends_to_the_one_given():
    """Softplus and log-sum-exp in closed form; the output nears the original's as they sharpen."""
    network = build("batch", width=1 / 16).double()
    x = torch.randn(8, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    outputs = {sharpness: models.smoothed(network, sharpness=sharpness)(x) for sharpness in (10.0, 1e3, 1e5)}
    errors = [(output - network(x)).abs().max().item() for output in outputs.values()]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-3
    kinds = {type(module) for module in models.smoothed(network, sharpness=10.0).modules()}
    assert not kinds & {nn.ReLU, nn.MaxPool2d} and {nn.ReLU, nn.MaxPool2d} <= {type(m) for m in network.modules()}
    a = torch.randn(1, 1, 2, 2, dtype=torch.float64)
    torch.testing.assert_close(models.SmoothMaxPool(3.0)(a).squeeze(), (3 * a).exp().sum().log() / 3)


def test_unknown_depth_and_width_are_named():
    with pytest.raises(ValueError, match=r"^unknown depth 'C': accepted are A, B, D, E, S .*$"):
        models.VGG(depth="C")
    with pytest.raises(ValueError, match=r"^width 0.0 leaves no channels: accepted is 1/64 or more$"):
        models.VGG(width=0.0)

"""The paper's two families of networks, with the normalizer passed in: the VGG and the deep linear network.

Both are a `Network`: a sequence of numbered layers, each (linear, norm, tail), so that layer i of the paper's figures
is `network.layer(i)` in every arm and a probe of `norm` sees the same place with and without normalization.
"""

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bnutils import norms

# Simonyan and Zisserman 2014, Table 1: output channels of the convolutions, M a 2x2 max-pooling.
DEPTHS: dict[str, tuple[int | str, ...]] = {
    "A": (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    "B": (64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    "D": (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"),
    "E": (64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M"),
    # Ours: a shallow one, six layers with the head; its last pooling is 8 x 8.
    "S": (64, "M", 128, "M", 256, "M", "M", "M"),
}
# What may follow the last matrix of the deep linear network.
LAST = ("nothing", "norm", "affine")
# How weights and biases may begin: see `check`.
INITS = ("glorot", "default")

# What a network asks of a normalizer: make_norm(channels, layer=..., spatial=...) gives the module for that layer.
MakeNorm = Callable[..., nn.Module]


class Network(nn.Sequential):
    """Numbered layers, each `linear`, then `norm`, then `tail` (non-linearity, pooling)."""

    def layer(self, number: int) -> nn.Module:
        """Layer `number`, counted from 1 as in the paper's figures. Raises ValueError outside 1..depth."""
        if not 1 <= number <= len(self):
            raise ValueError(f"no layer {number}: this network has layers 1 to {len(self)}")
        return self[number - 1]


class SmoothMaxPool(nn.Module):
    r"""The maximum of each 2 x 2 window without its kinks: :math:`\frac{1}{s} \log \sum \exp(s a)`, s the sharpness."""

    def __init__(self, sharpness: float):
        super().__init__()
        self.sharpness = sharpness

    def forward(self, a: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c half_h half_w"]:
        windows = a.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2)
        return (self.sharpness * windows).logsumexp(-1) / self.sharpness


def smoothed(network: Network, *, sharpness: float) -> Network:
    r"""A copy with the same weights and no kinks: softplus for ReLU and `SmoothMaxPool` for max-pooling.

    softplus is :math:`\frac{1}{s} \log(1 + \exp(s a))`, s the sharpness; both tend to what they replace as `sharpness`
    grows, and differ from it where two candidates are closer than about 1/sharpness. The network given stays as it was.
    """
    network = copy.deepcopy(network)
    for layer in network:
        for place, module in enumerate(layer.tail):
            if isinstance(module, nn.ReLU):
                layer.tail[place] = nn.Softplus(beta=sharpness)
            elif isinstance(module, nn.MaxPool2d):
                layer.tail[place] = SmoothMaxPool(sharpness)
    return network


@torch.no_grad()
def rescaled(network: Network, *, factor: float) -> Network:
    r"""A copy with other weights that computes the same function in train mode, for a factor above 0.

    With batch normalization: weights and biases in front of every normalizer times `factor` f, which it divides out
    again, but for its epsilon: :math:`\sigma^2 + \epsilon` becomes :math:`f^2 \sigma^2 + \epsilon` (Santurkar et al.
    2018, Sec. 3.3). Without: layers in pairs, the first times `factor`, the weights of the second over it, since
    :math:`\mathrm{relu}(ca) = c \, \mathrm{relu}(a)` (Dinh et al. 2017); a last layer without a partner stays. Running
    statistics are not rescaled. The network given stays as it was. Raises ValueError for a factor that is not above 0,
    and for noise without a normalizer, which no rescaling leaves alone.
    """
    if not factor > 0:
        raise ValueError(f"factor is {factor!r}: accepted is a number above 0")
    network, waiting = copy.deepcopy(network), None
    for layer in network:
        kinds = [type(module).__name__ for module in layer.norm.modules()]
        if "Noise" in kinds and len(kinds) == 2:  # the container and the noise
            raise ValueError("noise without a normalizer cannot be rescaled: accepted are the other norms")
        if any(hasattr(module, "running_mean") for module in layer.norm.modules()):
            _multiply(layer.linear.parameters(), factor)
            waiting = None
        elif waiting is None:
            waiting = layer
        else:
            _multiply(waiting.linear.parameters(), factor)
            layer.linear.weight /= factor
            waiting = None
    return network


def _multiply(values: Iterable[Tensor], factor: float) -> None:
    for value in values:
        value *= factor


def _layer(linear: nn.Module, norm: nn.Module, *tail: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict(linear=linear, norm=norm, tail=nn.Sequential(*tail)))


def check(init: str) -> None:
    r"""Raise ValueError, in one line, for an initialisation that does not exist.

    glorot: weights :math:`\sim U(-a, a)` with :math:`a = \sqrt{6 / (n_\mathrm{in} + n_\mathrm{out})}`; biases zero.
    default: PyTorch's own, weights and biases :math:`\sim U(-b, b)` with :math:`b = 1 / \sqrt{n_\mathrm{in}}`. n is the
    fan.
    """
    if init not in INITS:
        raise ValueError(f"unknown initialisation {init!r}: accepted are {', '.join(INITS)}")


def _initialise(network: Network, generator: torch.Generator, init: str = "glorot") -> Network:
    """Draw the weights and biases of all layers as `check` says. Normalizers are not touched.

    One that normalizes the weights takes them over once they are drawn.
    """
    check(init)
    for layer in network:
        weight, bias = layer.linear.weight, layer.linear.bias
        if init == "default":
            bound = 1 / math.sqrt(weight[0].numel())
            nn.init.uniform_(weight, -bound, bound, generator=generator)
            nn.init.uniform_(bias, -bound, bound, generator=generator)
        else:
            nn.init.xavier_uniform_(weight, generator=generator)
            if bias is not None:
                nn.init.zeros_(bias)
        if isinstance(layer.norm, norms.Weight):
            layer.norm.take(layer.linear)
    return network


@dataclass(frozen=True)
class VGG:
    """A VGG for 32 x 32 images. The paper says "VGG-like" and no more (App. A.1); what it leaves open is a field here.

    - depth: the letter of Simonyan and Zisserman's table, or S, a shallow one of ours. D (13 convolutions) is the
      smallest for which layer 13, drawn in the paper's Figs 2 and 8, is a convolution.
    - width: multiplies every channel count and the head.
    - head: width of the two hidden linear layers, 4096 as in the original: Glorot weights of D then have a squared norm
      of 8.9e3, within the 0.8e4 to 1.05e4 that the loss at step 0 of the paper's Fig. 4a implies; 512 would give 4.9e3.
    - norm_head: the normalizer stands on the hidden linear layers too. Layers 11 and 13 are drawn as normalized
      whatever the depth, so it does. The output layer carries none.

    Dropout, which the original has in its head, is left out: the paper names none. Biases stay in every arm, so that
    arms have the same parameters up to the normalizer's own.
    """

    depth: str = "D"
    width: float = 1.0
    head: int = 4096
    norm_head: bool = True

    def __post_init__(self):
        if self.depth not in DEPTHS:
            raise ValueError(
                f"unknown depth {self.depth!r}: accepted are {', '.join(DEPTHS)} (letters of the VGG paper; S: shallow)"
            )
        if not self.width * 64 >= 1:
            raise ValueError(f"width {self.width!r} leaves no channels: accepted is 1/64 or more")

    @property
    def layers(self) -> int:
        """How many numbered layers the network has: convolutions and three linear maps."""
        return sum(entry != "M" for entry in DEPTHS[self.depth]) + 3

    def build(
        self, make_norm: MakeNorm, *, channels: int, classes: int, generator: torch.Generator, init: str = "glorot"
    ) -> Network:
        """A network for images [n channels 32 32] to logits [n classes]. `generator` and `init` set its weights.

        Raises ValueError for an initialisation that `check` does not accept.
        """
        layers: list[nn.Module] = []
        for entry in DEPTHS[self.depth]:
            if entry == "M":
                layers[-1].tail.append(nn.MaxPool2d(2))
                continue
            out = int(entry * self.width)
            norm = make_norm(out, layer=len(layers) + 1, spatial=True)
            layers.append(_layer(nn.Conv2d(channels, out, 3, padding=1), norm, nn.ReLU()))
            channels = out
        layers[-1].tail.append(nn.Flatten())
        for out in [int(self.head * self.width)] * 2:
            norm = make_norm(out, layer=len(layers) + 1, spatial=False) if self.norm_head else nn.Identity()
            layers.append(_layer(nn.Linear(channels, out), norm, nn.ReLU()))
            channels = out
        layers.append(_layer(nn.Linear(channels, classes), nn.Identity()))
        # The faster layout for narrow convolutions on a CPU: benchmarks/steps.py.
        return _initialise(Network(*layers), generator, init).to(memory_format=torch.channels_last)


@dataclass(frozen=True)
class DeepLinear:
    r"""The deep linear network of App. A.1: :math:`y = W_k \cdots W_1 x` with square :math:`W_i` and no non-linearity.

    last: what follows the last matrix where the others are normalized, which the paper does not state. nothing: without
    a normalizer there the network can still represent any linear map of its normalized input, which the task asks for;
    norm: the normalizer without gamma and beta; affine: the normalizer with them.
    """

    depth: int = 25
    features: int = 10
    last: str = "nothing"

    def __post_init__(self):
        if self.last not in LAST:
            raise ValueError(f"last layer {self.last!r} of the deep linear network: accepted are {', '.join(LAST)}")

    def build(self, make_norm: MakeNorm, *, generator: torch.Generator) -> Network:
        """A float64 network [n features] to [n features]: without a non-linearity small differences are the signal."""
        layers = []
        for number in range(1, self.depth + 1):
            normed = number < self.depth or self.last != "nothing"
            norm = make_norm(self.features, layer=number, spatial=False) if normed else nn.Identity()
            layers.append(_layer(nn.Linear(self.features, self.features, bias=False), norm))
        if self.last == "norm":
            layers[-1].norm.requires_grad_(False)  # gamma stays 1 and beta 0
        return _initialise(Network(*layers).double(), generator)

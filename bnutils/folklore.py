"""How not to measure it: the wrong measurements of chapter 5, kept apart from the right ones in `probes`.

Each is a mistake that reproductions of this experiment make, as a pure function that leaves the network it looks at as
it was. Where the damage itself is the mistake, it is done to a copy.
"""

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from bnutils import norms, probes
from bnutils.probes import Loss

Batch = tuple[Tensor, Tensor]
Gradient = dict[str, Tensor]


def between_batches(
    model: nn.Module, loss_of: Loss, batch: Batch, other: Batch, *, lrs: Sequence[float]
) -> Float[Tensor, " lrs"]:
    r"""Taken for predictiveness: :math:`\|g_{t+1} - g_t\|`, each on the mini-batch of its own step.

    .. math:: g_t = \nabla L(w; \mathrm{batch}), \qquad g_{t+1} = \nabla L(w - \mathrm{lr} \, g_t; \mathrm{other})

    As lr goes to zero it goes to the distance between the gradients of two mini-batches at one point, not to zero. In
    train mode, one draw of the noise, l2 norm over all parameters; 1 pass and one for each lr. Leaves the model as it
    was. Right: `probes.along`, one batch throughout.
    """
    with probes.untouched(model):
        model.train()
        g = _gradient(model, loss_of, *batch)
        return torch.stack([_distance(_gradient(model, loss_of, *other, along=g, eta=lr), g) for lr in lrs])


def after_update(
    model: nn.Module, loss_of: Loss, x: Tensor, y: Tensor, *, lr: float, etas: Sequence[float]
) -> Float[Tensor, " etas"]:
    r"""Taken for the distance at eta: the same from :math:`w' = w - \mathrm{lr} \, g`, the weights after the update.

    .. math:: \|\nabla L(w' - \eta g) - g\|, \qquad g = \nabla L(w)

    The optimizer has made its step before the probe begins, so what is called eta is eta + lr: as eta goes to zero the
    distance goes to that of a whole update. In train mode; 1 pass and one for each eta. Leaves the model as it was.
    Right: `probes.along` from w.
    """
    return probes.along(model, loss_of, x, y, etas=[lr + eta for eta in etas]).distances


def last_layer(model: nn.Sequential, loss_of: Loss, x: Tensor, y: Tensor, *, eta: float) -> Float[Tensor, ""]:
    r"""Taken for the distance at eta: that of the gradient over the parameters of the last layer k alone.

    .. math:: \|\nabla_k L(w - \eta g) - g_k\|

    In train mode; 2 passes. Leaves the model as it was. Right: the l2 norm over all parameters, `probes.along`.
    """
    with probes.untouched(model):
        model.train()
        g = _gradient(model, loss_of, x, y)
        there = _gradient(model, loss_of, x, y, along=g, eta=eta)
    return _distance(
        *({name: each[name] for name in g if name.startswith(f"{len(model) - 1}.")} for each in (there, g))
    )


def eval_mode(model: nn.Module, loss_of: Loss, x: Tensor, y: Tensor, *, eta: float) -> Float[Tensor, ""]:
    r"""Taken for the distance at eta: the same with g in eval mode, where running statistics normalize.

    .. math:: \|g(w - \eta g) - g\|

    They do not depend on the weights, so this is another function than the one that is trained: a network with fixed
    scales and shifts. 2 passes. Leaves the model as it was. Right: train mode, `probes.along`.
    """
    with probes.untouched(model):
        model.eval()
        g = _gradient(model, loss_of, x, y)
        return _distance(_gradient(model, loss_of, x, y, along=g, eta=eta), g)


def unprotected(model: nn.Module, loss_of: Loss, x: Tensor, y: Tensor, *, etas: Sequence[float]) -> nn.Module:
    r"""The network as a probe leaves it that protects its weights and nothing else: a copy.

    The probe is one of the losses at :math:`w - \eta g`. Every train-mode pass moves the running statistics towards
    those of the point it visits, also under no_grad; in eval mode the copy is another function. 1 pass and a forward
    one for each eta. Right: `probes.untouched`.
    """
    probed = copy.deepcopy(model).train()
    g = _gradient(probed, loss_of, x, y)
    with torch.no_grad():
        for eta in etas:
            functional_call(probed, {name: p - eta * g[name] for name, p in probed.named_parameters()}, (x,))
    return probed


class SharedNoise(norms.Noise):
    """Taken for Algorithm 1: one shift and one scale for all samples of a unit, those of its first sample.

    :math:`s_{ij} = s_{1j}` and :math:`m_{ij} = m_{1j}` for all i, with the draw of `Noise`. A shift that the whole
    batch has in common is what the next batch normalization takes out, up to the non-linearity between them.
    """

    def draw(self, like: Float[Tensor, "n c *hw"]) -> tuple[Float[Tensor, "n c *hw"], Float[Tensor, "n c *hw"]]:
        """The first sample's shift and scale, in the shape of `like`."""
        first = (slice(1), slice(None), *[slice(1)] * (like.dim() - 2))
        return tuple(each[first].expand_as(like) for each in super().draw(like))


class Disturbance(NamedTuple):
    """How far noise moves a batch, as shares of its length: at the noisy units themselves, and one layer on."""

    content: Float[Tensor, ""]
    following: Float[Tensor, ""]


def disturbance(model: nn.Sequential, x: Tensor, *, noise: type[norms.Noise], seed: int) -> Disturbance:
    r"""What noise behind one layer does to the batch: relative change :math:`\|b' - b\| / \|b\|`, mean over layers.

    content: b is the layer's activations, standardised over the batch unit by unit, :math:`b'` the same after `noise`:
    what is left of it once the shift and the scale that all samples share are taken out. following: b is what leaves
    the next layer's normalizer. The paper's constants, the noise's step 0, the batch x in train mode; about 2 forward
    passes. Leaves the model as it was.
    """
    content, following = [], []
    with probes.untouched(model), torch.no_grad():
        model.train()
        a = model[0].norm(model[0].linear(x))
        for number, (layer, after) in enumerate(pairwise(model), start=1):
            noisy = noise(norms.NoiseConstants(), seed=seed, layer=number)(a)
            content.append(_change(_standardised(noisy), _standardised(a)))
            a, moved = (after.norm(after.linear(layer.tail(each))) for each in (a, noisy))
            following.append(_change(moved, a))
    return Disturbance(torch.stack(content).mean(), torch.stack(following).mean())


def _standardised(a: Float[Tensor, "n c *hw"]) -> Float[Tensor, "n c *hw"]:
    """Mean 0 and variance 1 of each unit over the batch; a unit that is the same for all samples becomes 0."""
    variance, mean = torch.var_mean(a, dim=[0, *range(2, a.dim())], correction=0, keepdim=True)
    return (a - mean) * variance.clamp_min(1e-20).rsqrt()


def _change(moved: Tensor, still: Tensor) -> Float[Tensor, ""]:
    return torch.linalg.vector_norm(moved - still) / torch.linalg.vector_norm(still)


@torch.no_grad()
def linear_outputs(
    model: nn.Sequential, x: Tensor, *, layers: Sequence[int]
) -> dict[int, Float[Tensor, "samples units"]]:
    """Taken for the activations of a normalized network: what leaves the linear map, before its normalizer.

    Without a normalizer it is what `probes.activations` sees; with one it is another place in the network. In train
    mode; 1 forward pass, samples = n h w. Leaves the model as it was.
    """
    seen = {}
    with probes.untouched(model):
        model.train()
        for number, layer in enumerate(model, start=1):
            out = layer.linear(x)
            seen[number] = out.movedim(1, -1).reshape(-1, out.shape[1])
            x = layer.tail(layer.norm(out))
    return {number: seen[number] for number in layers}


def adam_length(model: nn.Module, loss_of: Loss, x: Tensor, y: Tensor, *, epsilon: float = 1e-8) -> Float[Tensor, ""]:
    r"""How long Adam's first step is, in units of :math:`\mathrm{lr} \|g\|`, those of step lengths: 1 for plain SGD.

    At its first step the bias-corrected moments are :math:`g` and :math:`g^2`, so each weight moves by
    :math:`\mathrm{lr} \, g / (|g| + \epsilon)`, about lr whatever its gradient (Kingma and Ba 2015, Alg. 1). The
    learning rate cancels. In train mode; 1 pass. Leaves the model as it was.
    """
    with probes.untouched(model):
        model.train()
        g = torch.cat([each.flatten() for each in _gradient(model, loss_of, x, y).values()])
    return torch.linalg.vector_norm(g / (g.abs() + epsilon)) / torch.linalg.vector_norm(g)


def _gradient(
    model: nn.Module, loss_of: Loss, x: Tensor, y: Tensor, *, along: Gradient | None = None, eta: float = 0.0
) -> Gradient:
    """grad L(w - eta v; x, y) by name, v = `along`, in whatever mode the model is."""
    point = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for name, step in (along or {}).items():
        point[name].sub_(step, alpha=eta)
    with torch.enable_grad():
        weights = [each.requires_grad_() for each in point.values()]
        loss = loss_of(functional_call(model, point, (x,)), y)
        return dict(zip(point, torch.autograd.grad(loss, weights), strict=True))


def _distance(one: Gradient, other: Gradient) -> Float[Tensor, ""]:
    """The l2 norm of the difference, over all numbers; infinite where it is not finite."""
    lengths = [torch.linalg.vector_norm(one[name] - other[name]) for name in one]
    return torch.linalg.vector_norm(torch.stack(lengths)).nan_to_num(torch.inf, torch.inf)

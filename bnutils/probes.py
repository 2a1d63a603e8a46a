"""Measurements as pure functions of (model, one batch): no training, no files, the model left as it was."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bnutils import norms


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Inside, `model` can be run in train mode; afterwards, error or not, it is as before.

    Buffers (a train-mode pass moves running statistics, also under no_grad), mode of every module and the noise's
    streams are put back. Parameters and `.grad` are the caller's to leave alone.
    """
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    modes = [(module, module.training) for module in model.modules()]
    try:
        with norms.frozen(model):
            yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


@torch.no_grad()
def activations(model: nn.Module, x: Tensor, *, layers: Sequence[int]) -> dict[int, Float[Tensor, "samples units"]]:
    """What leaves the normalizer of each layer, before the non-linearity, for the batch x in train mode.

    Where there is no normalizer this is the linear map's own output: the same place in every arm. For convolutions
    height and width count as samples (the paper's App. A.2.1). Shapes: samples = n h w, units = channels. Leaves
    parameters, buffers, gradients, mode and random streams as they were. Raises ValueError for a layer the network
    has not.
    """
    seen: dict[int, Tensor] = {}
    hooks = []
    try:
        for number in layers:
            module = model.layer(number).norm
            hooks.append(module.register_forward_hook(lambda _m, _i, out, number=number: seen.__setitem__(number, out)))
        with untouched(model):
            model.train()
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return {number: out.movedim(1, -1).reshape(-1, out.shape[1]) for number, out in seen.items()}


def moments(a: Float[Tensor, "samples units"]) -> tuple[Float[Tensor, " units"], Float[Tensor, " units"]]:
    """Mean and variance of each unit over the batch: mu_j = <a_ij>, sigma^2_j = <(a_ij - mu_j)^2>, 1/m (Fig. 8)."""
    variance, mean = torch.var_mean(a, dim=0, correction=0)
    return mean, variance


def histogram(a: Float[Tensor, " samples"]) -> tuple[Float[Tensor, " bins"], Float[Tensor, " bins"]]:
    """Centres and densities of equal bins from the smallest to the largest value (Figs 1c, 2).

    As many bins as Rice's rule asks for, 2 samples^(1/3), and 40 at most: a linear layer has few samples. density_b =
    count_b / (samples * width); the densities times the width sum to 1. Values that are all alike are drawn in one
    bin of the smallest width that float32 can tell apart. Raises nothing; leaves `a` as it was.
    """
    bins = min(40, math.ceil(2 * len(a) ** (1 / 3)))
    low, high = a.aminmax()
    width = ((high - low) / bins).clamp_min(1e-6)
    index = ((a - low) / width).long().clamp_(0, bins - 1)
    counts = torch.zeros(bins, dtype=a.dtype, device=a.device).index_add_(0, index, torch.ones_like(a))
    centres = low + width * (torch.arange(bins, dtype=a.dtype, device=a.device) + 0.5)
    return centres, counts / (len(a) * width)

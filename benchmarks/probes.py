"""What the probes of gradients cost, as ratios in one process on one thread: `make bench` prints and keeps the table.

Network, batch and data are those of the preset `quick`, at initialisation.
"""

from collections.abc import Callable
from functools import partial

import torch
from steps import keep, timed
from torch import nn

from bnutils import data, norms, presets, probes, runs

ETAS = (0.05, 0.1, 0.2, 0.4)


def passes(model: nn.Module, x: torch.Tensor, y: torch.Tensor, count: int) -> Callable:
    """So many plain forward and backward passes of the whole network."""

    def work() -> None:
        with norms.frozen(model):
            for _ in range(count):
                model.zero_grad(set_to_none=True)
                nn.functional.cross_entropy(model(x), y).backward()

    return work


def main() -> None:
    torch.set_num_threads(1)
    setting, images = presets.get("quick", device="cpu"), data.load("digits")
    x, y = images.train_x[: setting.batch], images.train_y[: setting.batch]
    layers, loss, times = range(1, setting.vgg.layers + 1), nn.functional.cross_entropy, {}
    for norm in ("none", "batch"):
        model = runs.build(setting, presets.Arm(norm, 0.1), 0, images)
        along = partial(probes.along, model, loss, x, y, etas=ETAS)
        plain, naive = len(ETAS) + 1, len(layers) + 1
        times[f"{len(ETAS)} step lengths, {norm}"] = timed(
            {f"{plain} plain passes": passes(model, x, y, plain), "probes.along": along}
        )
        shift = partial(probes.covariate_shift, model, loss, x, y, lr=0.1, layers=layers)
        times[f"covariate shift of all layers, {norm}"] = timed(
            {f"{naive} plain passes": passes(model, x, y, naive), "probes.covariate_shift": shift}
        )
    keep(__file__, times, setting)


if __name__ == "__main__":
    main()

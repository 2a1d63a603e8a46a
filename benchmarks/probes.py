"""What the probes of gradients cost, as ratios in one process on one thread: `make bench` prints and keeps the table.

On the network of preset `quick` and on the paper's VGG, each with its own batch, at initialisation. A pass of the
latter takes seconds, so it is timed once, after a turn to warm up, and for the probes that have a budget.
"""

from collections.abc import Callable
from functools import partial

import torch
from steps import keep, timed
from torch import nn

from bnutils import data, norms, presets, probes, records

ETAS = [0.1 * eta for eta in presets.ETAS]
NETWORKS = {"quick": {"batch": 64, "repeats": 20}, "paper": {"batch": 128, "repeats": 1}}


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
    images, loss, times = data.load("digits"), nn.functional.cross_entropy, {}
    for preset, scale in NETWORKS.items():
        setting = presets.get(preset, dataset="digits", device="cpu")
        x, y = images.train_x[: scale["batch"]], images.train_y[: scale["batch"]]
        layers = range(1, setting.vgg.layers + 1)
        for norm in ("none", "batch"):
            model = records.build(setting, presets.Arm(norm, 0.1), 0, images)
            several, naive = len(ETAS) + 1, len(layers) + 1
            shift = partial(probes.covariate_shift, lr=0.1, layers=layers)
            questions = {
                f"{len(ETAS)} step lengths": (several, partial(probes.along, etas=ETAS)),
                "covariate shift of all layers": (naive, shift),
            }
            if preset == "quick":
                questions["length of each layer's gradient"] = (1, probes.gradient_norms)
                questions["curvature along the gradient"] = (1, probes.curvature)
            for question, (count, probe) in questions.items():
                work = {
                    f"{count} plain passes": passes(model, x, y, count),
                    "the probe": partial(probe, model, loss, x, y),
                }
                times[f"{preset}, {norm}: {question}"] = timed(work, repeats=scale["repeats"])
    what = ", ".join(f"{name}: batch {each['batch']}, median of {each['repeats']}" for name, each in NETWORKS.items())
    keep(__file__, times, what)


if __name__ == "__main__":
    main()

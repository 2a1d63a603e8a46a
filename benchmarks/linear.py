"""What the deep linear network costs, as ratios in one process on one thread: `make bench` prints and keeps the table.

A step is the gradient of all seeds and its update; a training is a tenth of the paper's 10,000 steps with its share of
the probes.
"""

from collections.abc import Callable
from functools import partial

import torch
from steps import keep, timed
from torch import nn

from bnutils import data, linear, norms, seeds

LR, REPEATS = 1e-6, 20
SHORT = linear.Linear(steps=1000)


def step(norm: str, count: int, *, by_moments: bool) -> Callable:
    """One training step of so many seeds."""
    networks = linear.Networks(SHORT, norm, range(count), by_moments=by_moments)
    return lambda: linear.moved(networks.parameters, networks.gradient(networks.parameters)[1], LR)


def ordinary(norm: str) -> Callable:
    """One training step of one seed by the ordinary network, all samples."""
    task = data.gaussian(0)
    model = SHORT.net.build(partial(norms.make, norm), generator=seeds.generator(0, "weights"))

    def work() -> None:
        model.zero_grad(set_to_none=True)
        nn.functional.mse_loss(model(task.x), task.y, reduction="sum").backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(parameter.grad, alpha=-LR)

    return work


def training(norm: str, count: int) -> Callable:
    """A tenth of a training of so many seeds, probes included."""
    return partial(linear.train, SHORT, norm, LR, range(count))


def main() -> None:
    torch.set_num_threads(1)
    times = {}
    for norm in linear.BY_MOMENTS:
        works = {
            "1 seed, ordinary network": ordinary(norm),
            "25 seeds, all samples": step(norm, 25, by_moments=False),
            "25 seeds, condensed": step(norm, 25, by_moments=True),
        }
        times[f"{norm}: a step"] = timed(works, repeats=REPEATS)
        works = {"1 seed": training(norm, 1), "25 seeds": training(norm, 25)}
        times[f"{norm}: 1,000 steps and 21 looks"] = timed(works, repeats=REPEATS // 5)
    keep(__file__, times, f"median of {REPEATS} or {REPEATS // 5}")


if __name__ == "__main__":
    main()

"""What a training step costs, as ratios in one process on one thread: `make bench` prints the table and keeps it.

Network, batch and data are those of the preset `quick`. Every time is the median of repeated, interleaved measurements,
so that a slow moment of the machine meets all candidates alike; every claim is a ratio to the baseline in its row.
"""

import platform
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter

import pandas as pd
import torch
from torch import nn

from bnutils import data, norms, presets, records

REPEATS = 40


def timed(candidates: dict[str, Callable[[], object]], *, repeats: int = REPEATS) -> dict[str, float]:
    """Median milliseconds of each candidate, measured in turn, after a tenth as many turns to warm up."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    warm = -(-repeats // 10)
    for repeat in range(repeats + warm):
        for name, work in candidates.items():
            start = perf_counter()
            work()
            if repeat >= warm:
                times[name].append(1000 * (perf_counter() - start))
    return {name: median(each) for name, each in times.items()}


def step(setting: presets.Setting, arm: presets.Arm, images: data.Images, *, layout: torch.memory_format) -> Callable:
    """One training step of an arm, as the loop in bnutils.train makes it."""
    model = records.build(setting, arm, 0, images).to(memory_format=layout)
    parameters = list(model.parameters())
    x, y = images.train_x[: setting.batch], images.train_y[: setting.batch]

    def work() -> None:
        model.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(parameter.grad, alpha=-arm.lr)

    return work


def samplers(like: torch.Tensor) -> dict[str, Callable]:
    """Algorithm 1's numbers for one layer: by torch's own samplers at their fastest, and as norms.Noise draws them."""
    layer, generator = norms.Noise(norms.NoiseConstants(), seed=0, layer=1), torch.Generator().manual_seed(0)
    units = like.shape[1]

    def torchs() -> tuple[torch.Tensor, torch.Tensor]:
        mu, sigma = torch.rand(2, units, generator=generator)
        shift = torch.empty(like.numel()).uniform_(-0.1, 0.1, generator=generator).view(-1, units)
        scale = torch.empty(like.numel()).normal_(0.0, 0.1, generator=generator).view(-1, units)
        return shift.add_(mu - 0.5), scale.add_(1 + sigma / 4)

    return {"torch's samplers": torchs, "norms.Noise": lambda: layer.draw(like)}


def main() -> None:
    torch.set_num_threads(1)
    setting, images = presets.get("quick", device="cpu"), data.load("digits")
    arms = {norm: presets.Arm(norm, 0.1, float(norm == "noisy")) for norm in ("none", "batch", "noisy")}
    layouts = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    like = torch.zeros(setting.batch, 8, 32, 32).to(memory_format=torch.channels_last)
    questions = {
        f"memory format, step of {norm}": {
            name: step(setting, arm, images, layout=layout) for name, layout in layouts.items()
        }
        for norm, arm in arms.items()
    }
    last = torch.channels_last
    questions["normalizer, step"] = {norm: step(setting, arm, images, layout=last) for norm, arm in arms.items()}
    questions["noise of layer 1, one draw"] = samplers(like)
    times = {question: timed(candidates) for question, candidates in questions.items()}
    keep(__file__, times, f"batch {setting.batch}, median of {REPEATS}")


def keep(script: str, times: dict[str, dict[str, float]], what: str) -> None:
    """Print a table of milliseconds, each with its ratio to the first of its question, and keep it by the script."""
    rows = []
    for question, each in times.items():
        baseline = next(iter(each))
        for name, time in each.items():
            rows.append((question, name, f"{time:.2f}", f"{time / each[baseline]:.2f} x {baseline}"))
    table = pd.DataFrame(rows, columns=["question", "candidate", "ms", "ratio to the baseline"])
    write(script, table, what, device=f"{platform.machine()} CPU, one thread")


def write(script: str, table: pd.DataFrame, what: str, *, device: str) -> None:
    """Print a table and keep it by its script, with when and on what it was measured."""
    where = f"{datetime.now(UTC).date().isoformat()}, {device}, torch {torch.__version__}"
    text = f"{where}, {what}\n\n{table.to_string(index=False)}\n"
    print(text)
    Path(script).with_suffix(".txt").write_text(text)


if __name__ == "__main__":
    main()

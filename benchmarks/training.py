"""Images per second of training: a plain loop, ours, compiled, and several runs side by side: `make bench` keeps them.

BatchNorm at the preset `paper` on a GPU, at `quick` elsewhere, on digits. Every candidate trains as many steps as the
others, each process on one thread and all without TF32; times are medians, and the first three take turns, so that a
slow moment of the machine meets them alike.
"""

import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from itertools import chain, islice, repeat
from statistics import median
from time import perf_counter

import joblib
import pandas as pd
import torch
from steps import timed, write
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from bnutils import data, presets, records, train
from bnutils.store import device_name

REPEATS, STEPS = 5, 30
ARM = presets.Arm("batch", 0.1)
SETTING = presets.get("paper" if torch.cuda.is_available() else "quick", dataset="digits")


def plain() -> Callable[[], None]:
    """The loop of many a tutorial: a loader, an optimizer, and two numbers fetched after every step."""
    images, place = data.load("digits"), data.device("auto")
    model = records.build(SETTING, ARM, 0, images).to(place, memory_format=torch.contiguous_format)
    optimizer = torch.optim.SGD(model.parameters(), lr=ARM.lr)
    pairs = TensorDataset(images.train_x, images.train_y)
    loader = DataLoader(pairs, SETTING.batch, shuffle=True, drop_last=True)

    def work() -> None:
        for x, y in islice(chain.from_iterable(repeat(loader)), STEPS):
            x, y = x.to(place), y.to(place)
            optimizer.zero_grad()
            logits = model(x)
            loss = nn.functional.cross_entropy(logits, y)
            loss.backward()
            optimizer.step()
            loss.item(), (logits.argmax(1) == y).float().mean().item()

    return work


def ours(*, compiled: bool = False) -> Callable[[], None]:
    """`train.train` without probes; what it logs is fetched at the end."""
    images = records.images_of("digits", "auto")
    images = replace(images, test_x=images.test_x[:1], test_y=images.test_y[:1])
    model = records.build(SETTING, ARM, 0, images)
    if compiled:
        model.compile()
    place = images.train_x.device
    order = data.batches(len(images.train_x), SETTING.batch, steps=STEPS, seed=0, device=place)
    schedule = train.Schedule(STEPS, STEPS, STEPS, STEPS, STEPS)
    return lambda: train.collect(train.train(model, images, order=order, lr=ARM.lr, schedule=schedule))


def one_of_several(ready, found) -> None:
    """In a process of its own: ours, each time begun together with its fellows."""
    torch.set_num_threads(1)
    work = ours()
    work()
    for _ in range(REPEATS):
        ready.wait()
        began = perf_counter()
        work()
        found.put((began, perf_counter()))


def side_by_side(count: int) -> float:
    """Milliseconds that `STEPS` steps of each of so many processes take: from the first's begin to the last's end."""
    context = multiprocessing.get_context("spawn")
    ready, found = context.Barrier(count), context.Queue()
    processes = [context.Process(target=one_of_several, args=(ready, found)) for _ in range(count)]
    for process in processes:
        process.start()
    turns = [[found.get() for _ in processes] for _ in range(REPEATS)]
    for process in processes:
        process.join()
    return 1000 * median(max(end for _, end in turn) - min(began for began, _ in turn) for turn in turns)


def main() -> None:
    torch.set_num_threads(1)
    work = {"a plain loop": plain(), "bnutils.train": ours(), "the same, compiled": ours(compiled=True)}
    times = {name: (1, each) for name, each in timed(work, repeats=REPEATS).items()}
    times |= {f"bnutils.train, {count} side by side": (count, side_by_side(count)) for count in (2, 4)}
    rates = {name: count * STEPS * SETTING.batch * 1000 / each for name, (count, each) in times.items()}
    rows = [(name, f"{rate:,.0f}", f"{rate / rates['a plain loop']:.2f}") for name, rate in rates.items()]
    table = pd.DataFrame(rows, columns=["candidate", "images per second", "times the plain loop"])
    cores = f"{joblib.cpu_count()} cores"
    what = f"preset {SETTING.preset}, batch {SETTING.batch}, {STEPS} steps, median of {REPEATS}"
    write(__file__, table, what, device=f"{device_name(data.device('auto'))}, {cores}")


if __name__ == "__main__":
    main()

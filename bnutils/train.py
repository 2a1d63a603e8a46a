"""The one training loop: plain SGD, probes passed in and run on a schedule, rows out."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn
from tqdm import tqdm

from bnutils import data

# A dying network fills with denormal numbers, which slow a CPU several times. Threads take this setting over from the
# one that starts them, so it is made on import, before the first parallel region.
torch.set_flush_denormal(True)
# As in probes: what is trained is what is measured.
torch.backends.cudnn.allow_tf32 = False


class Row(NamedTuple):
    """One measurement, or a vector of them along `bin`, `eta` or `step`. Values stay on the device until `collect`."""

    quantity: str
    value: Tensor
    step: int | range | None = None
    layer: int | None = None
    bin: Tensor | None = None
    eta: Tensor | None = None


# probe(model, x, y): rows about the model at its point of training, measured on the batch of the step
Probe = Callable[[nn.Module, Tensor, Tensor], Iterable[Row]]


@dataclass(frozen=True)
class Schedule:
    """When a run does what, in steps: how many it trains, and every how many it does the other things.

    Step t is the network after t updates; each thing is done at steps 0, every, 2 every, ..., and the last.

    probe_every: the activations. gradient_every: the gradients and the loss around them. test_every: the test images.
    landmark_every: what costs most, a fine grid of step lengths and the measurements of chapter 5.
    """

    steps: int
    probe_every: int
    gradient_every: int
    test_every: int
    landmark_every: int

    def __post_init__(self):
        for name, value in asdict(self).items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}: accepted is a whole number of at least 1")

    def due(self, step: int, every: int) -> bool:
        """Whether something that runs every `every` steps runs at `step`."""
        return step % every == 0 or step == self.steps


def train(
    model: nn.Module,
    images: data.Images,
    *,
    order: Int[Tensor, "steps batch"],
    lr: float,
    schedule: Schedule,
    probes: Iterable[tuple[int, Probe]] = (),
    decay: float = 0.0,
    crops: Int64[Tensor, "steps batch 3"] | None = None,
) -> Iterator[Row]:
    r"""Train `model` in place by plain SGD, without momentum and weight decay (App. A.1).

    .. math:: \theta \gets \theta - \mathrm{lr} \, \nabla L(\theta; \mathrm{batch}_t)

    L is the mean cross-entropy of the mini-batch `order[t]`, in nats. With a `decay`, which the curves of the paper's
    Fig. 4a imply and its text does not name, L has :math:`\frac{1}{2} \mathrm{decay} \sum w^2` added, over the weights
    w of all linear maps (parameters of two dimensions or more): with gamma among them its normalized networks would
    begin far above Standard, and biases, zero at the start, cannot be told from the curves. With `crops` each batch is
    augmented by them, `data.augmented`. Yields rows `loss` and `train_accuracy` (of the mini-batch, before its update,
    as the paper logs it) for every step, a stretch of them at every look, `test_accuracy` (eval mode) on its schedule,
    and whatever the probes, each with every how many steps it looks, measure on the batch of the step; at the last
    step, which has no batch of its own, on the last batch. A loss that is not finite ends training: the row `diverged`
    holds its step, and no later row is yielded.
    """
    x, y = images.train_x, images.train_y
    loss_of = nn.CrossEntropyLoss()
    parameters = list(model.parameters())
    weights = [parameter for parameter in parameters if parameter.dim() > 1] if decay else []
    log = torch.full((2, schedule.steps), torch.nan, device=x.device)
    logged, reached = 0, schedule.steps
    for step in progress(range(schedule.steps + 1), unit="step"):
        at = min(step, schedule.steps - 1)
        xb, yb = x[order[at]], y[order[at]]
        if crops is not None:
            xb = data.augmented(xb, crops[at])
        looking = [probe for every, probe in probes if schedule.due(step, every)]
        testing = schedule.due(step, schedule.test_every)
        # The only wait for the device in the loop.
        if (looking or testing) and not log[0, :step].isfinite().all():
            reached = int(log[0, :step].isfinite().logical_not().nonzero()[0])
            yield Row("diverged", torch.tensor(float(reached), device=x.device), reached)
            break
        if looking or testing:
            yield from _stretch(log, logged, step)
            logged = step
        for probe in looking:
            yield from (row._replace(step=step) for row in probe(model, xb, yb))
        if testing:
            yield Row("test_accuracy", accuracy(model, images.test_x, images.test_y), step)
        if step == schedule.steps:
            break
        model.train()
        model.zero_grad(set_to_none=True)
        logits = model(xb)
        loss = loss_of(logits, yb)
        for weight in weights:
            loss = loss + decay / 2 * weight.square().sum()
        loss.backward()
        # By hand: torch.optim would import torch's compiler, a tenth of a gigabyte and seconds in each worker process.
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(parameter.grad, alpha=-lr)
        log[0, step] = loss.detach()
        log[1, step] = (logits.detach().argmax(1) == yb).float().mean()
    yield from _stretch(log, logged, reached)


def _stretch(log: Float[Tensor, "2 steps"], start: int, stop: int) -> Iterator[Row]:
    """What was logged from one step to before another."""
    for name, values in zip(("loss", "train_accuracy"), log[:, start:stop], strict=True):
        if stop > start:
            yield Row(name, values, range(start, stop))


@torch.no_grad()
def accuracy(model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """The share of images whose largest logit is their class, in eval mode; the mode is put back."""
    was = model.training
    model.eval()
    right = sum((model(xb).argmax(1) == yb).sum() for xb, yb in zip(x.split(500), y.split(500), strict=True))
    model.train(was)
    return right / len(x)


def collect(rows: Iterable[Row]) -> dict[str, list]:
    """Rows as columns `quantity, step, layer, eta, bin, value`, vectors spread out, a column in one transfer.

    Rows may lie on a GPU and on the CPU, where eigenvalues come from.
    """
    columns: dict[str, list] = {"quantity": [], "step": [], "layer": []}
    rows = list(rows)
    devices = {row.value.device for row in rows}
    device = max(devices, key=lambda each: each.type != "cpu", default=torch.device("cpu"))
    for name in ("eta", "bin", "value"):
        parts = [getattr(row, name) for row in rows]
        parts = [
            torch.full_like(row.value, torch.nan) if part is None else part
            for row, part in zip(rows, parts, strict=True)
        ]
        columns[name] = torch.cat([part.reshape(-1).to(device, torch.float64) for part in parts]).tolist()
    for row in rows:
        count = row.value.numel()
        columns["quantity"] += [row.quantity] * count
        columns["layer"] += [row.layer] * count
        columns["step"] += row.step if isinstance(row.step, range) else [row.step] * count
    return columns


@contextmanager
def one_thread() -> Iterator[None]:
    """What is inside computes on one thread: two networks side by side are faster than one on two, and a sum has one
    order, so that records are the same bits wherever on a machine they are measured."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # again: a thread that was there before this module was imported has it not
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def silence() -> Iterator[None]:
    """What is inside draws no bar of its own: whoever waits for it has one."""
    before = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    try:
        yield
    finally:
        del os.environ["TQDM_DISABLE"]
        if before is not None:
            os.environ["TQDM_DISABLE"] = before


def progress(iterable: Iterable, *, total: int | None = None, unit: str) -> tqdm:
    """A bar in a terminal and none elsewhere; the terminal is stderr, or the device that BNUTILS_TTY names.

    The builder names it for the kernels it starts, whose own stderr is the page. TQDM_DISABLE silences it.
    """
    terminal = os.environ.get("BNUTILS_TTY")
    file = os.fdopen(os.open(terminal, os.O_WRONLY | os.O_NOCTTY), "w") if terminal else sys.stderr
    silent = True if os.environ.get("TQDM_DISABLE") else None  # None: silent where the file is no terminal
    return tqdm(iterable, total=total, unit=unit, file=file, leave=False, disable=silent)

"""Arms x seeds to one tidy frame: what one run is, where runs are kept, and how missing ones are measured.

The atom is the run: one arm, one seed, trained once with every quantity that any chapter needs. It is kept as one
Parquet file (compact, typed; its provenance in the file's own metadata) under a key of the setting, the data's
fingerprint and the versions of its quantities. Device and library versions are provenance, not key.
"""

import collections
import hashlib
import json
import multiprocessing
import os
import platform
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from bnutils import data, folklore, norms, probes, seeds
from bnutils.presets import ETAS, PRESETS, Arm, Setting
from bnutils.quantities import QUANTITIES
from bnutils.train import Row, Schedule, accuracy, collect, progress, train

# The one schema. `bin` is the centre of a histogram's bin and `dose` the strength of the noise: the design's columns
# and these two, since both are keys that a figure draws against.
COLUMNS = ["arm", "norm", "lr", "dose", "seed", "step", "layer", "eta", "bin", "quantity", "value"]
# A centred mean over this many logged steps takes the noise of a single batch's accuracy (k/128) out: ours, logged at
# every step, and the paper's, logged at every hundredth.
SMOOTH, SMOOTH_PAPER = 11, 5
# The words of the paper's curves: our quantity and the factor to its unit.
PAPER_QUANTITIES = {
    "train_acc": ("train_accuracy", 0.01),
    "test_acc": ("test_accuracy", 0.01),
    "mu_step": ("mean_step", 1.0),
    "var_step": ("variance_step", 1.0),
    "mu_from0": ("mean_from_start", 1.0),
    "var_from0": ("variance_from_start", 1.0),
}
# Step lengths of chapter 5 in units of the learning rate, down to where a distance between gradients must vanish.
SHRINKING = (1e-6, 1e-4, 1e-2, 1)
PAPER_CURVES = Path(__file__).parents[1] / "book" / "paper" / "curves.csv"


@dataclass(frozen=True)
class Run:
    """One arm and one seed of a setting, on data with this fingerprint."""

    setting: Setting
    arm: Arm
    seed: int
    fingerprint: str

    @property
    def key(self) -> str:
        """What tells this run from every other: 16 hex digits over all that can change a value."""
        what = asdict(self.setting) | {"arm": asdict(self.arm), "seed": self.seed, "data": self.fingerprint}
        for name in ("preset", "dataset", "device", "minutes", "seeds", "lrs", "doses"):
            del what[name]
        what["probed"] = self.setting.probed
        what["versions"] = {name: quantity.version for name, quantity in QUANTITIES.items()}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def path(self) -> Path:
        """Where the run is kept."""
        return data.cache_dir() / "runs" / f"{self.key}.parquet"


class ActivationProbe:
    """Rows about the activations of some layers: one sampled unit as the paper draws it, and the average over all
    units.

    For the sampled unit: density, mean, variance. For all units of a layer: the mean over units of the absolute
    change of mean and of variance since the probe before, and of the standard deviation. The sampled unit depends on
    seed and layer alone, so arms share it.
    """

    def __init__(self, layers: Iterable[int], *, seed: int):
        self.layers, self.seed = tuple(layers), seed
        self.before: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, model: nn.Module, x: Tensor, _y: Tensor) -> Iterator[Row]:
        for layer, a in probes.activations(model, x, layers=self.layers).items():
            mean, variance = probes.moments(a)
            unit = int(torch.randint(a.shape[1], (), generator=seeds.generator(self.seed, "unit", layer)))
            centres, density = probes.histogram(a[:, unit])
            yield Row("density", density, layer=layer, bin=centres)
            yield Row("mean", mean[unit], layer=layer)
            yield Row("variance", variance[unit], layer=layer)
            yield Row("layer_deviation", variance.sqrt().mean(), layer=layer)
            if layer in self.before:
                mean_before, variance_before = self.before[layer]
                yield Row("layer_mean_step", (mean - mean_before).abs().mean(), layer=layer)
                yield Row("layer_variance_step", (variance - variance_before).abs().mean(), layer=layer)
            self.before[layer] = mean, variance


class MistakeProbe:
    """Rows that put each mistake of chapter 5 beside the right measurement, at one point of training.

    Right: the losses, distances and betas of `probes.along` at step lengths up to four learning rates, and far below
    one, where a distance must vanish. Wrong: `folklore`, at the same network and batch. `other` is a second batch and
    `test` the images whose accuracy says what an unprotected probe leaves behind. About 40 passes; the model, its
    buffers and every random stream are left as they were.
    """

    def __init__(self, images: data.Images, *, lr: float, layers: Iterable[int], batch: int, seed: int):
        self.lr, self.layers, self.seed = lr, tuple(layers), seed
        count = len(images.train_x)
        drawn = torch.randperm(count, generator=seeds.generator(seed, "second batch"))[:batch].to(images.train_x.device)
        self.other = images.train_x[drawn], images.train_y[drawn]
        self.test = images.test_x[:500], images.test_y[:500]

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Iterator[Row]:
        lr, at = self.lr, (model, nn.functional.cross_entropy, x, y)
        far, near = [lr * eta for eta in ETAS], [lr * eta for eta in SHRINKING]
        etas = sorted({*far, *near})
        all_eta, near_eta = (torch.tensor(each, device=x.device, dtype=torch.float64) for each in (etas, near))
        right = probes.along(*at, etas=etas)
        for name in ("losses", "distances", "betas"):
            yield Row(f"right_{name}", getattr(right, name), eta=all_eta)
        between = folklore.between_batches(*at[:2], (x, y), self.other, lrs=near)
        yield Row("wrong_batches", between, eta=near_eta)
        yield Row("wrong_after_update", folklore.after_update(*at, lr=lr, etas=near), eta=near_eta)
        yield Row("wrong_last_layer", folklore.last_layer(*at, eta=lr))
        yield Row("wrong_eval_mode", folklore.eval_mode(*at, eta=lr))
        with probes.untouched(model):  # also the modes of single layers
            before = accuracy(model, *self.test)
        yield Row("right_accuracy", before)
        yield Row("wrong_accuracy", accuracy(folklore.unprotected(*at, etas=far), *self.test))
        for name, kind in (("right", norms.Noise), ("wrong", folklore.SharedNoise)):
            disturbance = folklore.disturbance(model, x, noise=kind, seed=self.seed)
            yield Row(f"{name}_content", disturbance.content)
            yield Row(f"{name}_noise", disturbance.following)
        for name, hooked in (("right", probes.activations), ("wrong", folklore.linear_outputs)):
            seen = hooked(model, x, layers=self.layers).values()
            yield Row(f"{name}_deviation", torch.stack([a.std(0, correction=0).mean() for a in seen]).mean())
        yield Row("wrong_step", folklore.adam_length(*at))


def build(setting: Setting, arm: Arm, seed: int, images: data.Images) -> nn.Module:
    """The network of one run, on the device of its images: weights depend on the seed alone, not on the arm."""
    make_norm = partial(norms.make, arm.norm, seed=seed, dose=arm.dose)
    generator = seeds.generator(seed, "weights")
    channels, classes = images.train_x.shape[1], len(images.classes)
    model = setting.vgg.build(make_norm, channels=channels, classes=classes, generator=generator)
    return model.to(images.train_x.device)


def train_one(run: Run, images: data.Images) -> pd.DataFrame:
    """Train one run and return its tidy frame; `attrs["provenance"]` says where, when, how long and how it ended."""
    setting, began = run.setting, time.perf_counter()
    schedule = setting.schedule
    device = images.train_x.device
    mistakes = MistakeProbe(images, lr=run.arm.lr, layers=setting.probed, batch=setting.batch, seed=run.seed)
    judged = [(schedule.landmark_every, mistakes)] if run.arm in setting.arms("landscape") else []
    rows = train(
        build(setting, run.arm, run.seed, images),
        images,
        order=data.batches(len(images.train_x), setting.batch, steps=schedule.steps, seed=run.seed, device=device),
        lr=run.arm.lr,
        schedule=schedule,
        probes=[(schedule.probe_every, ActivationProbe(setting.probed, seed=run.seed)), *judged],
    )
    frame = pd.DataFrame(collect(rows))
    dose = run.arm.dose or np.nan
    frame = frame.assign(arm=run.arm.name, norm=run.arm.norm, lr=run.arm.lr, dose=dose, seed=run.seed)
    frame = frame[COLUMNS].astype({"step": "int64", "layer": "Int64"})
    diverged = frame.loc[frame.quantity == "diverged", "value"]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU, one core a run"
    frame.attrs["provenance"] = {
        "key": run.key,
        "preset": setting.preset,
        "dataset": images.name,
        "device": name,
        "seconds": round(time.perf_counter() - began, 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "torch": torch.__version__,
        "status": "finished" if diverged.empty else f"diverged at step {int(diverged.iloc[0])}",
    }
    return frame


def save(frame: pd.DataFrame, path: Path) -> None:
    """Write a run whole or not at all: into a file of its own beside the place, then renamed over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        frame.to_parquet(part, index=False)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load(path: Path) -> pd.DataFrame | None:
    """The run kept at `path`, or None where there is none. A file that cannot be read is named and put aside."""
    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        aside = path.replace(path.with_suffix(".damaged"))
        print(f"damaged run {path.name}, kept as {aside.name} and measured again: {str(error).splitlines()[0]}")
        return None


def speed(setting: Setting) -> pd.DataFrame:
    """The paper's Fig. 1: without and with batch normalization at each learning rate, all seeds, as one tidy frame."""
    return experiment(setting, "speed")


def noise(setting: Setting) -> pd.DataFrame:
    """The paper's Figs 2 and 8 and a dose-response: noise after batch normalization and without it, one tidy frame."""
    return experiment(setting, "noise")


def mistakes(setting: Setting) -> pd.DataFrame:
    """Chapter 5: wrong measurements beside right ones on the networks of Fig. 1, all seeds, as one tidy frame."""
    return experiment(setting, "mistakes")


def experiment(setting: Setting, name: str, *, limit: bool = True) -> pd.DataFrame:
    """All runs of an experiment: kept ones are read, missing ones measured, in one frame of `COLUMNS`.

    With `limit`, runs that would take longer than `setting.minutes` on this device are not measured: one line says
    what is missing, what it costs and how to make it, and the frame holds what there is. `attrs` carry `source`, one
    sentence for the page on where the runs come from, and `missing`, how many there are not.
    """
    began = time.perf_counter()
    wanted = _wanted(setting, name)
    kept = {run: load(run.path) for run in wanted}
    missing = [run for run in wanted if kept[run] is None]
    seconds = _cost(missing)
    if limit and seconds > 60 * setting.minutes:
        print(
            f"{len(missing)} of {len(wanted)} runs of preset {setting.preset} are missing; measuring them here would "
            f"take {_duration(seconds)} (limit: {_duration(60 * setting.minutes)}). A GPU, or a larger value of the "
            "parameter `minutes`, measures them."
        )
        missing = []
    elif missing:
        measure(missing)
        kept |= {run: load(run.path) for run in missing}
    frames = [frame for frame in kept.values() if frame is not None]
    provenance = [frame.attrs.pop("provenance") for frame in frames]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=COLUMNS)
    frame = with_derived(frame)
    frame.attrs["missing"] = len(wanted) - len(frames)
    frame.attrs["classes"] = len(_images(setting.dataset, setting.device).classes)
    frame.attrs["source"] = _source(provenance, len(missing), time.perf_counter() - began)
    return frame


def measure(missing: list[Run]) -> None:
    """Measure and keep runs: one after the other on a GPU; on a CPU in one process a core, one thread each.

    A run that fails does not lose the others: they are finished and kept, then its error is raised.
    """
    failed = None
    with _executor(missing[0].setting.device) as executor, progress((), total=len(missing), unit="run") as bar:
        for future in as_completed([executor.submit(_measure_one, run) for run in missing]):
            failed = failed or future.exception()
            bar.update()
    if failed:
        raise failed


def _executor(device: str) -> Executor:
    if data.device(device).type == "cuda":
        return ThreadPoolExecutor(max_workers=1)
    # spawn, since a fork of a process that has run torch's threads hangs.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(max_workers=os.cpu_count(), mp_context=context, initializer=_start_worker)


def _start_worker() -> None:
    """One thread: two networks side by side are faster than one on two threads, and its sums have one order."""
    os.environ["TQDM_DISABLE"] = "1"
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose notebook was killed would otherwise wait for work for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _measure_one(run: Run) -> None:
    save(train_one(run, _images(run.setting.dataset, run.setting.device)), run.path)


@cache
def _images(dataset: str, device: str) -> data.Images:
    return data.load(dataset, device=data.device(device))


def _wanted(setting: Setting, name: str) -> list[Run]:
    """Every run of an experiment."""
    fingerprint = _images(setting.dataset, setting.device).fingerprint
    return [Run(setting, arm, seed, fingerprint) for seed in setting.seeds for arm in setting.arms(name)]


def _cost(missing: list[Run]) -> float:
    """About how many seconds the runs take on this device, with a worker for each core of a CPU."""
    if not missing:
        return 0.0
    run = missing[len(missing) // 2]
    workers = os.cpu_count() if data.device(run.setting.device).type == "cpu" else 1
    return _step_seconds(run) * run.setting.schedule.steps * len(missing) / workers


@cache
def _step_seconds(run: Run) -> float:
    """Seconds for a step of this run, on one thread as in a worker: the fastest of three. Timed once in a process."""
    images = _images(run.setting.dataset, run.setting.device)
    images = replace(images, test_x=images.test_x[:1], test_y=images.test_y[:1])
    marks = []
    order = data.batches(len(images.train_x), run.setting.batch, steps=4, seed=run.seed, device=images.train_x.device)

    def mark(_model: nn.Module, x: Tensor, _y: Tensor) -> list[Row]:
        float(x.sum())  # waits for the device
        marks.append(time.perf_counter())
        return []

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        schedule = Schedule(steps=4, probe_every=1, gradient_every=4, test_every=4, landmark_every=4)
        model = build(run.setting, run.arm, run.seed, images)
        collections.deque(
            train(model, images, order=order, lr=run.arm.lr, schedule=schedule, probes=[(1, mark)]), maxlen=0
        )
    finally:
        torch.set_num_threads(threads)
    return min(np.diff(marks)[1:], default=0.0)


def _duration(seconds: float) -> str:
    """Seconds in words that fit their size."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _source(provenance: list[dict], measured: int, seconds: float) -> str:
    """One sentence on where the runs of a frame come from."""
    if not provenance:
        return "No run of this setting is on record."
    each = pd.DataFrame(provenance)
    what = f"{len(each)} runs of preset {', '.join(each.preset.unique())} on {', '.join(each.dataset.unique())}"
    how = f"{measured} measured now in {_duration(seconds)}, {len(each) - measured} read from the local cache"
    cost = f"{_duration(each.seconds.sum())} of {', '.join(each.device.unique())}"
    return f"{what}: {how} ({cost}; torch {', '.join(each.torch.unique())}; last on {each.date.max()[:10]})."


def with_derived(frame: pd.DataFrame, *, smooth: int = SMOOTH) -> pd.DataFrame:
    """The frame with what follows from its own rows: `smooth_accuracy` and the four quantities of the paper's Fig. 8.

    smooth_accuracy: centred mean of train_accuracy over `smooth` logged steps. mean_step, variance_step: absolute
    change since the logged point before (the paper's "successive steps" are 100 apart). *_from_start: change since
    the first.
    """
    run = ["arm", "seed"]
    accuracy = frame[frame.quantity == "train_accuracy"].sort_values("step")
    values = accuracy.groupby(run, dropna=False)["value"]
    means = values.transform(lambda value: value.rolling(smooth, center=True, min_periods=1).mean())
    derived = [accuracy.assign(quantity="smooth_accuracy", value=means)]
    for name in ("mean", "variance"):
        moment = frame[frame.quantity == name].sort_values("step")
        values = moment.groupby([*run, "layer"], dropna=False)["value"]
        derived.append(moment.assign(quantity=f"{name}_step", value=values.diff().abs()).dropna(subset="value"))
        derived.append(moment.assign(quantity=f"{name}_from_start", value=moment["value"] - values.transform("first")))
    return pd.concat([frame, *derived], ignore_index=True)


def at_dose(frame: pd.DataFrame, dose: float) -> pd.DataFrame:
    """The rows of the arms without noise and of those with this dose of it."""
    return frame[frame.dose.isna() | (frame.dose == dose)]


def plan(setting: Setting, name: str) -> pd.DataFrame:
    """What an experiment varies (scientific), repeats over (nuisance) and holds (fixed), here and in preset `paper`."""
    scientific, nuisance, fixed = {}, {}, {}
    for where, each in {"here": setting, "at the paper's scale": PRESETS["paper"]}.items():
        arms, vgg = each.arms(name), each.vgg
        doses = ", ".join(f"{arm.dose:g}" for arm in arms if arm.norm == "noisy")
        scientific[where] = {
            "normalizer": ", ".join(dict.fromkeys(arm.norm for arm in arms)),
            "learning rate": ", ".join(f"{lr:g}" for lr in dict.fromkeys(arm.lr for arm in arms)),
        } | ({"dose of noise": doses} if doses else {})
        nuisance[where] = {"seed (weights, order of images, noise, sampled unit)": f"{len(each.seeds)} (the paper: 1)"}
        fixed[where] = {
            "images": Path(each.dataset).name,
            "network": f"VGG-{vgg.depth}, width x {vgg.width:g}, head {vgg.head * vgg.width:g}",
            "steps": f"{each.schedule.steps:,}",
            "batch": f"{each.batch}",
            "layers drawn": ", ".join(map(str, each.layers(name))),
            "activations probed every": f"{each.schedule.probe_every} steps",
        }
    missing = [run for run in _wanted(setting, name) if not run.path.exists()]
    fixed["here"]["device"] = str(data.device(setting.device))
    fixed["here"]["runs"] = f"{len(_wanted(setting, name))}"
    fixed["here"]["cost of those not kept yet"] = _duration(_cost(missing))
    kinds = {"scientific": scientific, "nuisance": nuisance, "fixed": fixed}
    table = pd.concat([pd.DataFrame(kinds[kind]).assign(kind=kind) for kind in kinds])
    return table.fillna("").rename_axis("parameter")


def paper(figure: str) -> pd.DataFrame:
    """The paper's own curves of a figure, as a frame of the same columns, read point by point from v3's vector
    graphics.

    The figure numbers are v3's: 1a, 1b, 2, 8. Accuracies become shares. Between listed points the curves are
    straight, so they are filled in at the paper's own logging interval. Raises ValueError for a figure without
    curves.
    """
    curves = pd.read_csv(PAPER_CURVES, dtype={"figure": str})
    curves = curves[(curves.figure == figure) & curves.value.notna()]
    if curves.empty:
        raise ValueError(f"no curves of figure {figure!r}: accepted are 1a, 1b, 2, 8")
    every = 1000 if figure == "1b" else 100
    frames = []
    for (quantity, norm, lr, layer), curve in curves.groupby(["quantity", "norm", "lr", "layer"], dropna=False):
        name, unit = PAPER_QUANTITIES[quantity]
        step = np.arange(curve.step.min(), curve.step.max() + 1, every)
        value = np.interp(step, curve.step, curve.value) * unit
        arm = Arm(norm, lr, dose=float(norm == "noisy"))
        keys = {"arm": arm.name, "norm": norm, "lr": lr, "dose": arm.dose or np.nan, "layer": layer, "quantity": name}
        frames.append(pd.DataFrame({"step": step, "value": value}).assign(**keys))
    frame = pd.concat(frames, ignore_index=True).reindex(columns=COLUMNS)
    return with_derived(frame, smooth=SMOOTH_PAPER) if figure in ("1a", "2") else frame

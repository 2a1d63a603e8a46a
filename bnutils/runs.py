"""Arms x seeds to one tidy frame: the experiments of the book, read from the records or measured."""

import json
import time
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bnutils import data, presets, store
from bnutils.executor import count, measure
from bnutils.presets import BALLS, ETAS, LAYERS, PRESETS, SEVERAL_FRAMES, Arm, Setting
from bnutils.quantities import LEVEL
from bnutils.records import asked_for, identity_of, images_for, laboratory_run, needed, tidy, training, varied
from bnutils.store import COLUMNS, Record, load, save

# A centred mean over this many logged steps takes the noise of a single batch's accuracy (k/128) out: ours, logged at
# every step, and the paper's, logged at every hundredth.
SMOOTH, SMOOTH_PAPER = 11, 5
# The paper's curves, by the words of its file: our quantity and the factor to its unit. A band has two.
PAPER_QUANTITIES = {
    "train_loss": ("squared_error", 1.0),
    "cos": ("shift_cosine", 1.0),
    "l2": ("shift_l2", 1.0),
    "loss_landscape min": ("loss_low", 1.0),
    "loss_landscape max": ("loss_high", 1.0),
    "grad_pred min": ("distance_low", 1.0),
    "grad_pred max": ("distance_high", 1.0),
    "beta": ("beta_max", 1.0),
    "train_acc": ("train_accuracy", 0.01),
    "test_acc": ("test_accuracy", 0.01),
    "mu_step": ("mean_step", 1.0),
    "var_step": ("variance_step", 1.0),
    "mu_from0": ("mean_from_start", 1.0),
    "var_from0": ("variance_from_start", 1.0),
}
# Derived from what each step length gave: the edges of the paper's bands, over the paper's own step lengths, and the
# largest beta with ours, which is shorter, among them.
BANDS = {
    "loss_low": ("loss_along", "min"),
    "loss_high": ("loss_along", "max"),
    "distance_low": ("gradient_distance", "min"),
    "distance_high": ("gradient_distance", "max"),
    "beta_max": ("beta", "max"),
}
# The figures of v3 that can be asked for, with the interval in steps at which the paper logged them.
PAPER_FIGURES = {"1a": 100, "1b": 1000, "2": 100, "3a": 100, "3b": 50, "4": 100, "8": 100, "10": 50}
PAPER_FIGURES |= {"5a": 100, "5b": 50, "12": 100, "13": 50}
# The experiment of ours that each is the counterpart of.
COUNTERPARTS = {"1a": "speed", "1b": "speed", "2": "noise", "3a": "shift", "3b": "linear", "4": "landscape"}
COUNTERPARTS |= {"5a": "lp", "5b": "linear_norms", "8": "noise", "10": "linear_landscape"}
COUNTERPARTS |= {"12": "lp", "13": "linear_norms"}
# The experiments whose distributions are drawn; frames of the others come without densities, which fill memory.
DRAWN = ("speed", "noise", "norms", "lp", "laboratory")
PAPER_CURVES = Path(__file__).parents[1] / "book" / "paper" / "curves.csv"


def noise(setting: Setting) -> pd.DataFrame:
    """The paper's Figs 2 and 8 and a dose-response: noise after batch normalization and without it, one tidy frame."""
    return experiment(setting, "noise")


def shift(setting: Setting) -> pd.DataFrame:
    """The paper's Fig. 3a: how far gradients move when the layers before them do, at two learning rates."""
    return experiment(setting, "shift")


def deep_linear(setting: Setting) -> pd.DataFrame:
    """The paper's Fig. 3b: the deep linear network at its full scale, at both learning rates."""
    return experiment(setting, "linear")


def linear_landscape(setting: Setting) -> pd.DataFrame:
    """The paper's Fig. 10: the same at the first learning rate."""
    return experiment(setting, "linear_landscape")


def linear_choices(setting: Setting) -> pd.DataFrame:
    """The first steps of the deep linear network under every choice that the paper leaves open; `arm` names it."""
    return experiment(setting, "choices")


def normalizers(setting: Setting) -> pd.DataFrame:
    """The paper's Figs 5a, 6 and 12, and normalizers beyond the paper: the same rows of every one, at one rate."""
    return experiment(setting, "norms")


def linear_normalizers(setting: Setting) -> pd.DataFrame:
    """The paper's Figs 5b and 13: the deep linear network at its full scale under each normalizer, at one rate.

    l1 and linf, which need all samples, have the first few seeds only: `Linear.seeds_of`.
    """
    return experiment(setting, "linear_norms")


def robustness_live(setting: Setting) -> pd.DataFrame:
    """The smaller map of chapter 8, with a seed that the other has not: `Map.live`."""
    return experiment(setting, "robustness_live")


def shallow_minima(setting: Setting) -> pd.DataFrame:
    """Chapter 9's shallow network: what lies around it, with curvature also after rescaling its weights."""
    return experiment(setting, "shallow")


def sensitivity(setting: Setting) -> dict[str, pd.DataFrame]:
    """Figs 1, 2 and 4 with other choices where the paper leaves them open: by the words of each variant its own frame.

    Read or measured as in `experiment`, the limit being for all of them. An arm that does not meet what is varied is
    the setting's own, measured once.
    """
    return _several(setting, "sensitivity", varied(setting))


def laboratory(setting: Setting) -> dict[tuple, pd.DataFrame]:
    """Chapter 11: by its combination of choices, in the order of `Laboratory.choices`, the frame of one run.

    Read or measured as in `experiment`, the limit being for all of them.
    """
    recorded = zip(setting.laboratory.grid, needed(setting, "laboratory"), strict=True)
    return _several(setting, "laboratory", {choice: [run] for choice, run in recorded})


def watch(setting: Setting, *choice: object, seed: int, every: float = 2.0) -> Iterator[pd.DataFrame]:
    """One combination of the laboratory's choices, trained here and now: its frame so far, every few seconds.

    The last frame is the whole run. Nothing is kept. Raises what `data.load` raises.
    """
    run, rows, shown = laboratory_run(setting, choice, seed=seed), [], time.perf_counter()
    for step, look in groupby(training(run, images_for(run)), key=lambda row: row.step):
        rows += look
        if isinstance(step, int) and time.perf_counter() - shown >= every:
            yield with_derived(tidy(run, rows))
            shown = time.perf_counter()
    yield with_derived(tidy(run, rows))


def experiment(setting: Setting, name: str) -> pd.DataFrame:
    """All runs of an experiment: kept ones are read, missing ones measured, in one frame of `COLUMNS`.

    Runs that would take longer than `setting.minutes` on this machine are not measured: one line says what is missing,
    what it costs and how to make it, and the frame holds what there is. `attrs` carry `source`, one sentence for the
    page on where the runs come from, and `missing`, how many there are not. Raises ValueError for `sensitivity`.
    """
    return _together(setting, name, *_all_there(setting, _of_one_frame(setting, name)))


def _all_there(setting: Setting, wanted: list[Record]) -> tuple[dict[Record, pd.DataFrame | None], tuple[int, float]]:
    """These records, after measuring what is missing of them, unless that would take too long; and how many that were,
    in how many seconds."""
    kept, began = {each: each.kept() for each in wanted}, time.perf_counter()
    missing = _affordable(setting, [each for each, frame in kept.items() if frame is None], len(kept))
    if missing:
        measure(missing)
        kept |= {each: each.kept() for each in missing}
    return kept, (len(missing), time.perf_counter() - began)


def _several(setting: Setting, name: str, groups: dict[Any, list[Record]]) -> dict[Any, pd.DataFrame]:
    """A frame for each group of an experiment's records, which may share some; all say where all come from."""
    kept, now = _all_there(setting, needed(setting, name))
    frames = [frame for frame in kept.values() if frame is not None]
    seeds = len({seed for frame in frames for seed in frame.seed.unique()})
    source = _source([frame.attrs["provenance"] for frame in frames], seeds, now)
    found = {run.key: frame for run, frame in kept.items()}
    together = {
        words: _together(setting, name, {run: found[run.key] for run in runs}) for words, runs in groups.items()
    }
    for frame in together.values():
        frame.attrs["source"] = source
    return together


def _of_one_frame(setting: Setting, name: str) -> list[Record]:
    """What an experiment needs, if no two of its runs have the same arm and seed and their rows can be told apart."""
    if name in SEVERAL_FRAMES:
        raise ValueError(f"{name} has a frame for each of its variants: accepted is runs.{name}(setting)")
    return needed(setting, name)


def _affordable(setting: Setting, missing: list[Record], of: int) -> list[Record]:
    """What is missing of so many; nothing, and one line says so, where measuring it would take too long."""
    seconds = _cost(missing)
    if seconds <= 60 * setting.minutes:
        return missing
    print(
        f"{len(missing)} of {of} runs of preset {setting.preset} are missing; measuring them here would "
        f"take {_duration(seconds)} (limit: {_duration(60 * setting.minutes)}). A GPU, or a larger value of the "
        "parameter `minutes`, measures them."
    )
    return []


def _together(
    setting: Setting, name: str, kept: dict[Record, pd.DataFrame | None], now: tuple[int, float] = (0, 0.0)
) -> pd.DataFrame:
    """The records that there are in one frame, with what is derived from them and where they come from: so many were
    measured `now`, in so many seconds."""
    frames = [frame for frame in kept.values() if frame is not None]
    provenance = [frame.attrs["provenance"] for frame in frames]
    missing = len(kept) - len(frames)
    if name not in DRAWN:
        frames = [frame[frame.quantity != "density"] for frame in frames]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    frame = frame.reindex(columns=COLUMNS)  # a record may be older than a column
    del frames
    kept.clear()  # a page's memory is short
    frame = with_derived(frame)
    frame.attrs = {"missing": missing}
    frame.attrs["classes"] = identity_of(setting)[1] if name in LAYERS else 0
    frame.attrs["source"] = _source(provenance, frame.seed.nunique(), now)
    images = f"{Path(setting.dataset).name}, preset {setting.preset}"
    frame.attrs["scale"] = setting.linear.words if name.startswith("linear") else images
    return frame


# Where records on the paper's images are looked for, largest first; the original's before its JPEG copy's.
ON_RECORD = [(preset, images) for preset in ("paper", "long", "cifar") for images in ("cifar10", "cifar10-jpeg")]


def _on_record() -> list[Setting]:
    """The settings of `ON_RECORD` whose images have a known fingerprint."""
    return [presets.get(preset, dataset=images) for preset, images in ON_RECORD if data.known(images)]


def _read(setting: Setting, name: str) -> pd.DataFrame:
    """What is on record of an experiment: read, never measured."""
    return _together(setting, name, {each: each.kept() for each in needed(setting, name)})


def largest(name: str) -> Setting:
    """The largest scale on CIFAR-10 at which an experiment is on record: at which every run is published or kept on
    this machine; where there is none, the largest with any; where there is none of that either, the first that has
    this experiment."""
    wanted = {setting: _of_one_frame(setting, name) for setting in _on_record()}
    there = {setting: [each.exists for each in runs] for setting, runs in wanted.items() if runs}
    return max(there, key=lambda setting: (all(there[setting]), any(there[setting])))  # of equals the first


def on_record(name: str) -> tuple[Setting, pd.DataFrame]:
    """The largest record of an experiment on CIFAR-10, and its setting: read, never measured.

    Where there is none the frame is empty. `attrs` are those of `experiment`.
    """
    setting = largest(name)
    return setting, _read(setting, name)


def scales(setting: Setting, name: str) -> list[tuple[Setting, pd.DataFrame]]:
    """An experiment at this setting's scale, which comes last, and before it complete records of no smaller ones, the
    largest first. Settings that need the same runs are one scale.
    """
    own = experiment(setting, name)  # first: while workers measure, memory is short
    rank = list(PRESETS).index
    found, seen = [], {frozenset(each.key for each in _of_one_frame(setting, name))}
    for each in reversed(_on_record()):  # of presets that share all their runs it is the smallest's
        wanted = _of_one_frame(each, name)
        keys = frozenset(run.key for run in wanted)
        smaller = rank(each.preset) > rank(setting.preset)
        if smaller or keys in seen or not wanted or not all(run.exists for run in wanted):
            continue
        seen.add(keys)
        frame = _read(each, name)
        if not frame.attrs["missing"]:  # a damaged one is
            found.append((each, frame))
    return [*reversed(found), (setting, own)]


def beside_paper(setting: Setting) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """By figure of the paper, our runs at the scale of its curves, and its curves: those on CIFAR-10 that are on
    record, and the deep linear network's at its full scale. Its curves at our learning rates, noise at the dose of the
    paper, accuracies smoothed."""

    def curves(figure: str, ours: pd.DataFrame) -> pd.DataFrame:
        theirs = paper(figure)
        theirs = theirs[theirs.lr.isin(ours.lr)]
        return theirs[theirs.quantity != "train_accuracy"] if "smooth_accuracy" in set(theirs.quantity) else theirs

    frames = {}
    for name in dict.fromkeys(COUNTERPARTS.values()):
        frame = experiment(setting, name) if name.startswith("linear") else on_record(name)[1]
        frames[name] = at_dose(frame, 1)
    return {
        figure: (frames[name], curves(figure, frames[name]))
        for figure, name in COUNTERPARTS.items()
        if not frames[name].attrs["missing"]
    }


def record(
    setting: Setting, names: Iterable[str], *, workers: int | None = None, scheduler: str | None = None
) -> list[Record]:
    """Measure what is missing of these experiments, all in one go; the records that they need.

    Begins by saying what is missing and what that costs here. `workers` and `scheduler` are those of
    `executor.measure`.
    """
    wanted = list({each.key: each for name in names for each in needed(setting, name)}.values())
    missing = [each for each in wanted if each.kept() is None]
    at_once = 1 if scheduler is not None else count(missing, workers)
    whose = "for one worker like this machine" if scheduler is not None else f"with {at_once} at once on this machine"
    cost = f": about {_duration(_cost(missing, at_once))} {whose}" if missing else ""
    print(f"{len(missing)} of {len(wanted)} records of preset {setting.preset} are missing{cost}.", flush=True)
    began = time.perf_counter()
    if missing:
        measure(missing, workers=workers, scheduler=scheduler, tell=partial(print, flush=True))
    print(f"{len(missing)} measured in {_duration(time.perf_counter() - began)}, {len(wanted)} kept.")
    return wanted


def publish(wanted: Iterable[Record]) -> list[Path]:
    """Copy those records that are kept whole on this machine to the published ones; where they are then."""
    found = []
    for each in wanted:
        if (frame := load(each.path)) is not None:
            save(frame, each.published)
            found.append(each.published)
    return found


def published() -> pd.DataFrame:
    """Every published record: by its key what it is, and its provenance. Their rows are not read or checked."""
    known = asked_for()
    rows = []
    for path in sorted(store.RESULTS.glob("*.parquet")):
        try:
            provenance = json.loads(pq.read_schema(path).metadata[b"PANDAS_ATTRS"])["provenance"]
        except (pa.ArrowInvalid, OSError, KeyError, TypeError):  # below, `verify` says what is wrong with it
            provenance = {"key": path.stem, "status": "damaged"}
        rows.append({"record": str(known.get(path.stem, "asked for by nothing")), **provenance})
    return pd.DataFrame(rows).set_index("key")


def _cost(missing: list[Record], workers: int | None = None) -> float:
    """About how many seconds these take on this machine: of each kind one is timed, by its passes the others."""
    seconds = 0.0
    for kind in {type(each): None for each in missing}:
        alike = [each for each in missing if type(each) is kind]
        one = alike[len(alike) // 2]
        seconds += one.seconds() * sum(each.passes for each in alike) / one.passes
    return seconds / min(count(missing, workers), max(1, len(missing)))


def _duration(seconds: float) -> str:
    """Seconds in words that fit their size."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _source(provenance: list[dict], seeds: int, now: tuple[int, float]) -> str:
    """One sentence on where the runs of a frame come from; so many were measured `now`, in so many seconds."""
    if not provenance:
        return "No run of this setting is on record."
    measured, seconds = now
    each = pd.DataFrame(provenance)
    published = int(each.get("published", pd.Series(dtype=bool)).eq(True).sum())
    ways = {
        f"measured now in {_duration(seconds)}": measured,
        "read from the local cache": len(each) - measured - published,
        "read from the published records": published,
    }
    how = ", ".join(f"{count} {way}" for way, count in ways.items() if count)
    what = f"{len(each)} run{'s' * (len(each) > 1)} of preset {', '.join(each.preset.unique())}"
    of = {"": "device", "torch ": "torch", "commit ": "commit"}
    made = "; ".join(word + ", ".join(each[name].dropna().unique()) for word, name in of.items() if name in each)
    return (
        f"{what} on {', '.join(each.dataset.unique())}, {seeds} seed{'s' * (seeds > 1)}: {how} "
        f"({_duration(each.seconds.sum())} of {made}; last on {each.date.max()[:10]})."
    )


def with_derived(frame: pd.DataFrame, *, smooth: int = SMOOTH) -> pd.DataFrame:
    """The frame with what follows from its own rows: `smooth_accuracy`, the quantities of Fig. 8, the bands of Fig. 4.

    smooth_accuracy: centred mean of train_accuracy over `smooth` logged steps. mean_step, variance_step: absolute
    change since the logged point before (the paper's "successive steps" are 100 apart). mean_from_start,
    variance_from_start: change since the first. loss_low, loss_high, distance_low, distance_high, beta_max: smallest
    and largest over the paper's step lengths. beta_max_short: the largest with ours, half as long as the paper's
    shortest, among them.
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
    rows = frame[frame.quantity.isin(["loss_along", "gradient_distance", "beta"])].astype({"eta": float, "lr": float})
    rows = rows[rows.eta > 0]
    theirs = rows[~np.isclose(rows.eta, ETAS[0] * rows.lr, atol=0)]
    bands = {name: theirs[theirs.quantity == source] for name, (source, _) in BANDS.items()}
    bands["beta_max_short"] = rows[rows.quantity == "beta"]
    for name, each in bands.items():
        values = each.groupby(["arm", "norm", "lr", "seed", "step"]).value.agg(BANDS.get(name, ("", "max"))[1])
        derived.append(values.reset_index().assign(quantity=name))
    return pd.concat([frame, *derived], ignore_index=True)


def at_dose(frame: pd.DataFrame, dose: float) -> pd.DataFrame:
    """The rows of the arms without noise and of those with this dose of it."""
    return frame[frame.dose.isna() | (frame.dose == dose)]


def plan(setting: Setting, name: str) -> pd.DataFrame:
    """What an experiment varies (scientific), repeats over (nuisance) and holds (fixed), here and in preset `paper`."""
    if name in ("linear", "linear_landscape"):
        return _plan_linear(setting, name)
    if name in ("robustness", "robustness_live"):
        return _plan_map(setting, name)
    if name == "laboratory":
        return _plan_laboratory(setting)
    scientific, nuisance, fixed = {}, {}, {}
    for where, each in {"here": setting, "at the paper's scale": PRESETS["paper"]}.items():
        arms, vgg = each.arms(name), each.vgg
        doses = ", ".join(f"{arm.dose:g}" for arm in arms if arm.norm == "noisy")
        scientific[where] = {
            "normalizer": ", ".join(dict.fromkeys(arm.norm for arm in arms)),
            "learning rate": ", ".join(f"{lr:g}" for lr in dict.fromkeys(arm.lr for arm in arms)),
        } | ({"dose of noise": doses} if doses else {})
        if name == "sensitivity":
            scientific[where]["one choice changed"] = ", ".join(each.variants)
        nuisance[where] = {
            "seed (weights, order of images, noise, sampled unit)": f"{len(each.seeds_of(name))} (the paper: 1)"
        }
        fixed[where] = {
            "images": Path(each.dataset).name,
            "network": f"VGG-{vgg.depth}, width x {vgg.width:g}, head {vgg.head * vgg.width:g}",
            "steps": f"{each.schedule.steps:,}",
            "batch": f"{each.batch}",
            "layers drawn": ", ".join(map(str, each.layers(name))),
            "activations probed every": f"{each.schedule.probe_every} steps",
        }
        if name in ("shift", "landscape", "mistakes"):
            del fixed[where]["activations probed every"]
        if name in ("shift", "landscape", "mistakes", "norms", "lp", "sensitivity"):
            fixed[where]["gradients probed every"] = f"{each.schedule.gradient_every} steps"
        if name == "minima":
            fixed[where]["compared at a training loss of"] = f"{LEVEL / 2:g} to {LEVEL:g} nats"
            fixed[where]["radius of the balls"] = ", ".join(
                f"{radius:g}{' of each filter' * relative}" for radius, relative in BALLS.values()
            )
        if not each.layers(name):
            del fixed[where]["layers drawn"]
    missing = [run for run in needed(setting, name) if not run.exists]
    fixed["here"]["device"] = str(data.device(setting.device))
    fixed["here"]["runs"] = f"{len(needed(setting, name))}"
    fixed["here"]["cost of those not kept yet"] = _duration(_cost(missing))
    return _table(scientific, nuisance, fixed)


def _plan_linear(setting: Setting, name: str) -> pd.DataFrame:
    lin, wanted = setting.linear, needed(setting, name)
    missing = [run for run in wanted if not run.exists]
    here, theirs = "here", "in the paper"
    share = f"{lin.share:g} x the sum of squares over samples"
    rates = ", ".join(f"{lr:g}" for lr in dict.fromkeys(run.arm.lr for run in wanted))
    scientific = {where: {"normalizer": "none, batch", "learning rate": rates} for where in (here, theirs)}
    nuisance = {here: {"seed (weights, data)": f"{len(lin.seeds)}"}, theirs: {"seed (weights, data)": "1"}}
    fixed = {
        here: {
            "network": f"{lin.net.depth} matrices of {lin.net.features} x {lin.net.features}, no non-linearity",
            "samples, full batch": f"{lin.samples:,}",
            "steps": f"{lin.steps:,}",
            "probed every": f"{lin.probe_every} steps",
            "loss": share,
            "variance of x, of A": f"{lin.variance_x:g}, {lin.variance_A:g}",
            "after the last matrix": {"nothing": "nothing", "norm": "normalizer", "affine": "normalizer, gamma, beta"}[
                lin.net.last
            ],
            "device": "cpu, float64",
            "runs": f"{len(wanted)}, each with all its seeds",
            "cost of those not kept yet": _duration(_cost(missing)),
        },
        theirs: {
            "network": "25 matrices of 10 x 10, no non-linearity",
            "samples, full batch": "1,000",
            "steps": "10,000",
            "probed every": "50 steps",
            "loss": "not stated",
            "variance of x, of A": "not stated",
            "after the last matrix": "not stated",
        },
    }
    return _table(scientific, nuisance, fixed)


def _plan_map(setting: Setting, name: str) -> pd.DataFrame:
    missing = [run for run in needed(setting, name) if not run.exists]
    scientific, nuisance, fixed = {}, {}, {}
    for where, each in {"here": setting, "at the paper's scale": PRESETS["paper"]}.items():
        grid = each.map if name == "robustness" else each.map.live
        vgg, count = grid.vgg, len(grid.norms) * len(grid.lrs) * len(grid.scales) * len(grid.seeds)
        scientific[where] = {
            "normalizer": ", ".join(grid.norms),
            "learning rate": ", ".join(f"{lr:g}" for lr in grid.lrs),
            "scale of the initial weights": ", ".join(f"{scale:g}" for scale in grid.scales),
        }
        nuisance[where] = {"seed (weights, order of images, noise)": ", ".join(map(str, grid.seeds))}
        fixed[where] = {
            "images": Path(each.dataset).name,
            "network": f"VGG-{vgg.depth}, width x {vgg.width:g}, head {vgg.head * vgg.width:g}",
            "steps": f"{grid.steps:,}",
            "batch": f"{grid.batch}",
            "it trains at an accuracy of": f"{grid.trains:.0%} or more",
            "trainings": f"{count}",
        }
    fixed["here"]["cost of those not kept yet"] = _duration(_cost(missing))
    return _table(scientific, nuisance, fixed)


def _plan_laboratory(setting: Setting) -> pd.DataFrame:
    wanted = needed(setting, "laboratory")
    missing = [run for run in wanted if not run.exists]
    words = {what: ", ".join(map(str, values)) for what, values in setting.laboratory.choices.items()}
    seeds = {"seed (weights, order of images, noise, sampled unit)": "0; with a kernel each training takes the next"}
    vgg, schedule = setting.vgg, setting.schedule
    fixed = {
        "images": Path(setting.dataset).name,
        "network": f"VGG, width x {vgg.width:g}, head {vgg.head * vgg.width:g}",
        "steps": f"{setting.laboratory.steps:,}",
        "batch": f"{setting.batch}",
        "activations, gradients probed every": f"{schedule.probe_every}, {schedule.gradient_every} steps",
        "runs": f"{len(wanted)}",
        "cost of those not kept yet": _duration(_cost(missing)),
    }
    return _table({"here": words}, {"here": seeds}, {"here": fixed})


def _table(scientific: dict, nuisance: dict, fixed: dict) -> pd.DataFrame:
    kinds = {"scientific": scientific, "nuisance": nuisance, "fixed": fixed}
    table = pd.concat([pd.DataFrame(kinds[kind]).assign(kind=kind) for kind in kinds])
    return table.fillna("").rename_axis("parameter")


def paper(figure: str) -> pd.DataFrame:
    """The paper's own curves of a figure, as a frame of the same columns, read point by point from v3's vector
    graphics.

    The figure numbers are v3's: 1a, 1b, 2, 3a, 3b, 4, 5a, 5b, 8, 10, 12, 13. Accuracies become shares; a band
    becomes two quantities. Between listed points the curves are straight, so they are filled in at the paper's
    own logging interval. Raises ValueError for a figure without curves.
    """
    curves = pd.read_csv(PAPER_CURVES, dtype={"figure": str})
    curves = curves[curves.figure.str.fullmatch(f"{figure}[abcd]?")]
    if curves.empty or figure not in PAPER_FIGURES:
        raise ValueError(f"no curves of figure {figure!r}: accepted are {', '.join(PAPER_FIGURES)}")
    edges = [curves.assign(quantity=curves.quantity + f" {edge}", value=curves[edge]) for edge in ("min", "max")]
    curves = pd.concat([curves, *edges]).dropna(subset="value")
    frames = []
    for (quantity, norm, lr, layer), curve in curves.groupby(["quantity", "norm", "lr", "layer"], dropna=False):
        name, unit = PAPER_QUANTITIES[quantity]
        step = np.arange(curve.step.min(), curve.step.max() + 1, PAPER_FIGURES[figure])
        value = np.interp(step, curve.step, curve.value) * unit
        keys = Arm(norm, lr, dose=float(norm == "noisy")).keys | {"layer": layer, "quantity": name}
        frames.append(pd.DataFrame({"step": step, "value": value}).assign(**keys))
    frame = pd.concat(frames, ignore_index=True).reindex(columns=COLUMNS)
    frame = with_derived(frame, smooth=SMOOTH_PAPER) if figure in ("1a", "2", "3a", "5a", "12") else frame
    frame.attrs["source"] = f"The paper's curves were read from the vector graphics of its Fig. {figure} in v3."
    frame.attrs["scale"] = "the paper"
    return frame

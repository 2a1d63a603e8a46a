"""The paper's claims, each with the criterion that decides it, and the judge that computes a verdict from a frame.

Criteria are written before the runs that they judge; the repository's history shows it. A claim has parts; each part is
one effect, computed for every seed, and a range in which the effect must lie. A part holds when the whole 95 % t
interval over seeds lies in the range, fails when the whole interval lies outside, and is open otherwise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from bnutils.quantities import LEVEL, QUANTITIES

ARRIVED = 0.9  # the accuracy that counts as having learned to classify the training set
UNTRAINED = 0.2  # twice the accuracy of guessing among ten classes
# What is about late training is judged where training is as long as the paper's.
WHOLE = {"scales": ("long", "paper"), "least_steps": 15_000}
LOSSES = (0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, np.inf)  # nats: ranges of about half a decade
SIGNS = {"reproduced": "✓", "partly": "◐", "not reproduced": "✗", "inconclusive": "?"}
HOLDS = {True: "yes", False: "no", None: "open"}
# the theme's class for a box in which a wide table scrolls, also by keyboard
SCROLLING = '<div class="pst-scrollable-table-container">{}</div>'


# ---- effects: frame -> one value for each seed ---------------------------------------------------------------------


def _arm(frame: pd.DataFrame, norm: str, lr: float, *, dose: float | None = None) -> pd.DataFrame:
    """The rows of one arm; the noisy norms stand for the paper's dose unless another is asked for."""
    rows = frame[(frame.norm == norm) & (frame.lr == lr)]
    if norm.startswith("noisy"):
        rows = rows[rows.dose == (1.0 if dose is None else dose)]
    return rows.assign(seed=rows.seed.fillna(-1))  # the paper's curves have no seed: they are one run


def _seeds(frame: pd.DataFrame) -> pd.Index:
    return pd.Index(sorted(frame.seed.fillna(-1).unique()), name="seed")


def steps_to(
    frame: pd.DataFrame, norm: str, lr: float, *, dose: float | None = None, least: float = ARRIVED
) -> pd.Series:
    """By seed, the first step at which the smoothed training accuracy is `least`; the length of training if never.

    The length stands in for "later than we trained", which understates how slow such a run is. NaN for a seed that was
    not run.
    """
    run = _seeds(_arm(frame, norm, lr, dose=dose))
    steps = arrival(frame, norm, lr, dose=dose, least=least).reindex(run).fillna(frame.step.max())
    return steps.reindex(_seeds(frame)).astype(float).clip(lower=1)


def arrival(
    frame: pd.DataFrame, norm: str, lr: float, *, dose: float | None = None, least: float = ARRIVED
) -> pd.Series:
    """By seed, the first step at which the smoothed training accuracy is `least` or more; NaN where it never is."""
    arm = _arm(frame, norm, lr, dose=dose)
    steps = arm[(arm.quantity == "smooth_accuracy") & (arm.value >= least)].groupby("seed").step.min()
    return steps.reindex(_seeds(frame)).astype(float).clip(lower=1)


def in_words(frame: pd.DataFrame, norm: str, lr: float, *, least: float = ARRIVED) -> str:
    """The median of `steps_to` over seeds, or that half of the runs and more never arrived."""
    there = arrival(frame, norm, lr, least=least)
    if there.count() <= len(there) / 2:
        return f"more than {frame.step.max():,.0f} steps"
    return f"{steps_to(frame, norm, lr, least=least).median():,.0f} steps"


def final_accuracy(frame: pd.DataFrame, quantity: str, norm: str, lr: float, *, dose: float | None = None) -> pd.Series:
    """By seed, the mean accuracy over the last fifth of training; zero for a run that diverged, NaN for none at all."""
    arm, seeds = _arm(frame, norm, lr, dose=dose), _seeds(frame)
    late = arm[(arm.quantity == quantity) & (arm.step >= 0.8 * frame.step.max())].groupby("seed").value.mean()
    diverged = arm[arm.quantity == "diverged"].seed
    return late.reindex(seeds).mask(seeds.isin(diverged), 0.0).astype(float)


def endings(frames: dict[tuple, pd.DataFrame], names: Sequence[str]) -> pd.DataFrame:
    """By the choices that each of these frames of one run is of, a column for each of `names`: `value`, its
    `final_accuracy` in training."""

    def ending(frame: pd.DataFrame) -> float:
        norm, lr, dose = frame[["norm", "lr", "dose"]].iloc[0]
        return final_accuracy(frame, "train_accuracy", norm, lr, dose=None if np.isnan(dose) else dose).mean()

    rows = [[*choice, ending(frame) if len(frame) else np.nan] for choice, frame in frames.items()]
    return pd.DataFrame(rows, columns=[*names, "value"])


def movement(frame: pd.DataFrame, quantity: str, norm: str, lr: float, *, layer: int, relative: bool) -> pd.Series:
    """By seed, the mean over training of a layer's change of moments; `relative` divides by its standard deviation."""
    moved = average(frame, quantity, norm, lr, layer=layer)
    return moved / average(frame, "layer_deviation", norm, lr, layer=layer) if relative else moved


def typical(
    frame: pd.DataFrame,
    quantity: str,
    norm: str,
    lr: float,
    *,
    layer: int | None = None,
    since: float = 0.0,
    share: float = 1.0,
) -> pd.Series:
    """By seed, the median of a quantity over the looks from `since` to `share` of training: by default all of them."""
    arm, steps = _arm(frame, norm, lr), frame.step.max()
    rows = arm[(arm.quantity == quantity) & (arm.step >= since * steps) & (arm.step <= share * steps)]
    rows = rows if layer is None else rows[rows.layer == layer]
    return rows.groupby("seed").value.median().reindex(_seeds(frame)).astype(float)


def average(frame: pd.DataFrame, quantity: str, norm: str, lr: float, *, layer: int) -> pd.Series:
    """By seed, the mean of a quantity of one layer over all looks."""
    arm = _arm(frame, norm, lr)
    values = arm[(arm.quantity == quantity) & (arm.layer == layer)].groupby("seed").value.mean()
    return values.reindex(_seeds(frame)).astype(float)


def band(frame: pd.DataFrame, low: str, high: str) -> pd.DataFrame:
    """The frame with rows `band`: the width of a band at every look, high minus low."""
    keys = ["arm", "norm", "lr", "dose", "seed", "step"]
    edges = (frame[frame.quantity == name].set_index(keys).value for name in (high, low))
    width = next(edges) - next(edges)
    return pd.concat([frame, width.reset_index().assign(quantity="band")], ignore_index=True)


def late(frame: pd.DataFrame, quantity: str, norm: str, lr: float) -> pd.Series:
    """By seed, the median of a quantity over the looks at the last fifth of training."""
    return typical(frame, quantity, norm, lr, since=0.8)


def by_loss(frame: pd.DataFrame, *, lr: float) -> pd.DataFrame:
    """What a shorter probe makes of beta, a row for each range of the batch's own loss in nats, the largest first.

    For each network the number of looks of all seeds, and the medians over them of the largest beta over the paper's
    step lengths, of that with half its shortest among them, and of their ratio. A look at the end of training, where
    no loss is logged, does not count.
    """
    tables, names = {}, ["beta_max", "beta_max_short", "loss"]
    for norm, words in NETWORKS.items():
        rows = _arm(frame, norm, lr)
        rows = rows[rows.quantity.isin(names)].astype({"value": float})
        looks = rows.pivot_table("value", ["seed", "step"], "quantity").reindex(columns=names).dropna()
        ratio = looks.beta_max_short / looks.beta_max
        by = looks.assign(ratio=ratio).groupby(pd.cut(looks.loss, LOSSES), observed=True)
        table = by[["beta_max", "beta_max_short", "ratio"]].median()
        table.columns = ["the paper's lengths", "with a shorter", "ratio"]
        table.insert(0, "looks", by.size())
        tables[words] = table
    table = pd.concat(tables, axis=1).sort_index(ascending=False)
    table = table.astype({(words, "looks"): "Int64" for words in tables})
    table.index = pd.Index([f"{each.left:g} to {each.right:g}" for each in table.index], name="loss of the batch")
    return table


def learning(frame: pd.DataFrame, *, low: float = 0.2, high: float = 0.99) -> pd.DataFrame:
    """The rows of each run at steps where its own smoothed training accuracy lies between `low` and `high`."""
    run = ["arm", "seed", "step"]
    accuracy = frame[(frame.quantity == "smooth_accuracy") & frame.value.between(low, high)][run].drop_duplicates()
    return frame.merge(accuracy, on=run)


def by_length(frame: pd.DataFrame, norm: str) -> pd.DataFrame:
    """Beta for each step length, a row each: geometric means over seeds in 32 bits, in 64, and in 64 without kinks."""
    rows = frame[frame.norm == norm].astype({"eta": float, "value": float})
    with np.errstate(divide="ignore"):
        table = rows.assign(value=np.log(rows.value)).pivot_table("value", "eta", "quantity")
    return np.exp(table).reindex(columns=["beta_float32", "beta_float64", "beta_smooth"])


def log2_ratio(slow: pd.Series, fast: pd.Series) -> pd.Series:
    r""":math:`\log_2(\mathrm{slow} / \mathrm{fast})`, paired by seed: 1 is twice."""
    return np.log2(slow / fast)


# ---- effects: the map of chapter 8 -----------------------------------------------------------------------------------


def trials(frame: pd.DataFrame, *, least: float) -> pd.DataFrame:
    """A row for each training of the map: norm, lr, scale, seed, and how it ended.

    accuracy: the mean training accuracy over the last fifth of its steps, NaN where it diverged; diverged: the step at
    which it did, else NaN; trains: whether accuracy is at least `least`.
    """
    ends = frame[frame.scale.notna() & frame.quantity.isin(["end_accuracy", "diverged"])]
    keys = ["norm", "lr", "scale", "seed"]
    table = ends.astype({"value": float}).pivot_table("value", keys, "quantity", observed=True)
    table = table.reindex(columns=["end_accuracy", "diverged"]).rename(columns={"end_accuracy": "accuracy"})
    return table.assign(trains=table.accuracy >= least).rename_axis(columns=None).reset_index()


def widths(table: pd.DataFrame, along: str) -> pd.DataFrame:
    """How wide the region is that trains, a row for each norm, seed and value of the other variable.

    `table` is that of `trials`, `along` is lr or scale. width: the points that train times the distance between two of
    them, in decades of the learning rate or octaves of the scale; a region with a hole counts without the hole, and one
    point counts as one distance. lowest, highest: the first and last that trains, NaN where none does; from_edge,
    to_edge: whether these are the grid's own ends, so that the region may go on. holes: points between lowest and
    highest that do not train. most: the width if all points trained.
    """
    other, base = {"lr": ("scale", 10), "scale": ("lr", 2)}[along]
    grid = np.sort(table[along].unique())
    step = np.log(grid[-1] / grid[0]) / np.log(base) / (len(grid) - 1) if len(grid) > 1 else np.nan
    inside = table[along].where(table.trains)
    by = inside.groupby([table.norm, table[other], table.seed])
    found = pd.DataFrame({"width": by.count() * step, "lowest": by.min(), "highest": by.max()}).reset_index()
    ends = (grid[0], grid[-1]) if len(grid) else (np.nan, np.nan)
    reached = np.searchsorted(grid, found.highest) - np.searchsorted(grid, found.lowest) + 1
    holes = np.where(found.lowest.notna(), reached - (found.width / step).round(), 0)
    return found.assign(
        from_edge=found.lowest == ends[0], to_edge=found.highest == ends[1], holes=holes, most=len(grid) * step
    )


def edges(rows: pd.DataFrame, along: str) -> pd.DataFrame:
    """The edges of the region that trains in words, by normalizer and value of the other variable: seeds from to.

    `rows` is that of `widths`. A sign before a value says that it is the grid's own end: the region may go on
    beyond. holes: over all seeds.
    """

    def words(values: pd.Series, censored: pd.Series, sign: str) -> str:
        if values.isna().all():
            return "none"
        low, high = (sign * int(censored[values == end].any()) + f"{end:g}" for end in (values.min(), values.max()))
        some = f" ({values.count()} of {len(values)} seeds)" if values.isna().any() else ""
        return (low if low == high else f"{low} to {high}") + some

    other = "scale" if along == "lr" else "lr"
    table = []
    for (norm, at), each in rows.groupby(["norm", other]):
        low = words(each.lowest, each.from_edge, "\N{LESS-THAN OR EQUAL TO} ")
        high = words(each.highest, each.to_edge, "\N{GREATER-THAN OR EQUAL TO} ")
        table.append((norm, at, low, high, each.width.mean(), int(each.holes.sum())))
    return pd.DataFrame(table, columns=["norm", other, "lowest", "highest", "width", "holes"]).set_index(
        ["norm", other]
    )


def definitions(frame: pd.DataFrame, along: str) -> pd.DataFrame:
    """The mean width over seeds and the other variable, by normalizer, for three meanings of "trains": 20, 50, 90 %."""
    table = {}
    for least in (UNTRAINED, 0.5, ARRIVED):
        table[f"{least:.0%} or more"] = widths(trials(frame, least=least), along).groupby("norm").width.mean()
    return pd.DataFrame(table)


def width(frame: pd.DataFrame, norm: str, along: str, *, least: float, at: float | None = None) -> pd.Series:
    """By seed, `widths` of one normalizer at one value of the other variable; without it, the mean over all values.

    least: from which accuracy a training counts, as in `trials`.
    """
    table = trials(frame, least=least)
    other = "scale" if along == "lr" else "lr"
    rows = widths(table[table[other] == at] if at is not None else table, along)
    found = rows[rows.norm == norm].groupby("seed").width.mean()
    return found.reindex(_seeds(frame)).astype(float)


def widths_in_words(frame: pd.DataFrame, grid: Any) -> pd.DataFrame:
    """Of a map, a column for each normalizer: widths, mean over seeds (and range), and how many trainings diverged.

    `grid` is the `presets.Map` of the frame.
    """
    cases = {
        "decades of learning rate, Glorot's scale": ("lr", 1.0),
        "decades of learning rate, mean over scales": ("lr", None),
        f"octaves of scale, learning rate {grid.main:g}": ("scale", grid.main),
        "octaves of scale, mean over learning rates": ("scale", None),
    }
    table, found = trials(frame, least=grid.trains), {}
    for norm in grid.norms:
        each = {words: width(frame, norm, along, least=grid.trains, at=at) for words, (along, at) in cases.items()}
        lost = table[table.norm == norm].diverged
        found[norm] = {words: f"{of.mean():.2f} ({of.min():.2f} to {of.max():.2f})" for words, of in each.items()}
        found[norm]["trainings that diverged"] = f"{lost.count()} of {len(lost)}"
    return pd.DataFrame(found)


def depth_factor(frame: pd.DataFrame, quantity: str, norm: str, *, scale: float, step: int = 0) -> pd.Series:
    r"""By seed, :math:`\log_2` of the factor from one layer to the next in a quantity: the slope of a line.

    Over all layers, least squares of :math:`\log_2` of the value against the layer's number at one step; NaN where a
    value is zero or not finite.
    """
    rows = frame[(frame.norm == norm) & (frame.scale == scale) & (frame.step == step) & (frame.quantity == quantity)]

    def slope(each: pd.DataFrame) -> float:
        with np.errstate(divide="ignore"):
            log = np.log2(each.value.to_numpy(dtype=float))
        layers = each.layer.to_numpy(dtype=float)
        return np.polyfit(layers, log, 1)[0] if len(log) > 1 and np.isfinite(log).all() else np.nan

    found = {seed: slope(each) for seed, each in rows.groupby("seed")}
    return pd.Series(found, dtype=float).reindex(_seeds(frame))


def met(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the runs that came to the training loss at which networks are compared, `LEVEL` / 2 to `LEVEL`."""
    run = ["arm", "seed"]
    loss = frame[(frame.quantity == "minimum_loss") & frame.value.between(LEVEL / 2, LEVEL)]
    return frame[pd.MultiIndex.from_frame(frame[run]).isin(pd.MultiIndex.from_frame(loss[run]))]


def first_seed(frame: pd.DataFrame, quantity: str, norm: str) -> float:
    """A quantity of one normalizer's first seed, NaN where it has none."""
    rows = frame[(frame.quantity == quantity) & (frame.norm == norm) & (frame.seed == frame.seed.min())]
    return float(rows.value.astype(float).mean())


def rise(frame: pd.DataFrame) -> pd.DataFrame:
    """The loss along the first direction around each network, with `rise`: how far it is above that of the network."""
    line = frame[(frame.quantity == "loss_around") & (frame.bin.astype(float).abs() < 1e-9)]
    line = line.astype({"eta": float, "value": float})
    centre = line[line.eta.abs() < 1e-9].set_index(["arm", "seed"]).value.rename("centre")
    line = line.join(centre, on=["arm", "seed"])
    return line.assign(rise=line.value - line.centre)


def around_minimum(frame: pd.DataFrame, quantity: str, norm: str, lr: float, *, factor: float = 1.0) -> pd.Series:
    """By seed, a quantity around the network where its training loss is that at which networks are compared.

    Of eigenvalues, that of weights in front of normalizers times `factor`. NaN for a run that never came to that loss.
    """
    arm = met(_arm(frame, norm, lr))
    rows = arm[(arm.quantity == quantity) & (arm.eta.isna() | (arm.eta == factor))]
    return rows.set_index("seed").value.astype(float).reindex(_seeds(frame))


def flatness(frames: dict[str, pd.DataFrame], quantities: dict[str, str], *, lr: float) -> pd.DataFrame:
    """What each measure says of Standard over BatchNorm: columns network (the frame's name), measure, none, batch
    (geometric means over seeds), ratio, low, high (95 % t interval, paired by seed) and flatter: the network on whose
    side the interval lies, or "open".

    quantities: the words of each. A value that is not above 0 has no ratio and leaves its row open.
    """
    rows = []
    for network, frame in frames.items():
        for quantity, words in quantities.items():
            both = {norm: around_minimum(frame, quantity, norm, lr) for norm in ("none", "batch")}
            logs = {norm: np.log2(values.where(values > 0)) for norm, values in both.items()}
            ratio = logs["none"] - logs["batch"]
            low, high = interval(ratio)
            row = {"network": network, "measure": words} | {norm: 2 ** log.mean() for norm, log in logs.items()}
            row |= {"ratio": 2 ** ratio.mean(), "low": 2**low, "high": 2**high}
            rows.append(row | {"flatter": "BatchNorm" if low > 0 else "Standard" if high < 0 else "open"})
    return pd.DataFrame(rows)


def minima_points(frames: dict[str, pd.DataFrame], *, lr: float) -> pd.DataFrame:
    """One row for each network that came to the loss at which minima are compared: network (the frame's name), norm,
    seed, and each quantity measured there; the frames are those of the networks."""
    names = ["minimum_loss", "minimum_accuracy", "eigenvalue", "eigenvalue_normalized", "sharpness"]
    parts = [pd.DataFrame(columns=["network", "norm", "seed", *names, "sharpness_adaptive"])]
    for network, frame in frames.items():
        for norm in ("none", "batch"):
            columns = {name: around_minimum(frame, name, norm, lr) for name in [*names, "sharpness_adaptive"]}
            found = pd.DataFrame(columns).dropna(subset="minimum_loss").reset_index()
            parts.append(found.assign(network=network, norm=norm))
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


# ---- claims --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """One effect, by seed, and the open range (low, high) for its interval; `show` turns a value into words."""

    label: str
    effect: Callable[[pd.DataFrame], pd.Series]
    low: float = -np.inf
    high: float = np.inf
    show: Callable[[float], str] = "{:.2f}".format


@dataclass(frozen=True)
class Claim:
    """One claim of the paper: where it stands, how it is decided, what would refute it, at which scales it is judged.

    parts: from a setting (its learning rates and layers) to the parts. compares: what their values are. chapter: the
    page that shows it; experiment: the runs that it is judged by; figure: the paper's, if it has curves. ten_classes:
    the criterion knows the accuracy of guessing among ten. linear: it is about the deep linear network, whose scale is
    the paper's in every preset that judges. tested_on: networks, random layers or both. scales: presets whose runs can
    decide it, if they train for as many as least_steps.
    """

    statement: str
    place: str
    criterion: str
    refuted_by: str
    parts: Callable[[Any], list[Part]]
    compares: str
    chapter: str
    experiment: str
    figure: str | None = None
    ten_classes: bool = False
    linear: bool = False
    tested_on: tuple[str, ...] = ("networks",)
    scales: tuple[str, ...] = ("quick", "cifar", "long", "paper")
    least_steps: int = 0
    unfit: str = "it proves that a page runs and decides nothing"

    def _repr_html_(self) -> str:
        rows = {"The paper": self.place, "It holds if": self.criterion, "It falls if": self.refuted_by}
        items = "".join(f"<dt>{key}</dt><dd>{escape(value)}</dd>" for key, value in rows.items())
        return f'<div class="claim"><p><strong>Claim.</strong> {escape(self.statement)}</p><dl>{items}</dl></div>'


def _times(effect: float) -> str:
    ratio = 2.0**effect
    return f"{ratio:,.0f}\N{NO-BREAK SPACE}×" if ratio >= 100 else f"{ratio:.4g}\N{NO-BREAK SPACE}×"


def _points(effect: float) -> str:
    return f"{100 * effect:.1f} points"


def _percent(effect: float) -> str:
    return f"{100 * effect:.1f}\N{NO-BREAK SPACE}%"


def _speed(setting: Any) -> list[Part]:
    lr, least = setting.lrs[0], setting.arrived

    def effect(frame: pd.DataFrame) -> pd.Series:
        # Standard may be late, which understates the ratio; BatchNorm must arrive, or there is none.
        return log2_ratio(steps_to(frame, "none", lr, least=least), arrival(frame, "batch", lr, least=least))

    return [Part(f"Standard over BatchNorm, {lr:g}", effect, low=np.log2(1.5), show=_times)]


def _test_accuracy(setting: Any) -> list[Part]:
    lr = setting.lrs[0]

    def effect(frame: pd.DataFrame) -> pd.Series:
        return final_accuracy(frame, "test_accuracy", "batch", lr) - final_accuracy(frame, "test_accuracy", "none", lr)

    return [Part(f"BatchNorm minus Standard, {lr:g}", effect, low=0.01, show=_points)]


def _large_steps(setting: Any) -> list[Part]:
    lr = setting.lrs[-1]
    return [
        Part(
            f"BatchNorm, {lr:g}",
            lambda f: final_accuracy(f, "train_accuracy", "batch", lr),
            setting.arrived,
            show=_percent,
        ),
        Part(
            f"Standard, {lr:g}",
            lambda f: final_accuracy(f, "train_accuracy", "none", lr),
            high=UNTRAINED,
            show=_percent,
        ),
    ]


def _stability(setting: Any) -> list[Part]:
    def part(layer: int) -> Part:
        def effect(frame: pd.DataFrame) -> pd.Series:
            moved = (
                movement(frame, "layer_mean_step", norm, setting.lrs[0], layer=layer, relative=True)
                for norm in ("none", "batch")
            )
            return log2_ratio(*moved)

        return Part(f"layer {layer}: mean, in deviations", effect, -1, 1, _times)

    return [part(layer) for layer in setting.layers("speed")]


def _noisy_speed(setting: Any) -> list[Part]:
    lr, least = setting.lrs[0], setting.arrived

    def effect(frame: pd.DataFrame) -> pd.Series:
        batch, none = arrival(frame, "batch", lr, least=least), steps_to(frame, "none", lr, least=least)
        # Between the two there is a middle only where BatchNorm is the faster one.
        noisy = arrival(frame, "noisy", lr, least=least)
        return log2_ratio(noisy, np.sqrt(batch * none)).where(batch < none)

    return [Part("noisy over the geometric mean of the others", effect, high=0, show=_times)]


def _noisy_stability(setting: Any) -> list[Part]:
    def part(layer: int, what: str, quantity: str, relative: bool) -> Part:
        def effect(frame: pd.DataFrame) -> pd.Series:
            moved = (
                movement(frame, quantity, norm, setting.lrs[0], layer=layer, relative=relative)
                for norm in ("noisy", "none")
            )
            return log2_ratio(*moved)

        return Part(f"layer {layer}: {what}", effect, low=0, show=_times)

    kinds = [
        ("mean", "layer_mean_step", False),
        ("variance", "layer_variance_step", False),
        ("mean, in deviations", "layer_mean_step", True),
    ]
    return [part(layer, *kind) for layer in setting.layers("noise") for kind in kinds]


def _noise_alone(setting: Any) -> list[Part]:
    lr = setting.lrs[0]

    def effect(frame: pd.DataFrame) -> pd.Series:
        return final_accuracy(frame, "train_accuracy", "noisy_none", lr)

    return [Part("noise without BatchNorm", effect, high=UNTRAINED, show=_percent)]


def _shift(setting: Any) -> list[Part]:
    def cosine(lr: float, layer: int) -> Part:
        def effect(frame: pd.DataFrame) -> pd.Series:
            batch, none = (average(frame, "shift_cosine", norm, lr, layer=layer) for norm in ("batch", "none"))
            return batch - none

        return Part(f"cosine, layer {layer} at {lr:g}: BatchNorm minus Standard", effect, high=0.1)

    def length(lr: float, layer: int) -> Part:
        def effect(frame: pd.DataFrame) -> pd.Series:
            return log2_ratio(*(typical(frame, "shift_l2", norm, lr, layer=layer) for norm in ("batch", "none")))

        return Part(f"distance, layer {layer} at {lr:g}: BatchNorm over Standard", effect, low=-1, show=_times)

    rates, layers = (setting.lrs[0], setting.slow_lr), setting.layers("shift")
    return [kind(lr, layer) for lr in rates for layer in layers for kind in (cosine, length)]


def _linear_cosines(setting: Any, norm: str, low: float, high: float) -> list[Part]:
    def part(lr: float, layer: int) -> Part:
        return Part(f"layer {layer} at {lr:g}", lambda f: average(f, "shift_cosine", norm, lr, layer=layer), low, high)

    return [part(lr, layer) for lr in setting.linear.lrs for layer in setting.linear.layers]


def _linear_standard(setting: Any) -> list[Part]:
    return _linear_cosines(setting, "none", 0.9, np.inf)


def _linear_batch(setting: Any) -> list[Part]:
    return _linear_cosines(setting, "batch", -0.3, 0.3)


def _larger(name: str, measure: Callable, lr: float, least: float) -> list[Part]:
    """Standard over BatchNorm, in the first fifth of training and in all of it."""

    def part(words: str, share: float) -> Part:
        def effect(frame: pd.DataFrame) -> pd.Series:
            return log2_ratio(measure(frame, "none", lr, share), measure(frame, "batch", lr, share))

        return Part(f"{name}, {words}", effect, low=np.log2(least), show=_times)

    return [part("first fifth", 0.2), part("all of training", 1.0)]


def _loss_width(frame: pd.DataFrame, norm: str, lr: float, share: float) -> pd.Series:
    return typical(band(_arm(frame, norm, lr), "loss_low", "loss_high"), "band", norm, lr, share=share)


def _largest_distance(frame: pd.DataFrame, norm: str, lr: float, share: float) -> pd.Series:
    return typical(frame, "distance_high", norm, lr, share=share)


def _beta(frame: pd.DataFrame, norm: str, lr: float, share: float) -> pd.Series:
    return typical(frame, "beta_max", norm, lr, share=share)


def _loss_range(setting: Any) -> list[Part]:
    return _larger("width of the band", _loss_width, setting.lrs[0], 2)


def _predictiveness(setting: Any) -> list[Part]:
    return _larger("largest distance", _largest_distance, setting.lrs[0], 2)


def _two_orders(setting: Any) -> list[Part]:
    return _larger("largest distance", _largest_distance, setting.lrs[0], 30)[:1]


def _smoothness(setting: Any) -> list[Part]:
    return _larger("largest beta", _beta, setting.lrs[0], 1)


def _linear_landscape(setting: Any) -> list[Part]:
    lr = setting.linear.lrs[0]
    measures = {"width of the band": _loss_width, "largest distance": _largest_distance, "largest beta": _beta}
    return [part for name, measure in measures.items() for part in _larger(name, measure, lr, 10)]


def _random_directions(setting: Any) -> list[Part]:
    def part(name: str, quantity: str) -> Part:
        def effect(frame: pd.DataFrame) -> pd.Series:
            return log2_ratio(*(typical(frame, quantity, norm, setting.lrs[0]) for norm in ("none", "batch")))

        return Part(name, effect, low=0, show=_times)

    return [part("distance of gradients", "random_distance"), part("beta", "random_beta")]


NETWORKS = {"none": "Standard", "batch": "BatchNorm"}


def _saturation(setting: Any) -> list[Part]:
    return _saturated(setting.lrs[0], late)


def _saturated(lr: float, at: Callable[..., pd.Series]) -> list[Part]:
    """`at`: from a frame, a quantity, a normalizer and a learning rate to one value for each seed."""

    def beta(norm: str) -> Part:
        return Part(
            f"beta times the paper's shortest step, {NETWORKS[norm]}",
            lambda f: at(f, "beta_max", norm, lr) * lr / 2,
            0.9,
            1.1,
        )

    def doubled(norm: str) -> Part:
        def effect(frame: pd.DataFrame) -> pd.Series:
            return at(frame, "beta_max_short", norm, lr) / at(frame, "beta_max", norm, lr)

        return Part(f"beta with a step half as long, over beta without, {NETWORKS[norm]}", effect, 1.8, 2.2)

    return [part(norm) for norm in NETWORKS for part in (beta, doubled)]


LEARNING_BY_HEART = {"low": 0.9, "high": 0.99}  # the training accuracy of who learns the last of its images


def _by_heart(setting: Any) -> list[Part]:
    def at(frame: pd.DataFrame, *what: Any) -> pd.Series:
        return typical(learning(frame, **LEARNING_BY_HEART), *what).reindex(_seeds(frame))

    return _saturated(setting.lrs[0], at)


def _edge_of_stability(setting: Any) -> list[Part]:
    lr = setting.linear.lrs[0]

    def part(norm: str) -> Part:
        def effect(frame: pd.DataFrame) -> pd.Series:
            return late(frame[np.isclose(frame.eta, lr, rtol=1e-6, atol=0)], "beta", norm, lr) * lr

        return Part(f"beta at the learning rate, times the learning rate, {NETWORKS[norm]}", effect, 1.8, 2.2)

    return [part(norm) for norm in NETWORKS]


LP = {"l1": "L1", "l2": "L2", "linf": "L-infinity"}


def _lp_speed(setting: Any) -> list[Part]:
    lr, least = setting.lrs[0], setting.arrived

    def parts(norm: str) -> list[Part]:
        def faster(frame: pd.DataFrame) -> pd.Series:
            return log2_ratio(steps_to(frame, "none", lr, least=least), arrival(frame, norm, lr, least=least))

        def behind(frame: pd.DataFrame) -> pd.Series:
            return log2_ratio(steps_to(frame, norm, lr, least=least), arrival(frame, "batch", lr, least=least))

        return [
            Part(f"Standard over {LP[norm]}, {lr:g}", faster, low=np.log2(1.5), show=_times),
            Part(f"{LP[norm]} over BatchNorm, {lr:g}", behind, high=np.log2(1.5), show=_times),
        ]

    return [part for norm in LP for part in parts(norm)]


def _smoother(norm: str, lr: float, least: float, words: str, chosen: Any = None) -> list[Part]:
    """Standard over a normalizer, in the first fifth of training and in all of it: what Fig. 4 draws of each."""

    def part(name: str, measure: Callable, window: str, share: float) -> Part:
        def effect(frame: pd.DataFrame) -> pd.Series:
            rows = _of_seeds(frame, chosen)
            return log2_ratio(measure(rows, "none", lr, share), measure(rows, norm, lr, share))

        return Part(f"{words}: {name}, {window}", effect, low=np.log2(least), show=_times)

    windows = {"first fifth": 0.2, "all of training": 1.0}
    return [part(*measure, *window) for measure in MEASURES.items() for window in windows.items()]


MEASURES = {"width of the band": _loss_width, "largest distance": _largest_distance, "largest beta": _beta}


def _of_seeds(frame: pd.DataFrame, chosen: Any) -> pd.DataFrame:
    """The rows of these seeds, and of the paper's curves, which have none; all rows where None is asked for."""
    return frame if chosen is None else frame[frame.seed.isin(chosen) | frame.seed.isna()]


def _lp_landscape(setting: Any) -> list[Part]:
    return [part for norm, name in LP.items() for part in _smoother(norm, setting.lrs[0], 1, name)]


def _lp_shift(setting: Any) -> list[Part]:
    lr, (layer,) = setting.lrs[0], setting.layers("norms")

    def part(norm: str) -> Part:
        def effect(frame: pd.DataFrame) -> pd.Series:
            moved = (movement(frame, "layer_mean_step", who, lr, layer=layer, relative=True) for who in (norm, "none"))
            return log2_ratio(*moved)

        return Part(f"layer {layer}: mean, in deviations, {LP[norm]}", effect, low=0, show=_times)

    return [part(norm) for norm in LP]


def _late_loss(setting: Any, norm: str, most: float) -> Part:
    """A normalizer's late loss in the deep linear network over BatchNorm's, on the seeds that both have."""
    lr, chosen = setting.linear.lrs[0], setting.linear.seeds_of(norm)

    def effect(frame: pd.DataFrame) -> pd.Series:
        rows = _of_seeds(frame, chosen)
        return log2_ratio(*(late(rows, "squared_error", who, lr) for who in (norm, "batch")))

    return Part(f"{LP[norm]}, {len(chosen)} seeds", effect, high=np.log2(most), show=_times)


def _lp_linear(setting: Any) -> list[Part]:
    return [_late_loss(setting, norm, 1.5) for norm in LP]


def _l1_linear(setting: Any) -> list[Part]:
    return [_late_loss(setting, "l1", 1)]


def _lp_linear_landscape(setting: Any) -> list[Part]:
    lr, lin = setting.linear.lrs[0], setting.linear

    def words(norm: str) -> str:
        return f"{LP[norm]}, {len(lin.seeds_of(norm))} seeds"

    return [part for norm in LP for part in _smoother(norm, lr, 10, words(norm), lin.seeds_of(norm))]


ROUNDING = 1e-9  # a relative difference below this is rounding of float64


def sides(frame: pd.DataFrame, left: str, right: str) -> pd.DataFrame:
    r"""Both sides of a statement, a row a case.

    Columns arm, norm, seed, step, layer (0: a random layer), left, right and difference. left and right are quantities;
    0 where both are, the difference is else

    .. math:: \frac{\mathrm{left} - \mathrm{right}}{\max(|\mathrm{left}|, |\mathrm{right}|)}
    """
    keys = ["arm", "norm", "seed", "step", "layer"]
    rows = frame[frame.quantity.isin([left, right])].astype({"layer": float, "value": float}).fillna({"layer": 0})
    table = rows.pivot_table("value", keys, "quantity").reindex(columns=[left, right]).dropna()
    table = table.set_axis(["left", "right"], axis=1).reset_index()
    larger = table[["left", "right"]].abs().max(axis=1)
    return table.assign(difference=((table.left - table.right) / larger).fillna(0.0))


# Each statement with its left and right side as corrected, then as printed.
STATEMENTS = {
    "Theorem 4.1": (("theorem_4_1_left", "theorem_4_1_right"), ("theorem_4_1_left", "theorem_4_1_printed")),
    "Theorem 4.2": (("theorem_4_2_left", "theorem_4_2_right"), ("theorem_4_2_left", "theorem_4_2_printed")),
    "Theorem 4.4": (("theorem_4_4_left", "theorem_4_4_right"), ("theorem_4_4_left", "theorem_4_4_printed")),
    "Theorem C.1": (("theorem_c_1_left", "theorem_c_1_right"), ("theorem_c_1_maximum", "theorem_c_1_printed")),
    "Lemma 4.5": ((), ("lemma_4_5_left", "lemma_4_5_right")),
}


def statements(frame: pd.DataFrame) -> pd.DataFrame:
    """`sides` of all the theorems, with the columns statement, form ("corrected" or "printed"), and place: a random
    layer with a quadratic loss or in a network, or the normalizer of a network in training."""
    tables = [
        sides(frame, *pair).assign(statement=name, form=form)
        for name, pairs in STATEMENTS.items()
        for form, pair in zip(("corrected", "printed"), pairs, strict=True)
        if pair
    ]
    table = pd.concat(tables, ignore_index=True)
    quadratic = table.arm.astype(str).str.startswith("quadratic")
    random = quadratic.map({True: "random, quadratic", False: "random, network"})
    return table.assign(place=random.where(table.layer == 0, table.norm))


def _by_seed(values: pd.Series, seeds: pd.Series, frame: pd.DataFrame, how: str) -> pd.Series:
    return values.groupby(seeds).agg(how).reindex(_seeds(frame)).astype(float)


def _exponent(effect: float) -> str:
    if effect < -16:  # nothing at all, or less than float64 can tell
        return "0"
    return f"{10.0**effect:.0e}" if effect < -2 else f"{10.0**effect:.2g}"


def _apart(words: str, left: str, right: str) -> Part:
    """The largest relative difference of both sides is rounding."""

    def effect(frame: pd.DataFrame) -> pd.Series:
        table = sides(frame, left, right)
        return np.log10(_by_seed(table.difference.abs(), table.seed, frame, "max").clip(lower=1e-17))

    return Part(f"{words}: largest relative difference", effect, high=np.log10(ROUNDING), show=_exponent)


def _vanishes(words: str, quantity: str) -> Part:
    """The largest value of a relative difference is rounding."""

    def effect(frame: pd.DataFrame) -> pd.Series:
        rows = frame[frame.quantity == quantity]
        return np.log10(_by_seed(rows.value.astype(float), rows.seed, frame, "max").clip(lower=1e-17))

    return Part(f"{words}: largest", effect, high=np.log10(ROUNDING), show=_exponent)


def _exceeds(words: str, left: str, right: str, *, arms: str = "") -> Part:
    """By how much the left side exceeds the right at most, over the larger of them; `arms`: a pattern of cases."""

    def effect(frame: pd.DataFrame) -> pd.Series:
        table = sides(frame[frame.arm.str.contains(arms)], left, right)
        return np.log10(_by_seed(table.difference, table.seed, frame, "max").clip(lower=1e-17))

    return Part(f"{words}: largest excess of the left side", effect, high=np.log10(ROUNDING), show=_exponent)


def _theorem_4_1(_setting: Any) -> list[Part]:
    left = "theorem_4_1_left"
    return [
        _apart("corrected, as an equality", left, "theorem_4_1_right"),
        _exceeds("as printed", left, "theorem_4_1_printed"),
    ]


def _theorem_4_2(_setting: Any) -> list[Part]:
    left = "theorem_4_2_left"
    return [
        _apart("first line, as an equality", left, "theorem_4_2_right"),
        _exceeds("second line, where H is the identity", left, "theorem_4_2_printed", arms="^quadratic"),
    ]


def _observation_4_3(_setting: Any) -> list[Part]:
    return [
        _vanishes("outputs, relative difference", "observation_4_3_outputs"),
        _vanishes("loss, relative difference", "observation_4_3_loss"),
    ]


def _theorem_4_4(_setting: Any) -> list[Part]:
    left = "theorem_4_4_left"
    return [
        _apart("corrected, as an equality", left, "theorem_4_4_right"),
        _exceeds("as printed", left, "theorem_4_4_printed"),
    ]


def _theorem_c_1(_setting: Any) -> list[Part]:
    # H the identity and a correlation of at least 0: what Theorem 4.2 asks for besides
    met = r"^quadratic.*correlation [^-]"
    return [
        _apart("corrected, at X with XX' a multiple of the identity", "theorem_c_1_left", "theorem_c_1_right"),
        _exceeds("as printed", "theorem_c_1_maximum", "theorem_c_1_printed", arms=met),
    ]


def _lemma_4_5(_setting: Any) -> list[Part]:
    return [
        _exceeds("as printed", "lemma_4_5_left", "lemma_4_5_right"),
        _vanishes("loss with outputs times three, relative difference", "scale_invariance"),
    ]


def _decades(effect: float) -> str:
    return f"{effect:.2f} decades"


def _octaves(effect: float) -> str:
    return f"{effect:.2f} octaves"


def _wider(
    along: str, cases: dict[str, float | None], low: float, show: Callable[[float], str], *, least: float
) -> list[Part]:
    def part(words: str, at: float | None) -> Part:
        def effect(frame: pd.DataFrame) -> pd.Series:
            batch, none = (width(frame, norm, along, at=at, least=least) for norm in ("batch", "none"))
            return batch - none

        return Part(f"BatchNorm minus Standard, {words}", effect, low=low, show=show)

    return [part(words, at) for words, at in cases.items()]


def _robust_lr(setting: Any) -> list[Part]:
    cases = {"Glorot's scale": 1.0, "mean over scales": None}
    return _wider("lr", cases, 0.5, _decades, least=setting.map.trains)


def _robust_init(setting: Any) -> list[Part]:
    main = setting.map.main
    cases = {f"learning rate {main:g}": main, "mean over learning rates": None}
    return _wider("scale", cases, 1.0, _octaves, least=setting.map.trains)


def _gradients_by_layer(setting: Any) -> list[Part]:
    def part(what: str, quantity: str, words: str, scales: tuple[float, ...]) -> Part:
        def effect(frame: pd.DataFrame) -> pd.Series:
            none, batch = (
                sum(depth_factor(frame, quantity, norm, scale=scale).abs() for scale in scales) / len(scales)
                for norm in ("none", "batch")
            )
            return none - batch

        return Part(f"{what}, {words}", effect, low=0, show=_times)

    whats = {"gradient on its way back": "layer_signal_norm", "gradient of its own weights": "layer_gradient_norm"}
    cases = {"Glorot's scale": (1.0,), "mean over scales": setting.map.scales}
    return [part(*what, words, scales) for what in whats.items() for words, scales in cases.items()]


FLATNESS = {"eigenvalue_normalized": "filter-normalized eigenvalue", "sharpness_adaptive": "rise in a relative ball"}


def _flatter(setting: Any, low: float, high: float) -> list[Part]:
    lr = setting.lrs[0]

    def part(quantity: str, words: str) -> Part:
        def effect(frame: pd.DataFrame) -> pd.Series:
            none, batch = (around_minimum(frame, quantity, norm, lr) for norm in ("none", "batch"))
            return log2_ratio(none.where(none > 0), batch.where(batch > 0))

        return Part(words, effect, low, high, _times)

    return [part(*each) for each in FLATNESS.items()]


def _flat_minima(setting: Any) -> list[Part]:
    return _flatter(setting, 0, np.inf)


def _shallow_not_flatter(setting: Any) -> list[Part]:
    return _flatter(setting, -np.inf, 0)


CLAIMS: dict[str, Claim] = {
    "speed": Claim(
        statement="A network with batch normalization trains faster than the same network without.",
        place="Sec. 2, Fig. 1a (v3 and v5).",
        criterion="at the first learning rate, Standard takes 1.5 times as many steps to 90 % training "
        "accuracy or more (50 % in the short runs of preset cifar).",
        refuted_by="the interval of that ratio lies below 1.5.",
        parts=_speed,
        compares="steps until it has learned",
        chapter="01_speed",
        experiment="speed",
        figure="1a",
    ),
    "test_accuracy": Claim(
        statement="It also ends at a better test accuracy.",
        place="Sec. 2, Fig. 1b and App. A.1 (83 % against 80 %; v3 and v5).",
        criterion="over the last fifth of training it is at least one percentage point higher with BatchNorm.",
        refuted_by="the interval of the difference lies below one point.",
        parts=_test_accuracy,
        compares="test accuracy",
        **WHOLE,
        unfit="digits saturate and short runs do not arrive, so final accuracy is judged over the paper's steps only",
        chapter="01_speed",
        experiment="speed",
        figure="1b",
    ),
    "augmented_accuracy": Claim(
        statement="It ends at a better test accuracy with data augmentation, too.",
        place="App. A.1 (92 % against 88 %; v3 and v5).",
        criterion="over the last fifth of training on images cropped and flipped at random it is at least one "
        "percentage point higher with BatchNorm.",
        refuted_by="the interval of the difference lies below one point.",
        parts=_test_accuracy,
        compares="test accuracy",
        scales=("paper",),
        least_steps=15_000,
        unfit="digits cannot be flipped and short runs do not arrive, so this is judged at the paper's scale only",
        chapter="01_speed",
        experiment="augmented",
    ),
    "large_steps": Claim(
        statement="Batch normalization makes learning rates usable at which the plain network does not train.",
        place="Sec. 2, Fig. 1a,b at learning rate 0.5 (v3 and v5).",
        criterion="at the larger rate, over the last fifth of training, BatchNorm exceeds 90 % (50 % in the short "
        "runs of preset cifar) and Standard stays below 20 %.",
        refuted_by="BatchNorm stays below that and Standard above 20 %; partly, if one part holds and the other fails.",
        parts=_large_steps,
        compares="training accuracy",
        ten_classes=True,
        chapter="01_speed",
        experiment="speed",
        figure="1a",
    ),
    "stability": Claim(
        statement="The distributions of activations are hardly more stable with batch normalization than without.",
        place="Sec. 2, Fig. 1c (v3 and v5).",
        criterion="in each layer drawn, how far the units' means move, in units of their average standard deviation, "
        "differs by less than a factor 2.",
        refuted_by="the interval of that factor lies above 2 or below one half; partly, if one layer holds and the "
        "other fails.",
        parts=_stability,
        compares="movement, Standard over BatchNorm",
        chapter="01_speed",
        experiment="speed",
    ),
    "noisy_speed": Claim(
        statement="With noise that shifts its distributions at every step, BatchNorm still trains about as fast.",
        place="Sec. 2.1, Fig. 2 left (v3 and v5).",
        criterion="on a logarithmic scale, its steps to 90 % training accuracy (50 % in the short runs of preset "
        "cifar) lie nearer to BatchNorm's than to Standard's.",
        refuted_by="they lie nearer to Standard's.",
        parts=_noisy_speed,
        compares="steps until it has learned",
        chapter="02_noise",
        experiment="noise",
        figure="2",
    ),
    "noisy_stability": Claim(
        statement="The distributions under that noise are less stable than those of the plain network.",
        place="Sec. 2.1, Fig. 2 right and Fig. 8 (v5: Fig. 7).",
        criterion="in each layer drawn, means and variances move more than the plain network's, "
        "the means also in units of their average standard deviation.",
        refuted_by="the intervals of these ratios lie below 1; partly, if one part holds and another fails.",
        parts=_noisy_stability,
        compares="movement, noisy over Standard",
        chapter="02_noise",
        experiment="noise",
    ),
    "noise_alone": Claim(
        statement="The same noise put on the plain network stops it from training altogether.",
        place="Sec. 2.1 (stated, not drawn; v3 and v5).",
        criterion="its training accuracy over the last fifth stays below 20 %.",
        refuted_by="it rises above 20 %.",
        parts=_noise_alone,
        compares="training accuracy",
        ten_classes=True,
        chapter="02_noise",
        experiment="noise",
    ),
    "shift": Claim(
        statement="Batch normalization does not reduce internal covariate shift, taken as the movement of gradients.",
        place="Sec. 2.2, Fig. 3a (v3; v5 keeps the larger learning rate in Fig. 3).",
        criterion="in both layers and at both learning rates, BatchNorm's mean cosine exceeds Standard's by less than "
        "0.1, and its median distance is more than half of Standard's.",
        refuted_by="BatchNorm's cosine is higher by more than 0.1 and its distance less than half; partly, if some "
        "parts hold and some fail.",
        parts=_shift,
        compares="movement of gradients",
        chapter="03_shift",
        experiment="shift",
        figure="3a",
    ),
    "linear_shift_standard": Claim(
        statement="In a deep linear network without normalization there is almost no internal covariate shift.",
        place="Sec. 2.2, Fig. 3b (v3; v5 keeps the smaller learning rate in Fig. 3).",
        criterion="at both learning rates and in both layers, Standard's cosine is above 0.9 on average over training.",
        refuted_by="its cosine is below 0.9; partly, if it is at one rate or layer and above at another.",
        parts=_linear_standard,
        compares="cosine of Standard",
        linear=True,
        chapter="03_shift",
        experiment="linear",
        figure="3b",
    ),
    "linear_shift_batch": Claim(
        statement="In the same network with batch normalization, gradients before and after are almost uncorrelated.",
        place="Sec. 2.2, Fig. 3b (v3; v5 keeps the smaller learning rate in Fig. 3).",
        criterion="at both learning rates and in both layers, BatchNorm's cosine is between -0.3 and 0.3 on average "
        "over training.",
        refuted_by="it lies outside; partly, if it does at one rate or layer and lies inside at another.",
        parts=_linear_batch,
        compares="cosine of BatchNorm",
        linear=True,
        chapter="03_shift",
        experiment="linear",
        figure="3b",
    ),
    "loss_range": Claim(
        statement="Along the gradient, the loss of the plain network varies over a wider range.",
        place="Sec. 3.2, Fig. 4a (v3 and v5).",
        criterion="the median width of its band is at least twice BatchNorm's, in the first fifth of training and in "
        "all of it.",
        refuted_by="the interval of that ratio lies below 2; partly, if below in one of them and above in the other.",
        parts=_loss_range,
        compares="loss along the gradient, Standard over BatchNorm",
        chapter="04_landscape",
        experiment="landscape",
        figure="4",
    ),
    "predictiveness": Claim(
        statement="Gradients are more predictive with batch normalization: they change less along the step.",
        place="Sec. 3.2, Fig. 4b (v3 and v5).",
        criterion="the plain network's largest distance of gradients is, in the median, at least twice BatchNorm's, in "
        "the first fifth of training and in all of it.",
        refuted_by="the interval of that ratio lies below 2; partly, if below in one of them and above in the other.",
        parts=_predictiveness,
        compares="distance of gradients, Standard over BatchNorm",
        chapter="04_landscape",
        experiment="landscape",
        figure="4",
    ),
    "two_orders": Claim(
        statement="Early in training that difference is close to two orders of magnitude.",
        place="Sec. 3.2 (text), Fig. 4b (v3 and v5).",
        criterion="in the first fifth of training the ratio of the medians is at least 30.",
        refuted_by="its interval lies below 30.",
        parts=_two_orders,
        compares="distance of gradients, Standard over BatchNorm",
        chapter="04_landscape",
        experiment="landscape",
        figure="4",
    ),
    "smoothness": Claim(
        statement="The loss is smoother with batch normalization: its effective beta is smaller.",
        place="Sec. 3.2, Fig. 4c (v3 and v5).",
        criterion="the plain network's median beta is larger, in the first fifth of training and in all of it.",
        refuted_by="the interval of the ratio lies below 1; partly, if below in one of them and above in the other.",
        parts=_smoothness,
        compares="effective beta, Standard over BatchNorm",
        chapter="04_landscape",
        experiment="landscape",
        figure="4",
    ),
    "random_directions": Claim(
        statement="Along random directions, too, the gradient changes more without batch normalization.",
        place="Sec. 3.2 (stated, not drawn; v3 and v5).",
        criterion="along a random direction as long as the gradient, distance of gradients and beta are larger without "
        "batch normalization, in the median over step lengths and the few looks.",
        refuted_by="they are smaller; partly, if one is and the other is not.",
        parts=_random_directions,
        compares="random direction, Standard over BatchNorm",
        chapter="04_landscape",
        experiment="landscape",
    ),
    "linear_landscape": Claim(
        statement="In deep linear networks batch normalization smooths the landscape by orders of magnitude.",
        place="Sec. 3.2, Fig. 10 (v3; v5: Fig. 9).",
        criterion="the plain network's band of losses, largest distance of gradients and beta are at least ten times "
        "BatchNorm's, in the first fifth of training and in all of it.",
        refuted_by="the intervals of these ratios lie below 10; partly, if some do and some lie above.",
        parts=_linear_landscape,
        compares="deep linear network, Standard over BatchNorm",
        linear=True,
        chapter="04_landscape",
        experiment="linear_landscape",
        figure="10",
    ),
    "saturation": Claim(
        statement="The VGG's late plateau of beta is the probe's: 1 over the shortest step length.",
        place="our reading of Fig. 4c, where both curves end at 20 (v3 and v5).",
        criterion="over the last fifth of training beta times the paper's shortest step is 1 within a tenth, and a "
        "step half as long doubles it, within a tenth, for both networks.",
        refuted_by="beta times the shortest step is not 1 and the shorter step does not double it; partly, if some "
        "parts hold.",
        parts=_saturation,
        compares="late in training",
        **WHOLE,
        unfit="a run shorter than the paper's has no late training like the paper's",
        chapter="04_landscape",
        experiment="landscape",
        figure="4",
    ),
    "by_heart": Claim(
        statement="While a VGG learns a small set by heart, its beta is 1 over the probe's shortest step length.",
        place="our reading of Fig. 4c again, on so few images that a narrow network can learn them by heart, as the "
        "paper's learn all of theirs.",
        criterion="over the looks at which a network's own smoothed training accuracy lies between 90 and 99 %, beta "
        "times the paper's shortest step is 1 within a tenth, and a step half as long doubles it, within a tenth, for "
        "both networks.",
        refuted_by="beta times the shortest step is not 1 and the shorter step does not double it; partly, if some "
        "parts hold.",
        parts=_by_heart,
        compares="while learning by heart",
        scales=("cifar",),
        unfit="only one preset has a small set for networks to learn by heart",
        chapter="04_landscape",
        experiment="by_heart",
    ),
    "edge_of_stability": Claim(
        statement="Late in training the deep linear networks sit at the edge of stability: beta at the learning rate "
        "is 2 over it.",
        place="our reading of Fig. 10c, where BatchNorm's largest beta ends at two million (v3; v5: Fig. 9).",
        criterion="over the last fifth of training beta at the learning rate, times the learning rate, is 2 within a "
        "tenth, for both networks.",
        refuted_by="it is not; partly, if it is for one of the two and not for the other.",
        parts=_edge_of_stability,
        compares="late in training",
        linear=True,
        chapter="04_landscape",
        experiment="linear_landscape",
    ),
    "lp_speed": Claim(
        statement="Normalizing by the l1, l2 or l-infinity norm trains about as fast as BatchNorm, and faster than "
        "Standard.",
        place="Sec. 3.3, Fig. 5a (v3; v5: Fig. 11, inferred).",
        criterion="at the first learning rate, Standard takes 1.5 times as many steps to 90 % training accuracy "
        "(50 % in the short runs of preset cifar) or more as each of the three, and each takes "
        "less than 1.5 times as many as BatchNorm.",
        refuted_by="the intervals lie on the other side of 1.5; partly, if some do.",
        parts=_lp_speed,
        compares="steps until it has learned",
        chapter="06_normalizers",
        experiment="lp",
        figure="12",
    ),
    "lp_landscape": Claim(
        statement="They smooth the landscape too.",
        place="Sec. 3.3 and Fig. 12 (v3 and v5).",
        criterion="for each of the three, the plain network's band of losses, largest distance of gradients and beta "
        "are larger, in the median over the first fifth of training and over all of it.",
        refuted_by="the intervals of these ratios lie below 1; partly, if some do and some lie above.",
        parts=_lp_landscape,
        compares="landscape, Standard over",
        chapter="06_normalizers",
        experiment="lp",
        figure="12",
    ),
    "lp_shift": Claim(
        statement="Under them the distributions of activations shift more than in the plain network.",
        place="Sec. 3.3 and Fig. 6 (v3; v5: Fig. 14).",
        criterion="in the layer drawn, for each of the three, the units' means move more than the plain network's, in "
        "units of their average standard deviation.",
        refuted_by="the intervals of these ratios lie below 1; partly, if some do and some lie above.",
        parts=_lp_shift,
        compares="movement over Standard",
        chapter="06_normalizers",
        experiment="lp",
    ),
    "lp_linear": Claim(
        statement="In the deep linear network they do comparably to BatchNorm or better.",
        place="Sec. 3.3, Fig. 5b (v3; v5: Fig. 11, inferred).",
        criterion="over the last fifth of training the median loss of each of the three is less than 1.5 times "
        "BatchNorm's.",
        refuted_by="the intervals of these ratios lie above 1.5; partly, if some do and some lie below.",
        parts=_lp_linear,
        compares="late loss over BatchNorm",
        linear=True,
        chapter="06_normalizers",
        experiment="linear_norms",
        figure="5b",
    ),
    "l1_linear": Claim(
        statement="In the deep linear network l1 normalization even does better than BatchNorm.",
        place="Sec. 3.3, Fig. 5b (v3; v5: Fig. 11, inferred).",
        criterion="over the last fifth of training the median loss of l1 is smaller than BatchNorm's. (Written when "
        "its records had been made for the claim before.)",
        refuted_by="the interval of that ratio lies above 1.",
        parts=_l1_linear,
        compares="late loss over BatchNorm",
        linear=True,
        chapter="06_normalizers",
        experiment="linear_norms",
        figure="5b",
    ),
    "lp_linear_landscape": Claim(
        statement="In the deep linear network they smooth the landscape by orders of magnitude, as BatchNorm does.",
        place="Sec. 3.3 and Fig. 13 (v3 and v5).",
        criterion="for each of the three, the plain network's band of losses, largest distance of gradients and beta "
        "are at least ten times as large, in the median over the first fifth of training and over all of it.",
        refuted_by="the intervals of these ratios lie below 10; partly, if some do and some lie above.",
        parts=_lp_linear_landscape,
        compares="deep linear network, Standard over",
        linear=True,
        chapter="06_normalizers",
        experiment="linear_norms",
        figure="13",
    ),
    "theorem_4_1": Claim(
        statement="Batch normalization bounds the gradient over a layer's outputs: what is left of it is gamma/sigma "
        "times the plain one, less its mean and less its part along the normalized outputs.",
        place="Theorem 4.1 (v3).",
        criterion="in every case both sides of the corrected form (a coefficient 1/m where the paper prints "
        "1/sqrt(m)) agree to 1e-9; and the printed inequality is nowhere broken by more than that.",
        refuted_by="both are not so; partly, if the corrected form holds and the printed one does not.",
        parts=_theorem_4_1,
        tested_on=("random layers", "networks"),
        compares="Theorem 4.1",
        chapter="07_theorems",
        experiment="theorems",
    ),
    "theorem_4_2": Claim(
        statement="It bounds the curvature along that gradient too.",
        place="Theorem 4.2, both lines (v3).",
        criterion="in every case both sides of the first line agree to 1e-9; and the second line, where its condition "
        "holds exactly because H is the identity, is nowhere broken by more than that.",
        refuted_by="both are not so; partly, if one is.",
        parts=_theorem_4_2,
        tested_on=("random layers", "networks"),
        compares="Theorem 4.2",
        chapter="07_theorems",
        experiment="theorems",
    ),
    "observation_4_3": Claim(
        statement="Any configuration of the plain layer has one with batch normalization that computes the same.",
        place="Observation 4.3 (v3; that beta must be the mean is left unsaid).",
        criterion="with gamma the deviation and beta the mean of a unit's outputs, outputs and loss stay what they "
        "were to 1e-9, in every case.",
        refuted_by="one of them moves by more.",
        parts=_observation_4_3,
        tested_on=("random layers", "networks"),
        compares="Observation 4.3",
        chapter="07_theorems",
        experiment="theorems",
    ),
    "theorem_4_4": Claim(
        statement="The bound on the gradient holds over the weights as well, for the worst input of bounded norm.",
        place="Theorem 4.4 (v3).",
        criterion="in every case, with the outputs held fixed as in its proof, both sides of the form that the proof "
        "gives agree to 1e-9; and the printed inequality is nowhere broken by more than that.",
        refuted_by="both are not so; partly, if the corrected form holds and the printed one does not.",
        parts=_theorem_4_4,
        tested_on=("random layers",),
        compares="Theorem 4.4",
        chapter="07_theorems",
        experiment="theorems",
    ),
    "theorem_c_1": Claim(
        statement="So does the bound on the curvature.",
        place="Theorem C.1 (v3).",
        criterion="in every case both sides agree to 1e-9 at inputs X with XX' a multiple of the identity, with the "
        "first line of Theorem 4.2 on the right; and the printed inequality between the two maxima, where H is the "
        "identity and gradient and outputs are not negatively correlated, is nowhere broken by more than that.",
        refuted_by="both are not so; partly, if one is.",
        parts=_theorem_c_1,
        tested_on=("random layers",),
        compares="Theorem C.1",
        chapter="07_theorems",
        experiment="theorems",
    ),
    "lemma_4_5": Claim(
        statement="With batch normalization an optimum lies at least as near to the random start.",
        place="Lemma 4.5 (v3).",
        criterion="where its condition is met, the inequality is nowhere broken by more than 1e-9; and what its proof "
        "rests on, that outputs three times as large leave the loss as it was, holds to 1e-9 in every case.",
        refuted_by="both are not so; partly, if one is.",
        parts=_lemma_4_5,
        tested_on=("random layers", "networks"),
        compares="Lemma 4.5",
        chapter="07_theorems",
        experiment="theorems",
    ),
    "robust_lr": Claim(
        statement="With batch normalization, training works over a wider range of learning rates.",
        place="Sec. 3 (named as a known property; Fig. 1 draws two rates; v3 and v5).",
        criterion="the learning rates at which a short run trains (a training accuracy of 50 % or more over its last "
        f"fifth; {100 * UNTRAINED:.0f} % on photographs in preset cifar, of which so short a run learns less) span "
        "more than half a decade more with BatchNorm than without: at Glorot's scale of the initial weights, and on "
        "average over scales.",
        refuted_by="the interval of the difference lies below half a decade; partly, if it does in one of the two and "
        "above in the other.",
        parts=_robust_lr,
        compares="width of the region that trains",
        chapter="08_robustness",
        experiment="robustness",
    ),
    "robust_init": Claim(
        statement="With batch normalization, training depends less on the scale of the initial weights.",
        place="Sec. 3 (named as a known property, not drawn; v3 and v5).",
        criterion="the scales of the initial weights at which a short run trains, as defined for learning rates, span "
        "more than one octave more with BatchNorm than without: at the learning rate nearest to the paper's 0.1, and "
        "on average over learning rates.",
        refuted_by="the interval of the difference lies below one octave; partly, if it does in one of the two and "
        "above in the other.",
        parts=_robust_init,
        compares="width of the region that trains",
        chapter="08_robustness",
        experiment="robustness",
    ),
    "gradients_by_layer": Claim(
        statement="Without batch normalization, gradients vanish or explode through the layers; with it, less so.",
        place="Sec. 3 (named as a known property, not drawn; v3 and v5).",
        criterion="at initialization, a line fitted over the layers to the logarithm of a gradient's length is steeper "
        "without BatchNorm, whether up or down: for the gradient on its way back (with respect to what leaves each "
        "layer's normalizer) and for that of its own weights and bias, at Glorot's scale and on average over scales.",
        refuted_by="it is steeper with BatchNorm; partly, if some parts hold and some fail.",
        parts=_gradients_by_layer,
        compares="steepness, Standard over BatchNorm",
        chapter="08_robustness",
        experiment="robustness",
    ),
    "flat_minima": Claim(
        statement="Batch normalization leads training to flatter places.",
        place="the conclusion, a conjecture on why it helps generalization (v3 and v5).",
        criterion=f"where both networks have come to a training loss between {LEVEL / 2:g} and {LEVEL:g} nats, the "
        "plain network's top eigenvalue in filter-normalized coordinates and the rise of its loss in a relative ball "
        "are larger.",
        refuted_by="both are smaller; partly, if one is and the other is larger.",
        parts=_flat_minima,
        compares="sharpness at equal training loss, Standard over BatchNorm",
        chapter="09_minima",
        experiment="minima",
    ),
    "shallow_not_flatter": Claim(
        statement="In a shallow network batch normalization does not lead to flatter places.",
        place="Yao et al. 2020, on residual networks of 20 layers and more; not in the paper.",
        criterion="with three convolutions and three linear layers, at the same training loss as above, the plain "
        "network's filter-normalized eigenvalue and the rise of its loss in a relative ball are smaller.",
        refuted_by="both are larger; partly, if one is and the other is smaller.",
        parts=_shallow_not_flatter,
        compares="shallow: sharpness at equal training loss, Standard over BatchNorm",
        chapter="09_minima",
        experiment="shallow",
    ),
}


@dataclass(frozen=True)
class Cards:
    """Some claims, for a page: each with its place, its criterion and what would refute it."""

    claims: tuple[Claim, ...]

    def _repr_html_(self) -> str:
        return "".join(claim._repr_html_() for claim in self.claims)


def cards(*names: str) -> Cards:
    """The claims of these names. Raises ValueError for one that is not listed."""
    return Cards(tuple(find(name) for name in names))


def find(name: str) -> Claim:
    """The claim of this name. Raises ValueError, in one line, for one that is not listed."""
    if name not in CLAIMS:
        raise ValueError(f"unknown claim {name!r}: accepted are {', '.join(CLAIMS)}")
    return CLAIMS[name]


def missed(name: str, setting: Any, paper: pd.DataFrame) -> str:
    """In how many of the parts of a claim that the paper's own curves have they miss what is accepted: "2 of 6"."""
    values = [(part, part.effect(paper).mean()) for part in find(name).parts(setting)]
    known = [part.low < value < part.high for part, value in values if value == value]
    return f"{known.count(False)} of {len(known)}"


# ---- the judge -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """A computed verdict: its word, its reason, and a row for each part (holds: True, False, or None for open).

    scale: of which runs; judged: whether they are ones that can answer; cut: over how many of its steps the paper's
    curve was read, None for all.
    """

    claim: Claim
    word: str
    reason: str
    parts: pd.DataFrame
    scale: str = ""
    judged: bool = True
    cut: int | None = None

    @property
    def measured(self) -> bool:
        """Whether any part has a value."""
        return bool(self.parts.effect.notna().any())

    def _repr_html_(self) -> str:
        columns = [name for name in self.parts if name not in ("effect", "holds")] + ["holds"]
        if (self.parts["the paper's curve"] == "").all():
            columns.remove("the paper's curve")
        holds = self.parts.holds.map(HOLDS) if self.judged else "not judged"
        cells = self.parts.assign(holds=holds).astype(str)[columns]
        cut = {"the paper's curve": f"the paper's curve, first {self.cut:,} steps"} if self.cut else {}
        head = "".join(f"<th>{escape(cut.get(name, name))}</th>" for name in columns)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in cells.values)
        said = f"<strong>{SIGNS[self.word]} {self.word.capitalize()}.</strong> {escape(self.claim.statement)}"
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f'<div class="verdict"><p>{said} <em>{escape(self.reason)}</em></p>{SCROLLING.format(table)}</div>'


@dataclass(frozen=True)
class Verdicts:
    """The verdicts on one claim at several scales, the largest first."""

    name: str
    each: tuple[Verdict, ...]

    @property
    def here(self) -> Verdict:
        """That at the smallest scale, which a page measures itself."""
        return self.each[-1]

    @property
    def top(self) -> Verdict:
        """That at the largest scale at which there is a value; at the largest of all where there is none."""
        return next((each for each in self.each if each.measured), self.each[0])

    @property
    def largest(self) -> dict[str, str]:
        """The word of `top`, and its scale, for a page to keep."""
        return {"largest": self.top.word, "scale": self.top.scale if self.top.measured else "nothing measured"}

    @property
    def words(self) -> dict[str, str]:
        """Their words, for a page to keep: at the page's own scale and, with "-record", at the largest on record."""
        return {f"verdict-{self.name}": self.here.word, f"verdict-{self.name}-record": self.each[0].word}

    def _repr_html_(self) -> str:
        return "".join(each._repr_html_() for each in self.each)


def verdicts(name: str, scales: Sequence[tuple[Any, pd.DataFrame]], *, paper: pd.DataFrame | None = None) -> Verdicts:
    """`judge` at several scales: (setting, frame), the largest first."""
    return Verdicts(name, tuple(judge(name, frame, setting=setting, paper=paper) for setting, frame in scales))


@dataclass(frozen=True)
class Scoreboard:
    """All verdicts as one table, a row a claim: at the largest scale that there is, at the page's own, and its page."""

    rows: tuple[Verdicts, ...]

    def _repr_html_(self) -> str:
        names = ("Claim", "At the largest scale", "which is", "At this page's scale", "Chapter")
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in self._cells(row))}</tr>" for row in self.rows)
        table = f'<table class="scoreboard"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        return SCROLLING.format(table)

    def _cells(self, row: Verdicts) -> list[str]:
        claim, largest, here = row.here.claim, row.largest, row.here if row.here is not row.top else None
        link = f'<a href="{claim.chapter}.html">{int(claim.chapter[:2])}</a>'
        words = [escape(claim.statement), f"<strong>{_sign(largest['largest'])}</strong>", escape(largest["scale"])]
        return [*words, _sign(here.word) if here else "", link]


@dataclass(frozen=True)
class Details:
    """A claim with its criterion and its verdicts, folded away behind a line."""

    verdicts: Verdicts

    def _repr_html_(self) -> str:
        claim = self.verdicts.here.claim
        said = ", ".join(dict.fromkeys(_sign(each.word) for each in self.verdicts.each))
        body = claim._repr_html_() + self.verdicts._repr_html_()
        return f"<details><summary>{said}: {escape(claim.statement)}</summary>{body}</details>"


def _sign(word: str) -> str:
    return f"{SIGNS[word]}\N{NO-BREAK SPACE}{word}"


def interval(values: pd.Series) -> tuple[float, float]:
    """The 95 % t interval of the mean over seeds; unbounded for fewer than two or where one has none."""
    if len(values) < 2 or not np.isfinite(values).all():
        return -np.inf, np.inf
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), max(stats.sem(values), 1e-12))
    return float(low), float(high)


def judge(name: str, frame: pd.DataFrame, *, setting: Any, paper: pd.DataFrame | None = None) -> Verdict:
    """The verdict on claim `name`: reproduced if all parts hold, not reproduced if all fail, partly if some do each.

    Inconclusive otherwise, and where the preset is no scale at which the claim is judged or runs are missing.
    `paper`, the paper's own curves, puts the value that the same measure takes on them beside ours: on the paper's
    images over as many steps as ours have, elsewhere and for what is judged over its steps only over all. Raises
    ValueError for a claim that is not listed.
    """
    claim, rows, cut = find(name), [], None
    fits = setting.preset in claim.scales and setting.schedule.steps >= claim.least_steps
    same_images = not claim.linear and str(setting.dataset).startswith("cifar10")
    if paper is not None and fits and same_images and setting.schedule.steps < paper.step.max():
        cut = setting.schedule.steps
        paper = paper[paper.step <= cut]
    ten = not claim.ten_classes or frame.attrs.get("classes", 10) == 10
    judged = fits and not frame.attrs.get("missing") and ten
    for part in claim.parts(setting):
        values = part.effect(frame)
        low, high = interval(values)
        inside, outside = part.low < low and high < part.high, high <= part.low or low >= part.high
        there = part.effect(paper).dropna() if paper is not None else []
        bounds = {"above": part.low, "below": part.high}
        rows.append(
            {
                claim.compares: part.label,
                "ours": part.show(values.mean()) if values.notna().any() else "none",
                "95 % t interval": f"{part.show(low)} to {part.show(high)}"
                if np.isfinite([low, high]).all()
                else "none",
                "the paper's curve": part.show(there.mean()) if len(there) else "",
                "accepted": " and ".join(f"{word} {part.show(at)}" for word, at in bounds.items() if np.isfinite(at)),
                "effect": values.mean(),
                "holds": None if not judged else True if inside else False if outside else None,
            }
        )
    none = all(pd.isna(row["effect"]) for row in rows)
    outcomes = frozenset(row["holds"] for row in rows)
    words = {frozenset({True}): "reproduced", frozenset({False}): "not reproduced"}
    word = words.get(outcomes, "partly" if {True, False} <= outcomes else "inconclusive")
    at = setting.linear_scale if claim.linear else f"scale {setting.scale}"
    scales = {"random layers": "random layers", "networks": frame.attrs.get("scale", "")}
    seeds_of = {"random layers": "of random layers", "networks": f"at {at}"}
    scale, where = (" and ".join(words[each] for each in claim.tested_on) for words in (scales, seeds_of))
    reason = f"{len(_seeds(frame))} seeds {where}{', none of them with a value' * none}."
    if not fits:
        reason = f"Not judged at scale {setting.scale}: {claim.unfit}."
    elif not ten:
        reason = f"Not judged on {frame.attrs['classes']} classes: the criterion is for ten."
    elif not judged:
        reason = f"{frame.attrs['missing']} runs are missing."
    return Verdict(claim, word, reason, pd.DataFrame(rows), scale, judged, cut)


def benefit(frame: pd.DataFrame, *, lr: float, least: float = ARRIVED) -> pd.DataFrame:
    """The dose-response: for each dose of noise, how many times faster than Standard noisy BatchNorm reaches `least`.

    Columns dose (0 is BatchNorm without noise), speedup (geometric mean over seeds), low, high (95 % t interval of the
    paired log ratio), helps ("yes" where the interval lies above 1, "no" where it lies below, else "open"), arrived and
    runs: of how many noisy runs how many reached it. Where some did not, speedup and interval are upper bounds.
    """
    rows = []
    for dose in [0.0, *sorted(frame.dose[frame.norm == "noisy"].unique())]:
        arm = ("noisy" if dose else "batch", lr)
        there = arrival(frame, *arm, dose=dose, least=least).count()
        slow, fast = (steps_to(frame, "none", lr, least=least), steps_to(frame, *arm, dose=dose, least=least))
        ratio = log2_ratio(slow, fast)
        low, high = interval(ratio)
        helps = "yes" if low > 0 else "no" if high < 0 else "open"
        row = {"dose": dose, "speedup": 2 ** ratio.mean(), "low": 2**low, "high": 2**high}
        rows.append(row | {"helps": helps, "arrived": there, "runs": ratio.count()})
    return pd.DataFrame(rows)


# ---- ours against the paper's curves -------------------------------------------------------------------------------


def residuals(frame: pd.DataFrame, paper: pd.DataFrame, quantity: str, by: list[str], *, steps: range) -> pd.DataFrame:
    r"""How far the paper's curves of a positive quantity lie from our runs, on a logarithmic scale.

    At each step, with a bar for the mean over seeds,

    .. math:: r = \log \mathrm{paper} - \overline{\log \mathrm{ours}}

    Columns, for each group of `by`: typical, exp of the root mean square of r; worst, exp of the largest :math:`|r|`;
    inside, the share of the paper's points in the 95 % t prediction interval for one more run; points, how many there
    are. Sorted from near to far.
    """
    keys = ["norm", "lr", "step"]
    ours = frame[(frame.quantity == quantity) & frame.step.isin(steps)]
    ours = ours.assign(log=np.log(ours.value)).groupby([*dict.fromkeys([*by, *keys])]).log.agg(["mean", "std", "count"])
    theirs = paper[paper.quantity == quantity].set_index(keys).value
    both = ours.reset_index().join(np.log(theirs).rename("paper"), on=keys).dropna(subset="paper")
    reach = stats.t.ppf(0.975, both["count"] - 1) * both["std"] * np.sqrt(1 + 1 / both["count"])
    both["r"] = both.paper - both["mean"]
    both["inside"] = both.r.abs() <= reach
    groups = both.groupby(by)
    table = pd.DataFrame(
        {
            "typical": groups.r.agg(lambda r: np.exp(np.sqrt((r**2).mean()))),
            "worst": groups.r.agg(lambda r: np.exp(r.abs().max())),
            "inside": groups.inside.mean(),
            "points": groups.r.count(),
        }
    )
    return table.sort_values("typical").reset_index()


def distances(beside: dict[str, tuple[pd.DataFrame, pd.DataFrame]]) -> pd.DataFrame:
    r"""How far the paper's curves lie from ours: a row for each figure, panel (quantity and layer) and arm in it.

    beside: by figure, our frame and the paper's. Compared at the steps that both have. ours, paper: medians over these;
    median: of :math:`|\mathrm{paper} - \overline{\mathrm{ours}}|`, the bar a mean over our seeds, in the panel's unit.
    inside: the share of the paper's points in the 95 % t prediction interval for one more run, taken of logarithms
    where the panel's axis is logarithmic. points: how many there are; seeds: ours.
    """
    columns = ["figure", "quantity", "layer", "norm", "lr", "median", "ours", "paper", "inside", "points", "seeds"]
    tables = [_distances(*both).assign(figure=figure) for figure, both in beside.items()]
    return pd.concat([table for table in tables if len(table)] or [pd.DataFrame(columns=columns)])[columns]


def _distances(frame: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    panel = ["quantity", "layer", "norm", "lr"]
    tops = frame.astype({"layer": float}).groupby("quantity").layer.max()  # of a shorter network the last that has it
    paper = paper.assign(layer=paper.layer.astype(float).clip(upper=paper.quantity.map(tops)))
    ours = frame.astype({"layer": float, "value": float})
    both = ours.merge(paper.dropna(subset="value"), on=[*panel, "step"], suffixes=("", "_paper"))
    rows = []
    for key, points in both.groupby(panel, dropna=False):
        here, theirs = (
            points.pivot(index="step", columns="seed", values="value"),
            points.groupby("step").value_paper.first(),
        )
        row = {
            "median": (theirs - here.mean(axis=1)).abs().median(),
            "ours": here.median().median(),
            "paper": theirs.median(),
        }
        with np.errstate(divide="ignore", invalid="ignore"):
            if QUANTITIES[key[0]].scale == "log":
                here, theirs = np.log(here), np.log(theirs)
        n = here.count(axis=1)
        reach = stats.t.ppf(0.975, n - 1) * here.std(axis=1) * np.sqrt(1 + 1 / n)
        row["inside"] = ((theirs - here.mean(axis=1)).abs() <= reach).mean()
        rows.append(dict(zip(panel, key, strict=True)) | row | {"points": len(theirs), "seeds": int(n.min())})
    return pd.DataFrame(rows)


# ---- mistakes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mistake:
    """A number under a name that is not its own: the name, what is measured instead, what should be, and both numbers.

    wrong, right: from the rows of one normalizer at one step, and the learning rate, to one value for each seed.
    """

    called: str
    instead: str
    proper: str
    wrong: Callable[[pd.DataFrame, float], pd.Series]
    right: Callable[[pd.DataFrame, float], pd.Series]


def _one(quantity: str, *, eta: float | None = None) -> Callable[[pd.DataFrame, float], pd.Series]:
    """A quantity, by seed; of those along step lengths, its value at `eta` learning rates."""

    def value(rows: pd.DataFrame, lr: float) -> pd.Series:
        rows = rows[(rows.lr == lr) & (rows.quantity == quantity)]
        return (
            (rows if eta is None else rows[np.isclose(rows.eta.astype(float), eta * lr, atol=0)])
            .set_index("seed")
            .value.astype(float)
        )

    return value


def _largest(quantity: str) -> Callable[[pd.DataFrame, float], pd.Series]:
    """The largest value, by seed, over the paper's step lengths."""
    return lambda rows, lr: rows[(rows.quantity == quantity) & (rows.eta > 0.4 * lr)].groupby("seed").value.max()


def _range(quantity: str) -> Callable[[pd.DataFrame, float], pd.Series]:
    """Largest minus smallest value, by seed; of those along step lengths, over the paper's."""

    def width(rows: pd.DataFrame, lr: float) -> pd.Series:
        rows = rows[(rows.quantity == quantity) & ~(rows.eta < 0.4 * lr)]
        return rows.groupby("seed").value.agg(np.ptp)

    return width


def _sgd_step(rows: pd.DataFrame, lr: float) -> pd.Series:
    """Plain SGD's step is lr ||g|| long by its definition."""
    return _one("wrong_step")(rows, lr) ** 0


_distance = _one("right_distances", eta=1)
MISTAKES: dict[str, Mistake] = {
    "models": Mistake(
        "range of the loss",
        "the losses of separately trained models",
        "the losses along one model's gradient",
        _range("loss"),
        _range("loss_along"),
    ),
    "batches": Mistake(
        "predictiveness",
        "gradients of two mini-batches",
        "one mini-batch throughout",
        _one("wrong_batches", eta=1),
        _distance,
    ),
    "undivided": Mistake(
        "effective beta",
        "a distance between gradients",
        "that distance, divided by the step",
        _largest("gradient_distance"),
        _largest("beta"),
    ),
    "last layer": Mistake(
        "predictiveness", "the last layer's gradient", "the gradient of all layers", _one("wrong_last_layer"), _distance
    ),
    "eval mode": Mistake(
        "predictiveness", "gradients in eval mode", "gradients in train mode", _one("wrong_eval_mode"), _distance
    ),
    "statistics": Mistake(
        "test accuracy",
        "accuracy after a probe moved the running statistics",
        "accuracy of the network that is trained",
        _one("wrong_accuracy"),
        _one("right_accuracy"),
    ),
    "after update": Mistake(
        "predictiveness",
        "the old gradient, followed from behind the update",
        "followed from where it was taken",
        _one("wrong_after_update", eta=1),
        _distance,
    ),
    "shared noise": Mistake(
        "disturbance by noise",
        "one shift and scale for all samples of a unit",
        "one for each sample, as in Algorithm 1",
        _one("wrong_noise"),
        _one("right_noise"),
    ),
    "other place": Mistake(
        "width of activations",
        "what leaves the linear map",
        "what leaves the normalizer",
        _one("wrong_deviation"),
        _one("right_deviation"),
    ),
    "Adam": Mistake(
        "step, in learning rates times the gradient", "Adam's first step", "plain SGD's", _one("wrong_step"), _sgd_step
    ),
}


def mistakes(frame: pd.DataFrame, *, lr: float, step: int) -> pd.DataFrame:
    """Each mistake beside the right measurement at one step: means over seeds, and what they say of BatchNorm.

    A row for each of `MISTAKES`, with its words. right and wrong of none and of batch; for right and wrong the ratio
    batch / none (geometric mean over seeds), its 95 % t interval (low, high) and says: "higher" or "lower" where the
    interval lies on one side of 1, "equal" where it is 1, else "open". misleads: "direction" where both speak and
    differ, "no value" where the wrong one is 0 in both networks, else "size" where the interval of the wrong ratio over
    the right one excludes 1, else "not shown". The loss of the last step is not logged; the one before stands in for
    it.
    """
    logged = frame[frame.quantity == "loss"].step.max()
    here = frame[frame.step == np.where(frame.quantity == "loss", min(step, logged), step)]
    rows = []
    for name, mistake in MISTAKES.items():
        row, ratios = {"mistake": name, "called": mistake.called, "instead": mistake.instead}, {}
        row["proper"] = mistake.proper
        for kind, effect in (("right", mistake.right), ("wrong", mistake.wrong)):
            none, batch = (effect(here[here.norm == norm], lr) for norm in ("none", "batch"))
            with np.errstate(divide="ignore"):
                ratios[kind] = log2_ratio(batch, none)
            low, high = interval(ratios[kind])
            row |= {
                f"{kind} none": none.mean(),
                f"{kind} batch": batch.mean(),
                f"{kind} ratio": 2 ** ratios[kind].mean(),
            }
            row |= {f"{kind} low": 2**low, f"{kind} high": 2**high, f"{kind} says": _says(low, high)}
        said = {row["right says"], row["wrong says"]}
        size = _says(*interval(ratios["wrong"] - ratios["right"])) in ("higher", "lower")
        nothing = row["wrong none"] == row["wrong batch"] == 0
        misleads = (
            "no value"
            if nothing
            else "direction"
            if len(said) == 2 and "open" not in said
            else "size"
            if size
            else "not shown"
        )
        rows.append(row | {"misleads": misleads})
    return pd.DataFrame(rows)


def _says(low: float, high: float) -> str:
    """What the interval of a log ratio says."""
    if max(abs(low), abs(high)) < 1e-6:
        return "equal"
    return "higher" if low > 0 else "lower" if high < 0 else "open"


def one_seed(frame: pd.DataFrame, *, lr: float) -> pd.DataFrame:
    """BatchNorm over Standard by the right distance at one learning rate: what each seed alone says, at each step."""
    at_lr = np.isclose(frame.eta.astype(float), lr, atol=0) & (frame.lr == lr)
    each = frame[at_lr & (frame.quantity == "right_distances")].pivot(
        index=["seed", "step"], columns="norm", values="value"
    )
    each = each.reindex(columns=["none", "batch"])
    return (each.batch / each.none).unstack("step")


# ---- theorems ------------------------------------------------------------------------------------------------------

TERMS = {
    "term_scale": "gamma / sigma, effective",
    "term_mean": "share of the mean term",
    "term_correlation": "share of the correlation term",
    "term_premise": "share of the squared gradient in units with \N{MATHEMATICAL LEFT ANGLE BRACKET}g, y\u0302"
    "\N{MATHEMATICAL RIGHT ANGLE BRACKET} \N{GREATER-THAN OR EQUAL TO} 0",
}


def terms_of_4_1(frame: pd.DataFrame) -> pd.DataFrame:
    """What Theorem 4.1 counts on, a row each, for Standard and BatchNorm: the median over looks and seeds of the hidden
    layer that has the smallest, and of that which has the largest."""
    rows = frame[frame.quantity.isin([*TERMS])].astype({"value": float, "layer": float, "quantity": str, "norm": str})
    typical = rows.groupby(["quantity", "norm", "layer"]).value.median()
    ends = typical.groupby(["quantity", "norm"]).agg(["min", "max"])
    words = [f"{low:.2g} to {high:.2g}" for low, high in ends.to_numpy()]
    table = pd.Series(words, ends.index, dtype=object).unstack("norm").reindex(index=[*TERMS], columns=[*NETWORKS])
    return table.rename(index=TERMS, columns=NETWORKS).rename_axis(index=None, columns=None)


# ---- smoothness and speed ------------------------------------------------------------------------------------------

WINDOWS = {
    "before training": lambda frame: frame[frame.step == 0],
    "while it learns": learning,
    "all of training": lambda frame: frame,
}


def smooth_and_fast(frame: pd.DataFrame, *, lr: float, window: str = "while it learns") -> pd.DataFrame:
    """How smooth and how fast each normalizer is, a row each: column norm, and three for each of four measures.

    speed: the mean of the smoothed training accuracy over all of training, the area under its curve, to which a run
    that has diverged adds nothing; unlike steps to 90 % it is there for runs that never arrive. width, distance, beta:
    medians of the width of the band of losses, of the largest distance of gradients and of the largest beta, over the
    looks of `window`: step 0, the looks at which a run's own accuracy lies between 20 and 99 %, or all. Of each the
    mean over seeds (geometric but for speed), and the smallest and largest seed as `*_low`, `*_high`.
    """
    looks, rows = WINDOWS[window](frame), []
    for norm in dict.fromkeys(frame.norm[frame.lr == lr]):
        arm = _arm(frame, norm, lr)
        area = arm[arm.quantity == "smooth_accuracy"].groupby("seed").value.sum() / max(frame.step.max(), 1)
        row = {"norm": norm, "speed": area.mean(), "speed_low": area.min(), "speed_high": area.max()}
        for name, measure in zip(("width", "distance", "beta"), MEASURES.values(), strict=True):
            values = measure(looks, norm, lr, 1.0).dropna()
            row |= {name: np.exp(np.log(values).mean()), f"{name}_low": values.min(), f"{name}_high": values.max()}
        rows.append(row)
    columns = [f"{name}{end}" for name in ("speed", "width", "distance", "beta") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["norm", *columns])


def arrivals(frame: pd.DataFrame, *, lr: float) -> pd.DataFrame:
    """How far each normalizer gets at one learning rate, a row each: column norm, and in words what follows.

    How many runs reach 90 % training accuracy, the median steps to it, and the test accuracy over the last fifth.
    """
    rows = []
    for norm in dict.fromkeys(frame.norm[frame.lr == lr]):
        there, last = arrival(frame, norm, lr), final_accuracy(frame, "test_accuracy", norm, lr)
        rows.append([norm, f"{there.count()} of {len(there)}", in_words(frame, norm, lr), _percent(last.mean())])
    return pd.DataFrame(rows, columns=["norm", "reach 90 %", "median steps to it", "late test accuracy"])


def late_losses(frame: pd.DataFrame, paper: pd.DataFrame, *, lr: float) -> pd.DataFrame:
    """The deep linear network's loss over the last fifth of training, a row for each normalizer, beside the paper's.

    Columns norm, seeds, median over seeds, smallest, largest, and paper: of the paper's one run.
    """
    rows = []
    for norm in dict.fromkeys(frame.norm[frame.lr == lr]):
        ours = late(frame, "squared_error", norm, lr).dropna()
        theirs = late(paper, "squared_error", norm, lr).median()
        rows.append([norm, len(ours), ours.median(), ours.min(), ours.max(), theirs])
    return pd.DataFrame(rows, columns=["norm", "seeds", "median", "smallest", "largest", "paper"])


@dataclass(frozen=True)
class Rank:
    """A rank correlation: rho, its 95 % interval, the share of permutations at least as extreme, of how many pairs."""

    rho: float
    low: float
    high: float
    p: float
    n: int

    @property
    def says(self) -> str:
        """What the interval says of measures of roughness and speed."""
        return "smoother is faster" if self.high < 0 else "rougher is faster" if self.low > 0 else "open"


def rank(x: pd.Series, y: pd.Series) -> Rank:
    r"""Spearman's rank correlation of the n pairs that have both values.

    The interval is Fisher's, with Bonett and Wright's (2000) variance, and rough for as few as ten pairs:

    .. math:: z = \mathrm{artanh} \, \rho, \qquad \mathrm{var} \, z = (1 + \rho^2 / 2) / (n - 3)

    p, two-sided, is that of 99,999 random permutations. All NaN for fewer than four pairs, or where one side has one
    value only.
    """
    pairs = pd.DataFrame({"x": x, "y": y}).dropna()
    n = len(pairs)
    if n < 4 or (pairs.nunique() == 1).any():
        return Rank(np.nan, np.nan, np.nan, np.nan, n)
    one, other = (stats.zscore(stats.rankdata(pairs[name])) for name in ("x", "y"))
    found = stats.permutation_test(
        (one,),
        lambda ranks, axis=-1: (ranks * other).mean(axis),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=99_999,
        rng=np.random.default_rng(0),
    )
    rho = min(max(float(found.statistic), -1.0), 1.0)
    return Rank(rho, *rank_interval(rho, n), float(found.pvalue), n)


def rank_interval(rho: float, n: int) -> tuple[float, float]:
    """The 95 % interval of `rank` for a rank correlation of n pairs."""
    z = np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12))
    half = stats.norm.ppf(0.975) * np.sqrt((1 + rho**2 / 2) / (n - 3))
    return float(np.tanh(z - half)), float(np.tanh(z + half))


def ranks(frame: pd.DataFrame, *, lr: float) -> pd.DataFrame:
    """`rank` of speed with each measure of the landscape, over the normalizers, for each window: a row each.

    A negative rho says that what trains faster has the smaller band, distance or beta; `says`, whether the interval
    excludes zero, and on which side.
    """
    rows = []
    for window in WINDOWS:
        table = smooth_and_fast(frame, lr=lr, window=window)
        for name, words in zip(("width", "distance", "beta"), MEASURES, strict=True):
            found = rank(table[name], table.speed)
            rows.append({"measured": window, "landscape": words} | vars(found) | {"says": found.says})
    return pd.DataFrame(rows)


# ---- what the paper leaves open ------------------------------------------------------------------------------------

# The claims that the runs of a variant can decide.
SENSITIVE = ("speed", "large_steps", "stability", "noisy_speed", "noisy_stability", "noise_alone")
SENSITIVE += ("loss_range", "predictiveness", "two_orders", "smoothness")
CHANGES = ("flips", "opens", "closes")


def flips(frames: dict[str, pd.DataFrame], settings: dict[str, Any]) -> pd.DataFrame:
    """Whether another choice changes a verdict: a row for each variant, by its words, with the word of every claim.

    frames and settings: by the words of each variant, the first being what the others are compared with. A column for
    each claim of `SENSITIVE`. Then the names of the claims with another word than in the first: flips, where both are
    reproduced, partly or not reproduced; opens, where it is inconclusive here; closes, where it is so in the first.
    """

    words = {
        variant: {name: judge(name, frame, setting=settings[variant]).word for name in SENSITIVE}
        for variant, frame in frames.items()
    }
    table = pd.DataFrame.from_dict(words, orient="index", columns=SENSITIVE).rename_axis("variant")
    changes = {
        variant: {name: _change(table[name].iloc[0], word) for name, word in row.items()}
        for variant, row in words.items()
    }
    for kind in CHANGES:
        table[kind] = [", ".join(name for name in SENSITIVE if row[name] == kind) for row in changes.values()]
    return table


def _change(was: str, now: str) -> str:
    """What became of a word; nothing where it stayed or one of both was not judged."""
    if was == now or not was or not now:
        return ""
    return "opens" if now == "inconclusive" else "closes" if was == "inconclusive" else "flips"

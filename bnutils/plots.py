"""Frame to Axes: colours, labels and style in one place. No statistics beyond mean and range, no files, no titles.

Every normalizer has one colour and one line style everywhere: three colours of Okabe and Ito's palette and others that
stay apart from them for the colour-blind too.
"""

from collections.abc import Iterable, Sequence
from itertools import cycle, product
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from bnutils.quantities import QUANTITIES

NAMES = {
    "none": "Standard",
    "batch": "BatchNorm",
    "noisy": "noisy BatchNorm",
    "noisy_none": "Standard + noise",
    "l1": "L1",
    "l2": "L2",
    "linf": "L-infinity",
}
COLORS = {
    "none": "#D55E00",
    "batch": "#0072B2",
    "noisy": "#009E73",
    "noisy_none": "#8C5A82",
    "l1": "#2D1213",
    "l2": "#487CFA",
    "linf": "#2407F9",
}
DASHES = {
    "none": (),
    "batch": (4, 1.5),
    "noisy": (1, 1),
    "noisy_none": (5, 1.5, 1, 1.5),
    "l1": (6, 2),
    "l2": (2, 2),
    "linf": (3, 1, 1, 1, 1, 1),
}
# Beyond the paper: as far apart as twelve colours can be.
NAMES |= {"layer": "LayerNorm", "group": "GroupNorm", "instance": "InstanceNorm", "weight": "WeightNorm"}
NAMES |= {"rms": "RMSNorm"}
COLORS |= {"layer": "#DE164E", "group": "#640BA6", "instance": "#C8BC59", "weight": "#434E00", "rms": "#FF90FF"}
DASHES |= {"layer": (8, 1.5), "group": (4, 1, 1, 1), "instance": (2, 1), "weight": (1, 2), "rms": (7, 1, 3, 1)}

EMPTY = "no runs on record"
POINTS = 150  # of a curve over training, as many as the paper's have; with all of 15,000 a dashed line is a blot
pd.set_option("display.max_colwidth", None)  # a table's words are shown whole

sns.set_theme(
    context="notebook",
    style="ticks",
    font_scale=0.85,
    rc={
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.35,
        "legend.frameon": False,
        "figure.constrained_layout.use": True,
        "savefig.facecolor": "white",
        "figure.dpi": 96,
    },
)


def panels(
    *rows: Sequence[str], height: float = 3.4, width: float = 9.0, share: bool = False
) -> tuple[Figure, np.ndarray]:
    """Rows of panels, each with its label above the axes' left corner; axes [rows, columns], or [columns] of one row.

    `width` is the whole figure's in inches, `height` a row's; `share` gives all panels the same axes.
    """
    size = (width, height * len(rows))
    figure, axes = plt.subplots(len(rows), len(rows[0]), figsize=size, squeeze=False, sharex=share, sharey=share)
    for ax, words in zip(axes.flat, [words for row in rows for words in row], strict=True):
        ax.text(0, 1.02, words, transform=ax.transAxes, fontsize="small", color="0.25", va="bottom")
    return figure, axes[0] if len(rows) == 1 else axes


def scale(setting: Any, vgg: Any = None) -> str:
    """What of a run tells its scale: the images and the network, that of the setting unless another is given."""
    vgg = vgg or setting.vgg
    return f"{Path(setting.dataset).name}, VGG-{vgg.depth} x {vgg.width:g}"


def scales(*settings: Any, height: float = 3.4) -> tuple[Figure, np.ndarray]:
    """A panel for each scale at which something is measured."""
    return panels([f"{scale(each)}, {len(each.seeds)} seeds" for each in settings], height=height)


def label(norm: str, lr: float) -> str:
    """The words of a legend for an arm."""
    return f"{NAMES[norm]}, {lr:g}"


def curves(frame: pd.DataFrame, quantity: str, *, layer: int | None = None, ax: Axes | None = None) -> Axes:
    """A quantity, of one layer where it has layers, over training: one line an arm, a band for the range of its seeds.

    The line is the mean over seeds, on a logarithmic axis the geometric mean. Colour and dashes tell the normalizer,
    thickness the learning rate. At most `POINTS` steps are drawn. A diverged run ends where it diverged, with a cross.
    """
    ax = ax or plt.gca()
    rates = sorted(frame.lr.dropna().unique())
    rows = _rows(frame, quantity, layer)
    for (lr, norm, _), arm in _ordered(rows).groupby(["lr", "norm", "arm"], observed=True):
        arm = arm[arm.step.isin(spread(arm.step, POINTS))]
        by_step = arm.groupby("step").value
        mean, low, high = _mean(arm, quantity), by_step.min(), by_step.max()
        wide = 1.4 + 1.4 * rates.index(lr)
        ax.plot(mean.index, mean, color=COLORS[norm], dashes=DASHES[norm], lw=wide, label=label(norm, lr))
        if arm.seed.nunique() > 1:
            ax.fill_between(mean.index, low, high, color=COLORS[norm], alpha=0.15, lw=0)
    for _, end in frame[frame.quantity == "diverged"].iterrows():
        cross = {"marker": "x", "color": COLORS[end.norm], "clip_on": False}
        ax.plot(end.value, 0, transform=ax.get_xaxis_transform(), **cross)
    return _finish(ax, rows, "step", quantity)


def _rows(frame: pd.DataFrame, quantity: str, layer: int | None) -> pd.DataFrame:
    rows = frame[frame.quantity == quantity]
    return rows if layer is None else rows[rows.layer == layer]


def _mean(rows: pd.DataFrame, quantity: str) -> pd.Series:
    """By step, the mean over seeds; the geometric one of what is drawn on a logarithmic axis."""
    if QUANTITIES[quantity].scale == "linear":
        return rows.groupby("step").value.mean()
    with np.errstate(divide="ignore"):
        return np.exp(np.log(rows.value.astype(float)).groupby(rows.step).mean())


def _geometric(values: pd.Series) -> float:
    """The geometric mean; of values with a zero among them 0."""
    with np.errstate(divide="ignore"):
        return np.exp(np.log(values.astype(float)).mean())


def overlay(paper: pd.DataFrame, quantity: str, *, layer: int | None = None, ax: Axes | None = None) -> Axes:
    """The paper's own curves of a quantity over ours, in black, for as long as ours are: only where both are at one
    scale."""
    ax = ax or plt.gca()
    rates = sorted(paper.lr.unique())
    _as_long(ax)
    for (lr, norm), line in _ordered(_rows(paper, quantity, layer)).groupby(["lr", "norm"], observed=True):
        wide = 0.9 + 0.8 * rates.index(lr)
        words = f"the paper's {label(norm, lr)}"
        ax.plot(line.step, line.value, color="black", dashes=DASHES[norm], lw=wide, label=words)
    return ax


def panel(quantity: str, layer: float) -> str:
    """What a panel shows, in words; NaN is no layer."""
    return QUANTITIES[quantity].label + ("" if pd.isna(layer) else f", layer {layer:g}")


def overlays(frame: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    """All that a figure of the paper draws, a panel for each quantity and layer, its curves in black over ours."""
    kinds = list(paper[["quantity", "layer"]].drop_duplicates().itertuples(index=False, name=None))
    words = [panel(*kind) for kind in kinds]
    columns = min(3, len(kinds))
    rows = [[*words[at : at + columns], *[""] * columns][:columns] for at in range(0, len(kinds), columns)]
    figure, axes = panels(*rows, height=2.6, width=10)
    arms = frame.merge(paper[["norm", "lr"]].drop_duplicates(), on=["norm", "lr"])
    tops = arms.groupby("quantity").layer.max()  # of a shorter network the last layer that has it
    for ax, (quantity, layer) in zip(axes.flat, kinds, strict=False):
        at = None if pd.isna(layer) else layer
        curves(arms, quantity, layer=at if at is None else min(at, tops.get(quantity, at)), ax=ax)
        overlay(paper, quantity, layer=at, ax=ax)
    for ax in list(axes.flat)[len(kinds) :]:
        ax.set_axis_off()
    legend(figure)
    return figure


def _as_long(ax: Axes) -> None:
    """What is drawn from here on does not stretch the axis of steps, if anything is drawn already."""
    if ax.lines:
        ax.set_xlim(ax.get_xlim())


def reference(value: float, words: str, *, ax: Axes) -> Axes:
    """A grey line at a value that the text predicts, with its words."""
    ax.axhline(value, color="0.45", lw=1.0, zorder=0)
    ax.text(
        0.99, value, words, transform=ax.get_yaxis_transform(), ha="right", va="bottom", fontsize="small", color="0.3"
    )
    return ax


def bands(frame: pd.DataFrame, low: str, high: str, *, paper: bool = False, ax: Axes | None = None) -> Axes:
    """The area between two quantities over training, one an arm, each edge the geometric mean over seeds (Figs 4, 10).

    With `paper` only the edges are drawn, in black.
    """
    ax = ax or plt.gca()
    rows = frame[frame.quantity.isin([low, high])]
    if paper:
        _as_long(ax)
    for (lr, norm), arm in _ordered(rows).groupby(["lr", "norm"], observed=True):
        edges = [_mean(arm[arm.quantity == name], name) for name in (low, high)]
        style = {"color": "black", "lw": 0.7} if paper else {"color": COLORS[norm], "lw": 1.0}
        name = f"the paper's {label(norm, lr)}" if paper else label(norm, lr)
        for edge, words in zip(edges, (name if paper else None, None), strict=True):
            ax.plot(edge.index, edge, dashes=DASHES[norm], label=words, **style)
        if not paper:
            ax.fill_between(edges[0].index, *edges, color=COLORS[norm], alpha=0.35, lw=0, label=name)
    return _finish(ax, rows, "step", {"loss_low": "loss_along", "distance_low": "gradient_distance"}[low])


def landscapes(*frames: pd.DataFrame, words: Sequence[str], paper: pd.DataFrame) -> np.ndarray:
    """The paper's Fig. 4 for each frame, a row each: losses along the gradient, distances of gradients, beta.

    The first frame is of the paper's images and has its curves in black.
    """
    columns = ("loss", "distance of gradients", "effective beta")
    figure, axes = panels(*[[f"{word}: {column}" for column in columns] for word in words], height=2.6, width=10)
    for row, frame in zip(np.atleast_2d(axes), frames, strict=True):
        bands(frame, "loss_low", "loss_high", ax=row[0])
        bands(frame, "distance_low", "distance_high", ax=row[1])
        curves(frame, "beta_max", ax=row[2])
    bands(paper, "loss_low", "loss_high", paper=True, ax=np.atleast_2d(axes)[0, 0])
    bands(paper, "distance_low", "distance_high", paper=True, ax=np.atleast_2d(axes)[0, 1])
    overlay(paper, "beta_max", ax=np.atleast_2d(axes)[0, 2])
    legend(figure)
    return axes


def shift_panels(
    *frames: pd.DataFrame, words: Sequence[str], layers: Sequence[Sequence[int]], paper: pd.DataFrame
) -> np.ndarray:
    """The paper's Fig. 3a at one learning rate, a row for each frame and its two layers: distance, cosine, cosine.

    The first frame is of the paper's images and has its curves in black.
    """
    kinds = [("shift_l2", 0), ("shift_cosine", 0), ("shift_cosine", 1)]
    rows = [[f"{who}, layer {pair[place]}" for _, place in kinds] for who, pair in zip(words, layers, strict=True)]
    figure, axes = panels(*rows, height=2.5, width=10)
    for row, frame, pair in zip(np.atleast_2d(axes), frames, layers, strict=True):
        for ax, (quantity, place) in zip(row, kinds, strict=True):
            curves(frame, quantity, layer=pair[place], ax=ax)
            _cosines(ax, quantity)
    for ax, (quantity, place) in zip(np.atleast_2d(axes)[0], kinds, strict=True):
        overlay(paper, quantity, layer=layers[0][place], ax=ax)
    legend(figure)
    return axes


def linear_panels(frame: pd.DataFrame, paper: pd.DataFrame, *, layers: Sequence[int]) -> np.ndarray:
    """The paper's Fig. 3b, a row for each learning rate, its curves over ours: loss, distance, cosine, cosine."""
    first, second = layers[0], layers[-1]
    kinds = [("squared_error", None), ("shift_l2", first), ("shift_cosine", first), ("shift_cosine", second)]
    rates = sorted(frame.lr.unique(), reverse=True) or sorted(paper.lr.unique(), reverse=True)
    rows = [[f"{lr:g}: " + (f"layer {layer}" if layer else "loss") for _, layer in kinds] for lr in rates]
    figure, axes = panels(*rows, height=2.6, width=11)
    for row, lr in zip(np.atleast_2d(axes), rates, strict=True):
        for ax, (quantity, layer) in zip(row, kinds, strict=True):
            curves(frame[frame.lr == lr], quantity, layer=layer, ax=ax)
            overlay(paper[np.isclose(paper.lr, lr, atol=0)], quantity, layer=layer, ax=ax)
            _cosines(ax, quantity)
    legend(figure)
    return axes


def shift_measure(frame: pd.DataFrame, quantity: str, *, layers: Sequence[int]) -> Figure:
    """One measure of covariate shift, a panel for each layer and learning rate."""
    rates = sorted(frame.lr.dropna().unique(), reverse=True)
    cases = list(product(rates, layers)) or [(0.0, layer) for layer in layers]
    figure, axes = panels([f"{lr:g}, layer {layer}" for lr, layer in cases], height=2.7, width=11)
    for ax, (lr, layer) in zip(axes, cases, strict=True):
        curves(frame[frame.lr == lr], quantity, layer=layer, ax=ax)
        _cosines(ax, quantity)
    legend(figure)
    return figure


def _cosines(ax: Axes, quantity: str) -> None:
    """All that a cosine can be, and no more."""
    if quantity.endswith("cosine"):
        ax.set_ylim(-1.05, 1.05)


def along(frame: pd.DataFrame, step: int, quantity: str = "loss_along", *, ax: Axes | None = None) -> Axes:
    """A quantity against the step length along the gradient, at one step of training: one thin line a seed."""
    ax = ax or plt.gca()
    rows = frame[(frame.quantity == quantity) & (frame.step == step)]
    for (norm, _), line in _ordered(rows).groupby(["norm", "seed"], observed=True):
        line = line.sort_values("eta")
        style = {"color": COLORS[norm], "dashes": DASHES[norm], "marker": "o", "ms": 3, "lw": 1.2}
        ax.plot(line.eta, line.value, label=NAMES[norm], **style)
    return _finish(ax, rows, r"step length $\eta$", quantity)


def walk_along(frame: pd.DataFrame, step: int) -> Figure:
    """Loss, distance of gradients and beta against the step length at one step, on axes that hold for all steps."""
    quantities = ("loss_along", "gradient_distance", "beta")
    figure, axes = panels([f"step {step}"] * 3, height=3.0, width=10)
    for ax, quantity in zip(axes, quantities, strict=True):
        along(frame, step, quantity, ax=ax)
        _hold(ax, frame[frame.quantity == quantity], margin=1.3)
    legend(figure)
    return figure


def fans(*frames: pd.DataFrame, words: Sequence[str], steps: int = 21) -> np.ndarray:
    """The paper's Fig. 11 for each frame, a row each: the distance of gradients against the step length.

    Standard on the left, BatchNorm on the right; a line for each of so many steps of training, dark early and bright
    late: the geometric mean over the seeds that have not diverged. Both axes are logarithmic. A frame has one learning
    rate.
    """
    norms, tones = ("none", "batch"), sns.color_palette("viridis", as_cmap=True)
    figure, axes = panels(*[[f"{word}: {NAMES[norm]}" for norm in norms] for word in words], height=2.8)
    for row, frame in zip(np.atleast_2d(axes), frames, strict=True):
        rows = frame[frame.quantity == "gradient_distance"]
        lengths, shade = sorted(rows.eta.unique()), Normalize(0, rows.step.max() if len(rows) else 1)
        for ax, norm in zip(row, norms, strict=True):
            mine = rows[rows.norm == norm]
            for step in spread(mine.step, steps):
                at = mine[mine.step == step]
                line = at.groupby("eta").value.agg(_geometric)
                ax.plot(line.index, line, color=tones(shade(step)), lw=1.0)
            _finish(ax, mine, r"step length $\eta$", "gradient_distance")
            ax.set_xscale("log")
            if len(lengths) and lengths[-1] < 100 * lengths[0]:  # powers of ten alone would be one label or two
                ax.set_xticks(lengths, [f"{length:g}" for length in lengths])
                ax.xaxis.set_minor_locator(NullLocator())
            _hold(ax, rows, margin=1.3)
        if len(rows):
            figure.colorbar(ScalarMappable(shade, tones), ax=row, label="training step")
    return axes


def beta_at(frame: pd.DataFrame, length: float, *, lr: float) -> Figure:
    """Beta over training at one step length, in units of the learning rate, on an axis that holds for all of them.

    The grey line is one over the step length.
    """
    figure, (ax,) = panels([f"{length:g} times the learning rate"], height=3.2, width=8)
    rows = frame[(frame.quantity == "beta") & (frame.lr == lr)]
    curves(rows[np.isclose(rows.eta.astype(float), length * lr)], "beta", ax=ax)
    reference(1 / (length * lr), "1 / step length", ax=ax)
    _hold(ax, rows, margin=1.3)
    legend(figure)
    return figure


VARIANTS = {"beta_float32": "32 bits", "beta_float64": "64 bits", "beta_smooth": "64 bits, no kinks"}


def step_lengths(frame: pd.DataFrame, *, norm: str, step: int, ax: Axes | None = None) -> Axes:
    """Beta against the step length in 32 bits, in 64, and in 64 without kinks: geometric mean and range over seeds."""
    ax = ax or plt.gca()
    rows = frame[(frame.norm == norm) & (frame.step == step) & frame.quantity.isin(VARIANTS)]
    rows = rows.astype({"eta": float, "value": float})  # a frame without runs has no types
    if rows.empty:
        return _finish(ax, rows, r"step length $\eta$", "beta")
    tones = sns.dark_palette(COLORS[norm], 4, reverse=True)
    for (name, words), tone, marker in zip(VARIANTS.items(), tones, "os^", strict=False):
        values = rows[rows.quantity == name].groupby("eta").value
        middle = values.agg(_geometric)
        ax.plot(middle.index, middle, color=tone, marker=marker, ms=4, lw=1.3, label=f"{NAMES[norm]}, {words}")
        ax.fill_between(middle.index, values.min(), values.max(), color=tone, alpha=0.15, lw=0)
    ax.set_xscale("log")
    return _finish(ax, rows, r"step length $\eta$", "beta")


def _ordered(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that group in the order of `NAMES`, so that every legend has it."""
    return rows.assign(norm=pd.Categorical(rows.norm, categories=list(NAMES), ordered=True))


def _outline(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The places and heights of a histogram's outline, scaled to height 1, down to zero at both ends."""
    rows = rows.sort_values("bin")
    places, heights = rows.bin.to_numpy(), (rows.value / rows.value.max()).to_numpy()
    width = places[1] - places[0]
    return np.r_[places[0] - width, places, places[-1] + width], np.r_[0, heights, 0]


def _few_ticks(ax: Axes) -> None:
    """Few numbers below a small panel, each written out."""
    ax.locator_params(axis="x", nbins=3)
    ax.xaxis.set_major_formatter("{x:g}")  # a factor common to all would be printed over the label


def _say(ax: Axes, words: str) -> None:
    """Words in the middle of a panel that has nothing to draw."""
    ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", color="0.4")


def _finish(ax: Axes, rows: pd.DataFrame, x: str, quantity: str) -> Axes:
    """Labels from the registry; a panel without rows says so."""
    ax.set_xlabel(x)
    ax.set_ylabel(QUANTITIES[quantity].axis)
    ax.set_yscale(QUANTITIES[quantity].scale)
    if rows.empty:
        _say(ax, EMPTY)
    return ax


def legend(figure: Figure) -> None:
    """One legend for all panels, below them."""
    found = {}
    for ax in figure.axes:
        found |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=min(4, max(1, len(found))))


def ridges(
    frame: pd.DataFrame, *, layer: int, norm: str, seed: int = 0, ax: Axes | None = None, steps: int = 8
) -> Axes:
    """The distribution of one sampled activation over training: one outline a step, early at the back, late in front.

    As in the paper's Figs 1c and 2. Each outline is scaled to the same height; the y axis is the training step.
    """
    ax = ax or plt.gca()
    rows = frame[(frame.quantity == "density") & (frame.layer == layer) & (frame.norm == norm) & (frame.seed == seed)]
    chosen = spread(rows.step, steps)
    gap = (chosen[-1] - chosen[0]) / max(len(chosen) - 1, 1) if len(chosen) else 1
    tones = sns.light_palette(COLORS[norm], len(chosen) + 2)[2:]
    for order, (step, tone) in enumerate(zip(chosen, tones, strict=True)):
        places, heights = _outline(rows[rows.step == step])
        top = step - heights * 1.7 * gap
        ax.fill_between(places, step, top, color=tone, alpha=0.85, lw=1.2, zorder=order)  # the edge shows narrow ones
        ax.plot(places, top, color="white", lw=0.5, zorder=order)
    ax.invert_yaxis()
    ax.set_yticks(spread(chosen, 4))
    ax.set_xlabel(f"activation, layer {layer}")
    ax.set_ylabel("step")
    ax.grid(False)
    _few_ticks(ax)
    if rows.empty:
        _say(ax, EMPTY)
    return ax


def ridge_grid(frame: pd.DataFrame, *, layers: Sequence[int], norms: Sequence[str]) -> np.ndarray:
    """`ridges` for layers in rows and normalizers in columns; the axes."""
    rows = [[f"{NAMES[norm]}, layer {layer}" for norm in norms] for layer in layers]
    _, axes = panels(*rows, height=2.7, width=max(9.0, 2.2 * len(norms)))
    for ax, (layer, norm) in zip(axes.flat, product(layers, norms), strict=True):
        ridges(frame, layer=layer, norm=norm, ax=ax)
    return axes


def spread(values: Iterable[int], count: int) -> list[int]:
    """At most `count` of the different values, evenly spread, first and last among them."""
    ordered = sorted(set(values))
    places = np.unique(np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int))
    return [int(ordered[place]) for place in places] if ordered else []


def distributions(frame: pd.DataFrame, *, layers: Sequence[int], norms: Sequence[str], step: int) -> Figure:
    """The distribution of one sampled activation at one step, layers in rows and normalizers in columns, first seed.

    Each outline is scaled to one height. The x axes stay what they are over all steps of the frame, so that a
    distribution that moves is seen to move.
    """
    rows = frame[(frame.quantity == "density") & (frame.seed == frame.seed.min())]
    figure, axes = panels(*[[f"{NAMES[norm]}, layer {layer}" for norm in norms] for layer in layers], height=1.9)
    for ax, (layer, norm) in zip(axes.flat, product(layers, norms), strict=True):
        here = rows[(rows.layer == layer) & (rows.norm == norm)]
        outline = here[here.step == step]
        if outline.empty:
            _say(ax, "diverged before" if len(rows) else EMPTY)
        else:
            ax.fill_between(*_outline(outline), color=COLORS[norm], alpha=0.75)
        ax.set(xlim=(here.bin.min(), here.bin.max()) if len(here) else (-1, 1), ylim=(0, 1.1), yticks=[])
        _few_ticks(ax)
    figure.supxlabel(f"activation at step {step}", fontsize="medium")
    return figure


def moments(frame: pd.DataFrame, quantity: str, *, layer: int, ax: Axes | None = None) -> Axes:
    """One quantity of the paper's Fig. 8 at one layer, one line for each normalizer, thin lines for seeds."""
    ax = ax or plt.gca()
    rows = frame[(frame.quantity == quantity) & (frame.layer == layer)]
    for (norm, _), line in _ordered(rows.assign(seed=rows.seed.fillna(-1))).groupby(["norm", "seed"], observed=True):
        ax.plot(line.step, line.value, color=COLORS[norm], dashes=DASHES[norm], lw=0.9, alpha=0.85, label=NAMES[norm])
    return _finish(ax, rows, "step", quantity)


def dose_response(benefit: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """How many times faster than Standard each dose of noise reaches 90 %, with its 95 % interval; 1 is no benefit.

    An open triangle stands where noisy runs did not arrive: value and interval are upper bounds there.
    """
    ax = ax or plt.gca()
    known = benefit[np.isfinite(benefit.high) & (benefit.low > 0)]
    if known.empty:
        _say(ax, EMPTY)
    ax.axhline(1, color=COLORS["none"], lw=1.2)
    style = {"color": COLORS["noisy"], "capsize": 3, "ls": "none"}
    for bound, marker, face in ((False, "o", COLORS["noisy"]), (True, "v", "white")):
        some = known[(known.arrived < known.runs) == bound]
        dose, middle, low, high = some[["dose", "speedup", "low", "high"]].to_numpy(dtype=float).T
        ax.errorbar(dose, middle, yerr=[middle - low, high - middle], marker=marker, markerfacecolor=face, **style)
    ax.set_xscale("symlog", linthresh=1, base=2)
    ax.set_yscale("log", base=2)
    ax.set_xticks(benefit.dose, [f"{dose:g}" for dose in benefit.dose])
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("dose of noise (0: none, 1: the paper's)")
    ax.set_ylabel("times faster than Standard")
    return ax


def moment_row(frame: pd.DataFrame, quantity: str, *, layers: Sequence[int]) -> Figure:
    """`moments` at each of the layers, with a legend."""
    figure, axes = panels([f"layer {layer}" for layer in layers], height=2.9)
    for ax, layer in zip(axes, layers, strict=True):
        moments(frame, quantity, layer=layer, ax=ax)
    legend(figure)
    return figure


def dose_curves(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Training accuracy of Standard, BatchNorm and each dose of noise (darker: more), mean over seeds."""
    ax = ax or plt.gca()
    noisy = frame[frame.norm == "noisy"]
    curves(frame[frame.norm.isin(["none", "batch"])], "smooth_accuracy", ax=ax)
    doses = sorted(noisy.dose.unique())
    tones = sns.dark_palette(COLORS["noisy"], len(doses) + 1, reverse=True)
    for tone, dose in zip(tones, doses, strict=False):
        mean = noisy[(noisy.dose == dose) & (noisy.quantity == "smooth_accuracy")].groupby("step").value.mean()
        ax.plot(mean.index, mean, color=tone, dashes=DASHES["noisy"], label=f"{NAMES['noisy']}, dose {dose:g}")
    return ax


def one_dose(frame: pd.DataFrame, dose: float) -> Figure:
    """Training accuracy of the arms in a frame of one dose, with a legend."""
    figure, (ax,) = panels([f"dose {dose:g}"], width=7)
    curves(frame[frame.norm != "noisy_none"], "smooth_accuracy", ax=ax)
    legend(figure)
    return figure


def against_eta(
    frame: pd.DataFrame, quantities: Sequence[str], *, step: int, norms: Sequence[str], ax: Axes | None = None
) -> Axes:
    """Quantities along step lengths at one step: mean over seeds, their range as a band, both axes logarithmic.

    Colour and dashes tell the normalizer; the first quantity has full points, the others open ones.
    """
    ax = ax or plt.gca()
    rows = frame[(frame.step == step) & frame.quantity.isin(quantities) & frame.norm.isin(norms)]
    rows = rows.astype({"eta": float, "value": float})  # a frame without runs has no types
    if rows.empty:
        return _finish(ax, rows, r"step length $\eta$", quantities[0])
    for (quantity, marker), norm in product(zip(quantities, "os^", strict=False), norms):
        by_eta = rows[(rows.quantity == quantity) & (rows.norm == norm)].groupby("eta").value
        mean, low, high = by_eta.mean(), by_eta.min(), by_eta.max()
        face = COLORS[norm] if quantity == quantities[0] else "white"
        words = NAMES[norm] if len(norms) > 1 else QUANTITIES[quantity].label
        style = {"color": COLORS[norm], "dashes": DASHES[norm], "marker": marker, "markerfacecolor": face}
        ax.plot(mean.index, mean, lw=1.4, label=words, **style)
        ax.fill_between(mean.index, low, high, color=COLORS[norm], alpha=0.12, lw=0)
    ax.set_xscale("log")
    if rows.eta.nunique() < 6:
        ax.set_xticks(sorted(rows.eta.unique()), [f"{eta:g}" for eta in sorted(rows.eta.unique())])
        ax.minorticks_off()
    return _finish(ax, rows, r"step length $\eta$", quantities[0])


def shrinking(frame: pd.DataFrame, *, steps: Sequence[int]) -> Figure:
    """The right distance between gradients and two that are taken for it, as the step length goes to zero."""
    pair = ("none", "batch")
    figure, axes = panels(*[[f"{NAMES[norm]}, step {step}" for norm in pair] for step in steps])
    for ax, (step, norm) in zip(np.ravel(axes), product(steps, pair), strict=True):
        against_eta(frame, ["right_distances", "wrong_batches", "wrong_after_update"], step=step, norms=[norm], ax=ax)
        if ax.lines:
            ax.legend(fontsize="x-small")
    return figure


def undivided(frame: pd.DataFrame, *, step: int) -> Figure:
    """The distance between gradients and the same divided by the step, along the longer step lengths."""
    figure, axes = panels(["not divided", "divided by the step"])
    rows = frame[frame.eta > frame.lr / 10]
    for ax, quantity in zip(axes, ("gradient_distance", "beta"), strict=True):
        against_eta(rows, [quantity], step=step, norms=["none", "batch"], ax=ax)
    legend(figure)
    return figure


def several_models(frame: pd.DataFrame) -> Figure:
    """From smallest to largest loss over separately trained models (band), and along the gradient of one (bars).

    The models differ in learning rate; means over seeds. The bars stand where the gradient was followed, over the
    paper's step lengths.
    """
    figure, axes = panels(["Standard", "BatchNorm"])
    for ax, norm in zip(axes, ("none", "batch"), strict=True):
        rows = frame[frame.norm == norm].astype({"step": float, "value": float, "eta": float})
        rows = rows[~(rows.eta < 0.4 * rows.lr)]  # ours, shorter than any of the paper's
        for quantity, key in (("loss", "lr"), ("loss_along", "eta")):
            by_step = rows[rows.quantity == quantity].groupby(["step", key]).value.mean().groupby("step")
            low, high = by_step.min(), by_step.max()
            if key == "lr":
                ax.fill_between(low.index, low, high, color=COLORS[norm], alpha=0.3, lw=0, label="several models")
            else:
                ax.vlines(low.index, low, high, color=COLORS[norm], lw=2, label="along one model's gradient")
        _finish(ax, rows, "step", "loss").set_yscale("log")
        ax.legend(fontsize="x-small", loc="lower left")
    return figure


def mistaken(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """BatchNorm over Standard by the right measurement (full points) and by each mistake (open ones), 95 % intervals.

    `table` is that of `claims.mistakes`. No point where a ratio is not finite, no interval where it is unbounded.
    """
    ax = ax or plt.gca()
    places = np.arange(len(table))
    for kind, up, face in (("right", -0.15, "0.15"), ("wrong", 0.15, "white")):
        ratio, low, high = (table[f"{kind} {each}"].to_numpy(dtype=float) for each in ("ratio", "low", "high"))
        bounded = np.isfinite(high) & (low > 0)
        ax.hlines((places + up)[bounded], low[bounded], high[bounded], color="0.15", lw=1)
        shown = np.isfinite(ratio) & (ratio > 0)
        ax.plot(ratio[shown], (places + up)[shown], "o", color="0.15", markerfacecolor=face, label=kind)
    if not np.isfinite(table[["right ratio", "wrong ratio"]].to_numpy(dtype=float)).any():
        _say(ax, EMPTY)
    ax.axvline(1, color="0.6", lw=1)
    ax.set_xscale("log")
    ax.set_yticks(places, table.mistake)
    ax.invert_yaxis()
    ax.set_xlabel("BatchNorm over Standard")
    return ax


def mistaken_at(table: pd.DataFrame, step: int) -> Figure:
    """`mistaken` at one step, with a legend."""
    figure, (ax,) = panels([f"step {step}"], height=4.6, width=7)
    mistaken(table, ax=ax)
    legend(figure)
    return figure


def multiples(
    *frames: pd.DataFrame,
    quantity: str,
    norms: Sequence[str],
    words: Sequence[str],
    paper: pd.DataFrame | None = None,
) -> Figure:
    """A panel for each normalizer, between Standard and BatchNorm, and a row for each frame; one y axis a row.

    With `paper` the paper's curve of the panel's normalizer lies over the first frame's: both are at one scale.
    """
    figure, axes = panels(*[[f"{who}: {NAMES[norm]}" for norm in norms] for who in words], height=2.5, width=10)
    for place, (row, frame) in enumerate(zip(np.atleast_2d(axes), frames, strict=True)):
        for ax, norm in zip(row, norms, strict=True):
            curves(frame[frame.norm.isin(["none", "batch", norm])], quantity, ax=ax)
            if paper is not None and place == 0:
                overlay(paper[paper.norm == norm], quantity, ax=ax)
        _one_y(row)
    legend(figure)
    return figure


LANDSCAPE = {"loss": ("loss_low", "loss_high"), "distance": ("distance_low", "distance_high"), "beta": ("beta_max",)}


def smoothings(frame: pd.DataFrame, *, norms: Sequence[str], paper: pd.DataFrame | None = None) -> Figure:
    """The landscape of each normalizer beside Standard's, normalizers in columns: band of losses, of distances, beta.

    Edges and lines are geometric means over seeds. With `paper` the edges of the normalizer's band in the paper's
    figure lie over ours, in black: only where both are at one scale.
    """
    figure, axes = panels(*[[f"{NAMES[norm]}: {name}" for norm in norms] for name in LANDSCAPE], height=2.3, width=10)
    for row, quantities in zip(axes, LANDSCAPE.values(), strict=True):
        for ax, norm in zip(row, norms, strict=True):
            _landscape(frame[frame.norm.isin(["none", norm])], *quantities, ax=ax)
            if paper is not None and len(quantities) == 2:
                bands(paper[paper.norm == norm], *quantities, paper=True, ax=ax)
            elif paper is not None:
                overlay(paper[paper.norm == norm], *quantities, ax=ax)
        _one_y(row)
    legend(figure)
    return figure


def _landscape(frame: pd.DataFrame, *quantities: str, ax: Axes) -> Axes:
    """The band between two quantities, or the curve of one."""
    return bands(frame, *quantities, ax=ax) if len(quantities) == 2 else curves(frame, *quantities, ax=ax)


def _one_y(row: Sequence[Axes]) -> None:
    """The same y axis in all panels of a row, named at its left; few steps below."""
    limits = [ax.get_ylim() for ax in row]
    for place, ax in enumerate(row):
        ax.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        ax.locator_params(axis="x", nbins=3)
        if place:
            ax.set_ylabel("")
            ax.tick_params(labelleft=False, which="both")


def laboratory(frame: pd.DataFrame, *, layer: int, steps: int) -> Figure:
    """One run: training accuracy, the losses along the gradient, and how one activation of a layer is distributed.

    The step axes hold for `steps`, so that a run in training is seen to grow.
    """
    words = ["training accuracy", "loss along the gradient", "an activation"]
    figure, (left, middle, right) = panels(words, height=2.8, width=10)
    norm, seed = (frame.norm.iloc[0], frame.seed.iloc[0]) if len(frame) else ("none", 0)
    curves(frame, "smooth_accuracy", ax=left)
    bands(frame, "loss_low", "loss_high", ax=middle)
    for ax in (left, middle):
        ax.set_xlim(0, steps)
    left.set_ylim(0, 1.02)
    ridges(frame, layer=layer, norm=norm, seed=seed, ax=right)
    legend(figure)
    return figure


def laboratory_map(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """`claims.endings`: the training accuracy at the end of each run, by its choices, the first two down, the others
    across. A missing run is blank."""
    ax = ax or plt.gca()
    names = [name for name in table if name != "value"]
    table = table.replace({names[0]: NAMES})
    cells = table.pivot(index=names[:2], columns=names[2:], values="value")
    style = {"cmap": "cividis", "vmin": 0, "vmax": 1, "linewidths": 1, "annot": True, "fmt": ".0%"}
    sns.heatmap(cells, cbar_kws={"label": "training accuracy"}, ax=ax, **style)
    ax.set(xlabel="\n".join(names[2:]), ylabel=", ".join(names[:2]))
    ax.set_xticklabels(["\n".join(map(str, column)) for column in cells.columns], rotation=0)
    ax.set_yticklabels([", ".join(map(str, row)) for row in cells.index], rotation=0)
    return ax


def one_norm(frame: pd.DataFrame, norm: str, *, layer: int) -> Figure:
    """One normalizer beside Standard and BatchNorm: training, landscape, and the distribution at the last step."""
    rows = frame[frame.norm.isin(["none", "batch", norm])]
    words = ["training", *LANDSCAPE], [f"{NAMES[each]}, layer {layer}" for each in ("none", "batch", norm)]
    figure = plt.figure(figsize=(10, 5.2))
    upper, lower = figure.subfigures(2, 1)
    above, below = upper.subplots(1, 4), lower.subplots(1, 3)
    for ax, text in zip((*above, *below), (*words[0], *words[1]), strict=True):
        ax.text(0, 1.02, text, transform=ax.transAxes, fontsize="small", color="0.25", va="bottom")
    curves(rows, "smooth_accuracy", ax=above[0])
    for ax, quantities in zip(above[1:], LANDSCAPE.values(), strict=True):
        _landscape(rows, *quantities, ax=ax)
    for ax, each in zip(below, ("none", "batch", norm), strict=True):
        ridges(rows, layer=layer, norm=each, ax=ax, steps=6)
    legend(upper)
    return figure


MARKERS = dict(zip(NAMES, "os*Xv^<DPph>", strict=True))


def scatter(table: pd.DataFrame, measure: str, *, words: str, ax: Axes | None = None) -> Axes:
    """Speed against smoothness, a point for each normalizer: mean over seeds, bars are their range.

    `table` is that of `claims.smooth_and_fast`.
    """
    ax = ax or plt.gca()
    known = table.dropna(subset=[measure, "speed"])
    for _, row in known.iterrows():
        x, y = row[measure], row.speed
        ax.hlines(y, row[f"{measure}_low"], row[f"{measure}_high"], color=COLORS[row.norm], lw=0.8)
        ax.vlines(x, row.speed_low, row.speed_high, color=COLORS[row.norm], lw=0.8)
        style = {"color": COLORS[row.norm], "marker": MARKERS[row.norm], "markeredgecolor": "white", "ls": "none"}
        ax.plot(x, y, ms=9, label=NAMES[row.norm], **style)
    if known.empty:
        _say(ax, EMPTY)
    ax.set_xscale("log")
    ax.margins(0.15)
    low, high = ax.get_xlim()
    if high < 10 * low:  # no power of ten to put a number to
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(words)
    ax.set_ylabel("mean training accuracy")
    return ax


PLACES = {
    "random, quadratic": "#000000",
    "random, network": "#8A8A8A",
    "none": COLORS["none"],
    "batch": COLORS["batch"],
}
PLACE_NAMES = {"random, quadratic": "random, quadratic loss", "random, network": "random network"}


def both_sides(table: pd.DataFrame, *, statements: Sequence[str], ax: Sequence[Axes]) -> Sequence[Axes]:
    """Right side against left side of each statement, one point a case, both axes logarithmic; the line is equality.

    `table` is that of `claims.statements`. Full points: the corrected form; crosses: the printed one. Where both sides
    are negative their sizes are drawn; where they differ in sign a triangle stands at the lower edge.
    """
    for place, statement in zip(ax, statements, strict=True):
        rows = table[table.statement == statement]
        for (form, where), cases in rows.groupby(["form", "place"]):
            style = {"color": PLACES[where], "ls": "none"}
            marker = {"corrected": {"marker": "o", "ms": 3.5, "alpha": 0.7}, "printed": {"marker": "x", "ms": 5}}[form]
            same = cases.left * cases.right > 0
            words = PLACE_NAMES.get(where, NAMES.get(where)) if form == "corrected" else None
            place.plot(cases.left[same].abs(), cases.right[same].abs(), **marker, **style, label=words)
            edge = {"transform": place.get_xaxis_transform(), "marker": "v", "ms": 5}
            apart = cases.left[~same & (cases.left != 0)].abs()
            place.plot(apart, 0 * apart + 0.03, **edge, **style, markerfacecolor="none")
        place.set(xscale="log", yscale="log", xlabel="left side", ylabel="right side")
        if rows.empty:
            _say(place, EMPTY)
            continue
        reach = rows.left[rows.left != 0].abs()
        ends = [reach.min() / 2, reach.max() * 2]
        place.plot(ends, ends, color="0.6", lw=0.8, zorder=0)
        place.set_xlim(ends)
        place.tick_params(labelsize="x-small", which="both")
    return ax


def free_outputs(frame: pd.DataFrame, *, ax: Axes) -> Axes:
    """The squared gradient over the weights at inputs of one norm, against the deviation of the outputs that they make:
    one line a case."""
    rows = frame[frame.quantity == "theorem_4_4_free"].astype({"eta": float, "value": float})
    for _, line in rows.groupby(["arm", "seed"]):
        ax.plot(line.eta, line.value, color="0.5", lw=0.6, alpha=0.6)
    ax.set_xscale("log")
    _finish(ax, rows, r"deviation of the outputs $\sigma$", "theorem_4_4_free")
    return ax


def theorem_terms(frame: pd.DataFrame, *, layers: Sequence[int]) -> np.ndarray:
    """What Theorem 4.1 does to a layer's gradient over training, a row each layer: gamma/sigma and the two shares."""
    quantities = ("term_scale", "term_mean", "term_correlation")
    words = ("gamma / sigma", "mean term", "correlation term")
    figure, axes = panels(*[[f"layer {layer}: {each}" for each in words] for layer in layers], height=2.4, width=10)
    for row, layer in zip(np.atleast_2d(axes), layers, strict=True):
        for ax, quantity in zip(row, quantities, strict=True):
            curves(frame, quantity, layer=layer, ax=ax)
            reference(1, "1", ax=ax)
    legend(figure)
    return axes


def theorem_bars(frame: pd.DataFrame, arm: str) -> Figure:
    """Both sides of Theorems 4.1 and 4.2 for one random layer, with the plain gradient; the axes hold for all cases."""
    bars = {
        "theorem_4_1": {"plain": "no normalizer", "left": "left", "right": "right, corrected", "printed": "as printed"},
        "theorem_4_2": {"left": "left", "right": "right, first line", "printed": "second line"},
    }
    colors = {"plain": COLORS["none"], "left": COLORS["batch"], "right": "0.55", "printed": "white"}
    figure, axes = panels(["Theorem 4.1: squared gradient", "Theorem 4.2: curvature"], height=1.9, width=7.5)
    rows = frame[(frame.arm == arm) & (frame.seed == frame.seed.min()) & frame.eta.isna()]
    rows = rows.set_index("quantity").value.astype(float)
    for ax, (name, words) in zip(axes, bars.items(), strict=True):
        values = rows.reindex([f"{name}_{side}" for side in words])
        faces = [colors[side] for side in words]
        ax.barh(range(len(words)), values, color=faces, edgecolor="0.3", lw=0.8, height=0.7)
        for place, value in enumerate(values.dropna()):
            at = {"va": "center", "ha": "left" if value >= 0 else "right", "fontsize": "x-small"}
            ax.annotate(
                f"{value:.3g}", (value, place), xytext=(3 if value >= 0 else -3, 0), textcoords="offset points", **at
            )
        ax.set_yticks(range(len(words)), words.values())
        ax.invert_yaxis()
        ax.set_xscale("symlog", linthresh=0.1)
        ax.set(xlim=(-300, 80), xticks=[-10, -1, 0, 1, 10])
        ax.set_xticks([], minor=True)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.axvline(0, color="0.3", lw=0.8)
        if rows.empty:
            _say(ax, EMPTY)
    return figure


def maps(*each: pd.DataFrame, words: Sequence[str] = ("",)) -> np.ndarray:
    """Training accuracy over learning rate and scale of the initial weights, a panel for each normalizer; the axes.

    `each` is a table of `claims.trials`, and a row of panels; `words` stand before the normalizers' names. Colour: the
    mean over seeds, a diverged one counted as 0. Outlined: where more than half of the seeds train. A cross with a
    number: how many of them diverged.
    """
    norms = [norm for norm in NAMES if any(norm in set(trials.norm) for trials in each)] or ["none", "batch"]
    titles = [[": ".join(filter(None, (before, NAMES[norm]))) for norm in norms] for before in words]
    figure, axes = panels(*titles, height=3.1, width=10)
    drawn = [
        _map(ax, trials, norm)
        for line, trials in zip(np.atleast_2d(axes), each, strict=True)
        for ax, norm in zip(line, norms, strict=True)
    ]
    for ax in np.atleast_2d(axes)[:, 0]:
        ax.set_ylabel("scale of the initial weights")
    for ax in np.atleast_2d(axes)[-1]:
        ax.set_xlabel("learning rate")
    if mesh := next(filter(None, drawn), None):
        figure.colorbar(mesh, ax=axes.ravel().tolist(), label=QUANTITIES["end_accuracy"].axis, pad=0.01)
    return axes


def _map(ax: Axes, trials: pd.DataFrame, norm: str) -> QuadMesh | None:
    lrs, scales = np.sort(trials.lr.unique()), np.sort(trials.scale.unique())
    by = trials[trials.norm == norm].fillna({"accuracy": 0.0}).groupby(["scale", "lr"])
    if by.ngroups == 0:
        _say(ax, EMPTY)
        return None
    mean, inside, lost = (
        each.unstack().reindex(index=scales, columns=lrs).to_numpy(dtype=float)
        for each in (by.accuracy.mean(), by.trains.mean(), by.diverged.count())
    )
    mesh = ax.pcolormesh(mean, cmap="cividis", vmin=0, vmax=1, edgecolors="white", lw=0.5)
    _outline_cells(ax, inside > 0.5)
    for (row, column), count in np.ndenumerate(lost):
        if count > 0:
            tone = "white" if mean[row, column] < 0.5 else "black"
            words = f"\N{MULTIPLICATION SIGN}{count:.0f}"
            ax.text(column + 0.5, row + 0.5, words, color=tone, ha="center", va="center", fontsize="small")
    ax.set_xticks(np.arange(len(lrs)) + 0.5, [f"{lr:g}" for lr in lrs], fontsize="x-small")
    ax.set_yticks(np.arange(len(scales)) + 0.5, [f"{scale:g}" for scale in scales])
    ax.grid(False)
    return mesh


def _outline_cells(ax: Axes, inside: np.ndarray) -> None:
    """A line around the cells that are inside, black in white so that it is seen on any colour."""
    padded = np.pad(inside, 1).astype(int)
    for row, column in np.argwhere(np.diff(padded, axis=0)):
        _edge(ax, (column - 1, column), (row, row))
    for row, column in np.argwhere(np.diff(padded, axis=1)):
        _edge(ax, (column, column), (row - 1, row))


def _edge(ax: Axes, x: tuple[int, int], y: tuple[int, int]) -> None:
    for color, wide, order in (("white", 4.5, 3), ("black", 2.0, 4)):
        ax.plot(x, y, color=color, lw=wide, solid_capstyle="round", clip_on=False, zorder=order)


def widths(rows: pd.DataFrame, along: str, *, ax: Axes | None = None) -> Axes:
    """How wide the region that trains is along one variable, against the other: mean over seeds and their range.

    `rows` is that of `claims.widths`, `along` is lr or scale.
    """
    ax = ax or plt.gca()
    other, unit, words = {
        "lr": ("scale", "decades", "scale of the initial weights"),
        "scale": ("lr", "octaves", "learning rate"),
    }[along]
    for place, (norm, arm) in enumerate(_ordered(rows).groupby("norm", observed=True)):
        by = arm.groupby(other).width
        x = by.mean().index.to_numpy(dtype=float) * 1.05 ** (place - 1)  # beside one another, not on one another
        mean, low, high = by.mean(), by.min(), by.max()
        ax.plot(x, mean, color=COLORS[norm], dashes=DASHES[norm], marker="o", ms=4, label=NAMES[norm])
        ax.vlines(x, low, high, color=COLORS[norm], lw=1.6)
    ax.set_xscale("log")
    if len(rows):
        ticks = np.sort(rows[other].unique())
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
        reference(rows.most.max(), "the whole grid", ax=ax)
    else:
        _say(ax, EMPTY)
    ax.set_xlabel(words)
    ax.set_ylabel(f"width ({unit})")
    return ax


def width_panels(*each: pd.DataFrame, widths_of: Any, words: Sequence[str] = ("",)) -> np.ndarray:
    """`widths` along both variables, with a legend: a row of panels for each table of `claims.trials`, whose `words`
    stand before the panels'; `widths_of` is `claims.widths`."""
    along = {"lr": "along the learning rate", "scale": "along the scale"}
    titles = [[": ".join(filter(None, (before, each))) for each in along.values()] for before in words]
    figure, axes = panels(*titles, height=3.0)
    for line, trials in zip(np.atleast_2d(axes), each, strict=True):
        for ax, name in zip(line, along, strict=True):
            widths(widths_of(trials, name), name, ax=ax)
    legend(figure)
    return axes


def by_layer(frame: pd.DataFrame, quantity: str, *, step: int, norm: str, ax: Axes | None = None) -> Axes:
    """A quantity of each layer against its number at one step, a line for each scale of the initial weights.

    Geometric mean over seeds, the band is their range; the darker, the larger the scale. A network that had diverged
    by then has no line.
    """
    ax = ax or plt.gca()
    rows = frame[(frame.quantity == quantity) & (frame.step == step) & (frame.norm == norm) & (frame.value > 0)]
    scales = sorted(frame.scale.dropna().unique())
    tones = sns.light_palette(COLORS[norm], len(scales) + 2)[2:]
    for scale, tone, marker in zip(scales, tones, cycle("v<o>^sDP"), strict=False):
        values = rows[rows.scale == scale].astype({"layer": float, "value": float}).groupby("layer").value
        middle = values.agg(_geometric)
        style = {"color": tone, "dashes": DASHES[norm], "marker": marker, "ms": 4, "lw": 1.3}
        ax.plot(middle.index, middle, label=f"{NAMES[norm]}, scale {scale:g}", **style)
        ax.fill_between(middle.index, values.min(), values.max(), color=tone, alpha=0.2, lw=0)
    return _finish(ax, rows, "layer", quantity)


def layer_panels(frame: pd.DataFrame, *, steps: Sequence[int], norms: Sequence[str]) -> np.ndarray:
    """Lengths of gradients by layer, normalizers in columns: on the way back and of the layer's own, at each step.

    All panels of a row have one y axis.
    """
    kinds = {"layer_signal_norm": "way back", "layer_gradient_norm": "own weights"}
    rows = [(quantity, words, step) for quantity, words in kinds.items() for step in steps]
    titles = [[f"{NAMES[norm]}: {words}, step {step}" for norm in norms] for _, words, step in rows]
    figure, axes = panels(*titles, height=2.2, width=10)
    for line, (quantity, _, step) in zip(np.atleast_2d(axes), rows, strict=True):
        for ax, norm in zip(line, norms, strict=True):
            by_layer(frame, quantity, step=step, norm=norm, ax=ax)
            _hold(ax, frame[(frame.quantity == quantity) & (frame.step == step)])
            ax.set_ylabel(QUANTITIES[quantity].symbol if ax is line[0] else "")
    legend(figure)
    return axes


def _hold(ax: Axes, rows: pd.DataFrame, *, margin: float = 2.0) -> None:
    """The y axis of all the positive finite values of these rows, whichever of them the panel draws."""
    values = rows.value.astype(float)
    values = values[np.isfinite(values) & (values > 0)]
    if len(values):
        ax.set_ylim(values.min() / margin, values.max() * margin)


def one_scale(frame: pd.DataFrame, trials: pd.DataFrame, scale: float) -> Figure:
    """One scale of the initial weights: accuracy against the learning rate, and by layer at step 0 the standard
    deviation of the units and the length of the gradient on its way back. One thin line a seed."""
    titles = [f"scale {scale:g}: {words}" for words in ("accuracy", "spread of units, step 0", "way back, step 0")]
    figure, axes = panels(titles, height=3.0, width=10)
    for (norm, _), line in _ordered(trials[trials.scale == scale]).groupby(["norm", "seed"], observed=True):
        style = {"color": COLORS[norm], "dashes": DASHES[norm], "marker": "o", "ms": 3, "lw": 1.2}
        axes[0].plot(line.lr, line.accuracy.fillna(0.0), label=NAMES[norm], **style)
    axes[0].set(xscale="log", ylim=(-0.03, 1.03))
    _finish(axes[0], trials, "learning rate", "end_accuracy")
    for ax, quantity in zip(axes[1:], ("layer_deviation", "layer_signal_norm"), strict=True):
        every = frame[(frame.quantity == quantity) & (frame.step == 0) & (frame.value > 0)]
        for (norm, _), line in _ordered(every[every.scale == scale]).groupby(["norm", "seed"], observed=True):
            ax.plot(line.layer, line.value, color=COLORS[norm], dashes=DASHES[norm], lw=1.2)
        _finish(ax, every, "layer", quantity).set(yscale="log", ylabel=QUANTITIES[quantity].symbol)
        _hold(ax, every)  # for all scales
    legend(figure)
    return figure


# ---- around a minimum ----------------------------------------------------------------------------------------------


def loss_curves(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """The loss along one filter-normalized random direction around each network, one line a seed."""
    ax = ax or plt.gca()
    rows = frame[(frame.quantity == "loss_around") & (frame.bin.astype(float).abs() < 1e-9)]
    for (norm, _), line in _ordered(rows).groupby(["norm", "seed"], observed=True):
        line = line.sort_values("eta")
        ax.plot(line.eta, line.value, color=COLORS[norm], dashes=DASHES[norm], lw=1.4, label=NAMES[norm])
    return _finish(ax, rows, "distance, in lengths of each filter", "loss_around")


def surface(frame: pd.DataFrame, *, norm: str, ax: Axes | None = None) -> Axes:
    """The loss over two filter-normalized random directions around the network of the first seed, as contours.

    One scale of colours for all networks, in factors of two; light is low. The cross is the network itself.
    """
    ax = ax or plt.gca()
    rows = frame[(frame.quantity == "loss_around") & (frame.norm == norm) & (frame.seed == frame.seed.min())]
    ax.set_xlabel("first direction, in lengths of each filter")
    ax.set_ylabel("second direction")
    ax.grid(False)
    if rows.empty:
        _say(ax, EMPTY)
        return ax
    grid = rows.astype({"value": float}).pivot(index="bin", columns="eta", values="value")
    levels = 2.0 ** np.arange(-4, 6)
    values = np.clip(grid.to_numpy(), levels[0], levels[-1])
    where = np.asarray(grid.columns, dtype=float), np.asarray(grid.index, dtype=float)
    tones = sns.color_palette("mako_r", len(levels) - 1)
    ax.contourf(*where, values, levels=levels, colors=tones)
    lines = ax.contour(*where, values, levels=levels[1:-1], colors="white", linewidths=0.6)
    ax.clabel(lines, fmt="%g", fontsize="x-small", colors="white")
    ax.plot(0, 0, marker="+", color="black", ms=9)
    return ax


def surface_of(frame: pd.DataFrame, norm: str, words: str) -> Figure:
    """`surface` of one network with the words for it."""
    figure, (ax,) = panels([words], height=4.6, width=6)
    surface(frame, norm=norm, ax=ax)
    return figure


def rescaling(frame: pd.DataFrame, quantity: str, *, ax: Axes | None = None) -> Axes:
    """An eigenvalue against the factor by which weights were multiplied that leave the function as it is.

    One line a seed, both axes logarithmic; in grey, behind the naive one, what falls with the square of the factor.
    """
    ax = ax or plt.gca()
    rows = frame[(frame.quantity == quantity) & frame.eta.notna()]
    for (norm, _), line in _ordered(rows).groupby(["norm", "seed"], observed=True):
        line = line.sort_values("eta")
        style = {"color": COLORS[norm], "dashes": DASHES[norm], "marker": "o", "ms": 3, "lw": 1.2}
        ax.plot(line.eta, line.value, label=NAMES[norm], **style)
    ax.set_xscale("log", base=2)
    _finish(ax, rows, "factor", quantity)
    if len(rows) and quantity == "eigenvalue":
        factors = np.array(sorted(rows.eta.unique()), dtype=float)
        middle = _geometric(rows[rows.eta == 1].value)
        ax.plot(factors, middle / factors**2, color="0.6", lw=1, zorder=0, label="1 / factor²")
    ax.xaxis.set_major_formatter("{x:g}")
    return ax


def against_accuracy(points: pd.DataFrame, quantity: str, *, ax: Axes | None = None) -> Axes:
    """Test accuracy against a measure of sharpness, one point a network: colour its normalizer, shape its depth.

    `points` is that of `claims.minima_points`.
    """
    ax = ax or plt.gca()
    shapes = dict(zip(points.network.unique(), "os^D", strict=False))
    for (network, norm), some in points.groupby(["network", "norm"]):
        style = {"color": COLORS[norm], "marker": shapes[network], "ls": "none"}
        face = COLORS[norm] if shapes[network] == "o" else "white"
        ax.plot(some[quantity], some.minimum_accuracy, markerfacecolor=face, label=f"{NAMES[norm]}, {network}", **style)
    ax.set(xlabel=QUANTITIES[quantity].axis, ylabel=QUANTITIES["minimum_accuracy"].axis, xscale="log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    if points.empty:
        _say(ax, EMPTY)
    return ax

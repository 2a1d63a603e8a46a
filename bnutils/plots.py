"""Frame to Axes: colours, labels and style in one place. No statistics beyond mean and range, no files, no titles.

Every normalizer has one colour and one line style everywhere, from the colour-blind safe palette of Okabe and Ito.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnutils.quantities import QUANTITIES

NAMES = {"none": "Standard", "batch": "BatchNorm", "noisy": "noisy BatchNorm", "noisy_none": "Standard + noise"}
COLORS = {"none": "#D55E00", "batch": "#0072B2", "noisy": "#009E73", "noisy_none": "#8C5A82"}
DASHES = {"none": (), "batch": (4, 1.5), "noisy": (1, 1), "noisy_none": (5, 1.5, 1, 1.5)}

sns.set_theme(
    context="notebook",
    style="ticks",
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


def panels(*labels: str, height: float = 3.4, width: float = 4.6, share: str = "none") -> tuple[Figure, list[Axes]]:
    """A row of panels, each with its label above the axes' left corner. `share`: none, x, y or all."""
    along_x, along_y = share in ("x", "all"), share in ("y", "all")
    figure, axes = plt.subplots(
        1, len(labels), figsize=(width * len(labels), height), squeeze=False, sharex=along_x, sharey=along_y
    )
    for ax, label in zip(axes[0], labels, strict=True):
        ax.text(0, 1.02, label, transform=ax.transAxes, fontsize="small", color="0.25", va="bottom")
    return figure, list(axes[0])


def label(norm: str, lr: float) -> str:
    """The words of a legend for an arm."""
    return f"{NAMES[norm]}, {lr:g}"


def curves(frame: pd.DataFrame, quantity: str, *, ax: Axes | None = None) -> Axes:
    """A quantity over training: mean over seeds as a line and their range as a band, one line an arm.

    Colour and dashes tell the normalizer, thickness the learning rate. A diverged run ends where it diverged, with a
    cross.
    """
    ax = ax or plt.gca()
    rates = sorted(frame.lr.dropna().unique())
    rows = frame[frame.quantity == quantity]
    for (norm, lr), arm in rows.groupby(["norm", "lr"], sort=False):
        by_step = arm.groupby("step").value
        mean, low, high = by_step.mean(), by_step.min(), by_step.max()
        wide = 1.4 + 1.4 * rates.index(lr)
        ax.plot(mean.index, mean, color=COLORS[norm], dashes=DASHES[norm], lw=wide, label=label(norm, lr))
        if arm.seed.nunique() > 1:
            ax.fill_between(mean.index, low, high, color=COLORS[norm], alpha=0.15, lw=0)
    for _, end in frame[frame.quantity == "diverged"].iterrows():
        ax.plot(end.value, 0, marker="x", color=COLORS[end.norm], clip_on=False)
    return _finish(ax, rows, "step", quantity)


def _finish(ax: Axes, rows: pd.DataFrame, x: str, quantity: str) -> Axes:
    """Labels from the registry; a panel without rows says so."""
    ax.set_xlabel(x)
    ax.set_ylabel(QUANTITIES[quantity].axis)
    ax.set_yscale(QUANTITIES[quantity].scale)
    if rows.empty:
        ax.text(0.5, 0.5, "no runs on record", transform=ax.transAxes, ha="center", color="0.4")
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
    chosen = _spread(rows.step.unique(), steps)
    gap = (chosen[-1] - chosen[0]) / max(len(chosen) - 1, 1) if len(chosen) else 1
    for order, step in enumerate(sorted(chosen, reverse=True)):
        outline = rows[rows.step == step].sort_values("bin")
        base = outline.value / outline.value.max() * 1.7 * gap + step
        tone = sns.light_palette(COLORS[norm], 2 + len(chosen))[2 + len(chosen) - 1 - order]
        ax.fill_between(outline.bin, step, base, color=tone, alpha=0.85, lw=0, zorder=order)
        ax.plot(outline.bin, base, color="white", lw=0.8, zorder=order)
    ax.set_xlabel(f"activation, layer {layer}")
    ax.set_ylabel("step")
    ax.grid(False)
    if rows.empty:
        ax.text(0.5, 0.5, "no runs on record", transform=ax.transAxes, ha="center", color="0.4")
    return ax


def _spread(values: Sequence[int], count: int) -> list[int]:
    """At most `count` of the values, evenly spread, first and last among them."""
    ordered = sorted(values)
    places = (
        np.unique(np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)) if ordered else []
    )
    return [int(ordered[place]) for place in places]


def densities(frame: pd.DataFrame, *, layer: int, step: int, seed: int = 0, ax: Axes | None = None) -> Axes:
    """The distribution of one sampled activation at one step, one outline for each normalizer."""
    ax = ax or plt.gca()
    rows = frame[(frame.quantity == "density") & (frame.layer == layer) & (frame.step == step) & (frame.seed == seed)]
    for norm, outline in rows.groupby("norm", sort=False):
        outline = outline.sort_values("bin")
        ax.plot(outline.bin, outline.value, color=COLORS[norm], dashes=DASHES[norm], label=NAMES[norm])
        ax.fill_between(outline.bin, outline.value, color=COLORS[norm], alpha=0.12, lw=0)
    ax.set_xlabel(f"activation, layer {layer}")
    ax.set_ylabel("density")
    if rows.empty:
        ax.text(0.5, 0.5, "diverged before", transform=ax.transAxes, ha="center", color="0.4")
    return ax


def moments(frame: pd.DataFrame, quantity: str, *, layer: int, ax: Axes | None = None) -> Axes:
    """One quantity of the paper's Fig. 8 at one layer, one line for each normalizer, thin lines for seeds."""
    ax = ax or plt.gca()
    rows = frame[(frame.quantity == quantity) & (frame.layer == layer)]
    for (norm, _), line in rows.assign(seed=rows.seed.fillna(-1)).groupby(["norm", "seed"], sort=False):
        ax.plot(line.step, line.value, color=COLORS[norm], dashes=DASHES[norm], lw=0.9, alpha=0.85, label=NAMES[norm])
    return _finish(ax, rows, "step", quantity)


def dose_response(benefit: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """How many times faster than Standard each dose of noise reaches 90 %, with its 95 % interval; 1 is no benefit."""
    ax = ax or plt.gca()
    known = benefit[np.isfinite(benefit.high) & (benefit.low > 0)]
    ax.axhline(1, color=COLORS["none"], lw=1.2, label=NAMES["none"])
    spread = [known.speedup - known.low, known.high - known.speedup]
    ax.errorbar(
        known.dose, known.speedup, yerr=spread, color=COLORS["noisy"], marker="o", capsize=3, label=NAMES["noisy"]
    )
    ax.set_xscale("symlog", linthresh=1, base=2)
    ax.set_yscale("log", base=2)
    ax.set_xticks(benefit.dose, [f"{dose:g}" for dose in benefit.dose])
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("dose of noise (multiples of the paper's; 0 is BatchNorm)")
    ax.set_ylabel("times faster than Standard to 90 %")
    return ax

"""What is drawn, read from the Axes: words from the registry, one colour and one dash a normalizer, empty frames."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb
from test_claims import LENGTH, arriving, diverging, frame, rows

from bnutils import claims, norms, plots, presets, runs, store
from bnutils.quantities import QUANTITIES

EMPTY = "no runs on record"
LAYERS, PAIR = [3, 11], ["none", "batch"]

pytestmark = pytest.mark.filterwarnings("error")  # a warning would stand on the page


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def densities(norm, layer, *steps, seed=0):
    """A triangle at every step, which moves to the right with it and becomes higher."""
    outlines = [
        rows(norm, 0.1, (1 + step) * np.array([0.0, 1.0, 2.0, 1.0, 0.0]), quantity="density", layer=layer, seed=seed)
        for step in steps
    ]
    return [each.assign(step=s, bin=s + np.arange(-2.0, 3.0)) for s, each in zip(steps, outlines, strict=True)]


def mistaken():
    """Both networks of chapter 5 at two landmarks: distances and betas along step lengths, and what has none."""
    along = ("loss_along", "gradient_distance", "beta", "right_distances", "wrong_batches", "wrong_after_update")
    keys = [(norm, lr, seed) for norm in PAIR for lr in (0.1, 0.5) for seed in range(2)]
    losses = [rows(norm, lr, 1 + lr, quantity="loss", seed=seed) for norm, lr, seed in keys]
    points = [(norm, seed, name, eta) for norm in PAIR for seed in range(2) for name in along for eta in (0.001, 0.1)]
    return losses + [
        rows(norm, 0.1, [1 + eta + seed + len(norm)], quantity=name, seed=seed).assign(eta=eta)
        for norm, seed, name, eta in points
    ]


def around():
    """What chapter 9 measures around both networks at two seeds: bowls, and eigenvalues of rescaled copies."""
    found = []
    for norm, seed in [(norm, seed) for norm in PAIR for seed in range(2)]:
        grid = [(x, y) for y in ((-1.0, 0.0, 1.0) if seed == 0 else (0.0,)) for x in (-1.0, 0.0, 1.0)]
        values = {"minimum_loss": 0.15, "minimum_accuracy": 0.9 + seed / 100, "sharpness": 0.1, "sharpness_adaptive": 2}
        for name, value in values.items():
            found.append(rows(norm, 0.1, [value], quantity=name, seed=seed))
        for factor in (0.5, 1.0, 2.0):
            for name in ("eigenvalue", "eigenvalue_normalized"):
                each = rows(norm, 0.1, [9.0 / factor], quantity=name, seed=seed)
                found.append(each.assign(eta=factor))
        for x, y in grid:
            each = rows(norm, 0.1, [0.15 + x * x + y * y], quantity="loss_around", seed=seed)
            found.append(each.assign(eta=x, bin=y))
    return found


@pytest.fixture(scope="module")
def measured():
    """Three seeds of every arm of the noise experiment and of the paper's Fig. 1, one of which diverges."""
    accuracies = [
        *(each for norm in ("none", "batch", "noisy_none") for each in arriving(norm, 0.1, 100, 200, 600)),
        *(each for dose in (1.0, 4.0) for each in arriving("noisy", 0.1, 150, 250, 700, dose=dose)),
        *arriving("batch", 0.5, 300, 300, 300),
        *(each for seed in range(2) for each in diverging("none", 0.5, 400, seed=seed, value=0.1)),
    ]
    for each in accuracies:
        dose = each.dose.iloc[0]
        each["arm"] += "" if np.isnan(dose) else f" x{dose:g}"
    shapes = [each for norm in PAIR for layer in LAYERS for each in densities(norm, layer, 0, 10, 20, 30)]
    moved = [rows(norm, 0.1, [0.0, 0.3, 0.1], quantity="mean", layer=layer) for norm in PAIR for layer in LAYERS]
    return runs.with_derived(frame(accuracies, shapes, moved, mistaken(), around()))


def dash(line):
    """Of a line, in points of a line of width 1; () for a solid one."""
    return tuple(line._unscaled_dash_pattern[1] or ())


def words(figure):
    """Every text of a figure but those of ticks."""
    return [text.get_text() for ax in figure.axes for text in ax.texts]


# every function that draws, as a function of the frame alone
DRAWINGS = {
    "curves": lambda f: plots.curves(f, "smooth_accuracy").figure,
    "ridges": lambda f: plots.ridges(f, layer=3, norm="batch").figure,
    "ridge_grid": lambda f: plots.ridge_grid(f, layers=LAYERS, norms=PAIR).flat[0].figure,
    "distributions": lambda f: plots.distributions(f, layers=LAYERS, norms=PAIR, step=10),
    "moments": lambda f: plots.moments(f, "mean_step", layer=3).figure,
    "moment_row": lambda f: plots.moment_row(f, "mean_step", layers=LAYERS),
    "dose_response": lambda f: plots.dose_response(claims.benefit(f, lr=0.1)).figure,
    "dose_curves": lambda f: plots.dose_curves(f).figure,
    "shrinking": lambda f: plots.shrinking(f, steps=[0]),
    "undivided": lambda f: plots.undivided(f, step=0),
    "several_models": plots.several_models,
    "mistaken_at": lambda f: plots.mistaken_at(claims.mistakes(f, lr=0.1, step=0), 0),
    "loss_curves": lambda f: plots.loss_curves(f).figure,
    "surface_of": lambda f: plots.surface_of(f, "batch", "BatchNorm"),
    "rescaling": lambda f: plots.rescaling(f, "eigenvalue").figure,
    "against_accuracy": lambda f: (
        plots.against_accuracy(
            claims.minima_points({"deep": f, "shallow": f[f.seed == 0]}, lr=0.1), "sharpness_adaptive"
        ).figure
    ),
    "one_dose": lambda f: plots.one_dose(runs.at_dose(f, 1.0), 1.0),
}
DRAWINGS |= {
    "multiples": lambda f: plots.multiples(f, f, quantity="smooth_accuracy", norms=PAIR, words=["ours", "again"]),
    "smoothings": lambda f: plots.smoothings(f, norms=["batch"]),
    "landscapes": lambda f: plots.landscapes(f, f, words=["a", "b"], paper=runs.paper("4"))[0, 0].figure,
    "overlays": lambda f: plots.overlays(f, runs.paper("1a")),
    "one_norm": lambda f: plots.one_norm(f, "batch", layer=3),
    "laboratory": lambda f: plots.laboratory(f[f.seed == 0], layer=3, steps=720),
    "fans": lambda f: plots.fans(f, f, words=["a", "b"])[0, 0].figure,
    "beta_at": lambda f: plots.beta_at(f, 1, lr=0.1),
    "scatter": lambda f: (
        plots.scatter(claims.smooth_and_fast(f, lr=0.1, window="all of training"), "beta", words="beta").figure
    ),
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_a_frame_is_drawn_without_a_title(draw, measured):
    figure = draw(measured)
    figure.canvas.draw()
    assert all(ax.lines or ax.collections for ax in figure.axes) and EMPTY not in words(figure)
    assert not figure.get_suptitle()
    assert not [ax.get_title(loc) for ax in figure.axes for loc in ("left", "center", "right") if ax.get_title(loc)]
    panels = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
    assert all(ax.get_xlabel() for ax in panels) or figure.get_supxlabel()


EMPTY_FRAMES = {"untyped": pd.DataFrame(columns=store.COLUMNS), "typed": frame([rows("none", 0.1, 1.0)])[:0]}


@pytest.mark.parametrize("empty", EMPTY_FRAMES.values(), ids=EMPTY_FRAMES)
@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_an_empty_frame_is_drawn_and_says_so(draw, empty):
    """What a page has where its runs are too costly."""
    figure = draw(runs.with_derived(empty))
    figure.canvas.draw()
    assert words(figure).count(EMPTY) == len(figure.axes)


def test_the_map_of_the_laboratory_has_a_number_for_each_combination():
    def ended(accuracy):
        return frame([rows("none", 0.1, [0.0, accuracy], quantity="train_accuracy")])

    choices = {(norm, dose, lr, "A"): ended(0.3) for norm in PAIR for dose in (0, 4) for lr in (0.1, 0.5)}
    choices[("batch", 4, 0.5, "A")] = frame(diverging("batch", 0.5, 400, seed=0, value=0.9))
    choices[("batch", 4, 0.1, "A")] = ended(0.3).assign(norm="noisy", dose=4.0)
    choices[("none", 0, 0.1, "A")] = EMPTY_FRAMES["untyped"]
    ax = plots.laboratory_map(claims.endings(choices, ["normalizer", "dose", "rate", "depth"]))
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        *("BatchNorm, 0", "BatchNorm, 4", "Standard, 0", "Standard, 4"),
    ]
    assert sorted(words(ax.figure)) == ["0%", *["30%"] * 6]


@pytest.mark.parametrize(
    "draw",
    [
        lambda f, ax: plots.curves(f, "smooth_accuracy", ax=ax),
        lambda f, ax: plots.ridges(f, layer=3, norm="batch", ax=ax),
        lambda f, ax: plots.moments(f, "mean_step", layer=3, ax=ax),
        lambda f, ax: plots.dose_response(claims.benefit(f, lr=0.1), ax=ax),
        lambda f, ax: plots.dose_curves(f, ax=ax),
        lambda f, ax: plots.against_eta(f, ["right_distances"], step=0, norms=PAIR, ax=ax),
        lambda f, ax: plots.mistaken(claims.mistakes(f, lr=0.1, step=0), ax=ax),
    ],
)
def test_a_plot_returns_the_axes_it_was_given(draw, measured):
    given, other = plt.subplots(1, 2)[1]
    assert draw(measured, given) is given
    assert plt.gca() is other and not (other.lines or other.collections)


# ---- words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_axes_take_their_words_from_the_registry(quantity, measured):
    finished = measured[measured.quantity != "diverged"]
    for ax in (plots.curves(finished, quantity), plots.moments(finished, quantity, layer=3)):
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", QUANTITIES[quantity].axis)
        assert ax.get_yscale() == QUANTITIES[quantity].scale


def test_every_normalizer_has_words_a_colour_and_a_dash_of_its_own():
    for table in (plots.NAMES, plots.COLORS, plots.DASHES, plots.MARKERS):
        assert list(table) == list(norms.NORMS) and len(set(table.values())) == len(table)


def test_a_legend_names_every_arm_once(measured):
    at_one = runs.at_dose(measured, 1.0)
    figure, axes = plots.panels(["left", "right"])
    plots.curves(at_one[at_one.norm == "none"], "smooth_accuracy", ax=axes[0])
    plots.curves(at_one[at_one.lr == 0.1], "smooth_accuracy", ax=axes[1])
    plots.legend(figure)
    assert sorted(text.get_text() for text in figure.legends[0].texts) == [
        *("BatchNorm, 0.1", "Standard + noise, 0.1", "Standard, 0.1", "Standard, 0.5", "noisy BatchNorm, 0.1")
    ]


def test_panels_stand_in_rows_with_their_words():
    figure, axes = plots.panels(["a", "b", "c"], ["d", "e", "f"], height=2.0)
    assert axes.shape == (2, 3) and words(figure) == list("abcdef") and figure.get_figheight() == 4
    assert plots.panels(["a", "b"])[1].shape == (2,)


# ---- colours and dashes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("figure", ["1a", "1b", "2"])
def test_curves_have_the_colour_and_dash_of_their_normalizer(figure):
    """One line an arm, the larger learning rate the thicker."""
    curves = runs.paper(figure)
    ax = plots.curves(curves, "test_accuracy" if figure == "1b" else "train_accuracy")
    arms = curves[["norm", "lr"]].drop_duplicates()
    lines = {line.get_label(): line for line in ax.lines}
    assert len(ax.lines) == len(lines) == len(arms)
    for norm, lr in arms.itertuples(index=False):
        line = lines[plots.label(norm, lr)]
        assert (to_hex(line.get_color()), dash(line)) == (plots.COLORS[norm].lower(), plots.DASHES[norm])
        assert line.get_linewidth() == (1.4 if lr == 0.1 else 2.8)


def test_other_plots_have_them_too(measured):
    """Lines of the same words look the same in every plot; an interval, ridge or bar is of the normalizer's colour."""
    moments = plots.moments(runs.paper("8"), "mean_step", layer=2)
    assert len(moments.lines) == 3
    for line in moments.lines:
        norm = {name: norm for norm, name in plots.NAMES.items()}[line.get_label()]
        assert (to_hex(line.get_color()), dash(line)) == (plots.COLORS[norm].lower(), plots.DASHES[norm])
    doses = [line for line in plots.dose_curves(measured, ax=plt.subplots()[1]).lines if "dose" in line.get_label()]
    assert [line.get_label() for line in doses] == ["noisy BatchNorm, dose 1", "noisy BatchNorm, dose 4"]
    assert {dash(line) for line in doses} == {plots.DASHES["noisy"]}
    assert len({to_hex(line.get_color()) for line in doses}) == 2
    for ax, norm in zip(plots.distributions(measured, layers=[3], norms=PAIR, step=10).axes, PAIR, strict=True):
        assert to_hex(ax.collections[0].get_facecolor()[0]) == plots.COLORS[norm].lower()


# Machado, Oliveira and Fernandes 2009: what linear RGB looks like without the red or the green cones.
SIGHT = {
    "trichromat": np.eye(3),
    "protanope": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranope": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]


def lab(color, sight):
    """A colour as it is seen: sRGB to linear RGB, to what that sight makes of it, to CIELAB (D65)."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = XYZ @ np.clip(SIGHT[sight] @ linear, 0, 1) / (0.95047, 1, 1.08883)
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def nearest(colors, sight):
    """The smallest distance between two of the colours; about 2 is just noticeable side by side."""
    return min(np.linalg.norm(lab(one, sight) - lab(other, sight)) for one, other in combinations(colors, 2))


@pytest.mark.parametrize("sight", SIGHT)
def test_normalizers_can_be_told_apart_by_colour_whatever_the_sight(sight):
    assert nearest(plots.COLORS.values(), sight) > 20


def test_the_measure_knows_colours_that_cannot_be_told_apart():
    """White against black is 100 by definition; red against green of like lightness is the classical confusion."""
    assert nearest(["white", "black"], "trichromat") == pytest.approx(100, abs=0.01)
    assert nearest(["#CC0000", "#008000"], "trichromat") > 100
    assert nearest(["#CC0000", "#008000"], "deuteranope") < 20


# ---- numbers -------------------------------------------------------------------------------------------------------


def test_curves_show_mean_and_range_over_seeds():
    ax = plots.curves(
        frame([rows("none", 0.1, [v, 1.0], seed=i) for i, v in enumerate((0, 0, 0.6))]), "smooth_accuracy"
    )
    assert ax.lines[0].get_xydata().tolist() == [[0, pytest.approx(0.2)], [10, 1]]
    assert ax.collections[0].get_datalim(ax.transData).extents.tolist() == [0, 0, 10, 1]
    assert not plots.curves(runs.paper("1b"), "test_accuracy", ax=plt.subplots()[1]).collections  # one run: no band


def test_curves_draw_one_line_for_each_arm(measured):
    """Doses are arms too."""
    doses = measured[measured.norm == "noisy"]
    assert len(plots.curves(doses, "smooth_accuracy").lines) == 2


def test_a_diverged_run_ends_with_a_cross(measured):
    crosses = [line for line in plots.curves(measured, "smooth_accuracy").lines if line.get_marker() == "x"]
    assert [line.get_xdata()[0] for line in crosses] == [400, 400]
    assert {line.get_color() for line in crosses} == {plots.COLORS["none"]}


def test_a_cross_is_seen_on_a_logarithmic_axis_too(measured):
    ax = plots.curves(measured, "mean_step")
    (cross, _) = [line for line in ax.lines if line.get_marker() == "x"]
    assert ax.bbox.padded(1).contains(*cross.get_transform().transform(cross.get_xydata())[0])


def test_ridges_stand_at_their_step_late_ones_in_front(measured):
    ax = plots.ridges(measured, layer=3, norm="batch", steps=3)
    outlines = sorted(ax.lines, key=lambda line: line.get_zorder())
    assert [line.get_xdata()[line.get_ydata().argmin()] for line in outlines] == [0, 20, 30]  # the triangle's peak
    assert [line.get_ydata()[0] for line in outlines] == [0, 20, 30]  # the density is 0 at both ends


def test_ridges_are_of_one_height(measured):
    heights = [np.ptp(line.get_ydata()) for line in plots.ridges(measured, layer=3, norm="batch").lines]
    assert len(heights) == 4 and heights == pytest.approx([heights[0]] * 4)


def test_distributions_keep_their_axes_over_all_steps(measured):
    first, last = (plots.distributions(measured, layers=LAYERS, norms=PAIR, step=step).axes for step in (0, 30))
    assert {ax.get_xlim() for ax in (*first, *last)} == {(-2, 32)}
    assert [ax.collections[0].get_datalim(ax.transData).x0 for ax in (first[0], last[0])] == [-3, 27]  # a bin outside
    gone = plots.distributions(measured[measured.norm == "batch"], layers=LAYERS, norms=PAIR, step=0)
    assert [ax.texts[-1].get_text() for ax in gone.axes[:2]] == ["diverged before", "BatchNorm, layer 3"]


def test_dose_response_shows_every_known_interval():
    known = {"speedup": [4.0, 2.0, 1.0, 3.0], "low": [3.0, 1.5, 0.5, 0.0], "high": [5.0, 3.0, 2.0, np.inf]}
    arrived = {"helps": "yes", "arrived": [3, 3, 2, 3], "runs": 3}
    ax = plots.dose_response(pd.DataFrame({"dose": [0.0, 1.0, 4.0, 8.0]} | arrived | known))
    values, bounds = ax.containers
    assert values[0].get_xydata().tolist() == [[0, 4], [1, 2]] and values[0].get_markerfacecolor() != "white"
    assert bounds[0].get_xydata().tolist() == [[4, 1]] and bounds[0].get_markerfacecolor() == "white"
    bars = [bar for container in ax.containers for bar in container.lines[2][0].get_segments()]
    assert [bar[:, 1].tolist() for bar in bars] == [[3, 5], [1.5, 3], [0.5, 2]]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "1", "4", "8"]
    assert ax.lines[0].get_ydata() == [1, 1]


@pytest.mark.parametrize(
    ("values", "count", "chosen"),
    [
        (range(0, 101, 10), 3, [0, 50, 100]),
        ([5, 3, 3, 4], 8, [3, 4, 5]),
        (range(11), 4, [0, 3, 7, 10]),
        ([], 3, []),
        ([1, 9], 1, [1]),
    ],
)
def test_spread_is_even_and_keeps_both_ends(values, count, chosen):
    assert plots.spread(values, count) == chosen


# ---- beside the paper ----------------------------------------------------------------------------------------------


def test_a_panel_for_each_scale_says_which_it_is():
    figure, axes = plots.scales(presets.PRESETS["cifar"], presets.PRESETS["quick"])
    assert words(figure) == ["cifar10, VGG-B x 0.25, 3 seeds", "digits, VGG-B x 0.125, 3 seeds"] and len(axes) == 2
    assert not axes[0].get_shared_x_axes().joined(*axes), "digits are not drawn on the axes of CIFAR-10"


def test_a_folder_of_images_is_called_by_its_name(tmp_path):
    """A page tells nothing of the machine."""
    for image in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        Path(tmp_path, "mine", image).parent.mkdir(parents=True, exist_ok=True)
        Path(tmp_path, "mine", image).touch()
    assert plots.scale(replace(presets.PRESETS["quick"], dataset=str(tmp_path / "mine"))) == "mine, VGG-B x 0.125"


def test_the_papers_curves_are_black_one_for_each_rate_and_no_longer_than_ours(measured):
    """The frame has 1,000 steps, the paper's curves 15,000."""
    ax = plots.curves(measured, "smooth_accuracy", ax=plt.figure().subplots())
    before, ours = ax.get_xlim(), len(ax.lines)
    plots.overlay(runs.paper("1a"), "smooth_accuracy", ax=ax)
    lines = ax.lines[ours:]
    assert ax.get_xlim() == before and {line.get_color() for line in lines} == {"black"}
    assert [line.get_label() for line in lines] == [
        f"the paper's {name}, {lr}" for lr in ("0.1", "0.5") for name in ("Standard", "BatchNorm")
    ]
    assert lines[0].get_linewidth() < lines[2].get_linewidth()
    alone = plots.overlay(runs.paper("1a"), "smooth_accuracy", ax=plt.figure().subplots())
    assert alone.get_xlim()[1] > 10_000, "where there is nothing of ours it is drawn whole"


def test_the_papers_curves_lie_over_the_first_frame_only(measured):
    def black(row):
        return [sum(line.get_color() == "black" for line in ax.lines) for ax in row]

    axes = plots.landscapes(measured, measured, words=["on record", "here"], paper=runs.paper("4"))
    assert black(axes[0]) == [4, 4, 2] and black(axes[1]) == [0, 0, 0]
    paper = runs.paper("3a")
    layers = [(5, 10), (5, 10)]
    axes = plots.shift_panels(measured, measured, words=["on record", "here"], layers=layers, paper=paper)
    assert min(black(axes[0])) > 0 and black(axes[1]) == [0, 0, 0]
    figure = plots.multiples(
        measured, measured, quantity="smooth_accuracy", norms=["l1"], words=["a", "b"], paper=paper
    )
    assert len(figure.axes) == 2
    figure = plots.overlays(runs.paper("3a"), runs.paper("3a"))
    assert words(figure)[:2] == ["cosine, layer 5", "cosine, layer 10"] and black(figure.axes[:3]) == [4, 4, 4]


def test_a_fan_has_a_line_for_each_step_the_mean_over_seeds_at_every_length():
    keys = [(norm, seed, step) for norm in PAIR for seed in range(2) for step in (0, 100, 200)]
    looks = [
        rows(norm, 0.1, [4.0**seed * eta * (1 + step)], quantity="gradient_distance", seed=seed).assign(
            step=step, eta=eta
        )
        for norm, seed, step in keys
        for eta in (0.1, 0.2)
    ]
    for ax in plots.fans(frame(looks), words=["here"], steps=2):
        drawn = np.array([line.get_xydata() for line in ax.lines])
        np.testing.assert_allclose(drawn, [[[0.1, 0.2], [0.2, 0.4]], [[0.1, 40.2], [0.2, 80.4]]])
        early, late = (sum(to_rgb(line.get_color())) for line in ax.lines)
        assert early < late


def test_a_long_curve_is_drawn_at_some_of_its_steps_first_and_last_among_them():
    values = np.linspace(0, 1, LENGTH + 1)
    ax = plots.curves(frame([rows("none", 0.1, values, every=1)]), "smooth_accuracy")
    x, y = ax.lines[0].get_data()
    assert len(x) == plots.POINTS and (x[0], x[-1]) == (0, LENGTH) and max(np.diff(x)) - min(np.diff(x)) <= 1
    np.testing.assert_array_equal(y, values[x])


def test_every_seed_has_a_curve_and_the_network_a_point(measured):
    ax = plots.loss_curves(measured)
    assert len(ax.lines) == 4 and all(list(line.get_xdata()) == [-1, 0, 1] for line in ax.lines)
    points = claims.minima_points({"deep": measured, "shallow": measured[measured.seed == 0]}, lr=0.1)
    ax = plots.against_accuracy(points, "eigenvalue", ax=plt.figure().subplots())
    assert sorted(len(line.get_xdata()) for line in ax.lines) == [1, 1, 2, 2]
    assert {(line.get_color(), line.get_marker()) for line in ax.lines} == {
        (plots.COLORS[norm], marker) for norm in PAIR for marker in "os"
    }


def test_only_the_naive_eigenvalue_is_expected_to_fall(measured):
    for quantity, words in (("eigenvalue", ["1 / factor²"]), ("eigenvalue_normalized", [])):
        lines = plots.rescaling(measured, quantity, ax=plt.figure().subplots()).lines
        assert [line.get_label() for line in lines if line.get_label() not in ("Standard", "BatchNorm")] == words


def test_small_multiples_share_their_y_axis_and_name_it_once():
    paper = runs.paper("12")
    figure = plots.smoothings(paper, norms=["batch", "l1", "linf"])
    for row in np.reshape(figure.axes, (3, 3)):
        assert len({ax.get_ylim() for ax in row}) == 1
        assert [bool(ax.get_ylabel()) for ax in row] == [True, False, False]
    figure = plots.multiples(paper, quantity="smooth_accuracy", norms=["l1", "l2"], words=["the paper"], paper=paper)
    for ax, norm in zip(figure.axes, ("l1", "l2"), strict=True):
        names = [line.get_label() for line in ax.lines]
        assert len(names) == 4 and f"the paper's {plots.NAMES[norm]}, 0.1" in names


def test_the_papers_edges_lie_over_ours_in_black():
    figure = plots.smoothings(runs.paper("13"), norms=["l1"], paper=runs.paper("13"))
    for ax, count in zip(figure.axes, (2, 2, 1), strict=True):
        assert [line.get_color() for line in ax.lines].count("black") == count


def test_a_point_of_the_scatter_has_its_words_and_its_range():
    table = pd.DataFrame({"norm": ["none", "rms"], "speed": [0.5, 0.7], "speed_low": [0.4, 0.6], "speed_high": 0.8})
    table = table.assign(beta=[1.0, np.nan], beta_low=0.5, beta_high=2.0)
    ax = plots.scatter(table, "beta", words="largest beta")
    assert ax.get_legend_handles_labels()[1] == ["Standard"] and ax.get_xlabel() == "largest beta"
    (wide, tall), (point,) = [each.get_paths()[0].vertices for each in ax.collections], ax.lines
    assert wide.tolist() == [[0.5, 0.5], [2, 0.5]] and tall.tolist() == [[1, 0.4], [1, 0.8]]
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (1, 0.5)


# ---- theorems ------------------------------------------------------------------------------------------------------


def sided(*, left, right, statement="Theorem 4.1", form="corrected", place="batch"):
    return pd.DataFrame(
        {"statement": statement, "form": form, "place": place, "left": np.array(left), "right": np.array(right)}
    )


def test_both_sides_puts_equal_sides_on_the_line_and_unlike_signs_on_the_edge():
    table = pd.concat(
        [
            sided(left=[1.0, 10.0], right=[1.0, 10.0]),
            sided(left=[2.0, 5.0, -4.0], right=[0.5, -3.0, -4.0], form="printed", place="none"),
        ]
    )
    _, axes = plots.panels(["a", "b"])
    plots.both_sides(table, statements=["Theorem 4.1", "Theorem 4.4"], ax=axes)
    full, _, crosses, edge, line = axes[0].lines
    assert full.get_xydata().tolist() == [[1, 1], [10, 10]]
    assert to_hex(full.get_color()) == plots.COLORS["batch"].lower()
    assert crosses.get_xydata().tolist() == [[2, 0.5], [4, 4]] and crosses.get_marker() == "x"
    assert edge.get_xdata().tolist() == [5] and edge.get_marker() == "v"
    assert (line.get_xdata() == line.get_ydata()).all()
    assert [text.get_text() for text in axes[1].texts] == ["b", EMPTY]


def test_theorem_bars_show_the_first_seed_of_one_case():
    names = [f"theorem_4_{n}_{side}" for n in (1, 2) for side in ("plain", "left", "right", "printed")]
    values = {name: value for value, name in enumerate(names, start=-2) if name != "theorem_4_2_plain"}
    cases = [("this", 1, 1.0), ("this", 2, 9.0), ("other", 1, 9.0)]
    frame = pd.DataFrame(
        [
            {"arm": arm, "seed": seed, "quantity": name, "value": value * factor, "eta": np.nan}
            for arm, seed, factor in cases
            for name, value in values.items()
        ]
    )
    figure = plots.theorem_bars(frame, "this")
    widths = [[bar.get_width() for bar in ax.patches] for ax in figure.axes]
    assert widths == [[-2, -1, 0, 1], [3, 4, 5]]
    limits = [ax.get_xlim() for ax in figure.axes]
    assert limits == [ax.get_xlim() for ax in plots.theorem_bars(frame, "other").axes]


def test_theorem_terms_and_free_outputs_draw_their_quantities():
    layers = [5, 10]
    frame = pd.concat(
        rows(norm, 0.1, [0.1, 0.2], quantity=name, layer=layer, seed=0)
        for norm in PAIR
        for layer in layers
        for name in ("term_scale", "term_mean", "term_correlation")
    )
    axes = plots.theorem_terms(frame, layers=layers)
    assert axes.shape == (2, 3) and axes[0, 1].get_ylabel() == QUANTITIES["term_mean"].axis
    free = pd.DataFrame({"quantity": "theorem_4_4_free", "arm": "a", "seed": 0, "eta": [0.1, 1], "value": [100.0, 1.0]})
    _, (ax,) = plots.panels(["free"])
    plots.free_outputs(free, ax=ax)
    assert ax.lines[0].get_xydata().tolist() == [[0.1, 100], [1, 1]]


def test_without_runs_the_panels_of_the_theorems_say_so():
    nothing = pd.DataFrame(columns=store.COLUMNS)
    for figure in (plots.theorem_bars(nothing, "this"), plots.theorem_terms(nothing, layers=[5]).flat[0].figure):
        assert all(EMPTY in [text.get_text() for text in ax.texts] for ax in figure.axes)

"""Chapter 8: the map's grid, its records at preset smoke, widths and edges by hand, what is drawn of them."""

from dataclasses import replace
from itertools import product
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from bnutils import claims, data, models, plots, presets, records, runs, store, train

SMOKE = presets.get("smoke", device="cpu")
EMPTY = pd.DataFrame(columns=store.COLUMNS)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BNUTILS_CACHE", str(tmp_path))
    return tmp_path / "runs"


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


# ---- the grid ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "came", "accepted"),
    [
        (lambda: presets.get("smoke", map_lrs=0.1), "map_lrs is 0.1", "two or more numbers in a list"),
        (lambda: presets.get("smoke", map_lrs=[0.1]), "rates of the map (0.1,)", "evenly spaced on a logarithmic"),
        (lambda: presets.get("smoke", map_lrs=[0.1, 0.2, 0.3]), "(0.1, 0.2, 0.3)", "evenly spaced on a logarithmic"),
        (lambda: presets.get("smoke", map_lrs=[1.0, 0.1]), "(1.0, 0.1)", "ascending"),
        (lambda: presets.get("smoke", map_lrs=[0.1, "fast"]), "(0.1, 'fast')", "numbers above 0"),
        (lambda: presets.get("smoke", map_lrs=[0.0, 0.1]), "(0.0, 0.1)", "numbers above 0"),
        (lambda: presets.get("smoke", map_scales=[1, 1]), "scales of the map (1, 1)", "ascending"),
        (lambda: presets.get("smoke", map_scales=[0.5, 2]), "scales of the map (0.5, 2)", "with 1, Glorot's"),
        (lambda: presets.get("smoke", map_steps=0), "steps of the map is 0", "a whole number of at least 1"),
        (lambda: presets.get("smoke", map_steps=2), "early of the map is 2", "a step before the last, 2"),
        (lambda: presets.get("smoke", map_seeds=1), "1 seeds", "two or more"),
        (lambda: presets.Map(trains=0), "trains of the map is 0", "a share above 0, at most 1"),
        (lambda: presets.Map(seeds=(1, 1)), "seeds of the map (1, 1)", "different ones"),
        (lambda: presets.Map(norms=("none", "nothing")), "norm 'nothing'", "accepted are none, batch"),
    ],
)
def test_one_line_says_what_came_and_what_is_accepted(call, came, accepted):
    with pytest.raises(ValueError) as error:
        call()
    message = str(error.value)
    assert came in message and accepted in message and "\n" not in message


def test_the_full_map_is_large_enough_and_the_live_one_lies_in_it():
    for name in ("quick", "cifar", "paper"):
        whole = presets.PRESETS[name].map
        assert len(whole.lrs) >= 7 and whole.lrs[-1] / whole.lrs[0] >= 999 and len(whole.scales) >= 5
        assert len(whole.seeds) >= 3 and set(whole.norms) == {"none", "batch", "noisy"} and whole.main == 0.1
        live = whole.live
        assert set(live.lrs) < set(whole.lrs) and set(live.scales) < set(whole.scales) and live.main == 0.1
        assert not set(live.seeds) & set(whole.seeds)


def test_the_criterion_names_what_counts_as_training():
    criterion = claims.find("robust_lr").criterion
    quick, cifar = (presets.PRESETS[name].map.trains for name in ("quick", "cifar"))
    assert f"{100 * quick:g} % or more" in criterion and f"{100 * cifar:g} % on photographs" in criterion


def test_parameters_reach_the_map():
    setting = presets.get("quick", depth="D", map_lrs=[0.1, 1], map_scales=[1, 3], map_steps=50, map_seeds=2)
    whole = setting.map
    assert (whole.lrs, whole.scales, whole.steps, whole.seeds) == ((0.1, 1), (1, 3), 50, (0, 1))
    assert whole.vgg == replace(presets.PRESETS["quick"].map.vgg, depth="D")
    assert setting.scale == "quick with other vgg, map"


# ---- the records ---------------------------------------------------------------------------------------------------


def test_a_map_is_measured_once_and_read(cache):
    frame = runs.experiment(SMOKE, "robustness")
    assert list(frame.columns) == store.COLUMNS and frame.attrs["missing"] == 0
    assert len(list(cache.iterdir())) == 12, "a record for each normalizer, seed and scale"
    trials = claims.trials(frame, least=0.5)
    assert len(trials) == 3 * 2 * 2 * 2 and trials.accuracy.between(0, 1).all() and trials.diverged.isna().all()
    again = runs.experiment(SMOKE, "robustness")
    assert "measured now" not in again.attrs["source"]
    pd.testing.assert_frame_equal(again, frame, check_exact=True)
    looks = frame[frame.quantity == "layer_signal_norm"]
    assert set(looks.step) == {0, 2} and set(looks.lr) == {0.1} and set(looks.layer) == set(range(1, 12))


def record(setting=SMOKE, *, norm="none", scale=1.0, seed=0):
    return records.MapRun(setting, setting.map, norm, scale, seed, data.load("digits").fingerprint)


def test_a_key_holds_what_can_change_a_value_and_nothing_else():
    one = record()
    same = {"scales": (0.5, 1.0, 2.0), "seeds": (0, 1, 2), "norms": ("none",), "trains": 0.1}
    more = replace(SMOKE, map=replace(SMOKE.map, **same))
    assert record(more).key == one.key
    others = [record(scale=2.0), record(seed=1), record(norm="batch")]
    changed = [{"lrs": (0.1, 1.0)}, {"steps": 5}, {"batch": 16}, {"early": 1}, {"vgg": models.VGG(width=1 / 32)}]
    others += [record(replace(SMOKE, map=replace(SMOKE.map, **each))) for each in changed]
    assert len({each.key for each in [one, *others]}) == 1 + len(others)


def test_the_map_changes_no_other_key():
    arm, fingerprint = presets.Arm("batch", 0.1), "any"
    keys = {records.Run(each, arm, 0, fingerprint).key for each in (SMOKE, replace(SMOKE, map=presets.Map()))}
    assert len(keys) == 1


def test_the_scale_multiplies_glorots_weights():
    """Behind a normalizer the first look sees the same activations, and a gradient that is shorter by the factor."""
    images = data.load("digits")
    one, four = (records.map_one(record(norm="batch", scale=scale), 0.1, images) for scale in (1.0, 4.0))

    def at_start(frame, quantity):
        return frame[(frame.quantity == quantity) & (frame.step == 0) & (frame.layer < 11)].value.to_numpy()

    np.testing.assert_allclose(at_start(one, "layer_deviation"), at_start(four, "layer_deviation"), rtol=1e-3)
    plain, scaled = (records.map_one(record(scale=scale), 0.1, images) for scale in (1.0, 4.0))
    ratio = at_start(scaled, "layer_deviation") / at_start(plain, "layer_deviation")
    np.testing.assert_allclose(ratio, 4.0 ** np.arange(1, 11), rtol=1e-3)


def test_the_accuracy_at_the_end_is_that_of_the_last_fifth():
    """Against the accuracies that the same training logs."""
    images, setting = data.load("digits"), replace(SMOKE, map=replace(SMOKE.map, steps=10, early=5))
    found = records.map_one(record(setting), 0.1, images)
    run = record(setting).run(0.1)
    schedule = train.Schedule(10, 10, 10, 10, 10)
    order = data.batches(len(images.train_x), 32, steps=10, seed=0, device=torch.device("cpu"))
    model = records.build(run.setting, run.arm, 0, images)
    logged = train.collect(train.train(model, images, order=order, lr=0.1, schedule=schedule))
    accuracies = [value for name, value in zip(logged["quantity"], logged["value"], strict=True) if "train" in name]
    end = found[found.quantity == "end_accuracy"]
    assert end.value.tolist() == pytest.approx([np.mean(accuracies[8:])]) and end.step.tolist() == [10]
    assert set(found.quantity) >= {"test_accuracy"} and not set(found.quantity) & {"loss", "train_accuracy"}


def test_a_diverged_training_is_data(cache):
    setting = replace(SMOKE, map=replace(SMOKE.map, lrs=(1e-3, 1e20)))
    run = record(setting)
    frame = run.measure()
    assert frame.attrs["provenance"]["status"] == "1 of 2 diverged"
    trials = claims.trials(frame, least=0.5).set_index("lr")
    assert np.isnan(trials.accuracy[1e20]) and trials.diverged[1e20] >= 0 and not trials.trains[1e20]
    assert trials.accuracy.notna()[1e-3] and np.isnan(trials.diverged[1e-3])
    assert "\N{MULTIPLICATION SIGN}1" in [t.get_text() for t in plots.maps(trials.reset_index())[0].texts]


def test_a_plan_says_what_is_varied_and_what_it_costs(cache):
    plan = runs.plan(SMOKE, "robustness")
    assert plan.loc["trainings", "here"] == "24" and plan.loc["cost of those not kept yet", "here"].endswith(" s")
    assert runs.plan(SMOKE, "robustness_live").loc["trainings", "here"] == "12"


# ---- widths and edges ----------------------------------------------------------------------------------------------

LRS, SCALES = (0.01, 0.1, 1.0, 10.0), (0.5, 1.0, 2.0)


def charted(trains):
    """A frame of one normalizer and seed in which these (lr, scale) train; others are at chance."""
    rows = [(lr, scale, 0.9 if (lr, scale) in trains else 0.1) for lr, scale in product(LRS, SCALES)]
    frame = pd.DataFrame(rows, columns=["lr", "scale", "value"])
    return frame.assign(norm="none", seed=0, quantity="end_accuracy").reindex(columns=store.COLUMNS)


def test_widths_by_hand():
    """A decade between rates, an octave between scales; a hole does not count; the grid's ends are said."""
    frame = charted({(0.1, 0.5), (0.01, 1.0), (1.0, 1.0), (10.0, 1.0)})
    trials = claims.trials(frame, least=0.5)
    rows = claims.widths(trials, "lr").set_index("scale")
    assert rows.width.to_dict() == pytest.approx({0.5: 1, 1.0: 3, 2.0: 0})
    assert rows.holes.to_dict() == {0.5: 0, 1.0: 1, 2.0: 0} and rows.most.tolist() == pytest.approx([4, 4, 4])
    assert rows.from_edge.to_dict() == rows.to_edge.to_dict() == {0.5: False, 1.0: True, 2.0: False}
    assert claims.widths(trials, "scale").set_index("lr").width.to_dict() == pytest.approx(
        {0.01: 1, 0.1: 1, 1.0: 1, 10.0: 1}
    )
    assert claims.width(frame, "none", "lr", least=0.5, at=1.0).tolist() == pytest.approx([3])
    assert claims.width(frame, "none", "lr", least=0.5).tolist() == pytest.approx([4 / 3])
    assert claims.definitions(frame, "lr").loc["none"].tolist() == pytest.approx([4 / 3, 4 / 3, 4 / 3])
    words = claims.edges(claims.widths(trials, "lr"), "lr")
    assert words.loc[("none", 0.5)].tolist() == ["0.1", "0.1", pytest.approx(1), 0]
    assert words.loc[("none", 1.0)].tolist()[:2] == [
        "\N{LESS-THAN OR EQUAL TO} 0.01",
        "\N{GREATER-THAN OR EQUAL TO} 10",
    ]
    assert words.loc[("none", 2.0)].tolist()[:2] == ["none", "none"]


def test_a_frame_without_runs_has_no_edges():
    edges = claims.edges(claims.widths(claims.trials(EMPTY, least=0.5), "lr"), "lr")
    assert edges.empty and edges.index.names == ["norm", "scale"] and claims.definitions(EMPTY, "lr").empty


def test_edges_name_the_seeds_that_train():
    both = pd.concat([charted({(0.1, 1.0), (1.0, 1.0)}), charted(set()).assign(seed=1)])
    words = claims.edges(claims.widths(claims.trials(both, least=0.5), "lr"), "lr")
    assert words.loc[("none", 1.0), "lowest"] == "0.1 (1 of 2 seeds)"


def test_a_depth_factor_by_hand():
    rows = [(layer, 3.0 * 2.0 ** (0.5 * layer), seed) for layer in range(1, 6) for seed in (0, 1)]
    frame = pd.DataFrame(rows, columns=["layer", "value", "seed"])
    frame = frame.assign(norm="none", scale=1.0, step=0, quantity="layer_signal_norm").reindex(columns=store.COLUMNS)
    found = claims.depth_factor(frame, "layer_signal_norm", "none", scale=1.0)
    assert found.tolist() == pytest.approx([0.5, 0.5])
    frame.loc[0, "value"] = 0.0
    found = claims.depth_factor(frame, "layer_signal_norm", "none", scale=1.0)
    assert np.isnan(found[0]) and found[1] == pytest.approx(0.5)
    assert claims.depth_factor(EMPTY, "layer_signal_norm", "none", scale=1.0).empty


# ---- what is drawn -------------------------------------------------------------------------------------------------


def words(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


DRAWINGS = {
    "maps": lambda f: plots.maps(claims.trials(f, least=0.5))[0].figure,
    "width_panels": lambda f: plots.width_panels(claims.trials(f, least=0.5), widths_of=claims.widths)[0].figure,
    "layer_panels": lambda f: plots.layer_panels(f, steps=[0, 2], norms=["none", "batch"])[0, 0].figure,
    "one_scale": lambda f: plots.one_scale(f, claims.trials(f, least=0.5), 1.0),
}


@pytest.fixture(scope="module")
def measured():
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setenv("BNUTILS_CACHE", folder)
        yield runs.experiment(SMOKE, "robustness")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_a_map_is_drawn_and_an_empty_frame_says_so(draw, measured):
    figure = draw(measured)
    figure.canvas.draw()
    assert "no runs on record" not in words(figure) and all(ax.lines or ax.collections for ax in figure.axes)
    figure = draw(runs.with_derived(EMPTY))
    figure.canvas.draw()
    assert words(figure).count("no runs on record") == len(figure.axes)


def test_the_outline_goes_around_what_trains():
    """Two cells side by side: a line of six edges, each drawn twice, white under black."""
    frame = charted({(0.1, 1.0), (1.0, 1.0)})
    (ax, *_) = plots.maps(claims.trials(frame, least=0.5))
    assert len(ax.lines) == 2 * 6
    x = np.array([line.get_xdata() for line in ax.lines])
    y = np.array([line.get_ydata() for line in ax.lines])
    assert (x.min(), x.max(), y.min(), y.max()) == (1, 3, 1, 2)

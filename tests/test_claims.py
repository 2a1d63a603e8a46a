"""The effects on frames made by hand, the judge on frames on either side of each criterion, the paper's own curves."""

import re
from dataclasses import replace
from html import escape
from itertools import product

import numpy as np
import pandas as pd
import pytest
from build import ROOT
from scipy import stats

from bnutils import claims, presets, runs, store

QUICK, PAPER = presets.PRESETS["quick"], presets.PRESETS["paper"]
ACCURACIES = ("train_accuracy", "smooth_accuracy")
LENGTH = 1000  # of the runs made here, logged every ten steps


def rows(norm, lr, values, *, quantity="smooth_accuracy", dose=None, seed=0, layer=pd.NA, every=10):
    """The rows of one run and quantity; `values` is one for each logged step, or one for all."""
    values = np.full(LENGTH // every + 1, values) if np.isscalar(values) else np.asarray(values)
    dose = dose or (1.0 if norm.startswith("noisy") else np.nan)
    keys = {"arm": f"{norm} {lr:g}", "norm": norm, "lr": lr, "dose": dose, "seed": seed, "layer": layer}
    frame = pd.DataFrame({"step": every * np.arange(len(values)), "value": values})
    return frame.assign(**keys, quantity=quantity, eta=np.nan, bin=np.nan, scale=np.nan)[store.COLUMNS]


def arriving(norm, lr, *steps, **keys):
    """Runs, one for each seed, whose training accuracy goes from a half to one at a step."""
    logged = np.arange(0, LENGTH + 1, 10)
    return [rows(norm, lr, np.where(logged >= step, 1, 0.5), seed=seed, **keys) for seed, step in enumerate(steps)]


def ending(norm, lr, *values, quantity="train_accuracy"):
    """Runs, one for each seed, of constant accuracy."""
    return [rows(norm, lr, value, quantity=quantity, seed=seed) for seed, value in enumerate(values)]


def diverging(norm, lr, step, *, seed=0, value=0.95):
    """A run of constant accuracy that diverges at a step."""
    accuracies = [rows(norm, lr, [value] * (step // 10), quantity=name, seed=seed) for name in ACCURACIES]
    return [*accuracies, rows(norm, lr, [step], quantity="diverged", seed=seed).assign(step=step)]


def moving(norm, layer, *means, variance=1.0, deviation=1.0):
    """Runs, one for each seed, whose layer moves by so much at every probe."""
    moved = {"layer_variance_step": variance, "layer_deviation": deviation}
    return [
        rows(norm, 0.1, value, quantity=quantity, seed=seed, layer=layer)
        for seed, mean in enumerate(means)
        for quantity, value in ({"layer_mean_step": mean} | moved).items()
    ]


def frame(*parts):
    return pd.concat([each for part in parts for each in part], ignore_index=True).astype({"layer": "Int64"})


# ---- effects -------------------------------------------------------------------------------------------------------


def test_steps_to_is_the_first_arrival_and_the_length_without_one():
    dip = np.where(np.arange(101) == 30, 0.9, 0.899)  # arrives at step 300, exactly, and falls back
    runs_of_none = [rows("none", 0.1, dip), rows("none", 0.1, 0.899, seed=1), rows("none", 0.1, 1.0, seed=2)]
    found = claims.steps_to(frame(runs_of_none, arriving("batch", 0.1, 100, 200, 50)), "none", 0.1)
    assert found.to_dict() == {0: 300, 1: LENGTH, 2: 1}  # 1, not 0: ratios of steps are taken


def test_steps_to_tells_rates_and_doses_apart():
    noisy = [*arriving("noisy", 0.1, 100), *arriving("noisy", 0.1, 400, dose=4.0)]
    four = frame(noisy, arriving("none", 0.1, 50), arriving("none", 0.5, 600))
    assert claims.steps_to(four, "none", 0.5).tolist() == [600]
    assert claims.steps_to(four, "noisy", 0.1).tolist() == [100]
    assert claims.steps_to(four, "noisy", 0.1, dose=4.0).tolist() == [400]


def test_an_absent_arm_has_no_value():
    only = frame(arriving("none", 0.1, 100, 100))
    for found in (claims.steps_to(only, "batch", 0.1), claims.final_accuracy(only, "train_accuracy", "none", 0.1)):
        assert list(found.index) == [0, 1] and found.isna().all()


def test_a_diverged_run_never_arrives_and_ends_at_zero():
    both = frame(diverging("none", 0.5, 300, value=0.5), ending("none", 0.5, 0.4, 0.8)[1:], ending("batch", 0.5, 1.0))
    assert claims.steps_to(both, "none", 0.5).tolist() == [LENGTH, LENGTH]
    assert claims.final_accuracy(both, "train_accuracy", "none", 0.5).tolist() == [0, 0.8]


def test_runs_that_all_diverged_end_at_zero():
    """The length of training is not that of the longest run."""
    assert claims.final_accuracy(frame(diverging("none", 0.5, 300)), "train_accuracy", "none", 0.5).tolist() == [0]


def test_an_arm_that_diverged_at_once_is_no_absent_arm():
    both = frame(diverging("none", 0.5, 0), ending("batch", 0.5, 1.0), arriving("batch", 0.5, 100))
    assert claims.final_accuracy(both, "train_accuracy", "none", 0.5).tolist() == [0]
    assert claims.steps_to(both, "none", 0.5).tolist() == [LENGTH]


def test_final_accuracy_is_that_of_the_last_fifth():
    late = np.where(np.arange(0, 1001, 10) < 800, 0.1, 0.7)
    one = frame([rows("batch", 0.1, late, quantity="test_accuracy"), rows("batch", 0.1, 0.3, quantity="loss")])
    assert claims.final_accuracy(one, "test_accuracy", "batch", 0.1).tolist() == pytest.approx([0.7])


def test_movement_is_of_one_layer_and_relative_if_asked():
    one = frame(moving("none", 3, 0.2, 0.6, deviation=4.0), moving("none", 11, 7.0, 7.0))
    one.loc[(one.step == 0) & (one.layer == 3) & (one.quantity == "layer_mean_step"), "value"] += 1.01  # 101 probes
    absolute, relative = (
        claims.movement(one, "layer_mean_step", "none", 0.1, layer=3, relative=relative) for relative in (False, True)
    )
    assert absolute.tolist() == pytest.approx([0.21, 0.61])
    assert relative.tolist() == pytest.approx([0.21 / 4, 0.61 / 4])


def test_interval_is_the_t_interval():
    """By hand: the mean of 1, 2, 6 is 3, the deviation sqrt(7), and t of 95 % at two degrees of freedom 4.302653."""
    half = 4.302653 * np.sqrt(7 / 3)
    assert claims.interval(pd.Series([1.0, 2.0, 6.0])) == pytest.approx((3 - half, 3 + half), rel=1e-6)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, np.nan]])
def test_interval_is_unbounded_without_a_spread(values):
    assert claims.interval(pd.Series(values, dtype=float)) == (-np.inf, np.inf)


def test_interval_of_equal_values_is_that_value():
    assert claims.interval(pd.Series([0.5] * 3)) == pytest.approx((0.5, 0.5))


# ---- the judge -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "none", "word", "holds"),
    [
        ([0.95, 0.96, 0.97], [0.1, 0.11, 0.12], "reproduced", [True, True]),
        ([0.5, 0.51, 0.52], [0.9, 0.91, 0.92], "not reproduced", [False, False]),
        ([0.95, 0.96, 0.97], [0.9, 0.91, 0.92], "partly", [True, False]),
        ([0.95, 0.96, 0.97], [0.05, 0.15, 0.4], "inconclusive", [True, None]),
        ([0.5, 0.51, 0.52], [0.05, 0.15, 0.4], "inconclusive", [False, None]),
        ([0.95], [0.1], "inconclusive", [None, None]),
        ([], [0.1, 0.11, 0.12], "inconclusive", [None, True]),
    ],
)
def test_every_word_can_be_reached(batch, none, word, holds):
    both = frame(ending("batch", 0.5, *batch), ending("none", 0.5, *none))
    verdict = claims.judge("large_steps", both, setting=QUICK)
    assert (verdict.word, list(verdict.parts.holds)) == (word, holds)
    assert verdict.reason == f"{len(none)} seeds at scale quick."


def test_an_open_part_does_not_hide_that_two_others_differ():
    """Layers 2, 9 and 12: means that move more, less and either; variances that move less."""
    means = {2: [2, 2.1, 2.2], 9: [0.2, 0.21, 0.22], 12: [0.2, 1, 5]}
    moved = [moving("noisy", layer, *each, variance=0.5) for layer, each in means.items()]
    plain = [moving("none", layer, 1, 1, 1) for layer in means]
    verdict = claims.judge("noisy_stability", frame(*moved, *plain), setting=QUICK)
    assert verdict.word == "partly"
    assert list(verdict.parts.holds) == [True, False, True, False, False, False, None, False, None]


def stable(ratio):
    """Standard's means move `ratio` times as far as BatchNorm's in units of their deviation, and 100 times in all."""
    standard = [moving("none", layer, *[100 * ratio] * 3, deviation=100.0) for layer in (3, 11)]
    return frame(*standard, *(moving("batch", layer, 1.0, 1.0, 1.0) for layer in (3, 11)))


def unstable(ratio):
    """The same for noisy BatchNorm over Standard, means and variances."""
    noisy = [moving("noisy", layer, *[ratio] * 3, variance=ratio) for layer in (2, 9, 12, 13)]
    return frame(*noisy, *(moving("none", layer, 1.0, 1.0, 1.0) for layer in (2, 9, 12, 13)))


def steady(lr, layer=pd.NA, eta=np.nan, **values):
    """Three runs each of Standard and BatchNorm in which quantities stay at (Standard's value, BatchNorm's)."""
    pairs = [
        (name, norm, at) for name, both in values.items() for norm, at in zip(("none", "batch"), both, strict=True)
    ]
    runs_of_both = [
        rows(norm, lr, at, quantity=name, seed=seed, layer=layer) for name, norm, at in pairs for seed in range(3)
    ]
    return [each.assign(eta=eta) for each in runs_of_both]


def shifting(v):
    """BatchNorm's cosines higher by v and its distances smaller by 2^(10 v)."""
    values = {"shift_cosine": (0.5, 0.5 + v), "shift_l2": (1.0, 2 ** (-10 * v))}
    return frame(*(steady(lr, layer, **values) for lr in (0.1, 0.01) for layer in (5, 10)))


def turning(standard, batch):
    """Cosines of the deep linear network, alike at both rates and layers."""
    parts = [steady(lr, layer, shift_cosine=(standard, batch)) for lr in (1e-6, 1e-7) for layer in (9, 17)]
    return frame(*parts)


def rough(v, lr=0.1):
    """The landscape of Standard v times as wide, unpredictable and steep as BatchNorm's."""
    bands = {"loss_low": (1.0, 1.0), "loss_high": (1.0 + v, 2.0), "distance_low": (0.1, 0.1)}
    return frame(steady(lr, distance_high=(v, 1.0), beta_max=(v, 1.0), **bands))


def charted(norm, rates, scales):
    """Three seeds of quick's map, of which so many of the first learning rates and scales train."""
    points = product(enumerate(QUICK.map.lrs), enumerate(QUICK.map.scales), range(3))
    return [
        rows(norm, lr, [0.9 if i < rates and j < scales else 0.1], quantity="end_accuracy", seed=seed).assign(scale=s)
        for (i, lr), (j, s), seed in points
    ]


def sloping(norm, slope):
    """Lengths of gradients that grow by the factor 2^slope from one layer to the next, at all scales of quick's map."""
    points = product(("layer_signal_norm", "layer_gradient_norm"), QUICK.map.scales, range(1, 12), range(3))
    return [
        rows(norm, 0.1, [2.0 ** (slope * layer)], quantity=name, layer=layer, seed=seed).assign(scale=scale)
        for name, scale, layer, seed in points
    ]


def apart(excess):
    """All theorems on three seeds of a random layer, each left side 1 and each right side lower by `excess`."""
    right = {name for pairs in claims.STATEMENTS.values() for pair in pairs for name in pair[1:]}
    left = {name for pairs in claims.STATEMENTS.values() for pair in pairs for name in pair[:1]}
    values = dict.fromkeys(left, 1.0) | dict.fromkeys(right, 1 - excess)
    values |= dict.fromkeys(["observation_4_3_outputs", "observation_4_3_loss", "scale_invariance"], excess)
    keys = {"arm": "quadratic, m 4, gamma/sigma 1, correlation 0.4", "norm": "batch", "lr": 0.0, "step": 0}
    each = [keys | {"seed": s, "quantity": name, "value": value} for s in range(3) for name, value in values.items()]
    return pd.DataFrame(each).reindex(columns=store.COLUMNS)


THEOREMS = ("theorem_4_1", "theorem_4_2", "observation_4_3", "theorem_4_4", "theorem_c_1", "lemma_4_5")
# for each claim, frames by the value that its criterion bounds; values that satisfy it and values that do not
CRITERIA = {
    "speed": (lambda v: frame(arriving("none", 0.1, *[v] * 3), arriving("batch", 0.1, *[200] * 3)), [310], [290]),
    "test_accuracy": (
        lambda v: frame(
            ending("none", 0.1, *[0.8] * 3, quantity="test_accuracy"),
            ending("batch", 0.1, *[v] * 3, quantity="test_accuracy"),
        ),
        [0.811],
        [0.809, 0.7],
    ),
    "large_steps": (
        lambda v: frame(ending("batch", 0.5, *[0.9 + v] * 3), ending("none", 0.5, *[0.2 - v] * 3)),
        [0.01],
        [-0.01],
    ),
    "stability": (stable, [1.9, 1 / 1.9], [2.1, 1 / 2.1]),
    "noisy_speed": (
        lambda v: frame(
            arriving("none", 0.1, *[400] * 3), arriving("batch", 0.1, *[100] * 3), arriving("noisy", 0.1, *[v] * 3)
        ),
        [190, 50],
        [210, 240],  # 240: nearer to BatchNorm on a linear scale
    ),
    "noisy_stability": (unstable, [1.05], [0.95]),
    "shift": (shifting, [0.09, -0.5], [0.11]),
    "linear_shift_standard": (lambda v: turning(v, 0.0), [0.91], [0.89, -0.9]),
    "linear_shift_batch": (lambda v: turning(1.0, v), [0.29, -0.29], [0.31, -0.31]),
    "loss_range": (rough, [2.1], [1.9]),
    "predictiveness": (rough, [2.1], [1.9]),
    "two_orders": (rough, [31], [29]),
    "smoothness": (rough, [1.1], [0.9]),
    "random_directions": (
        lambda v: frame(steady(0.1, eta=0.1, random_distance=(v, 1.0), random_beta=(v, 1.0))),
        [1.1],
        [0.9],
    ),
    "linear_landscape": (lambda v: rough(v, lr=1e-6), [11], [9]),
    "saturation": (
        lambda v: frame(steady(0.1, beta_max=(20 * v,) * 2, beta_max_short=(40 * v * v,) * 2)),
        [1.04, 0.96],
        [1.15, 0.85],
    ),
    "by_heart": (
        lambda v: frame(
            steady(0.1, beta_max=(20 * v,) * 2, beta_max_short=(40 * v * v,) * 2, smooth_accuracy=(0.91, 0.98))
        ),
        [1.04, 0.96],
        [1.15, 0.85],
    ),
    "edge_of_stability": (lambda v: frame(steady(1e-6, eta=1e-6, beta=(v * 1e6,) * 2)), [1.9, 2.1], [1.7, 2.3]),
    "noise_alone": (lambda v: frame(ending("noisy_none", 0.1, *[v] * 3)), [0.19], [0.21]),
    "robust_lr": (lambda v: frame(charted("none", 1, 5), charted("batch", 1 + v, 5)), [2, 6], [0]),
    "robust_init": (lambda v: frame(charted("none", 7, 1), charted("batch", 7, 1 + v)), [2, 4], [0]),
    "gradients_by_layer": (lambda v: frame(sloping("none", v), sloping("batch", -0.1)), [0.11, -0.11], [0.09, -0.09]),
    **{name: (apart, [0.0, 5e-10], [2e-9, 0.5]) for name in THEOREMS},
    "flat_minima": (lambda v: minima(v), [1.1], [0.9]),
    "shallow_not_flatter": (lambda v: minima(v), [0.9], [1.1]),
}


def minima(v, *, loss=(0.11, 0.19), seeds=3):
    """Around Standard v times as sharp as around BatchNorm, at these training losses of the two."""
    at = {
        "minimum_loss": (*loss, [np.nan]),
        "eigenvalue_normalized": (v, 1.0, [0.25, 1.0]),
        "sharpness_adaptive": (v, 1.0, [np.nan]),
    }
    return frame(
        [
            rows(norm, 0.1, [value * (1 if eta != 0.25 else 50)], quantity=name, seed=seed).assign(eta=eta)
            for name, (none, batch, etas) in at.items()
            for norm, value in (("none", none), ("batch", batch))
            for seed in range(seeds)
            for eta in etas
        ]
    )


def by_each_lp(both):
    """What a frame has of BatchNorm, of l1, l2 and linf."""
    others = [both[both.norm == "batch"].assign(norm=norm) for norm in claims.LP]
    return frame([both[both.norm == "none"]], others)


CRITERIA["augmented_accuracy"] = CRITERIA["test_accuracy"]
CRITERIA |= {
    "lp_speed": (
        lambda v: frame(
            arriving("none", 0.1, *[450 + v] * 3),
            arriving("batch", 0.1, *[200 + v] * 3),
            *(arriving(norm, 0.1, *[300] * 3) for norm in claims.LP),
        ),
        [10],
        [-10],
    ),
    "lp_landscape": (lambda v: by_each_lp(rough(v)), [1.1], [0.9]),
    "lp_shift": (
        lambda v: frame(moving("none", 11, 1, 1, 1), *(moving(norm, 11, v, v, v) for norm in claims.LP)),
        [1.05],
        [0.95],
    ),
    "lp_linear": (
        lambda v: frame(
            ending("batch", 1e-6, 1, 1, 1, quantity="squared_error"),
            *(ending(norm, 1e-6, v, v, v, quantity="squared_error") for norm in claims.LP),
        ),
        [1.4],
        [1.6],
    ),
    "l1_linear": (
        lambda v: frame(
            *(ending(norm, 1e-6, *[at] * 3, quantity="squared_error") for norm, at in {"batch": 1, "l1": v}.items())
        ),
        [0.9],
        [1.1],
    ),
    "lp_linear_landscape": (lambda v: by_each_lp(rough(v, lr=1e-6)), [11], [9]),
}


@pytest.mark.parametrize("name", claims.CLAIMS)
def test_the_criterion_decides(name):
    make, satisfying, refuting = CRITERIA[name]
    setting = presets.PRESETS[claims.CLAIMS[name].scales[0]]
    for word, values in (("reproduced", satisfying), ("not reproduced", refuting)):
        assert [claims.judge(name, make(value), setting=setting).word for value in values] == [word] * len(values)


def test_learning_by_heart_is_a_phase_of_each_run_by_itself():
    """Beta counts where a run's own accuracy lies between 90 and 99 %; a run that is never there has no value."""
    accuracy = np.linspace(0, 1, LENGTH // 10 + 1)
    there = (accuracy >= 0.9) & (accuracy <= 0.99)
    values = {
        "smooth_accuracy": accuracy,
        "beta_max": np.where(there, 20, 999),
        "beta_max_short": np.where(there, 40, 999),
    }
    runs_of_both = product(values.items(), ("none", "batch"), range(3))
    both = frame([rows(norm, 0.1, each, quantity=name, seed=seed) for (name, each), norm, seed in runs_of_both])
    cifar = presets.PRESETS["cifar"]
    assert claims.judge("by_heart", both, setting=cifar).word == "reproduced"
    both.loc[(both.quantity == "smooth_accuracy") & (both.seed == 2), "value"] = 0.5
    assert claims.judge("by_heart", both, setting=cifar).word == "inconclusive"


@pytest.mark.parametrize("loss", [(0.21, 0.15), (0.15, 0.09)])
def test_minima_at_another_loss_are_not_compared(loss):
    assert claims.judge("flat_minima", minima(1.1, loss=loss), setting=QUICK).word == "inconclusive"
    table = claims.flatness({"deep": minima(1.1, loss=loss)}, claims.FLATNESS, lr=0.1)
    assert list(table.flatter) == ["open", "open"] and list(table.measure) == list(claims.FLATNESS.values())


def test_only_networks_in_the_band_are_drawn():
    """A run that never came to the loss is measured at its end; nothing of it may stand beside the others."""
    both = minima(4.0, loss=(0.21, 0.15))
    assert set(claims.met(both).norm) == {"batch"} and len(claims.met(minima(4.0))) == len(minima(4.0))
    assert claims.met(both[both.norm == "none"]).empty


def test_a_rise_is_above_the_network_itself():
    line = pd.DataFrame({"eta": [-1, 0, 1], "value": [0.5, 0.2, 1.2], "bin": 0.0, "arm": "a", "seed": 0})
    other = line.assign(bin=0.5, value=9.0)
    found = claims.rise(pd.concat([line, other]).assign(quantity="loss_around"))
    assert found.rise.tolist() == pytest.approx([0.3, 0, 1.0])


def test_flatness_is_a_ratio_of_pairs():
    table = claims.flatness({"deep": minima(4.0)}, claims.FLATNESS | {"sharpness": "none measured"}, lr=0.1)
    assert list(table.flatter) == ["BatchNorm", "BatchNorm", "open"]
    assert list(claims.flatness({"deep": minima(0.5)}, claims.FLATNESS, lr=0.1).flatter) == ["Standard", "Standard"]
    np.testing.assert_allclose(table[["none", "batch", "ratio", "low", "high"]].to_numpy()[:2], [[4, 1, 4, 4, 4]] * 2)
    points = claims.minima_points({"deep": minima(4.0), "other": minima(4.0, loss=(0.21, 0.15))}, lr=0.1)
    assert list(zip(points.network, points.norm, strict=True)) == [
        *[("deep", "none")] * 3,
        *[("deep", "batch")] * 3,
        *[("other", "batch")] * 3,
    ]
    assert list(points.eigenvalue_normalized) == [4] * 3 + [1] * 6
    quarter = claims.around_minimum(minima(4.0), "eigenvalue_normalized", "none", 0.1, factor=0.25)
    assert list(quarter) == [200] * 3


@pytest.mark.parametrize("name", claims.CLAIMS)
def test_a_scale_that_cannot_decide_does_not(name):
    make, (satisfying, *_), _ = CRITERIA[name]
    claim = claims.CLAIMS[name]
    for preset in set(presets.PRESETS) - set(claim.scales):
        verdict = claims.judge(name, make(satisfying), setting=presets.PRESETS[preset])
        assert verdict.word == "inconclusive"
        assert verdict.reason == f"Not judged at scale {preset}: {claim.unfit}."
        assert set(verdict.parts.holds) == {None}
        assert "yes" not in verdict._repr_html_() and "no<" not in verdict._repr_html_()


def test_scales_are_those_that_can_decide():
    """Eight steps decide nothing; digits saturate and short runs do not arrive."""
    assert not [name for name, claim in claims.CLAIMS.items() if "smoke" in claim.scales]
    assert claims.CLAIMS["augmented_accuracy"].scales == ("paper",)
    assert claims.CLAIMS["test_accuracy"].scales == claims.CLAIMS["saturation"].scales == ("long", "paper")


def test_late_training_is_not_judged_where_training_was_cut_short():
    make, (satisfying, *_), _ = CRITERIA["test_accuracy"]
    for steps, judged in ((15_000, True), (14_999, False)):
        setting = presets.get("long", dataset="cifar10-jpeg", steps=steps)
        verdict = claims.judge("test_accuracy", make(satisfying), setting=setting)
        assert verdict.judged == judged == (verdict.word == "reproduced")
    assert verdict.reason.startswith("Not judged at scale long on cifar10-jpeg with other schedule: ")


def test_missing_runs_decide_nothing():
    some = CRITERIA["speed"][0](310)
    some.attrs["missing"] = 2
    verdict = claims.judge("speed", some, setting=QUICK)
    assert (verdict.word, verdict.reason) == ("inconclusive", "2 runs are missing.")
    assert set(verdict.parts.holds) == {None}


def test_a_seed_without_a_value_leaves_its_part_open():
    """A run that diverged before its second probe did not move, and must not be left out of the count either."""
    three = stable(1.0)
    verdict = claims.judge("stability", three[(three.seed < 2) | (three.norm == "batch")], setting=QUICK)
    assert verdict.word == "inconclusive"


def test_an_empty_frame_is_judged():
    """What a page has where every run is too costly to be measured."""
    nothing = runs.with_derived(pd.DataFrame(columns=store.COLUMNS))
    for name, claim in claims.CLAIMS.items():
        verdict = claims.judge(name, nothing, setting=presets.PRESETS[claim.scales[0]], paper=nothing)
        assert verdict.word == "inconclusive" and set(verdict.parts.ours) == {"none"}


def test_an_unknown_claim_is_named_with_those_accepted():
    message = f"unknown claim 'sped': accepted are {', '.join(claims.CLAIMS)}"
    nothing = pd.DataFrame(columns=store.COLUMNS)
    for call in (claims.find, claims.cards, lambda name: claims.judge(name, nothing, setting=QUICK)):
        with pytest.raises(ValueError) as error:
            call("sped")
        assert str(error.value) == message


@pytest.mark.parametrize("name", claims.CLAIMS)
def test_every_claim_is_whole(name):
    claim = claims.find(name)
    assert claim.scales and set(claim.scales) <= set(presets.PRESETS)
    for words in (claim.statement, claim.place, claim.criterion, claim.refuted_by, claim.compares, claim.unfit):
        assert words.strip()
    for setting in presets.PRESETS.values():
        parts = claim.parts(setting)
        assert parts and len({part.label for part in parts}) == len(parts)
        assert all(part.low < part.high and np.isfinite([part.low, part.high]).any() for part in parts)


# ---- what a page shows ---------------------------------------------------------------------------------------------


def test_cards_show_the_claim_escaped():
    claim = replace(claims.CLAIMS["speed"], statement="a < b", place="<i>", criterion="c & d", refuted_by='"e"')
    shown = claims.Cards((claim,))._repr_html_()
    assert all(text in shown for text in ("a &lt; b", "&lt;i&gt;", "c &amp; d", "&quot;e&quot;"))
    assert claims.cards("speed", "noise_alone").claims == (claims.CLAIMS["speed"], claims.CLAIMS["noise_alone"])


def cells(verdict):
    """The table of a verdict as a reader sees it, row by row."""
    shown = verdict._repr_html_().replace("\xa0", " ")
    return [re.findall("<td>(.*?)</td>", row) for row in shown.split("<tr>")[2:]]


def test_a_verdict_shows_its_word_and_every_part():
    both = frame(ending("batch", 0.5, 0.95, 0.96), ending("none", 0.5, 0.1, 0.6))
    verdict = claims.judge("large_steps", both, setting=QUICK)
    shown = verdict._repr_html_()
    assert "? Inconclusive." in shown and verdict.claim.statement in shown and verdict.reason in shown
    assert cells(verdict) == [
        ["BatchNorm, 0.5", "95.5 %", "89.1 % to 101.9 %", "above 90.0 %", "open"],
        ["Standard, 0.5", "35.0 %", "-282.7 % to 352.7 %", "below 20.0 %", "open"],
    ]
    for word, ratio, holds in (("✓ Reproduced.", 1.0, "yes"), ("✗ Not reproduced.", 4.0, "no")):
        verdict = claims.judge("stability", stable(ratio), setting=QUICK)
        assert word in verdict._repr_html_()
        assert [(row[0], row[-1]) for row in cells(verdict)] == [(label, holds) for label in verdict.parts.iloc[:, 0]]


def test_a_verdict_is_escaped():
    verdict = claims.judge("speed", CRITERIA["speed"][0](310), setting=QUICK)
    parts = verdict.parts.rename(columns={"ours": "<ours>"}).assign(accepted="<b>")
    shown = replace(verdict, claim=replace(verdict.claim, statement="a < b"), reason="1 & 2", parts=parts)._repr_html_()
    assert all(text in shown for text in ("a &lt; b", "1 &amp; 2", "&lt;ours&gt;", "&lt;b&gt;"))


# ---- dose-response -------------------------------------------------------------------------------------------------


def test_benefit_says_by_dose_whether_noise_still_leaves_one():
    doses = {
        1.0: (200, 210, 190),  # twice as fast as Standard
        2.0: (800, 810, 790),  # half as fast
        4.0: (100, 400, 1000),  # anything
    }
    noisy = [arriving("noisy", 0.1, *steps, dose=dose) for dose, steps in doses.items()]
    found = claims.benefit(
        frame(arriving("none", 0.1, 400, 420, 380), arriving("batch", 0.1, 100, 100, 100), *noisy), lr=0.1
    )
    assert found.dose.tolist() == [0, 1, 2, 4]
    assert found.helps.tolist() == ["yes", "yes", "no", "open"]
    geometric = [(400 * 420 * 380) ** (1 / 3) / 100, 2, (400 / 800 * 420 / 810 * 380 / 790) ** (1 / 3)]
    assert found.speedup[:3].tolist() == pytest.approx(geometric)
    assert (found.low <= found.speedup).all() and (found.speedup <= found.high).all()
    assert (found.low[1], found.high[1]) == pytest.approx((2, 2))  # paired by seed: each is exactly twice as fast
    assert (found.arrived == found.runs).all() and (found.runs == 3).all()


def test_benefit_counts_the_noisy_runs_that_arrived():
    noisy = [rows("noisy", 0.1, 0.5, seed=0), *arriving("noisy", 0.1, 100, 100)[1:]]
    found = claims.benefit(frame(arriving("none", 0.1, 400, 400), arriving("batch", 0.1, 50, 50), noisy), lr=0.1)
    assert found[["arrived", "runs"]].values.tolist() == [[2, 2], [1, 2]]


def test_steps_in_words_say_where_most_never_arrived():
    two = frame(arriving("none", 0.1, 100, 300, 500), [rows("batch", 0.1, 0.5, seed=seed) for seed in range(3)])
    assert claims.in_words(two, "none", 0.1) == "300 steps"
    assert claims.in_words(two, "batch", 0.1) == "more than 1,000 steps"


def test_where_neither_network_arrives_speed_is_open():
    """Both count with the length of training, and a ratio of one would pass for a measurement."""
    never = [[rows(norm, 0.1, 0.5, seed=seed) for seed in range(3)] for norm in ("none", "batch")]
    assert claims.judge("speed", frame(*never), setting=QUICK).word == "inconclusive"


def test_noisy_speed_is_open_where_batchnorm_is_no_faster_than_standard():
    slow = frame(arriving("none", 0.1, 100, 110, 90), arriving("batch", 0.1, 400, 410, 390))
    noisy = frame(arriving("noisy", 0.1, 100, 100, 100))
    both = pd.concat([slow, noisy], ignore_index=True)
    assert claims.judge("noisy_speed", both, setting=QUICK).word == "inconclusive"


def test_a_criterion_for_ten_classes_is_not_applied_to_two():
    trained = frame(ending("noisy_none", 0.1, 0.5, 0.5, 0.5))
    assert claims.judge("noise_alone", trained, setting=QUICK).word == "not reproduced"
    trained.attrs["classes"] = 2
    verdict = claims.judge("noise_alone", trained, setting=QUICK)
    assert verdict.word == "inconclusive" and "2 classes" in verdict.reason


def test_a_changed_preset_is_named():
    changed = presets.get("quick", steps=100, lrs=[0.2, 0.3])
    trained = frame(arriving("none", 0.2, 100, 100), arriving("batch", 0.2, 50, 50))
    reason = claims.judge("speed", trained, setting=changed).reason
    assert reason == "2 seeds at scale quick with other schedule, lrs."
    verdict = claims.judge("speed", trained.iloc[:0], setting=changed)
    assert verdict.reason.endswith("none of them with a value.") and not verdict.measured


def test_the_largest_scale_is_one_with_a_value():
    trained = frame(arriving("none", 0.1, 400, 410), arriving("batch", 0.1, 100, 110))
    trained.attrs["scale"] = "here"
    empty = trained.iloc[:0].copy()
    board = claims.verdicts("speed", [(presets.PRESETS["cifar"], empty), (QUICK, trained)])
    assert board.largest == {"largest": "reproduced", "scale": "here"}
    nothing = claims.verdicts("speed", [(QUICK, empty)])
    assert nothing.largest == {"largest": "inconclusive", "scale": "nothing measured"}


def test_what_is_not_judged_is_not_called_open():
    trained = frame(arriving("none", 0.1, 400, 410), arriving("batch", 0.1, 100, 110))
    trained.attrs["missing"] = 1
    assert "not judged" in claims.judge("speed", trained, setting=QUICK)._repr_html_()


def test_benefit_of_one_seed_is_open():
    found = claims.benefit(frame(arriving("none", 0.1, 400), arriving("batch", 0.1, 100)), lr=0.1)
    assert found[["dose", "speedup", "helps"]].values.tolist() == [[0, 4, "open"]]


# ---- the paper's own curves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figure", "norm", "lr", "steps"),
    [
        ("1a", "none", 0.1, 4500),
        ("1a", "batch", 0.1, 2200),
        ("1a", "batch", 0.5, 3400),
        ("1a", "none", 0.5, 15_000),  # never
        ("2", "none", 0.1, 4500),
        ("2", "batch", 0.1, 2200),
        ("2", "noisy", 0.1, 3000),
    ],
)
def test_the_papers_curves_arrive_when_they_do(figure, norm, lr, steps):
    """The first logged step at which the mean of five reaches 90 %."""
    assert claims.steps_to(runs.paper(figure), norm, lr).tolist() == [steps]


@pytest.mark.parametrize(
    ("figure", "quantity", "norm", "lr", "last", "late"),
    [
        ("1b", "test_accuracy", "none", 0.1, 80.01, 80.03),
        ("1b", "test_accuracy", "batch", 0.1, 82.87, 82.69),
        ("1b", "test_accuracy", "none", 0.5, 10.00, 10.00),
        ("1b", "test_accuracy", "batch", 0.5, 80.17, 79.81),
        ("1a", "train_accuracy", "none", 0.1, None, 99.3),
        ("1a", "train_accuracy", "batch", 0.1, None, 98.8),
        ("1a", "train_accuracy", "none", 0.5, None, 9.8),
        ("1a", "train_accuracy", "batch", 0.5, None, 96.1),
        ("2", "train_accuracy", "noisy", 0.1, None, 98.1),
    ],
)
def test_the_papers_curves_end_where_they_do(figure, quantity, norm, lr, last, late):
    """At step 15,000, and on average from step 10,000, in per cent as read from the figures, to the last digit."""
    curves = runs.paper(figure)
    curve = curves[(curves.quantity == quantity) & (curves.norm == norm) & (curves.lr == lr)].set_index("step").value
    assert last is None or 100 * curve.loc[15_000] == pytest.approx(last, abs=0.005)
    assert 100 * curve.loc[10_000:].mean() == pytest.approx(late, abs=0.005 if figure == "1b" else 0.05)
    assert claims.final_accuracy(curves, quantity, norm, lr).tolist() == pytest.approx([curve.loc[12_000:].mean()])


@pytest.mark.parametrize(
    ("name", "figure", "values"),
    [
        ("speed", "1a", [4500 / 2200]),
        ("large_steps", "1a", [95.9, 9.5]),  # %
        ("test_accuracy", "1b", [2.5]),  # %
        ("noisy_speed", "2", [3000 / (4500 * 2200) ** 0.5]),
        ("lp_speed", "5a", [4500 / 1800, 1800 / 2200, 4500 / 2200, 1, 4500 / 2200, 1]),
    ],
)
def test_the_papers_value_stands_beside_ours(name, figure, values):
    verdict = claims.judge(name, frame(ending("none", 0.1, 1.0)), setting=PAPER, paper=runs.paper(figure))
    shown = [float(re.match(r"[\d.]+", cell)[0]) for cell in verdict.parts["the paper's curve"]]
    assert shown == pytest.approx(values, rel=0.03)
    assert "the paper&#x27;s curve" in verdict._repr_html_()


@pytest.mark.parametrize(
    ("name", "figure", "values"),
    [
        ("linear_shift_standard", "3b", [0.87, -0.9, 1.0, 1.0]),
        ("smoothness", "4", [1.2, 1.0]),
        ("lp_linear", "5b", [0.23, 1.0, 2.06]),
        ("predictiveness", "4", [3.0, 2.2]),
        ("edge_of_stability", "10", []),  # it draws the largest beta, not that at the learning rate
    ],
)
def test_the_papers_gradients_stand_beside_ours(name, figure, values):
    """Figs 3b and 4: means over training and ratios of medians, to about a tenth."""
    verdict = claims.judge(name, rough(1.0), setting=PAPER, paper=runs.paper(figure))
    shown = [float(re.match(r"-?[\d.]+", cell)[0]) for cell in verdict.parts["the paper's curve"] if cell]
    assert shown == pytest.approx(values, abs=0.4 if figure == "4" else 0.06)


def test_on_its_own_images_the_papers_curve_ends_where_our_runs_do():
    """Or its first fifth would be all of our training; beside other images it counts whole."""

    def beside(setting):
        return claims.judge("predictiveness", rough(1.0), setting=setting, paper=runs.paper("4")).parts[
            "the paper's curve"
        ]

    cifar, cut = presets.PRESETS["cifar"], runs.paper("4")
    cut = cut[cut.step <= cifar.schedule.steps]
    by_hand = claims.judge("predictiveness", rough(1.0), setting=QUICK, paper=cut).parts["the paper's curve"]
    assert list(beside(cifar)) == list(by_hand) != list(beside(QUICK)) == list(beside(PAPER))


def test_a_paper_curve_that_was_cut_says_so():
    """Not where the claim is judged over the paper's steps only: late in training is late in the paper's."""
    cifar = presets.PRESETS["cifar"]
    for name, setting, head in (
        ("predictiveness", cifar, "the paper's curve, first 1,500 steps"),
        ("predictiveness", PAPER, "the paper's curve"),
        ("saturation", cifar, "the paper's curve"),
    ):
        verdict = claims.judge(name, rough(1.0), setting=setting, paper=runs.paper("4"))
        assert f"<th>{escape(head)}</th>" in verdict._repr_html_()
    assert verdict.parts["the paper's curve"].iloc[0] == "1.00"


def test_the_papers_bands_are_the_papers_numbers():
    """Fig. 4, medians between steps 1000 and 3000, and the first point of Fig. 10b."""
    four = runs.paper("4").query("1000 < step <= 3000").groupby(["norm", "quantity"]).value.median()
    assert four["none", "distance_high"] == pytest.approx(86.2, rel=0.02)
    assert four["batch", "distance_low"] == pytest.approx(15.3, rel=0.02)
    assert four["none", "loss_high"] - four["none", "loss_low"] == pytest.approx(2.51, rel=0.2)
    assert four["batch", "beta_max"] == pytest.approx(19.5, rel=0.01)
    ten = runs.paper("10").set_index(["norm", "quantity", "step"]).value
    assert ten["none", "beta_max", 100] == pytest.approx(1.2e15, rel=0.05)


def test_a_value_that_the_paper_does_not_show_has_no_column():
    """The movement of all units of a layer: no figure has it."""
    verdict = claims.judge("stability", stable(1.0), setting=PAPER, paper=runs.paper("1a"))
    assert "the paper&#x27;s curve" not in verdict._repr_html_()


def test_the_papers_curves_keep_the_one_schema():
    for figure in runs.PAPER_FIGURES:
        assert list(runs.paper(figure).columns) == store.COLUMNS
    with pytest.raises(
        ValueError, match=r"no curves of figure '3': accepted are 1a, 1b, 2, 3a, 3b, 4, 8, 10, 5a, 5b, 12, 13$"
    ):
        runs.paper("3")


def test_the_terms_of_a_theorem_are_those_of_the_hidden_layers_at_both_ends():
    """Medians over looks and seeds by layer, then the smallest and the largest; a network that was not run is blank."""
    layers = {1: [0.1, 0.2, 9.0], 2: [0.5, 0.5, 0.5], 3: [0.3, 0.4, 0.4]}
    parts = [
        rows("batch", 0.1, value, quantity="term_mean", seed=seed, layer=layer)
        for layer, values in layers.items()
        for seed, value in enumerate(values)
    ]
    table = claims.terms_of_4_1(frame(parts))
    assert list(table.index) == list(claims.TERMS.values()) and list(table.columns) == ["Standard", "BatchNorm"]
    assert table.loc["share of the mean term", "BatchNorm"] == "0.2 to 0.5"
    assert table.Standard.isna().all() and claims.terms_of_4_1(parts[0].iloc[:0]).isna().all().all()


# ---- mistakes ------------------------------------------------------------------------------------------------------


def measured_at(norm, quantity, *values, eta=np.nan):
    """One number at step 0 for each seed."""
    return [rows(norm, 0.1, [value], quantity=quantity, seed=seed).assign(eta=eta) for seed, value in enumerate(values)]


def judged(wrong_batch):
    """The row of one mistake: right, BatchNorm has 8 times Standard's distance; wrong, whatever is given."""
    parts = [
        measured_at("none", "right_distances", 1.0, 1.1, 0.9, eta=0.1),
        measured_at("batch", "right_distances", 8.0, 8.8, 7.3, eta=0.1),
        measured_at("batch", "right_distances", 99.0, 99.0, 99.0, eta=0.2),  # another step length
        measured_at("none", "wrong_last_layer", 1.0, 1.1, 0.9),
        measured_at("batch", "wrong_last_layer", *wrong_batch),
    ]
    return claims.mistakes(frame(*parts), lr=0.1, step=0).set_index("mistake").loc["last layer"]


@pytest.mark.parametrize(
    ("wrong", "misleads"),
    [
        ([0.1, 0.11, 0.09], "direction"),
        ([2.0, 2.2, 1.8], "size"),
        ([8.1, 8.7, 7.3], "not shown"),
        ([0.01, 8.0, 100.0], "not shown"),
        ([0.0, 0.0, 0.0], "not shown"),
    ],
)
def test_what_a_mistake_changes_is_computed(wrong, misleads):
    row = judged(wrong)
    assert row.misleads == misleads and row["right says"] == "higher"
    assert row["right ratio"] == pytest.approx(8, rel=0.01) and row["right batch"] == pytest.approx(24.1 / 3)


def test_the_same_step_in_both_networks_is_equal():
    parts = [measured_at(norm, "wrong_step", 3.0, 4.0, 5.0) for norm in ("none", "batch")]
    row = claims.mistakes(frame(*parts), lr=0.1, step=0).set_index("mistake").loc["Adam"]
    assert row["right says"] == "equal" and row["right none"] == 1 and row["wrong says"] == "equal"


def test_each_seed_alone():
    parts = [
        measured_at(norm, "right_distances", *values, eta=0.1)
        for norm, values in {"none": (1.0, 2.0), "batch": (3.0, 1.0)}.items()
    ]
    assert claims.one_seed(frame(*parts), lr=0.1)[0].to_dict() == {0: 3.0, 1: 0.5}


@pytest.mark.parametrize("name", claims.MISTAKES)
def test_without_runs_a_mistake_is_not_shown(name):
    empty = pd.DataFrame(columns=store.COLUMNS)
    row = claims.mistakes(empty, lr=0.1, step=0).set_index("mistake").loc[name]
    assert row.misleads == "not shown" and np.isnan(row["right none"]) and row.called and row.instead and row.proper


# ---- smoothness and speed ------------------------------------------------------------------------------------------


def test_only_the_seeds_that_a_normalizer_has_are_compared():
    """l1 has five of the linear network's seeds; a sixth of BatchNorm, far off, must not count."""
    lp = [ending(norm, 1e-6, *[1.0] * 5, quantity="squared_error") for norm in claims.LP]
    batch = ending("batch", 1e-6, *[1.0] * 5, 1e-9, quantity="squared_error")
    parts = claims.judge("lp_linear", frame(*lp, batch), setting=QUICK).parts
    assert list(parts.holds) == [True, None, True]  # l2 has all seeds, and here not the sixth
    assert parts["late loss over BatchNorm"][0] == "L1, 5 seeds"


def test_smoothness_and_speed_by_hand():
    """Looks at steps 0 to 1000; training accuracy 0.1 at first, 0.5 from 200 and 1 from 600."""
    steps = np.arange(0, 1001, 10)
    accuracy = np.where(steps < 200, 0.1, np.where(steps < 600, 0.5, 1.0))
    beta = np.where(steps == 0, 7.0, np.where((steps >= 200) & (steps < 600), 3.0, 1.0))
    edges = {"loss_low": 1.0, "loss_high": 1 + beta, "distance_high": 2 * beta, "beta_max": beta}
    one = [rows("rms", 0.1, accuracy), *(rows("rms", 0.1, each, quantity=name) for name, each in edges.items())]
    other = [each.assign(seed=1, value=each.value * (4 if "beta" in each.quantity[0] else 1)) for each in one]
    both, found = frame(one, other), {}
    for window in claims.WINDOWS:
        (found[window],) = claims.smooth_and_fast(both, lr=0.1, window=window).to_dict("records")
    assert [found[window]["width"] for window in claims.WINDOWS] == pytest.approx([7, 3, 1])
    assert [found[window]["distance"] for window in claims.WINDOWS] == pytest.approx([14, 6, 2])
    first = found["before training"]
    assert (first["beta"], first["beta_low"], first["beta_high"]) == pytest.approx((14, 7, 28))
    assert first["speed"] == pytest.approx(accuracy.sum() / 1000)


def test_a_diverged_run_adds_nothing_to_speed():
    both = frame(diverging("none", 0.1, 300), arriving("batch", 0.1, 0))
    speed = claims.smooth_and_fast(both, lr=0.1, window="all of training").set_index("norm").speed
    assert speed["none"] == pytest.approx(0.95 * 30 / 1000) and speed["batch"] == pytest.approx(0.101)


def test_rank_correlation_is_scipys_with_its_interval():
    rng = np.random.default_rng(1)
    x = pd.Series(rng.normal(size=10))
    y = x + pd.Series(rng.normal(size=10))
    found, expected = claims.rank(np.exp(x), y), stats.spearmanr(x, y)
    assert (found.rho, found.n) == (pytest.approx(expected.statistic), 10)
    assert found.p == pytest.approx(expected.pvalue, abs=0.02)
    z, half = np.arctanh(found.rho), 1.959964 * np.sqrt((1 + found.rho**2 / 2) / 7)
    assert (found.low, found.high) == pytest.approx((np.tanh(z - half), np.tanh(z + half)), rel=1e-5)


@pytest.mark.parametrize(("sign", "says"), [(1, "rougher is faster"), (-1, "smoother is faster")])
def test_a_rank_correlation_says_what_its_interval_excludes(sign, says):
    x = pd.Series(np.arange(10.0))
    assert claims.rank(x, sign * x).says == says and claims.rank(x, sign * x).p < 0.001
    assert claims.rank(x, sign * (x - 4.5).abs()).says == "open"


def test_a_rank_correlation_needs_four_pairs():
    x = pd.Series([1.0, 2.0, 3.0, np.nan, 5.0])
    assert claims.rank(x, pd.Series([1.0, 2.0, np.nan, 4.0, 5.0])).n == 3
    for y in (pd.Series([1.0, 2.0, np.nan, 4.0, 5.0]), pd.Series(np.ones(5))):
        assert np.isnan(claims.rank(x, y).rho) and claims.rank(x, y).says == "open"


def test_ranks_have_every_measure_in_every_window():
    nothing = claims.ranks(runs.with_derived(pd.DataFrame(columns=store.COLUMNS)), lr=0.1)
    assert len(nothing) == 9 and set(nothing.n) == {0} and set(nothing.says) == {"open"}


def test_arrivals_and_late_losses_by_hand():
    both = frame(arriving("rms", 0.1, 100, 300), ending("rms", 0.1, 0.5, 0.7, quantity="test_accuracy"))
    (row,) = claims.arrivals(both, lr=0.1).values.tolist()
    assert row == ["rms", "2 of 2", "200 steps", "60.0\N{NO-BREAK SPACE}%"]
    losses = frame(ending("l1", 1e-6, 1.0, 2.0, 9.0, quantity="squared_error"))
    (row,) = claims.late_losses(losses, runs.paper("5b"), lr=1e-6).values.tolist()
    assert row[:5] == ["l1", 3, 2.0, 1.0, 9.0] and row[5] == pytest.approx(100, rel=0.15)


def test_a_shorter_probe_by_loss():
    """Beta that stays with a shorter probe while the batch's loss is high, and doubles with it where that is low."""
    steps = np.arange(0, LENGTH + 1, 10)
    both = frame(
        *(
            [rows(norm, 0.1, scale * 20, quantity="beta_max", seed=seed)]
            + [rows(norm, 0.1, scale * np.where(steps > 800, 40, 20), quantity="beta_max_short", seed=seed)]
            + [rows(norm, 0.1, np.where(steps > 800, 0.05, 2.0), quantity="loss", seed=seed)]
            for norm, scale in {"none": 1, "batch": 0.5}.items()
            for seed in range(3)
        )
    )
    table = claims.by_loss(both, lr=0.1)
    assert list(table.index) == ["1 to 3", "0.03 to 0.1"]
    assert table.Standard.values.tolist() == [[3 * 81, 20, 20, 1], [3 * 20, 20, 40, 2]]
    assert table.BatchNorm.values.tolist() == [[3 * 81, 10, 10, 1], [3 * 20, 10, 20, 2]]
    alone = claims.by_loss(both[both.quantity != "loss"], lr=0.1)
    assert alone.empty and list(alone.columns) == list(table.columns)


# ---- theorems ------------------------------------------------------------------------------------------------------


def two_sides(left, right, printed, *, seeds=(0, 1, 2)):
    """A random layer with a quadratic loss and a layer of a network, with these sides of Theorem 4.1."""
    values = {"theorem_4_1_left": left, "theorem_4_1_right": right, "theorem_4_1_printed": printed}
    rows = [
        {
            "arm": arm,
            "norm": "batch",
            "lr": 0.1,
            "seed": seed,
            "step": 0,
            "layer": layer,
            "quantity": name,
            "value": value,
        }
        for seed in seeds
        for arm, layer in (("quadratic, m 4, gamma/sigma 1, correlation 0", np.nan), ("batch 0.1", 5))
        for name, value in values.items()
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("left", "right", "printed", "word"),
    [
        (1.0, 1.0 + 1e-13, 1.5, "reproduced"),
        (1.0, 1.0 + 1e-13, 1.0 - 1e-14, "reproduced"),
        (1.0, 1.0, 0.9, "partly"),
        (1.0, 1.0, -3.0, "partly"),
        (1.0, 1.01, 0.9, "not reproduced"),
        (0.0, 0.0, 0.0, "reproduced"),
    ],
)
def test_a_theorem_is_judged_by_both_of_its_forms(left, right, printed, word):
    verdict = claims.judge("theorem_4_1", two_sides(left, right, printed), setting=presets.get("quick"))
    assert verdict.word == word


def test_what_is_tested_on_random_layers_says_so():
    ours, setting = two_sides(1.0, 1.0, 2.0), presets.get("quick")
    ours.attrs["scale"] = "digits, preset quick"
    both, alone = (claims.judge(name, ours, setting=setting) for name in ("theorem_4_1", "theorem_4_4"))
    assert both.scale == "random layers and digits, preset quick" and alone.scale == "random layers"
    assert "of random layers and at scale quick" in both.reason and "scale" not in alone.reason


def test_beta_by_step_length_is_a_geometric_mean_over_seeds():
    ours = frame(
        [rows("none", 0.1, 10.0**s, quantity="beta_float64", seed=s, every=1000).assign(eta=0.5) for s in range(3)]
    )
    table = claims.by_length(ours[ours.step == 0], "none")
    assert table.index.tolist() == [0.5] and table.beta_float64.tolist() == pytest.approx([10.0])
    assert table.beta_smooth.isna().all() and claims.by_length(ours[:0], "none").empty


def test_one_broken_case_breaks_a_theorem():
    frame = two_sides(1.0, 1.0, 1.5)
    at = (frame.quantity == "theorem_4_1_right") & (frame.layer == 5)
    frame.loc[at, "value"] = 1 + 1e-6
    assert claims.judge("theorem_4_1", frame, setting=presets.get("quick")).word == "partly"


def test_sides_pair_cases_and_say_where_they_are():
    table = claims.statements(two_sides(2.0, 2.0, 1.0))
    assert set(table.place) == {"random, quadratic", "batch"} and set(table.form) == {"corrected", "printed"}
    assert table[table.form == "printed"].difference.tolist() == [0.5] * 6
    assert claims.statements(pd.DataFrame(columns=list(two_sides(1, 1, 1)))).empty


# ---- all verdicts, and how far the paper's curves are --------------------------------------------------------------


def test_residuals_are_those_of_logarithms():
    """Seeds at 1, e and e^2: the next run is expected within e^(1 +- 4.97); the paper e^3 above and e^6 below that, for
    the other arm e^4 and e^3 above. A later step is not asked for."""
    ours = frame([rows(norm, 0.1, np.exp(float(s)), seed=s, every=10) for norm in ("none", "batch") for s in range(3)])
    ours = ours[ours.step.isin([0, 10, 20])]
    logs = {"none": [4.0, -5.0, 99.0], "batch": [5.0, 4.0, 99.0]}
    theirs = [rows(norm, 0.1, np.exp(values)) for norm, values in logs.items()]
    table = claims.residuals(ours, frame(theirs), "smooth_accuracy", ["norm"], steps=range(11))
    expected = {"norm": ["batch", "none"], "typical": [np.exp(12.5**0.5), np.exp(22.5**0.5)]}
    expected |= {"worst": [np.exp(4.0), np.exp(6.0)], "inside": [1.0, 0.5], "points": [2, 2]}
    pd.testing.assert_frame_equal(table, pd.DataFrame(expected))


def test_what_the_papers_curves_miss_of_a_claim_is_counted_over_the_parts_that_they_have():
    setting, theirs = presets.get("quick"), runs.paper("10")
    parts = claims.find("linear_landscape").parts(setting)
    outside = [not part.low < part.effect(theirs).mean() < part.high for part in parts]
    assert 0 < sum(outside) < len(outside)
    assert claims.missed("linear_landscape", setting, theirs) == f"{sum(outside)} of {len(parts)}"
    assert claims.missed("linear_landscape", setting, theirs[theirs.quantity == "beta_max"])[-4:] == "of 2"


def test_the_distance_of_a_panel_is_that_of_its_points():
    """Three seeds at 1, 2, 3: the next run is expected within 2 +- 4.97; the paper at 2.5 is inside, at 8 outside."""
    paper = runs.paper("3a")
    cosine = paper[(paper.quantity == "shift_cosine") & (paper.lr == 0.1) & (paper.norm == "none")]
    cosine = cosine[cosine.layer == 5]
    ours = frame([rows("none", 0.1, s + 1.0, quantity="shift_cosine", seed=s, layer=5, every=100) for s in range(3)])
    for there, inside in ((2.5, 1.0), (8.0, 0.0)):
        (row,) = claims.distances({"3a": (ours, cosine.assign(value=there))}).to_dict("records")
        assert (row["figure"], row["quantity"], row["norm"], row["seeds"]) == ("3a", "shift_cosine", "none", 3)
        assert row["median"] == pytest.approx(there - 2) and row["inside"] == inside and row["points"] == 11
        assert (row["ours"], row["paper"]) == (2, there)


def test_the_interval_of_a_logarithmic_panel_is_of_logarithms():
    """Seeds at 1, 10 and 100: as numbers the next run may be below zero, as logarithms hardly at 1e6 or 1e-6."""
    paper = runs.paper("3a")
    l2 = paper[(paper.quantity == "shift_l2") & (paper.lr == 0.1) & (paper.norm == "none") & (paper.layer == 5)]
    ours = frame([rows("none", 0.1, 10.0**s, quantity="shift_l2", seed=s, layer=5, every=100) for s in range(3)])
    for value, inside in ((1e-3, 1.0), (1e-6, 0.0), (1e6, 0.0), (300.0, 1.0)):
        (row,) = claims.distances({"3a": (ours, l2.assign(value=value))}).to_dict("records")
        assert row["inside"] == inside


def test_the_last_hidden_layer_stands_in_for_one_that_a_network_lacks():
    ours = frame([rows("none", 0.1, 1.0, quantity="mean_step", seed=s, layer=12, every=100) for s in range(2)])
    (row,) = claims.distances({"8": (ours, runs.paper("8"))}).to_dict("records")
    assert (
        row["layer"] == 12
        and row["paper"]
        == runs.paper("8")
        .query("quantity == 'mean_step' and layer == 13 and norm == 'none' and step <= 1000")
        .value.median()
    )


def test_each_quantity_has_a_last_layer_of_its_own():
    """Layer 13 of the paper meets our layer 12 also where another quantity is known of layer 13."""
    quantities = {"mean_step": 12, "layer_gradient_norm": 13}
    ours = frame(
        [rows("none", 0.1, 1.0, quantity=q, seed=s, layer=n, every=100) for q, n in quantities.items() for s in (0, 1)]
    )
    (row,) = claims.distances({"8": (ours, runs.paper("8"))}).to_dict("records")
    assert row["layer"] == 12 and row["quantity"] == "mean_step"


def test_nothing_to_compare_is_an_empty_table():
    nothing = pd.DataFrame(columns=store.COLUMNS)
    assert claims.distances({}).empty and claims.distances({"3a": (nothing, runs.paper("3a"))}).empty


def test_a_claim_at_two_scales_has_two_verdicts_the_largest_first():
    fast, slow = (
        frame(arriving("none", 0.1, *steps) + arriving("batch", 0.1, 100, 100, 100))
        for steps in ((400,) * 3, (110,) * 3)
    )
    fast.attrs["scale"], slow.attrs["scale"] = "cifar10, preset paper", "digits, preset quick"
    found = claims.verdicts("speed", [(PAPER, fast), (QUICK, slow)])
    assert [each.word for each in found.each] == ["reproduced", "not reproduced"] and found.here is found.each[1]
    assert found.words == {"verdict-speed": "not reproduced", "verdict-speed-record": "reproduced"}
    assert found.largest == {"largest": "reproduced", "scale": "cifar10, preset paper"}
    assert found._repr_html_().index("Reproduced.") < found._repr_html_().index("Not reproduced.")
    board = claims.Scoreboard((found, claims.verdicts("speed", [(QUICK, slow)])))._repr_html_()
    both, alone = board.split("<tr>")[2:]
    assert "✓\N{NO-BREAK SPACE}reproduced" in both and "cifar10, preset paper" in both and "✗" in both
    assert "digits, preset quick" in alone and "<td></td>" in alone and 'href="01_speed.html">1<' in alone
    details = claims.Details(found)._repr_html_()
    assert details.startswith("<details><summary>") and found.here.claim.criterion in details


@pytest.mark.parametrize("name", claims.CLAIMS)
def test_every_claim_has_a_page_runs_and_where_it_says_so_curves(name):
    claim = claims.CLAIMS[name]
    assert (ROOT / "book" / f"{claim.chapter}.ipynb").exists() and claim.experiment in presets.EXPERIMENTS
    if claim.figure:
        values = [part.effect(runs.paper(claim.figure)) for part in claim.parts(PAPER)]
        assert any(value.notna().any() for value in values)


@pytest.mark.parametrize(("least", "ratio"), [(0.9, 4.0), (0.5, 2.0)])
def test_steps_are_counted_to_what_the_setting_says(least, ratio):
    """Two networks that pass one half at steps 50 and 100, and nine tenths at 100 and 400."""
    accuracy = np.full((2, 101), 0.3)
    for row, (half, most) in zip(accuracy, ((50, 100), (100, 400)), strict=True):
        row[half // 10 :], row[most // 10 :] = 0.6, 0.95
    runs_of = [rows(n, 0.1, a, seed=s) for s in range(3) for n, a in zip(("batch", "none"), accuracy, strict=True)]
    (part,) = claims.find("speed").parts(replace(QUICK, arrived=least))
    assert (2 ** part.effect(frame(runs_of))).tolist() == pytest.approx([ratio] * 3)


def test_the_readme_lists_every_claim():
    _, rest = (ROOT / "README.md").read_text().split("|---|---|---|\n", 1)
    listed = [row.split(" | ")[0].removeprefix("| ") for row in rest.split("<!-- end of verdicts -->")[0].splitlines()]
    assert listed == [claim.statement for claim in claims.CLAIMS.values()]

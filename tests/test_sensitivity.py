"""What the paper leaves open, as arms of their own: which variants there are, what they share, what a change means."""

import copy
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from bnutils import claims, data, instruments, presets, quantities, records, runs, store
from bnutils.presets import Arm, Recipe

SMOKE, QUICK = presets.get("smoke", device="cpu"), presets.get("quick", device="cpu")
FINGERPRINT = data.KNOWN["digits"][0]


def run(arm: Arm, *, kind=records.Run, **recipe) -> records.Run:
    return kind(replace(SMOKE, recipe=Recipe(**recipe)), arm, 0, FINGERPRINT)


# ---- which variants there are --------------------------------------------------------------------------------------


def test_a_variant_changes_one_choice():
    found = QUICK.variants
    assert list(found) == [
        *("as it is", "VGG-A", "VGG-D", "VGG-E", "linear layers of 512 units", "no normalizer on the linear layers"),
        *("epsilon 1e-3", "weight decay 4e-4", "weight decay 5e-4"),
        *("noise before gamma and beta", "PyTorch's initialisation"),
    ]
    assert found["as it is"] is QUICK and len({each for each in found.values()}) == len(found)
    for each in list(found.values())[1:]:
        pairs = [*zip(vars(each.vgg).items(), vars(QUICK.vgg).items(), strict=True)]
        pairs += zip(vars(each.recipe).items(), vars(QUICK.recipe).items(), strict=True)
        assert sum(ours != theirs for ours, theirs in pairs) == 1
        assert replace(each, vgg=QUICK.vgg, recipe=QUICK.recipe) == QUICK
    assert "VGG-D" not in presets.get("paper").variants and "VGG-B" in presets.get("paper").variants
    assert list(SMOKE.variants) == ["as it is", "weight decay 4e-4", "noise before gamma and beta"]


def test_the_linear_layers_have_as_many_units_as_the_words_say():
    for setting in (QUICK, presets.get("paper")):
        (words,) = (words for words in setting.variants if words.startswith("linear layers of"))
        vgg = setting.variants[words].vgg
        assert words == f"linear layers of {int(vgg.head * vgg.width)} units" and vgg.head != setting.vgg.head


def test_a_verdict_names_what_was_changed():
    assert QUICK.variants["weight decay 4e-4"].scale == "quick with other recipe"
    decayed = next(each for each in records.needed(QUICK, "sensitivity") if each.setting.recipe.decay)
    assert str(decayed) == "none 0.1, seed 0, VGG-B of preset quick with other recipe"


# ---- keys and what is shared ---------------------------------------------------------------------------------------


def test_augmented_runs_are_the_papers_alone_and_others_than_its_own():
    setting = presets.get("paper", dataset="cifar10-jpeg")
    wanted, own = records.needed(setting, "augmented"), records.needed(setting, "theorems")[:-1]
    assert [(each.arm, each.seed) for each in wanted] == [(each.arm, each.seed) for each in own]
    assert not {each.key for each in wanted} & {each.key for each in own}
    assert not records.needed(QUICK, "augmented")


def test_an_augmented_run_is_trained_on_crops():
    images = data.load("digits")
    own, cropped = (
        records.train_one(records.AugmentedRun(setting, Arm("batch", 0.1), 0, FINGERPRINT), images)
        for setting in (SMOKE, SMOKE.augmented)
    )
    assert set(cropped.quantity) == {"loss", "train_accuracy", "test_accuracy"}
    ours, theirs = (frame[frame.quantity == "loss"].value.to_numpy() for frame in (own, cropped))
    assert (ours != theirs).all()


def test_runs_by_heart_see_the_first_images_alone():
    wanted = records.needed(SMOKE, "by_heart")
    assert [(each.arm.norm, each.seed) for each in wanted] == [("none", 0), ("batch", 0), ("none", 1), ("batch", 1)]
    assert not records.needed(QUICK, "by_heart")
    whole = replace(wanted[0], setting=replace(wanted[0].setting, first=None))
    assert whole.key != wanted[0].key != replace(whole, setting=replace(whole.setting, first=63)).key
    images, first = data.load("digits"), SMOKE.by_heart.first
    seen = records.images_for(wanted[0])
    assert torch.equal(seen.train_x, images.train_x[:first]) and torch.equal(seen.test_x, images.test_x)
    assert len(seen.train_y) == first < len(images.train_y)
    found = wanted[0].measure()
    assert set(instruments.GradientProbe.measures) | {"loss", "test_accuracy"} <= set(found.quantity)


def test_every_published_record_is_still_asked_for():
    wanted = records.asked_for()
    assert {path.stem for path in store.RESULTS.glob("*.parquet")} <= set(wanted)


def test_the_default_recipe_stands_in_no_key():
    """As it was before there were recipes: the hash of a dictionary without one."""
    arm, held = Arm("noisy", 0.1, 1.0), {}

    class Held(records.Run):
        def key_of(self, what):
            held.update(what)
            return super().key_of(what)

    assert run(arm, kind=Held).key == run(arm).key and "recipe" not in held
    assert run(arm, kind=Held, decay=0.1).key != run(arm).key and held["recipe"]["decay"] == 0.1


def test_each_choice_has_keys_of_its_own():
    changes = [{}, {"epsilon": 1e-3}, {"decay": 1e-4}, {"noise": "before"}, {"init": "default"}]
    assert len({run(Arm("noisy", 0.1, 1.0), **each).key for each in changes}) == len(changes)
    maps = [
        records.MapRun(replace(SMOKE, recipe=Recipe(**each)), SMOKE.map, "batch", 1.0, 0, FINGERPRINT)
        for each in changes
    ]
    assert len({each.key for each in maps}) == len(changes)


def test_what_a_change_does_not_meet_is_the_settings_own():
    """So many of quick's eighteen runs are trained anew for each variant."""
    new = {
        words: {each.arm.norm for each in wanted if isinstance(each, records.VariantRun)}
        for words, wanted in records.varied(QUICK).items()
    }
    assert new["as it is"] == set()
    assert new["noise before gamma and beta"] == {"noisy"}
    assert new["epsilon 1e-3"] == {"batch", "noisy"}
    assert new["no normalizer on the linear layers"] == {"batch", "noisy", "noisy_none"}
    others = set(new) - {"as it is", "noise before gamma and beta", "epsilon 1e-3"}
    assert all(len(new[words]) == 4 for words in others - {"no normalizer on the linear layers"})
    own = {each.key for name in ("speed", "noise") for each in records.needed(QUICK, name)}
    assert {each.key for each in records.varied(QUICK)["as it is"]} <= own


@pytest.mark.parametrize(
    ("norm", "change"),
    [
        ("none", {"vgg": replace(SMOKE.vgg, norm_head=False)}),
        ("none", {"recipe": Recipe(epsilon=1e-3, noise="before")}),
        ("noisy_none", {"recipe": Recipe(epsilon=1e-3, noise="before")}),
        ("batch", {"recipe": Recipe(noise="before")}),
    ],
)
def test_what_a_normalizer_does_not_meet_changes_no_bit(norm, change):
    setting, images = replace(SMOKE, **change), data.load("digits")
    arm = Arm(norm, 0.1, float(norm == "noisy_none"))
    assert setting != SMOKE and setting.met_by(norm) == SMOKE.met_by(norm)
    ours, theirs = (
        records.train_one(records.VariantRun(each, arm, 0, FINGERPRINT), images) for each in (setting, SMOKE)
    )
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


@pytest.mark.parametrize(
    ("norm", "change"),
    [
        ("noisy_none", {"vgg": replace(SMOKE.vgg, norm_head=False)}),
        ("batch", {"recipe": Recipe(epsilon=1e-3)}),
        ("noisy", {"recipe": Recipe(noise="before")}),
        ("none", {"recipe": Recipe(init="default")}),
        ("none", {"recipe": Recipe(decay=4e-4)}),
    ],
)
def test_what_a_normalizer_meets_changes_its_training(norm, change):
    setting, images = replace(SMOKE, **change), data.load("digits")
    arm = Arm(norm, 0.1, float(norm.startswith("noisy")))
    assert setting.met_by(norm) != SMOKE.met_by(norm)
    ours, theirs = (
        records.train_one(records.VariantRun(each, arm, 0, FINGERPRINT), images).query("quantity == 'loss'").value
        for each in (setting, SMOKE)
    )
    assert len(ours) and not ours.equals(theirs)


def test_a_penalised_loss_has_no_landscape():
    """At the first rate the landscape, with a penalty that of the penalised loss; other probes know no penalty."""
    kinds = {each.arm.name: each.kinds for each in records.varied(QUICK)["VGG-D"]}
    movement, gradient = instruments.MovementProbe, instruments.GradientProbe
    assert kinds == {
        "none 0.1": [movement, gradient],
        "batch 0.1": [movement, gradient],
        **{name: [movement] for name in ("none 0.5", "batch 0.5", "noisy 0.1", "noisy_none 0.1")},
    }
    decayed = {each.arm.name: each.kinds for each in records.varied(QUICK)["weight decay 4e-4"]}
    assert decayed == {
        name: [instruments.PenalisedProbe if kind is gradient else kind for kind in each]
        for name, each in kinds.items()
    }
    assert run(Arm("batch", 0.1), decay=1e-4).kinds == [instruments.ActivationProbe]


# ---- measured ------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BNUTILS_CACHE", str(tmp_path))
    return tmp_path / "runs"


def test_every_variant_has_a_frame_and_no_run_is_measured_twice(cache):
    frames = runs.sensitivity(SMOKE)
    wanted = records.needed(SMOKE, "sensitivity")
    assert list(frames) == list(SMOKE.variants)
    assert {path.stem for path in cache.iterdir()} == {each.key for each in wanted} and len(wanted) == 12 + 12 + 2
    for words, frame in frames.items():
        assert frame.attrs["missing"] == 0 and "26 measured now" in frame.attrs["source"]
        assert set(frame.quantity) <= set(quantities.QUANTITIES) and "density" not in set(frame.quantity)
        assert "gradient_distance" in set(frame.quantity), words
    first, last = (
        frames[words].query("norm != 'noisy'").sort_values([name for name in store.COLUMNS if name != "value"])
        for words in ("as it is", "noise before gamma and beta")
    )
    pd.testing.assert_frame_equal(first.reset_index(drop=True), last.reset_index(drop=True))
    again = runs.sensitivity(SMOKE)
    for words, frame in again.items():
        pd.testing.assert_frame_equal(frame, frames[words])
    table = claims.flips(frames, SMOKE.variants)
    assert set(table.loc["as it is", list(claims.SENSITIVE)]) == {"inconclusive"}, "smoke decides nothing"


def test_a_variant_is_trained_and_measured_as_any_run_is(cache):
    """What it measures, an ordinary run of the same network has to the bit, beside more."""
    images, arm = data.load("digits"), Arm("batch", 0.1)
    few, many = (records.train_one(run(arm, kind=kind), images) for kind in (records.VariantRun, records.Run))
    assert set(few.quantity) < set(many.quantity)
    keys = [name for name in store.COLUMNS if name != "value"]
    both = [each[each.quantity.isin(few.quantity)].sort_values(keys).reset_index(drop=True) for each in (few, many)]
    pd.testing.assert_frame_equal(*both, check_exact=True)


def test_the_logged_loss_begins_higher_by_the_penalty(cache):
    """At step 0 by decay/2 times the sum of the squared weights, and by nothing else."""
    images, arm = data.load("digits"), Arm("batch", 0.1)
    plain, decayed = (
        records.train_one(run(arm, kind=records.VariantRun, **each), images).query("quantity == 'loss'").value.iloc[0]
        for each in ({}, {"decay": 5e-4})
    )
    network = records.build(SMOKE, arm, 0, images)
    squares = sum(layer.linear.weight.square().sum().item() for layer in network)
    assert decayed - plain == pytest.approx(5e-4 / 2 * squares, rel=1e-4)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_landscape_of_a_penalised_network_by_brute_force(norm):
    """Loss and gradient of the penalised loss at each step along its own gradient, by moving the weights in float64."""
    images, decay = data.load("digits"), 0.05
    probe = instruments.PenalisedProbe(run(Arm(norm, 0.1), kind=records.VariantRun, decay=decay), images)
    network = records.build(SMOKE, Arm(norm, 0.1), 0, images).double()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x, y = images.train_x[:8].double(), images.train_y[:8]
    found = {row.quantity: row.value for row in probe(network, x, y)}
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

    def at(eta, direction):
        moved = copy.deepcopy(network).train()
        for parameter, step in zip(moved.parameters(), direction, strict=True):
            parameter.data -= eta * step
        loss = torch.nn.functional.cross_entropy(moved(x), y)
        for layer in moved:
            loss = loss + decay / 2 * (layer.linear.weight**2).sum()
        return loss.item(), torch.autograd.grad(loss, list(moved.parameters()))

    zero = [torch.zeros_like(each) for each in network.parameters()]
    loss, g = at(0.0, zero)
    there = [at(0.1 * eta, g) for eta in presets.ETAS]
    distances = [math.sqrt(sum((a - b).square().sum().item() for a, b in zip(h, g, strict=True))) for _, h in there]
    length = math.sqrt(sum(each.square().sum().item() for each in g))
    assert found["loss_along"].tolist() == pytest.approx([loss, *(each for each, _ in there)], rel=1e-12)
    assert found["gradient_distance"].tolist() == pytest.approx(distances, rel=1e-9)
    assert found["gradient_norm"].item() == pytest.approx(length, rel=1e-12)
    betas = [distance / (0.1 * eta * length) for distance, eta in zip(distances, presets.ETAS, strict=True)]
    assert found["beta"].tolist() == pytest.approx(betas, rel=1e-9)


def test_too_costly_a_setting_says_so_once(cache, capsys):
    setting = replace(SMOKE, schedule=replace(SMOKE.schedule, steps=100_000), minutes=0.01)
    frames = runs.sensitivity(setting)
    out = capsys.readouterr().out
    assert out.startswith("26 of 26 runs of preset smoke are missing") and len(out.splitlines()) == 1
    assert [frame.attrs["missing"] for frame in frames.values()] == [12, 12, 12] and not cache.exists()


def test_one_frame_of_all_variants_is_refused():
    message = r"^sensitivity has a frame for each of its variants: accepted is runs.sensitivity\(setting\)$"
    with pytest.raises(ValueError, match=message):
        runs.experiment(SMOKE, "sensitivity")
    with pytest.raises(ValueError, match=message):
        runs.on_record("sensitivity")


def test_a_plan_says_what_is_varied(cache):
    plan = runs.plan(SMOKE, "sensitivity")
    assert plan.loc["one choice changed", "here"] == ", ".join(SMOKE.variants)
    assert plan.loc["runs", "here"] == "26"


# ---- the laboratory ------------------------------------------------------------------------------------------------


def test_the_laboratory_has_a_run_for_each_combination_and_not_too_many():
    wanted = records.needed(QUICK, "laboratory")
    assert len({each.key for each in wanted}) == len(wanted) == len(QUICK.laboratory.grid) <= 60
    for each, (norm, dose, lr, init, depth) in zip(wanted, QUICK.laboratory.grid, strict=True):
        assert each.setting.vgg == replace(QUICK.vgg, depth=depth) and each.setting.recipe == Recipe(init=init)
        assert each.setting.schedule == replace(QUICK.schedule, steps=QUICK.laboratory.steps)
        assert (each.arm.lr, each.arm.dose, each.arm.norm.startswith("noisy")) == (lr, dose, dose > 0)
        assert (each.arm.norm in ("none", "noisy_none")) == (norm == "none")


def test_the_laboratory_reads_one_run_for_each_combination(cache):
    frames = runs.laboratory(SMOKE)
    assert list(frames) == SMOKE.laboratory.grid and len(list(cache.iterdir())) == 4
    for (norm, dose, *_), frame in frames.items():
        assert set(frame.norm) == {{0: norm, 1: {"none": "noisy_none", "batch": "noisy"}[norm]}[dose]}
        assert "4 measured now" in frame.attrs["source"] and frame.attrs["missing"] == 0


def test_a_run_that_is_watched_is_the_run_that_is_recorded():
    choice = ("batch", 1, 0.1, "glorot", "A")
    *early, last = runs.watch(SMOKE, *choice, seed=3, every=0)
    whole = runs.with_derived(records.train_one(records.laboratory_run(SMOKE, choice, seed=3), data.load("digits")))
    keys = [name for name in store.COLUMNS if name != "value"]
    both = [each.reindex(columns=store.COLUMNS).sort_values(keys).reset_index(drop=True) for each in (last, whole)]
    pd.testing.assert_frame_equal(*both, check_dtype=False)
    assert [each.step.max() for each in early] == sorted(each.step.max() for each in early) and len(early) > 2


# ---- does a verdict flip? ------------------------------------------------------------------------------------------


def arrivals(*, batch: int, none: int, alone: float) -> pd.DataFrame:
    """Three seeds at quick that come to know the training set at a step, and noise alone that ends at an accuracy."""
    steps = np.arange(0, 721, 10)
    curves = {"batch": np.where(steps >= batch, 1, 0.5), "none": np.where(steps >= none, 1, 0.5)}
    curves["noisy_none"] = np.full(len(steps), alone)
    parts = [
        pd.DataFrame({"step": steps, "value": values}).assign(
            arm=f"{norm} 0.1", norm=norm, dose=1.0 if norm == "noisy_none" else np.nan, seed=seed, quantity=name
        )
        for norm, values in curves.items()
        for seed in range(3)
        for name in ("smooth_accuracy", "train_accuracy")
    ]
    return pd.concat(parts).assign(lr=0.1).reindex(columns=store.COLUMNS)


def test_a_flip_is_between_verdicts_that_decide():
    frames = {
        "as it is": arrivals(batch=100, none=300, alone=0.1),
        "VGG-D": arrivals(batch=100, none=110, alone=0.5),
        "VGG-A": arrivals(batch=900, none=900, alone=0.1),
        "weight decay 4e-4": arrivals(batch=100, none=310, alone=0.1),
    }
    settings = {words: QUICK.variants[words] for words in frames}
    table = claims.flips(frames, settings)
    assert list(table.index) == list(frames) and table.index.name == "variant"
    assert list(table.columns) == [*claims.SENSITIVE, "flips", "opens", "closes"]
    assert list(table.speed) == ["reproduced", "not reproduced", "inconclusive", "reproduced"]
    assert list(table.noise_alone) == ["reproduced", "not reproduced", "reproduced", "reproduced"]
    assert list(table.flips) == ["", "speed, noise_alone", "", ""] and list(table.opens) == ["", "", "speed", ""]
    assert set(table.smoothness) == set(table.loss_range) == {"inconclusive"}, "without a look at the landscape"
    other = claims.flips({words: frames[words] for words in ("VGG-A", "as it is")}, settings)
    assert list(other.closes) == ["", "speed"] and list(other.opens) == list(other.flips) == ["", ""]


def test_the_judge_decides_as_it_does_on_a_page():
    frame = arrivals(batch=100, none=300, alone=0.1)
    table = claims.flips({"as it is": frame}, {"as it is": QUICK})
    for name in claims.SENSITIVE:
        assert table.loc["as it is", name] == claims.judge(name, frame, setting=QUICK).word

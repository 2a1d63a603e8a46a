"""The registry knows all that a run holds, and a frame holds the one schema."""

import matplotlib.pyplot as plt
import pytest

from bnutils import data, presets, records, runs, store
from bnutils.quantities import QUANTITIES

SETTING = presets.get("smoke", device="cpu")
# Every frame: one for each experiment, and of those that have several those.
SINGLE = [name for name in presets.EXPERIMENTS if name not in presets.SEVERAL_FRAMES]
FRAMES = [*SINGLE, *SETTING.variants, *SETTING.laboratory.grid]
ARMS = [name for name in SINGLE if name in presets.LAYERS and SETTING.arms(name)]  # those with a run for each arm


@pytest.fixture(scope="module")
def frames(recorded):
    """Every experiment at preset smoke, by name, and every variant, by its words."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BNUTILS_CACHE", str(recorded[0]))
        several = runs.sensitivity(SETTING) | runs.laboratory(SETTING)
        yield {name: runs.experiment(SETTING, name) for name in SINGLE} | several


@pytest.mark.parametrize("name", FRAMES, ids=str)
def test_a_frame_has_the_one_schema(frames, name):
    frame = frames[name]
    assert list(frame.columns) == store.COLUMNS
    assert frame[["arm", "norm", "lr", "seed", "step", "quantity", "value"]].notna().all(axis=None)
    assert set(frame.quantity) <= set(QUANTITIES)
    assert frame.attrs["missing"] == 0


@pytest.mark.parametrize("name", [*ARMS, *SETTING.variants])
def test_a_frame_holds_every_run(frames, name):
    frame, arms = frames[name], SETTING.arms("sensitivity" if name in SETTING.variants else name)
    found = frame[["arm", "norm", "lr", "dose", "seed"]].drop_duplicates().fillna(0)
    wanted = {(arm.name, arm.norm, arm.lr, arm.dose, seed) for arm in arms for seed in SETTING.seeds}
    assert set(found.itertuples(index=False, name=None)) == wanted
    probed = () if name == "by_heart" else SETTING.probed  # of those runs the gradients alone are measured
    assert set(frame[frame.quantity == "layer_deviation"].layer) == set(probed)
    keys = [column for column in store.COLUMNS if column != "value"]
    assert not frame.duplicated(keys).any()


@pytest.mark.parametrize("name", presets.EXPERIMENTS)
def test_a_record_holds_what_it_says_it_measures(frames, name):
    """Its key has the versions of these."""
    for record in records.needed(SETTING, name):
        assert set(record.kept().quantity) == set(record.measures) - {"diverged"}


def test_a_diverged_run_keeps_to_the_schema():
    """With it, every quantity that is registered is one that is measured."""
    images = data.load("digits")
    run = records.Run(SETTING, presets.Arm("none", 1e20), 0, images.fingerprint)
    frame = runs.with_derived(records.train_one(run, images))
    assert list(frame.columns) == store.COLUMNS and "diverged" in set(frame.quantity) <= set(QUANTITIES)


def test_nothing_is_registered_that_nothing_measures(frames):
    measured = {quantity for frame in frames.values() for quantity in frame.quantity}
    assert set(QUANTITIES) - measured <= {"diverged"}


def test_the_papers_quantities_are_registered():
    assert {name for name, _ in runs.PAPER_QUANTITIES.values()} <= set(QUANTITIES)


@pytest.mark.parametrize("name", QUANTITIES)
def test_a_quantity_has_words_that_can_be_drawn(name):
    quantity = QUANTITIES[name]
    assert quantity.label and quantity.source and quantity.scale in ("linear", "log") and quantity.version >= 1
    parts = [quantity.label, quantity.symbol, f"({quantity.unit})" if quantity.unit else ""]
    assert quantity.axis == " ".join(filter(None, parts))
    figure = plt.figure()
    figure.supylabel(quantity.axis)
    figure.canvas.draw()  # raises for a symbol that is no maths
    plt.close(figure)


def test_axes_tell_quantities_apart():
    """But for the smoothed accuracy, which stands for the accuracy."""
    words = [quantity.axis for name, quantity in QUANTITIES.items() if name != "smooth_accuracy"]
    assert len(set(words)) == len(words)

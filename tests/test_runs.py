"""Runs on real data at the smoke preset: the frame, the key, the store, and what failure leaves behind."""

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from PIL import Image

from bnutils import data, executor, instruments, norms, presets, probes, records, runs, store
from bnutils.quantities import QUANTITIES


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BNUTILS_CACHE", str(tmp_path))
    return tmp_path / "runs"


@pytest.fixture
def setting() -> presets.Setting:
    return presets.get("smoke", device="cpu", steps=4)


@pytest.fixture
def images() -> data.Images:
    return data.load("digits")


def one(setting, images, arm=None, seed=0) -> records.Run:
    return records.Run(setting, arm or presets.Arm("batch", 0.1), seed, images.fingerprint)


def test_an_experiment_is_one_tidy_frame_measured_once(cache, setting):
    frame = runs.experiment(setting, "speed")
    assert list(frame.columns) == store.COLUMNS
    assert set(frame.quantity) <= set(QUANTITIES)
    assert set(frame.arm) == {"none 0.1", "batch 0.1", "none 0.5", "batch 0.5"} and set(frame.seed) == {0, 1}
    assert frame.attrs["missing"] == 0 and "8 measured now" in frame.attrs["source"]
    written = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    again = runs.experiment(setting, "speed")
    assert "measured now" not in again.attrs["source"] and "8 read from the local cache" in again.attrs["source"]
    pd.testing.assert_frame_equal(again, frame)
    runs.noise(setting)
    assert {path: path.stat().st_mtime_ns for path in written} == written, "shared runs must not be measured again"
    assert len(list(cache.iterdir())) == 8 + 3 * 2, "the other experiment shares the two arms it has in common"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("norm", ["none", "batch", "noisy"])
def test_a_gpu_measures_the_same_rows(cache, setting, norm):
    """And the same numbers, as far as float32 goes: the noise is the device's own, so those of a noisy run are not."""
    arm, frames = presets.Arm(norm, 0.1, dose=float(norm == "noisy")), []
    for device in ("cpu", "cuda"):
        there = replace(setting, device=device)
        images = records.images_of("digits", device)
        frames.append(records.train_one(one(there, images, arm), images))
    keys = ["quantity", "step", "layer", "eta"]
    cpu, gpu = (frame[frame.quantity != "density"] for frame in frames)
    pd.testing.assert_frame_equal(cpu[keys], gpu[keys])
    if norm != "noisy":
        plain = ["loss", "mean", "variance", "loss_along", "gradient_norm", "shift_l2", "beta"]
        cpu, gpu = (frame[frame.quantity.isin(plain) & (frame.step == 0)].value for frame in (cpu, gpu))
        np.testing.assert_allclose(cpu, gpu, rtol=0.01, atol=1e-4)


@pytest.mark.parametrize("norm", ["none", "batch", "noisy"])
def test_same_seed_same_bits(cache, setting, images, norm):
    run = one(setting, images, presets.Arm(norm, 0.1, dose=float(norm == "noisy")))
    pd.testing.assert_frame_equal(records.train_one(run, images), records.train_one(run, images), check_exact=True)
    other = records.train_one(replace(run, seed=1), images)
    assert not other.value.equals(records.train_one(run, images).value)


def test_kept_run_is_the_run(cache, setting, images):
    run = one(setting, images)
    frame = records.train_one(run, images)
    store.save(frame, run.path)
    kept = store.load(run.path)
    pd.testing.assert_frame_equal(kept, frame, check_exact=True)
    assert kept.attrs["provenance"] == frame.attrs["provenance"]
    provenance = kept.attrs["provenance"]
    assert provenance["key"] == run.key and provenance["status"] == "finished" and provenance["seconds"] > 0


def test_arms_share_their_batches_and_first_loss(cache, setting, images):
    """Weights and batches depend on the seed alone, so at step 0 two learning rates see the same loss to the bit."""
    first = [
        records.train_one(one(setting, images, presets.Arm("none", lr)), images)
        .query("quantity == 'loss'")
        .value.iloc[0]
        for lr in (0.1, 0.5)
    ]
    assert first[0] == first[1]


def test_key_holds_what_can_change_a_value_and_nothing_else(setting, images, monkeypatch):
    run = one(setting, images)
    same = [replace(setting, device="auto"), replace(setting, minutes=1.0), replace(setting, seeds=(0, 1, 2))]
    assert {one(each, images).key for each in same} == {run.key}
    different = [
        replace(run, seed=1),
        replace(run, fingerprint="other"),
        replace(run, arm=presets.Arm("none", 0.1)),
        replace(run, arm=presets.Arm("batch", 0.2)),
        replace(run, setting=replace(setting, batch=16)),
        replace(run, setting=replace(setting, vgg=replace(setting.vgg, depth="A"))),
        replace(run, setting=replace(setting, schedule=replace(setting.schedule, steps=5))),
    ]
    assert len({each.key for each in [run, *different]}) == 1 + len(different)
    before = run.key
    monkeypatch.setitem(QUANTITIES, "loss", replace(QUANTITIES["loss"], version=2))
    assert run.key != before


def test_a_quantity_that_a_run_does_not_measure_changes_no_key(setting, images, monkeypatch):
    plain, carrying = one(setting, images, presets.Arm("noisy", 0.1, 1.0)), one(setting, images)
    before = plain.key, carrying.key
    monkeypatch.setitem(QUANTITIES, "beta_smooth", replace(QUANTITIES["beta_smooth"], version=99))
    assert plain.key == before[0] and carrying.key != before[1]


def test_a_published_run_is_read_and_not_measured_again(cache, setting, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "RESULTS", tmp_path / "results")
    frame = runs.experiment(setting, "speed")
    assert len(runs.publish(records.needed(setting, "speed"))) == 8
    shutil.rmtree(cache)
    again = runs.experiment(setting, "speed")
    assert "measured now" not in again.attrs["source"] and "8 read from the published records" in again.attrs["source"]
    pd.testing.assert_frame_equal(again, frame)
    assert not cache.exists() and runs.plan(setting, "speed").loc["cost of those not kept yet", "here"] == "0 s"


def test_a_run_is_written_whole_or_not_at_all(cache, setting, images, monkeypatch):
    run = one(setting, images)
    frame = records.train_one(run, images)

    def dies(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(OSError, match="disk full"):
        store.save(frame, run.path)
    assert list(cache.iterdir()) == []


def test_a_number_that_is_none_leaves_a_record_whole(tmp_path):
    """As 0 / 0 on this processor gives it, with a sign that no file keeps."""
    quiet = (torch.zeros(3) / torch.zeros(3)).double().numpy()
    for value in (quiet, -quiet, np.copysign(np.nan, -1)):
        each = pd.DataFrame({"quantity": "beta", "layer": pd.array([1, None, 2], "Int64"), "value": value})
        each.attrs["provenance"] = {"digest": store.digest(each), "key": "a"}
        store.save(each, tmp_path / "a.parquet")
        assert store.read(tmp_path / "a.parquet").value.isna().all()


def test_a_damaged_run_is_named_kept_aside_and_measured_again(cache, setting, capsys):
    runs.experiment(setting, "speed")
    path = sorted(cache.iterdir())[0]
    path.write_bytes(path.read_bytes()[:100])
    frame = runs.experiment(setting, "speed")
    out = capsys.readouterr().out
    assert path.name in out and "measured again" in out and len(out.splitlines()) == 1
    assert "1 measured now" in frame.attrs["source"] and path.with_suffix(".damaged").exists()


def test_a_record_whose_rows_were_changed_is_not_used(cache, setting, images, tmp_path, monkeypatch, capsys):
    """One number changed in the file, the file still whole: here and among the published ones."""
    monkeypatch.setattr(store, "RESULTS", tmp_path / "results")
    runs.experiment(setting, "speed")
    runs.publish(records.needed(setting, "speed"))
    run = one(setting, images)
    frame = store.load(run.path)
    changed = frame.assign(value=frame.value.where(frame.index != 3, 0.125))
    changed.attrs = frame.attrs
    store.save(changed, run.published)
    pd.testing.assert_frame_equal(run.kept(), frame)
    assert "damaged published record" in capsys.readouterr().out
    store.save(changed, run.path)
    assert run.kept() is None and "digest" in capsys.readouterr().out and not run.path.exists()


def test_provenance_says_who_when_and_on_what(cache, setting, images):
    provenance = records.train_one(one(setting, images), images).attrs["provenance"]
    assert provenance["commit"] != "unknown" and provenance["torch"] == torch.__version__
    assert provenance["dataset"] == "digits" and provenance["preset"] == "smoke" and provenance["python"]


def test_a_run_that_fails_does_not_lose_the_others(cache, setting, images):
    """The bad one's folder of images is gone when its worker process comes to read it."""
    folder = cache.parent / "gone"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        [Image.new("RGB", (32, 32)).save(folder / name / f"{number}.png") for number in range(5)]
    bad = replace(setting, dataset=str(folder))
    shutil.rmtree(folder)
    good = [one(setting, images, seed=seed) for seed in (0, 1, 2)]
    with pytest.raises(FileNotFoundError, match="gone"):
        executor.measure([good[0], one(bad, images), *good[1:]])
    assert sorted(path.name for path in cache.iterdir()) == sorted(run.path.name for run in good)


def test_a_killed_process_leaves_whole_runs_and_no_workers(cache):
    """Killed without warning while it measures: what is kept can be read, its workers end, and the rest can be made."""
    command = [sys.executable, "-m", "bnutils", "record", "smoke"]
    process = psutil.Popen(command, stdout=subprocess.DEVNULL)
    while not list(cache.glob("*.parquet")):
        assert process.poll() is None, "it ended without keeping a run"
        time.sleep(0.01)
    workers = process.children(recursive=True)
    process.kill()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert workers and not alive
    kept, setting = list(cache.glob("*.parquet")), presets.get("smoke")
    count = len({run.key for name in presets.EXPERIMENTS for run in records.needed(setting, name)})
    assert 0 < len(kept) < count and all(len(store.load(path)) for path in kept)
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert re.match(rf"{count - len(kept)} of {count} records of preset smoke are missing: about .* at once", out)
    assert f"{count - len(kept)} measured in" in out and len(list(cache.glob("*.parquet"))) == count


def test_a_costly_setting_says_what_is_missing_and_goes_on(cache, capsys):
    setting = presets.get("smoke", device="cpu", steps=100_000, minutes=0.01)
    frame = runs.experiment(setting, "speed")
    out = capsys.readouterr().out
    assert out.startswith("8 of 8 runs of preset smoke are missing") and "minutes" in out and len(out.splitlines()) == 1
    assert frame.empty and list(frame.columns) == store.COLUMNS and frame.attrs["missing"] == 8
    assert not cache.exists()


def test_activation_rows_by_hand(setting, images):
    """Against moments computed from the activations themselves, at two networks in a row."""
    probe = instruments.ActivationProbe(one(setting, images), images)
    x = images.train_x[:32]
    networks = [records.build(setting, presets.Arm("none", 0.1), seed, images) for seed in (0, 1)]
    first, second = ({(r.quantity, r.layer): r for r in probe(network, x, images.train_y[:32])} for network in networks)
    assert ("layer_mean_step", 2) not in first
    before, after = (probes.activations(network, x, layers=[2])[2] for network in networks)
    expected = (after.mean(0) - before.mean(0)).abs().mean()
    torch.testing.assert_close(second["layer_mean_step", 2].value, expected)
    expected = (after.var(0, correction=0) - before.var(0, correction=0)).abs().mean()
    torch.testing.assert_close(second["layer_variance_step", 2].value, expected)
    torch.testing.assert_close(second["layer_deviation", 2].value, after.std(0, correction=0).mean())
    means = after.mean(0)
    assert any(torch.isclose(second["mean", 2].value, mean) for mean in means)
    density = second["density", 2]
    assert (density.value.sum() * (density.bin[1] - density.bin[0])).item() == pytest.approx(1, rel=1e-4)


def test_gradient_rows_are_the_probes(setting, images):
    """Every number of the probes, at the arm's learning rate, with eta 0 the loss itself."""
    network, (x, y) = (
        records.build(setting, presets.Arm("batch", 0.1), 0, images),
        (images.train_x[:32], images.train_y[:32]),
    )
    rows = list(instruments.GradientProbe(one(setting, images, presets.Arm("batch", 0.2)), images)(network, x, y))
    found = {(row.quantity, row.layer): row for row in rows}
    look = probes.along(network, instruments.LOSS, x, y, etas=[0.05, 0.1, 0.2, 0.4, 0.8])
    torch.testing.assert_close(found["loss_along", None].value[1:], look.losses)
    torch.testing.assert_close(found["loss_along", None].value[0], instruments.LOSS(network.train()(x), y).detach())
    assert found["loss_along", None].eta.tolist() == pytest.approx([0, 0.05, 0.1, 0.2, 0.4, 0.8])
    for name, values in {
        "beta": look.betas,
        "gradient_distance": look.distances,
        "gradient_cosine": look.cosines,
    }.items():
        torch.testing.assert_close(found[name, None].value, values)
        assert found[name, None].eta.tolist() == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8])
    shift = probes.covariate_shift(network, instruments.LOSS, x, y, lr=0.2, layers=[5, 10])
    assert {layer for name, layer in found if name == "shift_l2"} == {5, 10}
    torch.testing.assert_close(found["shift_cosine", 10].value, shift[10].cosine)
    lengths = probes.gradient_norms(network, instruments.LOSS, x, y)
    assert [layer for name, layer in found if name == "layer_gradient_norm"] == list(range(1, 14))
    torch.testing.assert_close(found["layer_gradient_norm", 3].value, lengths[3])


def test_step_length_rows_tell_the_causes_apart(setting, images):
    """On the fine grid: 32 and 64 bits of one function, and one without kinks whose beta settles as eta falls."""
    network, (x, y) = (
        records.build(setting, presets.Arm("batch", 0.1), 0, images),
        (images.train_x[:32], images.train_y[:32]),
    )
    found = {row.quantity: row for row in instruments.StepLengthProbe(one(setting, images), images)(network, x, y)}
    fine = [eta * 0.1 for eta in presets.FINE]
    for name in ("beta_float32", "beta_float64", "beta_smooth"):
        assert found[name].eta.tolist() == pytest.approx(fine)
    torch.testing.assert_close(
        found["beta_float32"].value[-2:].double(), found["beta_float64"].value[-2:], rtol=1e-2, atol=0
    )
    torch.testing.assert_close(found["curvature"].value, probes.curvature(network, instruments.LOSS, x, y))
    smooth = found["beta_smooth"].value
    torch.testing.assert_close(smooth[0], smooth[1], rtol=0.1, atol=0)
    along = probes.along(network, instruments.LOSS, x, y, etas=[0.1])
    assert not torch.isclose(found["random_distance"].value[2], along.distances[0])


def test_a_run_carries_what_its_experiments_ask(setting, images):
    arms = {"batch 0.1": 7, "none 0.01": 2, "batch 0.5": 1, "noisy 0.1": 1}
    for name, count in arms.items():
        norm, lr = name.split()
        run = one(setting, images, presets.Arm(norm, float(lr), float(norm == "noisy")))
        assert len(run.probes(images)) == count
    carried = one(setting, images, presets.Arm("batch", 0.1))
    other = one(replace(setting, lrs=(0.5, 0.1)), images, presets.Arm("batch", 0.1))
    assert carried.key != other.key, "what is carried is part of the key"


def test_bands_by_hand():
    """Over the paper's step lengths alone, but for the one quantity that says so."""
    etas, values = [0.0, 0.025, 0.05, 0.1, 0.2, 0.4], [1.0, 9.0, 2.0, 5.0, 3.0, 4.0]
    parts = [
        pd.DataFrame({"eta": etas, "value": values, "quantity": name})
        for name in ("loss_along", "gradient_distance", "beta")
    ]
    frame = pd.concat(parts).assign(arm="none 0.1", norm="none", lr=0.1, seed=0, step=20).reindex(columns=store.COLUMNS)
    derived = runs.with_derived(frame).set_index("quantity").value
    found = {name: derived[name] for name in [*runs.BANDS, "beta_max_short"]}
    expected = {
        "loss_low": 2,
        "loss_high": 5,
        "distance_low": 2,
        "distance_high": 5,
        "beta_max": 5,
        "beta_max_short": 9,
    }
    assert found == expected


def test_the_linear_network_is_kept_and_read(cache):
    setting = presets.get("smoke", device="cpu", linear_steps=4)
    frame = runs.deep_linear(setting)
    assert frame.attrs["missing"] == 0 and len(list(cache.iterdir())) == 4
    again = runs.deep_linear(setting)
    assert "measured now" not in again.attrs["source"]
    pd.testing.assert_frame_equal(frame, again, check_exact=True)
    runs.deep_linear(presets.get("smoke", device="cpu", linear_steps=4, variances=[1, 1]))
    assert len(list(cache.iterdir())) == 8, "another scale is another record"


def test_the_landscape_of_the_linear_network_is_of_its_first_rate(cache):
    setting = presets.get("smoke", device="cpu", linear_steps=4)
    frame = runs.linear_landscape(setting)
    assert set(frame.lr) == {setting.linear.lrs[0]} and set(frame.norm) == {"none", "batch"}
    keys = [{run.key for run in records.needed(setting, name)} for name in ("linear_landscape", "linear")]
    assert keys[0] < keys[1]
    plan = runs.plan(setting, "linear_landscape")
    assert plan.loc["learning rate", "here"] == "1e-06" and plan.loc["runs", "here"] == "2, each with all its seeds"


def test_a_plan_of_the_linear_network_says_what_the_paper_does_not():
    plan = runs.plan(presets.get("smoke", device="cpu"), "linear")
    assert plan.loc["variance of x, of A", "in the paper"] == "not stated"
    assert plan.loc["variance of x, of A", "here"] == "1, 0.25"


def test_derived_quantities_by_hand():
    rows = [("train_accuracy", step, np.nan, value) for step, value in enumerate([0.0, 1.0, 0.5])]
    rows += [("mean", step, 2, value) for step, value in [(0, 1.0), (10, 3.0), (20, 2.5)]]
    frame = pd.DataFrame(rows, columns=["quantity", "step", "layer", "value"]).assign(arm="none 0.1", seed=0)
    derived = runs.with_derived(frame.reindex(columns=store.COLUMNS), smooth=3)

    def values(name: str) -> list[float]:
        return derived[derived.quantity == name].sort_values("step").value.tolist()

    assert values("smooth_accuracy") == [0.5, 0.5, 0.75]
    assert values("mean_step") == [2.0, 0.5] and values("mean_from_start") == [0.0, 2.0, 1.5]


def test_paper_curves_are_the_papers_numbers():
    """Against the table of test accuracies in the paper's Fig. 1b and the medians of its Fig. 8a."""
    test = runs.paper("1b").set_index(["arm", "step"]).value
    expected = {("none 0.1", 15_000): 0.8001, ("batch 0.1", 15_000): 0.8287, ("batch 0.5", 3000): 0.7416}
    assert {point: test[point] for point in expected} == pytest.approx(expected, abs=1e-4)
    moved = runs.paper("8").query("quantity == 'mean_step' and norm == 'none'").groupby("layer").value.median()
    np.testing.assert_allclose(moved, [0.032, 0.065, 0.013], rtol=0.05)
    accuracy = runs.paper("1a").query("quantity == 'train_accuracy'").value
    np.testing.assert_allclose(accuracy * 128, (accuracy * 128).round(), atol=0.02)
    with pytest.raises(
        ValueError, match=r"^no curves of figure '99': accepted are 1a, 1b, 2, 3a, 3b, 4, 8, 10, 5a, 5b, 12, 13$"
    ):
        runs.paper("99")


def test_the_papers_lp_curves_are_the_papers_numbers():
    """Against the table of its Fig. 5b, and windows and medians of its Figs 5a and 12."""
    loss = runs.paper("5b").set_index(["norm", "step"]).value
    table = {("l1", 1000): 1218, ("l2", 5000): 982, ("linf", 7000): 999, ("none", 3000): 2901, ("batch", 9950): 480}
    assert {point: loss[point] for point in table} == pytest.approx(table, rel=0.01)
    accuracy = runs.paper("5a").query("quantity == 'train_accuracy' and norm == 'linf' and 2000 <= step < 3000").value
    assert accuracy.mean() == pytest.approx(0.921, abs=0.005)
    landscape = runs.paper("12").query("norm == 'l1' and step < 1000").groupby("quantity").value.median()
    assert landscape["distance_high"] == pytest.approx(31, abs=0.6) and landscape["beta_max"] < 20
    assert set(runs.paper("12").quantity) >= {"smooth_accuracy", "loss_low", "loss_high"}
    assert runs.paper("13").query("quantity == 'loss_high' and norm != 'none'").value.max() < 1.25e5


def test_normalizers_share_standard_and_batch_with_the_other_chapters(setting, images):
    wanted = {(run.arm.name, run.seed): run.key for run in records.needed(setting, "norms")}
    shared = {run.key for run in records.needed(setting, "landscape")}
    assert {name for (name, _), key in wanted.items() if key in shared} == {"none 0.1", "batch 0.1"}
    assert {name.split()[0] for name, _ in wanted} == {*norms.NORMS} - {"noisy", "noisy_none"}
    rms = one(setting, images, presets.Arm("rms", 0.1))
    assert [type(probe).__name__ for _, probe in rms.probes(images)] == ["ActivationProbe", "GradientProbe"]


def test_a_normalizer_that_needs_all_samples_has_the_first_seeds(setting):
    many = replace(setting, linear=replace(setting.linear, seeds=tuple(range(9))))
    found = {run.arm.norm: run.linear.seeds for run in records.needed(many, "linear_norms")}
    assert found["l1"] == found["linf"] == (0, 1, 2, 3, 4) and found["l2"] == found["batch"] == tuple(range(9))
    shared = {run.key for run in records.needed(many, "linear")}
    assert sum(run.key in shared for run in records.needed(many, "linear_norms")) == 2


# ---- on record -----------------------------------------------------------------------------------------------------


def test_a_scale_without_an_experiment_is_not_its_largest():
    """Nothing is missing where nothing is asked for."""
    assert not records.needed(presets.get("paper", dataset="cifar10-jpeg"), "by_heart")
    assert runs.largest("by_heart").preset == "cifar"


def test_the_largest_complete_record_is_read_and_nothing_measured(cache, setting, tmp_path, monkeypatch):
    """Of two scales the first is the larger: it counts once all its runs are published, before that the other one."""
    monkeypatch.setattr(store, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(runs, "ON_RECORD", [("quick", "digits"), ("smoke", "digits")])
    small = presets.get("smoke", dataset="digits")
    runs.experiment(small, "speed")
    runs.publish(records.needed(small, "speed")[:3])
    shutil.rmtree(cache)
    of, frame = runs.on_record("speed")
    assert (
        of.preset == "smoke"
        and frame.attrs["missing"] == 5
        and "3 read from the published records" in frame.attrs["source"]
    )
    alone = runs.scales(small, "speed")
    assert len(alone) == 1 and alone[0][1].attrs["missing"] == 0, "an incomplete record decides nothing"
    runs.publish(records.needed(small, "speed"))
    assert len(runs.scales(small, "speed")) == 1, "the same runs are no other scale"
    other = presets.get("smoke", dataset="digits", steps=4)
    both = runs.scales(other, "speed")
    assert [each.schedule.steps for each, _ in both] == [8, 4] and both[0][1].attrs["missing"] == 0
    assert both[0][1].attrs["scale"] == "digits, preset smoke"
    figures = runs.beside_paper(small)
    assert {"1a", "1b", "3b", "10"} <= set(figures) and "12" not in figures and len(figures["1a"][0])


def test_every_complete_record_is_a_scale(cache, setting, tmp_path, monkeypatch):
    """Not only the largest of them; and of those that share all their runs, as the deep linear network's, only one."""
    monkeypatch.setattr(store, "RESULTS", tmp_path / "results")
    settings = [presets.get("smoke", dataset="digits", steps=steps) for steps in (8, 6, 4)]
    monkeypatch.setattr(runs, "_on_record", lambda: settings[:2])
    for each in settings[:2]:
        runs.experiment(each, "speed")
        runs.deep_linear(each)
    assert [each.schedule.steps for each, _ in runs.scales(settings[2], "speed")] == [8, 6, 4]
    assert [each.schedule.steps for each, _ in runs.scales(settings[2], "linear")] == [4]
    settings[2] = presets.get("smoke", dataset="digits", linear_steps=10)
    assert len(runs.scales(settings[2], "linear")) == 2
    larger = presets.get("quick", dataset="digits", minutes=0)
    assert [each.preset for each, _ in runs.scales(larger, "speed")] == ["quick"], "a smaller record comes before none"


def test_densities_come_with_what_draws_them(cache, setting):
    assert "density" in set(runs.experiment(setting, "speed").quantity)
    landscape = runs.experiment(setting, "landscape")
    assert "density" not in set(landscape.quantity) and {"mean", "loss_along"} <= set(landscape.quantity)


def test_where_nothing_is_on_record_the_frame_is_empty(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "RESULTS", tmp_path)
    _, frame = runs.on_record("speed")
    assert frame.empty and list(frame.columns) == store.COLUMNS and frame.attrs["missing"]
    assert frame.attrs["source"] == "No run of this setting is on record."


def test_images_of_another_fingerprint_are_refused(setting, images):
    with pytest.raises(
        ValueError, match=f"digits has the fingerprint {images.fingerprint} here; the record is of other"
    ):
        records.Run(setting, presets.Arm("none", 0.1), 0, "other").measure()

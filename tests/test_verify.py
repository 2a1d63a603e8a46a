"""The check of published records: on the book's own, on copies that are damaged or forged, and without their images."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from bnutils import data, presets, records, runs, store, train, verify

BOOK = sorted(store.RESULTS.glob("*.parquet"))


@pytest.fixture
def published(tmp_path, monkeypatch) -> Path:
    """An empty folder in place of the book's."""
    monkeypatch.setattr(store, "RESULTS", tmp_path)
    return tmp_path


def forged(frame: pd.DataFrame, path: Path, *, digest: bool = True, **changes) -> None:
    """Write the frame with other columns as if it had been measured so, or with the digest that it had."""
    other = frame.assign(**changes)
    other.attrs["provenance"] = frame.attrs["provenance"] | {"key": path.stem}
    if digest:
        other.attrs["provenance"]["digest"] = store.digest(other)
    store.save(other, path)


def smoke(norm: str) -> records.Run:
    setting = presets.get("smoke", device="cpu")
    (run, *_) = [run for run in records.needed(setting, "speed") if run.arm == presets.Arm(norm, 0.5)]
    return run


def test_the_books_own_records_are_what_they_say(capsys):
    count = len(list(store.RESULTS.glob("*.parquet")))
    assert verify.verify(sample=3) == 0
    first, *again, last = capsys.readouterr().out.splitlines()
    assert first == f"{count} published records: {count} fit their digest and key and are asked for, 0 do not."
    assert sum("rows of its beginning" in line for line in again) == 3
    assert last == f"{count} records checked, the beginnings of 3 measured again to within 1%: all is well."


def test_the_books_own_records_leave_room():
    assert sum(path.stat().st_size for path in store.RESULTS.glob("*")) < 20e6


def test_a_damaged_record_does_not_hide_the_others(published):
    good, cut = (Path(shutil.copy(path, published)) for path in BOOK[:2])
    cut.write_bytes(cut.read_bytes()[:-100])
    table = runs.published()
    assert table.status[cut.stem] == "damaged" and table.seconds[good.stem] > 0


def test_each_damage_is_named(published, capsys):
    good, changed, cut, renamed, unknown = (Path(shutil.copy(path, published)) for path in BOOK[:5])
    frame = store.read(changed)
    forged(frame, changed, digest=False, value=frame.value.where(frame.index != 3, 0.125))
    cut.write_bytes(cut.read_bytes()[:-100])
    renamed.rename(published / "0123456789abcdef.parquet")
    forged(store.read(unknown), published / "fedcba9876543210.parquet")
    unknown.unlink()
    assert verify.verify(sample=0) == 1
    said = capsys.readouterr().out.splitlines()
    assert f"{changed.name}: its rows do not fit its digest" in said
    assert any(line.startswith(f"{cut.name}: it cannot be read (") for line in said)
    assert f"0123456789abcdef.parquet: it is the record {renamed.stem} under another name" in said
    assert "fedcba9876543210.parquet: no experiment asks for it: is it of an older version?" in said
    assert not any(good.stem in line for line in said) and said[-1].endswith(": 4 WRONG.") and len(said) == 6


def test_a_forgery_is_caught_by_measuring_again(published, capsys):
    """Values changed and the digest made to fit: one number of a run of this machine, all of one of another."""
    run = smoke("none")
    with train.one_thread():
        frame = run.measure()
    store.save(frame, run.published)
    assert verify.verify() == 0
    assert (
        f"{run.published.name} ({run}): {len(frame.query('step < 8'))} rows of its beginning, the same to the bit"
        in (capsys.readouterr().out)
    )
    row = frame.query("quantity == 'loss' and step == 5").index
    forged(frame, run.published, value=frame.value.mask(frame.index.isin(row), frame.value * 1.05))
    assert verify.verify() == 1
    assert "of the largest, in loss: WRONG" in capsys.readouterr().out
    frame.attrs["provenance"]["device"] = "another"
    forged(frame, run.published)
    assert verify.verify() == 0
    assert "rows of its beginning that all machines should share, the same" in capsys.readouterr().out
    forged(frame, run.published, value=frame.value * 1.05)
    assert verify.verify() == 1
    forged(frame[frame.quantity != "loss"], run.published)
    assert verify.verify() == 1
    assert "1 more are on one side only: WRONG" in capsys.readouterr().out


def test_records_whose_images_are_not_here_are_passed_over(published, capsys):
    setting = presets.get("cifar", dataset="cifar10-jpeg")
    away, here = records.needed(setting, "speed")[0], smoke("batch")
    with train.one_thread():
        store.save(frame := here.measure(), here.published)
    forged(frame, away.published)
    assert verify.verify() == 0
    first, passed, again, last = capsys.readouterr().out.splitlines()
    assert passed.startswith("1 cannot be measured again on this machine: the images of cifar10-jpeg do not come with")
    assert again.startswith(here.published.name)
    assert last == "2 records checked, the beginnings of 1 measured again to within 1%: all is well."


def test_the_beginning_of_a_map_is_of_its_own_rates():
    """Its main one and one beside it, also where the main one is the last."""
    for preset in ("smoke", "quick", "cifar"):
        setting = presets.PRESETS["smoke"]
        grid = presets.MAPS[preset]
        record = records.MapRun(setting, grid, "batch", 1.0, 0, data.KNOWN["digits"][0])
        short, steps = record.beginning()
        assert grid.main in short.grid.lrs and set(short.grid.lrs) <= set(grid.lrs) and short.grid.main == grid.main
        assert steps == grid.early + 1

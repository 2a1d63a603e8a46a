"""The command line, on the preset that is there for it."""

import re
import runpy
import sys

import pytest

from bnutils import presets, records


def main(monkeypatch, *arguments):
    """`python -m bnutils` in this process, which has torch in memory already; returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["bnutils", *arguments])
    try:
        runpy.run_module("bnutils", run_name="__main__")
    except SystemExit as end:
        return end.code
    return 0


def test_record_says_what_is_missing_measures_all_of_it_and_keeps_it(recorded):
    cache, said = recorded
    setting = presets.get("smoke")
    keys = {each.key for name in presets.EXPERIMENTS for each in records.needed(setting, name)}
    first, *each, last = said.splitlines()
    missing = rf"{len(keys)} of {len(keys)} records of preset smoke are missing: about \d+ \w+ with \d+ at once .*"
    assert re.fullmatch(missing, first)
    told = [re.match(r"(\d+) of (\d+): .", line).groups() for line in each]
    assert told == [(f"{number}", f"{len(keys)}") for number in range(1, len(keys) + 1)], "a line for each, as it comes"
    assert re.fullmatch(rf"{len(keys)} measured in .*, {len(keys)} kept\.", last)
    assert {path.stem for path in (cache / "runs").iterdir()} == keys


def test_record_measures_nothing_twice(recorded, monkeypatch, capsys):
    cache = recorded[0]
    monkeypatch.setenv("BNUTILS_CACHE", str(cache))
    kept = {path: path.stat().st_mtime_ns for path in (cache / "runs").iterdir()}
    assert main(monkeypatch, "record", "smoke", "--device", "cpu") == 0
    assert re.match(r"0 of \d+ records of preset smoke are missing\.\n0 measured", capsys.readouterr().out)
    assert kept == {path: path.stat().st_mtime_ns for path in (cache / "runs").iterdir()}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["smok"], "unknown preset 'smok': accepted are paper, long, cifar, quick, smoke"),
        (["smoke", "--dataset", "no/where"], "no folder '.*no/where': accepted are .*"),
        (["smoke", "--device", "gpu"], "unknown device 'gpu': accepted are auto, cpu, cuda and cuda:N"),
    ],
)
def test_what_is_not_accepted_ends_with_one_line(monkeypatch, capsys, arguments, line):
    assert main(monkeypatch, "record", *arguments) == 2
    said = capsys.readouterr()
    assert re.fullmatch(line + "\n", said.err) and not said.out


def test_help_names_the_presets(monkeypatch, capsys):
    assert main(monkeypatch, "record", "--help") == 0
    assert ", ".join(presets.PRESETS) in capsys.readouterr().out

"""The command line, on the preset that is there for it; its runs are those of test_quantities too."""

import os
import re
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from build import ROOT

from bnutils import presets, records


@cache
def recorded() -> tuple[subprocess.CompletedProcess, TemporaryDirectory]:
    """`record smoke` into an empty cache, once for all that ask; the cache goes with the process."""
    folder = TemporaryDirectory()
    command = [sys.executable, "-m", "bnutils", "record", "smoke"]
    environment = os.environ | {"BNUTILS_CACHE": folder.name}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment), folder


def main(monkeypatch, *arguments):
    """`python -m bnutils` in this process, which has torch in memory already; returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["bnutils", *arguments])
    try:
        runpy.run_module("bnutils", run_name="__main__")
    except SystemExit as end:
        return end.code
    return 0


def test_record_says_what_is_missing_measures_all_of_it_and_keeps_it():
    run, folder = recorded()
    assert (run.returncode, run.stderr) == (0, "")
    setting = presets.get("smoke")
    keys = {each.key for name in presets.EXPERIMENTS for each in records.needed(setting, name)}
    first, last = run.stdout.splitlines()
    missing = rf"{len(keys)} of {len(keys)} records of preset smoke are missing: about \d+ \w+ with \d+ at once .*"
    assert re.fullmatch(missing, first)
    assert re.fullmatch(rf"{len(keys)} measured in .*, {len(keys)} kept\.", last)
    assert {path.stem for path in Path(folder.name, "runs").iterdir()} == keys


def test_record_measures_nothing_twice(monkeypatch, capsys):
    _, folder = recorded()
    monkeypatch.setenv("BNUTILS_CACHE", folder.name)
    kept = {path: path.stat().st_mtime_ns for path in Path(folder.name, "runs").iterdir()}
    assert main(monkeypatch, "record", "smoke", "--device", "cpu") == 0
    assert re.match(r"0 of \d+ records of preset smoke are missing\.\n0 measured", capsys.readouterr().out)
    assert kept == {path: path.stat().st_mtime_ns for path in Path(folder.name, "runs").iterdir()}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["smok"], "unknown preset 'smok': accepted are paper, cifar, quick, smoke"),
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

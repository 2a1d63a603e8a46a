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

from bnutils import presets


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


def test_record_measures_every_experiment_and_says_where_from():
    run, folder = recorded()
    assert (run.returncode, run.stderr) == (0, "")
    lines = run.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == list(presets.EXPERIMENTS)
    setting, before = presets.get("smoke"), set()
    for experiment, line in zip(presets.LAYERS, lines[: len(presets.LAYERS)], strict=True):
        arms = set(setting.arms(experiment))
        counts = [len(setting.seeds) * len(each) for each in (arms, arms - before, arms & before)]
        said = r"{}: {} runs of preset smoke on digits: {} measured now in .*, {} read from .* torch .*\."
        assert re.fullmatch(said.format(experiment, *counts), line)
        before |= arms
    others = [("Gaussian data", 4), ("Gaussian data", 2), ("digits", 4)]
    for line, (what, count) in zip(lines[len(presets.LAYERS) :], others, strict=True):
        assert f"{count} runs of preset smoke on {what}: {count} measured now" in line
    assert len(list(Path(folder.name, "runs").iterdir())) == len(setting.seeds) * len(before) + 10


def test_record_measures_nothing_twice(monkeypatch, capsys):
    _, folder = recorded()
    monkeypatch.setenv("BNUTILS_CACHE", folder.name)
    kept = {path: path.stat().st_mtime_ns for path in Path(folder.name, "runs").iterdir()}
    assert main(monkeypatch, "record", "smoke", "--device", "cpu") == 0
    assert capsys.readouterr().out.count(": 0 measured now") == len(presets.EXPERIMENTS)
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
    assert main(monkeypatch, "--help") == 0
    assert ", ".join(presets.PRESETS) in capsys.readouterr().out

"""Runs on a Dask cluster: a real scheduler and two real workers on this machine, one of them killed in mid-run."""

import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
import pytest
from build import ROOT
from distributed import Client
from test_main import main

from bnutils import executor, presets, records, store

PATIENCE = 180  # seconds; a busy machine is slow to start a process, and to answer


@dataclass
class Cluster:
    address: str
    folder: Path
    client: Client


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Workers of one thread that have imported this checkout's package, with a cache folder of their own.

    Without the nanny that would start a killed one again: who is killed here stays away.
    """
    folder = tmp_path_factory.mktemp("cluster")
    file, environment = folder / "scheduler.json", os.environ | {"BNUTILS_CACHE": str(folder / "cache")}
    quiet = {"cwd": ROOT, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    common = ["--no-dashboard", "--scheduler-file", str(file)]
    alone = ["--no-nanny", "--nthreads", "1", "--memory-limit", "0", "--local-directory", str(folder)]
    commands = [["scheduler", "--host", "127.0.0.1", "--port", "0"], *[["worker", *alone]] * 2]
    started = [psutil.Popen([sys.executable, "-m", "dask", *command, *common], **quiet) for command in commands]
    try:
        until(lambda: file.exists() and file.read_text().endswith("}"))
        address = json.loads(file.read_text())["address"]
        with Client(address, set_as_default=False, timeout=PATIENCE) as client:
            client.wait_for_workers(2, timeout=PATIENCE)
            client.run(__import__, "bnutils.runs")
            yield Cluster(address, folder, client)
    finally:
        for process in started:
            process.kill()
        psutil.wait_procs(started, timeout=PATIENCE)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BNUTILS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(executor, "PATIENCE", PATIENCE)
    return tmp_path / "cache" / "runs"


def until(condition):
    """What the condition answers, as soon as it is something."""
    end = time.monotonic() + PATIENCE
    while not (answer := condition()):
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.02)
    return answer


def in_mid_run(client: Client) -> str | None:
    """The address of a worker that is in the loop of a training at this moment, if one is."""
    stacks = client.call_stack()
    training = [worker for worker, tasks in stacks.items() if "bnutils/train.py" in str(tasks)]
    return next(iter(training), None)


def test_the_command_records_on_a_cluster(cluster, cache, monkeypatch, capsys):
    assert main(monkeypatch, "record", "smoke", "--only", "linear", "--scheduler", cluster.address) == 0
    first, second, *each, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"4 of 4 records of preset smoke are missing: about .* for one worker like this machine\.", first
    )
    assert second == f"workers at {cluster.address}: 2" and len(each) == 4 and each[-1].startswith("4 of 4: ")
    assert re.fullmatch(r"4 measured in .*, 4 kept\.", last)
    wanted = records.needed(presets.get("smoke"), "linear")
    assert {path.name for path in cache.iterdir()} == {record.path.name for record in wanted}


def test_a_worker_killed_in_mid_run_loses_nothing(cluster, cache, tmp_path, monkeypatch, capsys):
    setting = presets.get("smoke", device="cpu", steps=24)  # half a second or more each
    wanted = [run for run in records.needed(setting, "speed") if run.arm.lr == 0.5]
    saved = []
    monkeypatch.setattr(executor, "save", lambda frame, path: (saved.append(path), store.save(frame, path)))
    processes = cluster.client.run(os.getpid)
    with ThreadPoolExecutor(1) as thread:
        recording = thread.submit(executor.measure, wanted, scheduler=cluster.address)
        victim = until(lambda: in_mid_run(cluster.client))
        psutil.Process(processes[victim]).kill()
        recording.result(timeout=2 * PATIENCE)
    out = capsys.readouterr().out
    assert re.search(rf"^worker {victim} is gone; measured by others: [1-9]\d* runs$", out, re.MULTILINE), out
    assert sorted(saved) == sorted(run.path for run in wanted), "every run is kept, and none twice"
    assert all(len(store.load(run.path)) for run in wanted) and len(list(cache.iterdir())) == len(wanted)
    assert not (cluster.folder / "cache" / "runs").exists(), "results travel; workers keep none"

    monkeypatch.setenv("BNUTILS_CACHE", str(tmp_path / "local"))
    run, there = wanted[0], store.load(cache / wanted[0].path.name)
    executor.measure([run], workers=1)
    pd.testing.assert_frame_equal(store.load(run.path), there, check_exact=True)


def test_where_no_scheduler_is_one_line_says_so(cache, monkeypatch, capsys):
    monkeypatch.setattr(executor, "PATIENCE", 1)
    assert main(monkeypatch, "record", "smoke", "--only", "linear", "--scheduler", "tcp://127.0.0.1:9") == 2
    said = capsys.readouterr()
    assert re.fullmatch(r"no Dask scheduler at tcp://127\.0\.0\.1:9: .*\n", said.err) and not cache.exists()

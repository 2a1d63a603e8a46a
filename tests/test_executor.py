"""Worker processes of this machine, on records that are quick, fail, or end the process that measures them."""

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import joblib
import pandas as pd
import psutil
import pytest
import torch

from bnutils import executor, store


@dataclass(frozen=True)
class Number(store.Record):
    """One row; measured whether or not there is anything to it."""

    number: int
    preset = "none"
    measures = ()

    @property
    def key(self) -> str:
        return self.key_of({"number": self.number})

    def measure(self) -> pd.DataFrame:
        frame = pd.DataFrame({"step": [self.number], "quantity": "loss", "value": self.value()})
        return store.finished(frame, self, time.perf_counter(), dataset="none", device="none")

    def value(self) -> float:
        return 0.5 * self.number


class Fails(Number):
    def value(self):
        raise RuntimeError(f"no {self.number}")


class Here(Number):
    """The process in which it is measured."""

    def value(self):
        return os.getpid()


class Threads(Number):
    """The threads of torch where it is measured, less one, and a denormal number."""

    def value(self):
        return torch.get_num_threads() - 1 + float(torch.tensor(1e-40) * 0.5)


@dataclass(frozen=True)
class Dies(Number):
    """Its process is killed from outside, as by a system short of memory, while it is measured; `times` times."""

    times: int
    log: str

    def value(self):
        with open(self.log, "a") as log:
            log.write("begun\n")
        if len(Path(self.log).read_text().split()) <= self.times:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().value()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BNUTILS_CACHE", str(tmp_path))
    return tmp_path / "runs"


@pytest.fixture
def saved(monkeypatch) -> list[Path]:
    """Where each frame that is kept was saved, in the order of saving."""
    paths = []
    monkeypatch.setattr(executor, "save", lambda frame, path: (paths.append(path), store.save(frame, path)))
    return paths


def whole(records: list[store.Record]) -> bool:
    return all(store.load(record.path).value.tolist() == [0.5 * record.number] for record in records)


def test_a_killed_worker_is_said_and_every_run_is_kept_once(tmp_path, saved, capsys):
    records = [Number(1), Dies(2, 1, str(tmp_path / "log")), Number(3), Number(4)]
    executor.measure(records, workers=2)
    assert whole(records) and sorted(saved) == sorted(record.path for record in records)
    assert (tmp_path / "log").read_text() == "begun\n" * 2, "it was killed in mid-run, and measured again"
    assert "a worker process was lost: measuring what is left," in capsys.readouterr().out


def test_workers_that_die_again_and_again_are_given_up_and_what_is_measured_is_kept(tmp_path, saved):
    records = [Number(1), Dies(2, 99, str(tmp_path / "log"))]
    lost = r"a worker process was lost 3 times, 1 of 2 runs are not measured; is there memory for fewer at once\?"
    with pytest.raises(OSError, match=lost):
        executor.measure(records, workers=1)
    assert whole(records[:1]) and saved == [records[0].path]
    assert (tmp_path / "log").read_text() == "begun\n" * executor.TRIES


def test_one_that_fails_is_named_and_does_not_lose_the_others(saved, capsys):
    records = [Fails(1), Number(2), Number(3)]
    with pytest.raises(RuntimeError, match="no 1"):
        executor.measure(records, workers=1)
    assert whole(records[1:]) and len(saved) == 2
    assert capsys.readouterr().out == f"{records[0]} failed: no 1\n"


def test_a_worker_of_another_version_is_refused():
    with pytest.raises(ValueError, match="^0123 is [0-9a-f]{16} for the worker: give every machine the same version"):
        executor._measure_one(Number(1), "0123")


def test_a_record_is_measured_alike_in_any_thread(monkeypatch):
    """A cluster's worker measures in a thread that may be older than the import of this package."""
    monkeypatch.setenv("TQDM_DISABLE", "")
    found = []

    def older():
        torch.set_flush_denormal(False)
        assert float(torch.tensor(1e-40) * 0.5) > 0
        found.append(executor._measure_one(Threads(1), Threads(1).key).value.item())

    thread = threading.Thread(target=older)
    thread.start()
    thread.join()
    assert found == [0.0]


@pytest.mark.parametrize("workers", [0, -1])
def test_fewer_than_one_worker_is_refused(workers):
    line = rf"^workers is {workers}: accepted is a whole number of at least 1$"
    with pytest.raises(ValueError, match=line):
        executor.measure([Number(1)], workers=workers)


@pytest.mark.parametrize("address", ["", "localhost", "tcp://localhost", "http://localhost:80"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValueError, match=rf"^scheduler '{address}': accepted is an address as tcp://host:port$"):
        executor.measure([Number(1)], scheduler=address)


def test_without_distributed_the_way_to_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(
        ValueError, match=r"^--scheduler needs the package distributed: pip install 'bnutils\[cluster\]'$"
    ):
        executor.measure([Number(1)], scheduler="tcp://localhost:8786")


def test_no_worker_outlives_its_pool():
    executor.measure([Number(1)], workers=1)
    names = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    assert sum("forkserver" in name for name in names) <= 1, "the server, and none that it forked"


def test_a_hubs_memory_is_one_gib_for_the_notebook_and_one_for_each_worker(monkeypatch):
    cores = joblib.cpu_count()
    for gib, workers in {1: 1, 2: 1, 3: min(2, cores), 1000: cores}.items():
        monkeypatch.setenv("MEM_LIMIT", str(gib * 2**30))
        assert executor.count([]) == workers
    assert executor.count([], 3) == 3


def test_one_alone_is_measured_in_this_process(monkeypatch, saved, capsys):
    """Without a second and a third copy of torch; what fails there loses nothing either, and bars are drawn again."""
    monkeypatch.setenv("MEM_LIMIT", str(2 * 2**30))
    records = [Fails(1), Here(2), Number(3)]
    with pytest.raises(RuntimeError, match="no 1"):
        executor.measure(records)
    assert len(saved) == 2 and store.load(records[1].path).value.item() == os.getpid()
    assert "TQDM_DISABLE" not in os.environ

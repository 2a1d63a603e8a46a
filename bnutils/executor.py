"""How missing records are measured: in worker processes on this machine, or by the workers of a Dask cluster.

Either is a `concurrent.futures.Executor`. A worker sends back what it measured, and this process keeps it at once: a
cluster needs no shared folder, and who is killed loses no more than what was being measured.
"""

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager

import pandas as pd
import torch
from tqdm import tqdm

from bnutils import data
from bnutils.store import Record, save
from bnutils.train import progress

# What worker processes share, rather than import each for itself: with it what reading digits, finding eigenvalues and
# keeping a run import late.
PRELOADED = ["bnutils.runs", "sklearn.datasets", "scipy.sparse.linalg", "pyarrow.parquet"]
TRIES = 3  # how many pools of processes may break before what is left is given up


def measure(missing: list[Record], *, workers: int | None = None, scheduler: str | None = None) -> None:
    """Measure records and keep each as soon as it is there: on `workers` processes here, or on a Dask cluster.

    workers: by default one for each core, of one thread; for a GPU one in all. scheduler: the address of a Dask
    scheduler (tcp://host:port), whose workers have this package and the same images; needs `distributed`.

    A record that fails is named and does not lose the others: they are finished and kept, then the first error is
    raised. Where a worker dies, what it was measuring is measured again. Raises ValueError where there is no scheduler
    at that address.
    """
    waiting = sorted(missing, key=lambda record: -record.passes)  # so that no worker is left with a long one at the end
    failed: list[BaseException] = []
    with progress((), total=len(missing), unit="run") as bar:
        for _ in range(TRIES):
            with _executor(waiting, workers, scheduler) as executor:
                futures = {executor.submit(_measure_one, record): record for record in waiting}
                waiting = []
                for future in as_completed(list(futures)):
                    record = futures.pop(future)  # and with it what it holds
                    try:
                        save(future.result(), record.path)
                        bar.update()
                    except BrokenExecutor:
                        waiting.append(record)
                    except Exception as error:
                        failed.append(error)
                        tqdm.write(f"{record} failed: {error}")
            if not waiting:
                break
            tqdm.write(f"a worker process died; measured again: {len(waiting)} of {len(missing)} runs")
    if failed:
        raise failed[0]
    if waiting:
        raise OSError(f"workers died {TRIES} times, {len(waiting)} runs are left: is there memory for fewer at once?")


def count(device: str, workers: int | None = None) -> int:
    """How many records are measured at once on this machine."""
    return workers or (1 if data.device(device).type == "cuda" else os.cpu_count())


@contextmanager
def _executor(waiting: list[Record], workers: int | None, scheduler: str | None) -> Iterator[Executor]:
    if scheduler:
        with _cluster(scheduler) as executor:
            yield executor
        return
    device = data.device(waiting[0].device).type
    # Not fork: the child of a process that has run torch's threads hangs. Workers are forked from a server that has
    # only imported, and share its memory; where there is none, and on a GPU, each imports for itself.
    shared = device == "cpu" and "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if shared else "spawn")
    if shared:
        context.set_forkserver_preload(PRELOADED)
    processes = count(waiting[0].device, workers)
    start = {"initializer": _start_worker, "initargs": (dict(os.environ),)}
    with ProcessPoolExecutor(max_workers=processes, mp_context=context, **start) as executor:
        yield executor


@contextmanager
def _cluster(address: str) -> Iterator[Executor]:
    """The workers of the scheduler at this address. What its log says of lost workers is passed on."""
    try:
        from distributed import Client
    except ImportError:
        raise ValueError("--scheduler needs the package distributed: pip install 'bnutils[cluster]'") from None
    try:
        client = Client(address, timeout=10, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"no Dask scheduler at {address!r}: accepted is tcp://host:port ({error})") from None

    def lost(event: tuple) -> None:
        _, message = event
        if isinstance(message, dict) and message.get("action") == "remove-worker":
            again = len(message.get("processing-tasks", ()))
            tqdm.write(f"worker {message.get('worker')} is gone; measured again elsewhere: {again} runs")

    with client:
        client.subscribe_topic("all", lost)
        with client.get_executor() as executor:
            yield executor


def _start_worker(environment: dict[str, str]) -> None:
    """The server that a worker is forked from has the environment of when it was started; this is that of now."""
    os.environ.update(environment)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose notebook was killed would otherwise wait for work for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _measure_one(record: Record) -> pd.DataFrame:
    """One thread: two networks side by side are faster than one on two threads, and its sums have one order."""
    os.environ["TQDM_DISABLE"] = "1"
    torch.set_num_threads(1)
    return record.measure()

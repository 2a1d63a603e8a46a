"""How missing records are measured: on this machine, in worker processes where several pay, or by a Dask cluster.

Either is a `concurrent.futures.Executor`. A worker sends back what it measured, and this process keeps it at once: a
cluster needs no shared folder, and who is killed loses no more than what was being measured.
"""

import multiprocessing
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
)
from contextlib import contextmanager, suppress

import joblib
import pandas as pd
from tqdm import tqdm

from bnutils import data
from bnutils.store import Record, save
from bnutils.train import one_thread, progress, silence

# What worker processes share, rather than import each for itself: with it what reading digits, finding eigenvalues and
# keeping a run import late.
PRELOADED = ["bnutils.runs", "sklearn.datasets", "scipy.sparse.linalg", "pyarrow.parquet"]
TRIES = 3  # how often the workers may be lost before what is left is given up
PATIENCE = 10  # seconds in which a scheduler must answer


def measure(
    missing: list[Record],
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    tell: Callable[[str], None] | None = None,
) -> None:
    """Measure records and keep each as soon as it is there: on `workers` processes here, or on a Dask cluster.

    workers: by default as many as `count` says, of one thread each; where it says one, this process itself.
    scheduler: the address of a Dask scheduler (tcp://host:port), whose workers have this version of this package, the
    same images under the same path, and best one thread each (`dask worker --nthreads 1`): more find the same bits, but
    wait for each other. Needs `distributed`. tell: gets a line for each run that is there, where no bar is drawn.

    A record that fails is named and does not lose the others: they are finished and kept, then the first error is
    raised. What a worker that dies was measuring is measured again; in a pool on this machine its fellows end with it.
    Raises ValueError for fewer than one worker, without `distributed`, and where no scheduler is at that address;
    OSError where workers die again and again.
    """
    left = sorted(missing, key=lambda record: -record.passes)  # so that no worker is left with a long one at the end
    whom = f"the scheduler at {scheduler}" if scheduler is not None else "a worker process"
    failed: list[Exception] = []
    with progress((), total=len(missing), unit="run") as bar:
        for again in range(TRIES):
            if again:
                tqdm.write(f"{whom} was lost: measuring what is left, {len(left)} of {len(missing)} runs")
            with _executor(left, workers, scheduler) as executor:
                futures = {}
                with suppress(BrokenExecutor):  # a worker may die while the rest is handed in
                    futures.update((executor.submit(_measure_one, each, each.key), each) for each in left)
                for future in as_completed(list(futures)):
                    record = futures.pop(future)  # and with it what it holds
                    try:
                        save(future.result(), record.path)
                    except (BrokenExecutor, CancelledError):  # lost with a worker, or with the scheduler
                        continue
                    except Exception as error:
                        failed.append(error)
                        tqdm.write(f"{record} failed: {error}")
                    left.remove(record)
                    bar.update()
                    if tell and bar.disable:
                        tell(f"{len(missing) - len(left)} of {len(missing)}: {record}")
            if not left:
                break
    if left:
        hint = "" if scheduler is not None else "; is there memory for fewer at once?"
        raise OSError(f"{whom} was lost {TRIES} times, {len(left)} of {len(missing)} runs are not measured{hint}")
    if failed:
        raise failed[0]


def count(records: list[Record], workers: int | None = None) -> int:
    """How many of these are measured at once on this machine. Raises ValueError for fewer than one worker.

    By default one on a GPU, else one for each core that this process may use. A hub such as Binder's says in MEM_LIMIT
    how many bytes it grants: then one for each GiB beyond the first, which the notebook and its server take.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}: accepted is a whole number of at least 1")
    memory = int(os.environ.get("MEM_LIMIT", sys.maxsize)) // 2**30
    return workers or (1 if _on_gpu(records) else max(1, min(joblib.cpu_count(), memory - 1)))


def _on_gpu(records: list[Record]) -> bool:
    return any(data.device(device).type == "cuda" for device in {record.device for record in records})


@contextmanager
def _executor(records: list[Record], workers: int | None, scheduler: str | None) -> Iterator[Executor]:
    if scheduler is not None:
        with _cluster(scheduler) as executor:
            yield executor
        return
    # beside this process one worker, and the server that it is forked from, would hold torch in memory twice more
    alone = workers is None and count(records) == 1 and not _on_gpu(records)
    executor = ThreadPoolExecutor(1) if alone else _pool(records, workers)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)  # one that is interrupted begins no further run


def _pool(records: list[Record], workers: int | None) -> ProcessPoolExecutor:
    # Not fork: the child of a process that has run torch's threads hangs. Workers are forked from a server that has
    # only imported, and share its memory; where there is none, and on a GPU, each imports for itself.
    shared = not _on_gpu(records) and "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if shared else "spawn")
    if shared:
        context.set_forkserver_preload(PRELOADED)
    start = {"initializer": _start_worker, "initargs": (dict(os.environ),)}
    return ProcessPoolExecutor(max_workers=count(records, workers), mp_context=context, **start)


@contextmanager
def _cluster(address: str) -> Iterator[Executor]:
    """The workers of the scheduler at this address; who comes and goes is said."""
    try:
        from distributed import Client
    except ImportError:
        raise ValueError("--scheduler needs the package distributed: pip install 'bnutils[cluster]'") from None
    if not re.fullmatch(r"(tcp|tls)://.+:\d+", address):  # or the client waits long before it says so
        raise ValueError(f"scheduler {address!r}: accepted is an address as tcp://host:port")
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except OSError as error:
        raise ValueError(f"no Dask scheduler at {address}: {error}") from None

    def say(event: tuple) -> None:
        match event[1]:
            case {"action": "add-worker", "worker": worker}:
                tqdm.write(f"worker {worker} has come")
            case {"action": "remove-worker", "worker": worker, "processing-tasks": runs}:
                tqdm.write(f"worker {worker} is gone; measured by others: {len(runs)} runs")

    with client:
        client.subscribe_topic("all", say)
        tqdm.write(f"workers at {address}: {len(client.nthreads()) or f'none yet, start some: dask worker {address}'}")
        executor = client.get_executor(pure=False)
        try:
            yield executor
        finally:
            executor.shutdown(wait=False)  # one that is interrupted takes back what nobody has begun


def _start_worker(environment: dict[str, str]) -> None:
    """The server that a worker is forked from has the environment of when it was started; this is that of now."""
    os.environ.update(environment)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose notebook was killed would otherwise wait for work for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _measure_one(record: Record, key: str) -> pd.DataFrame:
    """The record, if what has this key where it is kept has it here too."""
    if record.key != key:
        raise ValueError(f"{key} is {record.key} for the worker: give every machine the same version of this package")
    with one_thread(), silence():
        return record.measure()

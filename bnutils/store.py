"""What one record is: its key, where it is kept, its provenance, and how it is read and written.

A record is one Parquet file (compact, typed; its provenance in the file's own metadata) under a key of all that can
change a value: what it is, the data's fingerprint and the versions of its quantities. Device and library versions are
provenance, not key.
"""

import hashlib
import json
import math
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch

from bnutils import data
from bnutils.quantities import QUANTITIES

# The one schema. `bin` is the centre of a histogram's bin, `dose` the strength of the noise and `scale` the factor on
# the initial weights where it is varied: the design's columns and these, since figures draw against all of them. Of
# what is measured around a minimum, `eta` is how far along the first direction and `bin` along the second, and of its
# eigenvalues, by what its weights were multiplied.
COLUMNS = ["arm", "norm", "lr", "dose", "scale", "seed", "step", "layer", "eta", "bin", "quantity", "value"]
# The records that the book publishes, each under its key: what costs too much to measure while a page is read.
RESULTS = Path(__file__).parents[1] / "book" / "results"


# Most numbers are float32 inside, with bytes that are zero in a float64: sorted by the place of the byte, records of
# the book were 0.62 times as large as with the defaults.
_NUMBERS = ["eta", "bin", "value"]
ENCODING = {
    "compression": "zstd",
    "use_dictionary": [name for name in COLUMNS if name not in _NUMBERS],
    "column_encoding": dict.fromkeys(_NUMBERS, "BYTE_STREAM_SPLIT"),
}


class Record:
    """What is measured in one go and kept in one file, under a key of all that can change a value.

    measures: the quantities that it holds. passes: about how many passes forward and backward it takes, where records
    of one experiment differ in that. device: where it is measured, as `data.device` takes it. double: whether
    it is measured in float64, where rounding stays small for as long as a beginning lasts.
    """

    measures: tuple[str, ...]
    passes: float = 1.0
    device: str = "cpu"
    double: bool = False

    def __str__(self) -> str:
        return f"{type(self).__name__} {self.key}"

    def key_of(self, what: dict) -> str:
        """16 hex digits over what it is and the versions of its quantities."""
        what["versions"] = {name: QUANTITIES[name].version for name in self.measures}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]

    def measure(self) -> pd.DataFrame:
        """It, in `COLUMNS`, with its provenance."""
        raise NotImplementedError

    def beginning(self) -> tuple["Record", float]:
        """A cheap one whose rows before a step, which is the second value, are those of this one; here all of them.

        Raises OSError or ValueError where the images that it takes are not on this machine.
        """
        return self, math.inf

    @property
    def path(self) -> Path:
        """Where it is kept on this machine."""
        return data.cache_dir() / "runs" / f"{self.key}.parquet"

    @property
    def published(self) -> Path:
        """Where the book keeps it, if it does."""
        return RESULTS / f"{self.key}.parquet"

    @property
    def exists(self) -> bool:
        """Whether it is published or kept on this machine."""
        return self.published.exists() or self.path.exists()

    def kept(self) -> pd.DataFrame | None:
        """It, as published or else as kept on this machine; None where there is neither."""
        if not self.published.exists():
            return load(self.path)
        try:
            frame = read(self.published)
        except ValueError as error:
            print(f"damaged published record {self.published.name}, not used: {error}; restore it from the repository")
            return load(self.path)
        frame.attrs["provenance"]["published"] = True
        return frame


def device_name(device: torch.device) -> str:
    """What a device calls itself, for the provenance: the GPU's name or the processor's."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def finished(frame: pd.DataFrame, record: Record, began: float, *, dataset: str, device: str) -> pd.DataFrame:
    """What was measured, in `COLUMNS`, with its provenance."""
    frame = frame.reindex(columns=COLUMNS).astype({"step": "int64", "layer": "Int64"})
    ends = frame.loc[frame.quantity == "diverged", "value"]
    frame.attrs["provenance"] = {
        "key": record.key,
        "preset": record.preset,
        "dataset": dataset,
        "device": device,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "seconds": round(time.perf_counter() - began, 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "numpy": version("numpy"),
        "python": platform.python_version(),
        "commit": _commit(),
        "digest": digest(frame),
        "status": "finished" if ends.empty else f"diverged at step {int(ends.min())}",
    }
    return frame


def digest(frame: pd.DataFrame) -> str:
    """SHA-256 over the rows, in hex: what a record says it holds."""
    frame = frame.where(frame.notna())  # a file keeps no sign of a NaN, and that of 0 / 0 has one
    return hashlib.sha256(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes()).hexdigest()


@cache
def _commit() -> str:
    """The commit of this checkout, with a + where something in it is changed; "unknown" outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


@cache
def cpu_name() -> str:
    """The processor's model, which only Linux keeps where it is read cheaply; elsewhere its family."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = models[0] if models else f"{platform.processor() or platform.machine()} CPU"
    return f"{name}, one core a run"


def save(frame: pd.DataFrame, path: Path) -> None:
    """Write a run whole or not at all: into a file of its own beside the place, then renamed over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        frame.to_parquet(part, index=False, **ENCODING)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read(path: Path) -> pd.DataFrame:
    """The record in this file.

    Raises FileNotFoundError where there is none, and ValueError, in one line, where it is not what was written: it
    cannot be read, its rows do not fit their digest, or its name is not its key.
    """
    try:
        frame = pd.read_parquet(path)
        provenance = frame.attrs["provenance"]
        whole = digest(frame) == provenance["digest"] and set(frame.columns) <= set(COLUMNS)  # no digest holds names
        key = provenance["key"]
    except FileNotFoundError:
        raise
    except Exception as error:  # readers raise all sorts for a damaged file; what the reader of this needs is its name
        reason = str(error).split("\n")[0]
        raise ValueError(f"it cannot be read ({reason})") from error
    if not whole:
        raise ValueError("its rows do not fit its digest")
    if key != path.stem:
        raise ValueError(f"it is the record {key} under another name")
    return frame


def load(path: Path) -> pd.DataFrame | None:
    """The run kept at `path`, or None where there is none. A damaged file is named and put aside."""
    try:
        return read(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        aside = path.replace(path.with_suffix(".damaged"))
        print(f"damaged run {path.name}, kept as {aside.name} and measured again: {error}")
        return None

"""Whether the published records are what they say: each against its digest, and some measured again."""

import math
from itertools import chain, zip_longest
from pathlib import Path

import pandas as pd

from bnutils import store
from bnutils.records import asked_for
from bnutils.store import COLUMNS, Record
from bnutils.train import one_thread, progress

SAMPLE = 5  # how many records are measured again, unless another number is asked for
# Of what is measured again, a number may differ by this share of the largest of its quantity in the record.
TOLERANCE = 0.01
# With the same processor and torch, all that is measured again is compared: it is the same to the bit. Elsewhere
# rounding differs, and a network that begins to train makes it grow: with other vector instructions losses are a tenth
# apart after five steps, and at the first one already the cosine of two gradients, where there are kinks between them.
# So elsewhere, of what is in float32, only this is compared, at step 0: seen to agree to 0.003.
SAME = ("device", "instructions", "torch")
STEADY = {"loss", "train_accuracy", "test_accuracy", "density", "variance", "layer_deviation"}
STEADY |= {"gradient_norm", "layer_signal_norm"}


def verify(*, sample: int = SAMPLE, dataset: str | None = None) -> int:
    """Check every published record and measure the beginnings of some again; 0 if all is well, 1 otherwise.

    Each file must be whole, fit its digest, be named by its key, and be asked for by some experiment. Of those whose
    images are on this machine, `sample` are measured again: one of each kind in turn, the cheapest first. dataset:
    where to find images that do not come with the project. Says each thing that is wrong, and at the end how it went.
    A changed number in what is not measured again is found by the digest alone.
    """
    wanted = asked_for(dataset)
    files = sorted(store.RESULTS.glob("*.parquet"))
    sound, here, away, wrong = [], [], {}, 0
    for path in progress(files, unit="record"):
        if reason := _damage(path, wanted):
            print(f"{path.name}: {reason}")
            wrong += 1
        else:
            sound.append(wanted[path.stem])
    print(f"{len(files)} published records: {len(sound)} fit their digest and key and are asked for, {wrong} do not.")
    for record in sound if sample > 0 else []:
        try:
            record.beginning()
            here.append(record)
        except (OSError, ValueError) as error:
            away.setdefault(str(error), []).append(record)
    for reason, records in away.items():
        print(f"{len(records)} cannot be measured again on this machine: {reason}")
    chosen = _in_turn(here)[:sample]
    for record in chosen:
        words, agrees = again(record)
        print(f"{record.published.name} ({record}): {words}{'' if agrees else ': WRONG'}", flush=True)
        wrong += not agrees
    what = f"{len(files)} records checked, the beginnings of {len(chosen)} measured again to within {TOLERANCE:.0%}"
    print(f"{what}: {f'{wrong} WRONG' if wrong else 'all is well'}.")
    return int(wrong > 0)


def _damage(path: Path, wanted: dict[str, Record]) -> str | None:
    """What is wrong with this file, if anything is."""
    try:
        store.read(path)
    except ValueError as error:
        return str(error)
    return None if path.stem in wanted else "no experiment asks for it: is it of an older version?"


def _in_turn(records: list[Record]) -> list[Record]:
    """One of each kind, then a second of each, and so on; within a kind the cheapest first."""
    kinds: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: (record.beginning()[0].passes, record.key)):
        kinds.setdefault(f"{type(record).__name__} {record.preset}", []).append(record)
    return [each for each in chain.from_iterable(zip_longest(*kinds.values())) if each]


def again(record: Record) -> tuple[str, bool]:
    """Measure the beginning of a published record again: how far that is from what it holds, in words, and whether it
    is within `TOLERANCE`."""
    short, steps = record.beginning()
    with one_thread():
        now = short.measure()
    then = store.read(record.published)
    here, there = (frame.attrs["provenance"] for frame in (now, then))
    alike = all(here[name] == there.get(name) for name in SAME)
    then = then[then.lr.isin(now.lr)].reindex(columns=COLUMNS)  # a map begins with fewer rates; a column may be newer
    # Rows are matched by their order, since where a histogram's bin is, and how long a step, is measured too.
    found, keys = ["eta", "bin", "value"], [name for name in COLUMNS if name not in ("eta", "bin", "value")]
    both = [frame[frame.step < steps] for frame in (now, then)]
    if not (alike or record.double):
        both = [frame[(frame.step == 0) & frame.quantity.isin(STEADY)] for frame in both]
    both = [frame.assign(place=frame.groupby(keys, dropna=False).cumcount()) for frame in both]
    pairs = pd.merge(*both, on=[*keys, "place"], how="outer", suffixes=("_now", "_then"), indicator="side")
    alone = int((pairs.side != "both").sum())
    pairs = pairs[pairs.side == "both"]
    words = f"{len(pairs)} rows of its beginning" + ("" if alike else " that all machines should share")
    if alone or pairs.empty:
        return f"{words}, {alone} more are on one side only", False
    apart = pd.concat([_apart(pairs[f"{name}_now"], pairs[f"{name}_then"], pairs.quantity) for name in found], axis=1)
    furthest = apart.max(axis=1)
    if furthest.max() == 0:
        return f"{words}, the same to the bit", True
    where = f"in {pairs.quantity[furthest.idxmax()]}"
    return f"{words}, apart by at most {furthest.max():.1e} of the largest, {where}", furthest.max() <= TOLERANCE


def _apart(now: pd.Series, then: pd.Series, quantity: pd.Series) -> pd.Series:
    """How far the numbers of two measurements are apart, each as a share of the largest finite one of its quantity."""
    now, then = now.astype(float), then.astype(float)
    # The residual of an equality is rounding and nothing else: below what the criteria call zero it is not compared.
    largest = then.abs().mask(then.abs() == math.inf).groupby(quantity).transform("max").clip(lower=1e-9)
    same = (now == then) | (now.isna() & then.isna())
    return ((now - then).abs() / largest).fillna(math.inf).mask(same, 0.0)

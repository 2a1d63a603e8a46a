"""Whether the published records are what they say: each against its digest, and some measured again."""

import math
from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path

import pandas as pd

from bnutils import data, presets, store
from bnutils.records import needed
from bnutils.store import COLUMNS, Record

SAMPLE = 5  # how many records are measured again, unless another number is asked for
# Of what a run measures, a value may differ by this share of the largest of its quantity: rounding differs between
# machines, and a few steps of training make it grow. beta_float32 is left out, since rounding is what it shows.
TOLERANCE = 0.01
ROUNDING = {"beta_float32"}


def verify(*, sample: int = SAMPLE) -> int:
    """Check every published record and measure the beginnings of some again; 0 if all agree, 1 otherwise.

    Each file must be readable, fit its digest and be named by its key, and some chapter must ask for it. The sample
    takes one of each kind in turn, of those whose images are on this machine.
    """
    wanted, wrong = asked_for(), 0
    files = sorted(store.RESULTS.glob("*.parquet"))
    for path in files:
        for reason in _wrong(path, wanted):
            print(f"{path.name}: {reason}")
            wrong += 1
    print(f"{len(files)} published records checked against digest and key: {wrong} wrong")
    here = [record for record in wanted.values() if record.published.exists() and _measurable(record)]
    for record in list(_in_turn(here))[:sample]:
        words, agrees = again(record)
        print(f"{record.key} ({record}): {words}", flush=True)
        wrong += not agrees
    return int(wrong > 0)


def asked_for() -> dict[str, Record]:
    """By key, every record that an experiment of a preset asks for, on data whose fingerprint is known."""
    settings = [
        presets.get(name, dataset=dataset)
        for name, preset in presets.PRESETS.items()
        for dataset in ([preset.dataset] if preset.dataset == "digits" else set(data.KNOWN) - {"digits"})
    ]
    return {each.key: each for setting in settings for name in presets.EXPERIMENTS for each in needed(setting, name)}


def _wrong(path: Path, wanted: dict[str, Record]) -> Iterator[str]:
    try:
        frame = store.read(path)
    except (OSError, ValueError) as error:
        yield f"cannot be trusted: {str(error).splitlines()[0]}"
        return
    if frame.attrs["provenance"]["key"] != path.stem:
        yield f"its key is {frame.attrs['provenance']['key']}"
    if path.stem not in wanted:
        yield "no experiment asks for it: is it of an older version?"


def _measurable(record: Record) -> bool:
    try:
        record.beginning()
    except (OSError, ValueError):
        return False
    return True


def _in_turn(records: list[Record]) -> Iterator[Record]:
    """One of each kind, then a second of each, and so on; within a kind in the order of keys."""
    kinds: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.key):
        kinds.setdefault(f"{type(record).__name__} {record.preset}", []).append(record)
    return filter(None, chain.from_iterable(zip_longest(*kinds.values())))


def again(record: Record) -> tuple[str, bool]:
    """Measure the beginning of a record again: how far that is from what is published, in words, and whether it is
    within `TOLERANCE`."""
    keys = [name for name in COLUMNS if name != "value"]
    short, steps = record.beginning()
    now, then = short.measure(), record.kept()
    then = then[then.lr.isin(now.lr)]  # the beginning of a map has fewer learning rates
    both = [frame[(frame.step < steps) & ~frame.quantity.isin(ROUNDING)] for frame in (now, then)]
    rows = [frame.assign(place=frame.groupby(keys, dropna=False).cumcount()) for frame in both]
    pairs = pd.merge(*rows, on=[*keys, "place"], how="outer", suffixes=("_now", "_then"), indicator=True)
    alone = int((pairs._merge != "both").sum())
    pairs = pairs[pairs._merge == "both"]
    largest = pairs.value_then.abs().groupby(pairs.quantity).transform("max").clip(lower=1e-12)
    same = (pairs.value_now == pairs.value_then) | (pairs.value_now.isna() & pairs.value_then.isna())
    apart = ((pairs.value_now - pairs.value_then).abs() / largest).fillna(math.inf).mask(same, 0.0)
    agrees = alone == 0 and len(pairs) > 0 and apart.max() <= TOLERANCE
    worst = (
        f"largest difference {apart.max():.1e} of its quantity, in {pairs.quantity[apart.idxmax()]}"
        if len(pairs)
        else "none"
    )
    return f"{len(pairs)} values measured again, {alone} on one side only; {worst}", agrees

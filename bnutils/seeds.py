"""Randomness from explicit generators, each keyed by a seed and a purpose."""

import hashlib
from numbers import Integral

import torch


def generator(seed: int, *purpose: str | int, device: str | torch.device = "cpu") -> torch.Generator:
    """A random stream of its own for each (seed, purpose).

    Its state is 63 bits of `sha256(repr((seed, *purpose)))`: stable between processes and machines, which Python's own
    `hash` is not. Arms that name the same seed and purpose share what they draw (data order, initial weights), so that
    they differ in nothing else; noise names a purpose of its own, so drawing it moves no other stream. torch's global
    generator is neither read nor moved. CPU and GPU generators draw different numbers from one key: what has to agree
    between devices is drawn on the CPU. torch's CPU generator uses the lowest 32 of the 63 bits.

    Raises TypeError for a key that is neither an integer nor a string.
    """
    for part in (seed, *purpose):
        if not isinstance(part, str | Integral):
            raise TypeError(f"generator key {part!r}: accepted are integers and strings")
    # NumPy's integers and strings have a repr of their own and must not open another stream
    key = repr(tuple(str(part) if isinstance(part, str) else int(part) for part in (seed, *purpose)))
    state = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1
    return torch.Generator(device).manual_seed(state)

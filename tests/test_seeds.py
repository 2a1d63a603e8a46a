import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from bnutils.seeds import generator


def draw(*key):
    return torch.rand(8, generator=generator(*key)).tolist()


def test_one_key_gives_one_stream_in_every_process():
    # another hash seed, as any other process would have: a key built on Python's hash would differ
    code = "import torch; from bnutils.seeds import generator; print(generator(3, 'noise', 1).initial_seed())"
    seeds = set()
    for hashed in ("1", "2"):
        env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": hashed}
        seeds.add(subprocess.check_output([sys.executable, "-c", code], env=env, text=True))
    assert seeds == {f"{generator(3, 'noise', 1).initial_seed()}\n"}
    assert draw(3, "noise", 1) == draw(3, "noise", 1)


def test_the_state_stays_what_published_runs_used():
    assert generator(0).initial_seed() == 5254295370254170289
    assert generator(3, "noise", 1).initial_seed() == 6025222287772854468


def test_every_part_of_the_key_counts():
    keys = [(0,), (1,), (0, "noise"), (0, "init"), (0, "noise", 1), (0, "noise", "1"), (0, 1, "noise"), (1, 0), (0, 1)]
    assert len({tuple(draw(*key)) for key in keys}) == len(keys)


def test_numpy_keys_are_the_same_keys():
    assert draw(np.int64(3), np.str_("noise"), np.int32(1)) == draw(3, "noise", 1)


def test_streams_are_independent_of_each_other_and_of_the_global_one():
    before = torch.get_rng_state()
    first, second = generator(0, "a"), generator(0, "b")
    torch.rand(100, generator=first)
    assert torch.rand(8, generator=second).tolist() == draw(0, "b")
    assert torch.equal(torch.get_rng_state(), before)


def test_states_are_63_bits_wide():
    states = [generator(seed).initial_seed() for seed in range(200)]
    assert all(0 <= state < 2**63 for state in states)
    assert max(states) > 2**62


@pytest.mark.parametrize("key", [(1.5,), (None,), (0, 0.1), (0, ("a",))])
def test_a_key_of_another_type_is_named(key):
    with pytest.raises(TypeError) as error:
        generator(*key)
    assert str(error.value) == f"generator key {key[-1]!r}: accepted are integers and strings"

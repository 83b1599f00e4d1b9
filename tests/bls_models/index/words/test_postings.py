"""Postings hold what a plain dictionary of slots by word holds, through any changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bls_models.index.filters import sorted_entries
from bls_models.index.words.postings import FrozenPostings, Postings

# Some with the same first bits, some of many products.
KEYS = [*range(12), *(number << 55 for number in range(1, 12)), 2**64 - 1]
Held = dict[int, set[int]]


def pairs(frozen: FrozenPostings) -> list[tuple[int, int]]:
    found = []
    for shelf in frozen.shelves:
        for bucket in shelf.buckets:
            assert 0 < len(bucket.slots) == len(bucket.values) <= sorted_entries.BUCKET
            found += zip(bucket.values, bucket.slots, strict=True)
    return found


def check(frozen: FrozenPostings, held: Held) -> None:
    assert pairs(frozen) == sorted((key, slot) for slot, own in held.items() for key in own)
    for key in KEYS:
        slots = np.frombuffer(frozen.slots_of(key), np.int32).tolist()
        assert slots == sorted(slot for slot, own in held.items() if key in own)


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    bucket=st.sampled_from([4, 16, 512]),
    steps=st.integers(0, 300),
)
def test_any_changes_give_what_a_dictionary_gives(seed: int, bucket: int, steps: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_entries, "BUCKET", bucket)
        patch.setattr(sorted_entries, "SMALL", max(1, bucket // 8))
        random = np.random.default_rng(seed)
        words, held = Postings(), dict[int, set[int]]()
        moments: list[tuple[FrozenPostings, Held]] = []
        for _ in range(steps):
            slot = int(random.integers(0, 40))
            own = set(random.choice(len(KEYS), random.integers(0, 9)).tolist())
            keys = {KEYS[number] for number in own}
            words.replace(slot, held.get(slot, ()), keys)
            held[slot] = keys
            if random.random() < 0.02:
                moments.append((words.frozen(), dict(held)))
        check(words.frozen(), held)
        # What was taken earlier is untouched.
        for frozen, then in moments:
            check(frozen, then)
        check(Postings.of((slot, sorted(held[slot])) for slot in sorted(held)).frozen(), held)
        for slot, own in held.items():
            words.replace(slot, own, ())
        check(words.frozen(), {})

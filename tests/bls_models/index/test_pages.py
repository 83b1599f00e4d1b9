"""Paged arrays: what was frozen stays, and a change copies no more than it touches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bls_models.index.storage import pages
from bls_models.index.storage.pages import PAGE, FrozenPages, PagedArray
from bls_models.index.storage.readers import Readers

steps = st.one_of(
    st.tuples(st.just("set"), st.lists(st.integers(0, 59), min_size=1, max_size=8, unique=True)),
    st.tuples(st.just("freeze"), st.just([])),
    st.tuples(st.just("end"), st.just([])),
)


@given(changes=st.lists(steps, max_size=40))
@settings(max_examples=300, deadline=None)
def test_every_reader_sees_the_array_as_it_was(changes: list[tuple[str, list[int]]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "PAGE_BITS", 2)
        patch.setattr(pages, "PAGE", 4)
        readers = Readers()
        array = PagedArray(-1, np.int32, readers)
        expected: list[int] = []
        open_readers: list[tuple[int, FrozenPages[np.int32], list[int]]] = []
        for number, (what, places) in enumerate(changes):
            if what == "set":
                at = np.array(places, np.int32)
                array.extend(int(at.max()) + 1)
                expected += [-1] * (len(array) - len(expected))
                array[at] = np.arange(len(at)) + 100 * number
                for place, value in zip(places, range(100 * number, 10**9), strict=False):
                    expected[place] = value
            elif what == "freeze":
                open_readers.append((readers.begin(), array.frozen(), list(expected)))
            elif open_readers:
                readers.end(open_readers.pop(len(open_readers) // 2)[0])
            every = np.arange(len(expected), dtype=np.int32)
            assert array[every].tolist() == expected
            for _, frozen, then in open_readers:
                assert frozen.part(0, len(then)).tolist() == then
                assert frozen[np.arange(len(then), dtype=np.int32)].tolist() == then


def test_a_change_beside_a_reader_copies_the_page_that_it_touches() -> None:
    readers = Readers()
    array = PagedArray(0, np.int32, readers)
    array.extend(100 * PAGE)
    reader = readers.begin()
    frozen = array.frozen()
    array[np.array([5, 50 * PAGE], np.int32)] = 1
    changed = array.frozen()
    assert np.flatnonzero(frozen.table != changed.table).tolist() == [0, 50]
    # A page that only this reader had is given out again.
    readers.end(reader)
    reader = readers.begin()
    frozen = array.frozen()
    array[np.array([5], np.int32)] = 2
    assert array.frozen().table.max() < 100 + 3
    readers.end(reader)

"""The vectors of one modality in a snapshot, with the candidate lists that were made for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from bls_models.errors import SnapshotError
from bls_models.index.lists.candidates import NOT_HELD, CandidateIndex
from bls_models.index.lists.device import FaissDevice
from bls_models.index.snapshot.files import SnapshotReader, SnapshotWriter
from bls_models.index.storage.frozen_rows import BLOCK_BITS, BLOCK_ROWS, FrozenRows
from bls_models.index.storage.rows import VectorRows

# Rows read and encoded at a time.
STEP_ROWS = 16_384


def save_rows(snapshot: SnapshotWriter, kind: str, frozen: FrozenRows) -> dict[str, Any]:
    """Write the living vectors, their owners, and what the lists have learnt.

    The codes in the lists are left out: making them again from the vectors is quick.

    Returns:
        What ``restore_rows`` needs beside the files, JSON-compatible.
    """
    rows = [part for part in frozen.living() if len(part)]
    every = np.concatenate([np.zeros(0, np.int32), *rows])
    snapshot.blocks(
        f"{kind}_vectors",
        np.float32,
        (len(every), frozen.dim),
        (frozen.blocks[part[0] >> BLOCK_BITS][part & (BLOCK_ROWS - 1)] for part in rows),
    )
    snapshot.array(f"{kind}_owners", frozen.owners[every])
    if frozen.main is None:
        return {}
    snapshot.array(f"{kind}_lists", frozen.main.lists(every))
    snapshot.array(f"{kind}_main", frozen.main.to_bytes())
    return {"trained_rows": frozen.main.trained_rows}


def restore_rows(
    snapshot: SnapshotReader,
    kind: str,
    about: dict[str, Any],
    rows: VectorRows,
    slot_count: int,
    device: FaissDevice,
) -> None:
    """Fill these empty rows with what ``save_rows`` wrote and returned.

    Raises:
        SnapshotError: a file is missing, damaged, or does not fit the others.
    """
    vectors = snapshot.array(f"{kind}_vectors", np.float32, (None, rows.dim))
    owners = snapshot.array(f"{kind}_owners", np.int32, (len(vectors),))
    if len(owners) and not 0 <= owners.min() <= owners.max() < slot_count:
        raise SnapshotError(f"the snapshot's {kind} vectors belong to products it does not have")
    rows.fill(owners, vectors)
    if not about:
        return
    lists = snapshot.array(f"{kind}_lists", np.int32, (len(vectors),))
    content = snapshot.array(f"{kind}_main", np.uint8, (None,))
    try:
        main = CandidateIndex.from_bytes(content, int(about["trained_rows"]), device)
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise SnapshotError(f"the snapshot's {kind} lists are damaged: {error}") from error
    if main.dim != rows.dim or lists.max(initial=NOT_HELD) >= main.list_total:
        raise SnapshotError(f"the snapshot's {kind} lists do not fit its vectors")
    for at in range(0, len(vectors), STEP_ROWS):
        step = at + np.flatnonzero(lists[at : at + STEP_ROWS] != NOT_HELD).astype(np.int32)
        main.add(step, vectors[step], lists[step])
    rows.set_main(main)

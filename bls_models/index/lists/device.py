"""Where candidates are searched: on the CPU, or on a GPU with FAISS's GPU package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from bls_models.errors import SetupError
from bls_models.vectors import BoolArray, FloatArray, LongArray

# FAISS's limits on a GPU (GpuIndex: k and nprobe).
MAX_GPU_SELECTION = 2048
# What a search may use beside the index; FAISS would take 1.5 GB.
GPU_SCRATCH_BYTES = 256 * 2**20


class FaissDevice:
    """Where an inverted-list index is searched: here the CPU, on the original index.

    Attributes:
        suffix: what it adds to the name of the kind of index.
    """

    suffix = ""

    def placed(self, index: Any) -> Any:
        """The index as this device searches it: a copy, or itself."""
        return index

    def add(self, placed: Any, vectors: FloatArray, ids: LongArray) -> None:
        """Follow an addition to the original index, if ``placed`` is a copy."""

    def search(
        self,
        placed: Any,
        index: Any,
        queries: FloatArray,
        count: int,
        probes: int,
        eligible: BoolArray | None,
    ) -> tuple[FloatArray, LongArray]:
        """Look through the ``probes`` nearest lists.

        Args:
            placed: from ``placed``.
            index: the original index.
            queries: unit vectors (n, dim).
            count: rows wanted a query.
            probes: lists to look through.
            eligible: (rows,) which rows may appear; None: all.

        Returns:
            Scores (n, count), descending, and row ids (n, count), -1 where there are no more.
        """
        # FAISS's own annotations are those of its C++ constructors, not of the Python ones.
        selectors: Any = faiss
        parameters = selectors.SearchParametersIVF(nprobe=probes)
        if eligible is not None:
            bitmap = np.packbits(eligible, bitorder="little")
            parameters = selectors.SearchParametersIVF(
                nprobe=probes, sel=selectors.IDSelectorBitmap(bitmap)
            )
        scores, ids = index.search(queries, count, params=parameters)
        return scores, ids


@dataclass(frozen=True)
class _GpuCopy:
    resources: Any
    index: Any


class GpuDevice(FaissDevice):
    """A copy on the first GPU; what it cannot do is done on the original.

    FAISS's GPU indexes cannot let go of rows, and those outside of cuVS builds do not heed a
    selector: copies are made anew after removals, and searches under a filter stay on the CPU.

    Raises:
        SetupError: this FAISS has no GPU support, or there is no GPU.
    """

    suffix = " (GPU)"

    def __init__(self) -> None:
        if not hasattr(faiss, "StandardGpuResources"):
            raise SetupError(
                "PRODUCT_MATCH_INDEX_DEVICE=gpu needs FAISS with GPU support, and the installed "
                f"faiss {faiss.__version__} has none; install the gpu extra (faiss-gpu-cu12) in "
                "place of faiss-cpu, or set PRODUCT_MATCH_INDEX_DEVICE=cpu"
            )
        if faiss.get_num_gpus() < 1:
            raise SetupError(
                "PRODUCT_MATCH_INDEX_DEVICE=gpu, but FAISS sees no GPU; check the driver and "
                "CUDA_VISIBLE_DEVICES, or set PRODUCT_MATCH_INDEX_DEVICE=cpu"
            )

    def placed(self, index: Any) -> Any:
        """A copy on the GPU, with resources of its own, as FAISS demands of each thread."""
        resources = faiss.StandardGpuResources()
        resources.setTempMemory(GPU_SCRATCH_BYTES)
        return _GpuCopy(resources, faiss.index_cpu_to_gpu(resources, 0, index))

    def add(self, placed: Any, vectors: FloatArray, ids: LongArray) -> None:
        """Add to the copy as well."""
        placed.index.add_with_ids(vectors, ids)

    def search(
        self,
        placed: Any,
        index: Any,
        queries: FloatArray,
        count: int,
        probes: int,
        eligible: BoolArray | None,
    ) -> tuple[FloatArray, LongArray]:
        """On the GPU, unless it cannot: a filter, or more candidates than a GPU selects."""
        if eligible is not None or max(count, probes) > MAX_GPU_SELECTION:
            return super().search(placed, index, queries, count, probes, eligible)
        selectors: Any = faiss
        parameters = selectors.SearchParametersIVF(nprobe=probes)
        scores, ids = placed.index.search(queries, count, params=parameters)
        return scores, ids


CPU = FaissDevice()
DEVICES = ("cpu", "gpu")


def device_named(name: str) -> FaissDevice:
    """The device that ``PRODUCT_MATCH_INDEX_DEVICE`` names.

    Raises:
        SetupError: there is no such device here.
    """
    if name not in DEVICES:
        raise SetupError(
            f"environment variable PRODUCT_MATCH_INDEX_DEVICE={name} is not known; "
            f"expected one of {', '.join(DEVICES)}"
        )
    return GpuDevice() if name == "gpu" else CPU

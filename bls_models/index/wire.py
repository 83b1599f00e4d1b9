"""``product_index`` on the wire: a batch of queries and its matches as flat tensors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt

from bls_models.errors import FilterError, RequestError
from bls_models.index.query import IndexAnswer, IndexMatch, IndexQuery
from bls_models.product import json_bytes
from bls_models.specs import INDEX_OPERATIONS, PRODUCT_INDEX
from bls_models.vectors import Arrays

# On the wire, of a match without one.
NO_VIEW = -1

SEARCH_TENSORS = tuple(spec.name for spec in PRODUCT_INDEX.inputs if spec.name != "operation")


def tensors_from_queries(queries: Sequence[IndexQuery]) -> dict[str, npt.NDArray[Any]]:
    """Queries as the inputs of ``product_index``; ``*_owner`` names each vector's query."""
    tensors: dict[str, npt.NDArray[Any]] = {}
    for kind, vectors, weights in (
        ("image", [q.image_vectors for q in queries], [q.image_weights for q in queries]),
        ("text", [q.text_vectors for q in queries], [q.text_weights for q in queries]),
    ):
        counts = [len(block) for block in vectors]
        tensors[f"{kind}_vector"] = np.concatenate(vectors)
        tensors[f"{kind}_vector_weight"] = np.concatenate(weights).astype(np.float32)
        tensors[f"{kind}_vector_owner"] = np.repeat(np.arange(len(queries), dtype=np.int32), counts)
    words = [
        own.encode()
        for query in queries
        for _, own in zip_longest(query.text_vectors, query.text_words, fillvalue="")
    ]
    tensors["text_words"] = np.array(words, np.object_)
    liked = [item for query in queries for item in query.like]
    tensors["like"] = np.array([product_id.encode() for product_id, _ in liked], np.object_)
    tensors["like_weight"] = np.array([weight for _, weight in liked], np.float32)
    tensors["like_owner"] = np.repeat(
        np.arange(len(queries), dtype=np.int32), [len(query.like) for query in queries]
    )
    for name in (
        "top_k",
        "offset",
        "min_score",
        "view_power",
        "raw",
        "work_share",
        "word_weight",
        "filter",
        "facets",
    ):
        dtype = PRODUCT_INDEX.input(name).numpy_dtype
        tensors[name] = np.array([getattr(query, name) for query in queries], dtype)
    tensors["sort"] = np.array([query.sort.encode() for query in queries], np.object_)
    return tensors


def operation_from_tensors(tensors: Arrays) -> str:
    """One of ``INDEX_OPERATIONS``; empty for a search.

    Raises:
        RequestError: it is none of them.
    """
    if "operation" not in tensors:
        return ""
    operation = bytes(tensors["operation"][0]).decode(errors="replace")
    if operation not in INDEX_OPERATIONS:
        expected = " or ".join(map(repr, INDEX_OPERATIONS))
        raise RequestError("operation", f"{operation!r:.80}", expected)
    return operation


def queries_from_tensors(tensors: Arrays) -> list[IndexQuery]:
    """The inverse of ``tensors_from_queries``.

    Raises:
        RequestError: a tensor is missing.
    """
    for name in SEARCH_TENSORS:
        if name not in tensors:
            raise RequestError(name, "missing", "all tensors of a search, or operation alone")
    queries = []
    for number, top_k in enumerate(tensors["top_k"]):
        images = tensors["image_vector_owner"] == number
        texts = tensors["text_vector_owner"] == number
        liked = tensors["like_owner"] == number
        queries.append(
            IndexQuery(
                image_vectors=tensors["image_vector"][images],
                image_weights=tensors["image_vector_weight"][images],
                text_vectors=tensors["text_vector"][texts],
                text_weights=tensors["text_vector_weight"][texts],
                top_k=int(top_k),
                offset=int(tensors["offset"][number]),
                min_score=float(tensors["min_score"][number]),
                filter=bytes(tensors["filter"][number]),
                sort=bytes(tensors["sort"][number]).decode(),
                facets=bytes(tensors["facets"][number]),
                view_power=float(tensors["view_power"][number]),
                raw=bool(tensors["raw"][number]),
                like=tuple(
                    (product_id.decode(), float(weight))
                    for product_id, weight in zip(
                        tensors["like"][liked], tensors["like_weight"][liked], strict=True
                    )
                ),
                work_share=float(tensors["work_share"][number]),
                text_words=tuple(own.decode() for own in tensors["text_words"][texts]),
                word_weight=float(tensors["word_weight"][number]),
            )
        )
    return queries


def tensors_from_answers(answers: Sequence[IndexAnswer]) -> dict[str, npt.NDArray[Any]]:
    """The answer to each query as the outputs of ``product_index``, without ``index_info``."""
    flat = [match for answer in answers for match in answer.matches]
    return {
        "match_count": np.array([len(answer.matches) for answer in answers], np.int32),
        "scored": np.array([answer.scored for answer in answers], np.int64),
        "filtered": np.array([answer.filtered for answer in answers], np.int64),
        "facets": np.array([json_bytes(answer.facets) for answer in answers], np.object_),
        "refusal": np.array([_bytes_from_refusal(item.refusal) for item in answers], np.object_),
        "product_id": np.array([match.product_id.encode() for match in flat], np.object_),
        "product_version": np.array([match.product_version for match in flat], np.int64),
        "score": np.array([match.score for match in flat], np.float32),
        "image_score": np.array([match.image_score for match in flat], np.float32),
        "text_score": np.array([match.text_score for match in flat], np.float32),
        "view": np.array([NO_VIEW if item.view is None else item.view for item in flat], np.int32),
    }


def answers_from_tensors(tensors: Arrays) -> list[IndexAnswer]:
    """The inverse of ``tensors_from_answers``."""
    flat = [
        IndexMatch(
            product_id.decode(),
            int(version),
            float(score),
            float(image_score),
            float(text_score),
            None if view == NO_VIEW else int(view),
        )
        for product_id, version, score, image_score, text_score, view in zip(
            tensors["product_id"],
            tensors["product_version"],
            tensors["score"],
            tensors["image_score"],
            tensors["text_score"],
            tensors["view"],
            strict=True,
        )
    ]
    ends = np.cumsum(tensors["match_count"])
    starts = ends - tensors["match_count"]
    return [
        IndexAnswer(
            flat[start:end],
            int(scored),
            int(filtered),
            json.loads(facets),
            _refusal_from_bytes(refusal),
        )
        for start, end, scored, filtered, facets, refusal in zip(
            starts,
            ends,
            tensors["scored"],
            tensors["filtered"],
            tensors["facets"],
            tensors["refusal"],
            strict=True,
        )
    ]


def _bytes_from_refusal(refusal: RequestError | None) -> bytes:
    return b"" if refusal is None else json_bytes(refusal.parts)


def _refusal_from_bytes(content: bytes) -> RequestError | None:
    if not content:
        return None
    parts = json.loads(content)
    return FilterError(*parts) if parts[0] == "filter" else RequestError(*parts)

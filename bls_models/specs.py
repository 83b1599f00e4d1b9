"""The tensors of every model, in one place.

The builders, the BLS code, the client and the test that reads every ``config.pbtxt`` all use
these specs, so a name, a dtype or a shape exists once. Dimensions known only to a bundle (an
image size, a vector length) are written as names and stand as -1 in the configurations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Dim = int | str

# The words that the `caption` tensors of product_match and product_ingest take, then those of
# `duplicates`, of `objects` and of `sort`.
CAPTION_MODES = ("never", "auto", "always")
DESCRIPTION_MODES = ("never", "missing")
DUPLICATE_MODES = ("report", "never")
OBJECT_MODES = ("never", "auto", "always")
SORTS = ("score", "price", "-price", "name", "-name")
# What may be said of a match.
FEEDBACK_EVENTS = ("accepted", "rejected", "clicked")
# How product_picture hands out a picture: its format, and whether as text that JSON can hold.
PICTURE_FORMATS = ("webp", "jpeg")
PICTURE_ENCODINGS = ("base64", "raw")
# What product_report tells of.
REPORTS = ("matches", "errors", "history", "stages", "feedback", "products", "server")
# What product_index does beside searching: compare itself with the database, mend itself, and tell
# of itself.
CHECK, REPAIR, INFO = INDEX_OPERATIONS = ("check", "repair", "info")

# What a query of product_match is made of: photos, words, or both.
QUERY_KINDS = ("image", "text", "both")

NUMPY_DTYPES: dict[str, type] = {
    "BYTES": np.object_,
    "FP32": np.float32,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
}


@dataclass(frozen=True)
class TensorSpec:
    """One tensor.

    Attributes:
        name: the name on the wire, in the configuration and in the graph.
        dtype: the KServe dtype (``BYTES``, ``FP32``, ...).
        dims: the shape without the batch dimension; -1 is a free size, a name stands for a
            size that the bundle fixes (``image_size``, ``image_dim``, ``text_dim``; those of
            its captioner are ``caption_...``, those of its detector ``detector_...``; see
            ``bls_models.bundle.CaptionerBundle`` and ``DetectorBundle``).
        optional: whether a request may leave it out.
    """

    name: str
    dtype: str
    dims: tuple[Dim, ...]
    optional: bool = False

    @property
    def config_dims(self) -> tuple[int, ...]:
        """The dims as ``config.pbtxt`` has them: named sizes are -1."""
        return tuple(dim if isinstance(dim, int) else -1 for dim in self.dims)

    @property
    def numpy_dtype(self) -> type:
        """The numpy scalar type; BYTES is ``object``."""
        return NUMPY_DTYPES[self.dtype]


@dataclass(frozen=True)
class ModelSpec:
    """One model: its tensors and the largest batch (0: the model takes no batch dimension)."""

    name: str
    max_batch_size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def input(self, name: str) -> TensorSpec:
        """The input of that name.

        Raises:
            KeyError: there is none.
        """
        for spec in self.inputs:
            if spec.name == name:
                return spec
        raise KeyError(f"{self.name} has no input {name!r}")

    @property
    def output_names(self) -> list[str]:
        """Output names in their order."""
        return [spec.name for spec in self.outputs]


IMAGE_ENCODER = ModelSpec(
    name="image_encoder",
    max_batch_size=64,
    inputs=(TensorSpec("image", "UINT8", ("image_size", "image_size", 3)),),
    outputs=(TensorSpec("image_embedding", "FP32", ("image_dim",)),),
)

TEXT_ENCODER = ModelSpec(
    name="text_encoder",
    max_batch_size=64,
    inputs=(
        TensorSpec("input_ids", "INT64", (-1,)),
        TensorSpec("attention_mask", "INT64", (-1,)),
    ),
    outputs=(TensorSpec("text_embedding", "FP32", ("text_dim",)),),
)

CAPTION_VISION = ModelSpec(
    name="caption_vision",
    max_batch_size=16,
    inputs=(TensorSpec("image", "UINT8", ("caption_image_size", "caption_image_size", 3)),),
    outputs=(TensorSpec("visual_tokens", "FP32", ("caption_visual_tokens", "caption_hidden")),),
)

# One step of the language model. The keys and values of the past travel with the request, the
# keys of layer 0, its values, the keys of layer 1 and so on; the answer has the new steps' alone.
CAPTION_DECODER = ModelSpec(
    name="caption_decoder",
    max_batch_size=16,
    inputs=(
        TensorSpec("inputs_embeds", "FP32", (-1, "caption_hidden")),
        TensorSpec("attention_mask", "INT64", (-1,)),
        TensorSpec("position_ids", "INT64", (-1,)),
        TensorSpec(
            "past_kv", "FP32", ("caption_kv_planes", "caption_kv_heads", -1, "caption_head_dim")
        ),
    ),
    outputs=(
        TensorSpec("logits", "FP32", ("caption_vocabulary",)),
        TensorSpec(
            "new_kv", "FP32", ("caption_kv_planes", "caption_kv_heads", -1, "caption_head_dim")
        ),
    ),
)

IMAGE_CAPTIONER = ModelSpec(
    name="image_captioner",
    max_batch_size=16,
    inputs=(TensorSpec("image", "UINT8", ("caption_image_size", "caption_image_size", 3)),),
    outputs=(TensorSpec("caption", "BYTES", (1,)), TensorSpec("confidence", "FP32", (1,))),
)

# Boxes are (x0, y0, x1, y1) in shares of the square picture, those of the best score first.
# They may cover the same object twice: what is left after that is decided beside the graph.
OBJECT_DETECTOR = ModelSpec(
    name="object_detector",
    max_batch_size=32,
    inputs=(TensorSpec("image", "UINT8", ("detector_image_size", "detector_image_size", 3)),),
    outputs=(
        TensorSpec("box", "FP32", ("detector_boxes", 4)),
        TensorSpec("box_score", "FP32", ("detector_boxes",)),
    ),
)

# The queries of a whole batch travel as one flat list of vectors; `*_owner` says to which
# query (0..Q-1) a vector belongs. Results are flat too, `match_count` of them a query.
# A request has either all tensors of a search or `operation` alone.
PRODUCT_INDEX = ModelSpec(
    name="product_index",
    max_batch_size=0,
    inputs=(
        TensorSpec("image_vector", "FP32", (-1, "image_dim"), optional=True),
        TensorSpec("image_vector_weight", "FP32", (-1,), optional=True),
        TensorSpec("image_vector_owner", "INT32", (-1,), optional=True),
        TensorSpec("text_vector", "FP32", (-1, "text_dim"), optional=True),
        TensorSpec("text_vector_weight", "FP32", (-1,), optional=True),
        TensorSpec("text_vector_owner", "INT32", (-1,), optional=True),
        TensorSpec("text_words", "BYTES", (-1,), optional=True),
        TensorSpec("like", "BYTES", (-1,), optional=True),
        TensorSpec("like_weight", "FP32", (-1,), optional=True),
        TensorSpec("like_owner", "INT32", (-1,), optional=True),
        TensorSpec("top_k", "INT32", (-1,), optional=True),
        TensorSpec("offset", "INT32", (-1,), optional=True),
        TensorSpec("min_score", "FP32", (-1,), optional=True),
        TensorSpec("view_power", "FP32", (-1,), optional=True),
        TensorSpec("raw", "INT32", (-1,), optional=True),
        TensorSpec("work_share", "FP32", (-1,), optional=True),
        TensorSpec("word_weight", "FP32", (-1,), optional=True),
        TensorSpec("filter", "BYTES", (-1,), optional=True),
        TensorSpec("facets", "BYTES", (-1,), optional=True),
        TensorSpec("sort", "BYTES", (-1,), optional=True),
        TensorSpec("operation", "BYTES", (1,), optional=True),
    ),
    outputs=(
        TensorSpec("match_count", "INT32", (-1,)),
        TensorSpec("scored", "INT64", (-1,)),
        TensorSpec("filtered", "INT64", (-1,)),
        TensorSpec("facets", "BYTES", (-1,)),
        TensorSpec("refusal", "BYTES", (-1,)),
        TensorSpec("product_id", "BYTES", (-1,)),
        TensorSpec("product_version", "INT64", (-1,)),
        TensorSpec("score", "FP32", (-1,)),
        TensorSpec("image_score", "FP32", (-1,)),
        TensorSpec("text_score", "FP32", (-1,)),
        TensorSpec("view", "INT32", (-1,)),
        TensorSpec("index_info", "BYTES", (1,)),
    ),
)

PRODUCT_MATCH = ModelSpec(
    name="product_match",
    max_batch_size=32,
    inputs=(
        TensorSpec("image", "BYTES", (-1,), optional=True),
        TensorSpec("text", "BYTES", (-1,), optional=True),
        TensorSpec("image_weight", "FP32", (-1,), optional=True),
        TensorSpec("text_weight", "FP32", (-1,), optional=True),
        TensorSpec("like", "BYTES", (-1,), optional=True),
        TensorSpec("like_weight", "FP32", (-1,), optional=True),
        TensorSpec("crop", "FP32", (-1, 4), optional=True),
        TensorSpec("top_k", "INT32", (1,), optional=True),
        TensorSpec("offset", "INT32", (1,), optional=True),
        TensorSpec("filter", "BYTES", (1,), optional=True),
        TensorSpec("facets", "BYTES", (1,), optional=True),
        TensorSpec("sort", "BYTES", (1,), optional=True),
        TensorSpec("min_score", "FP32", (1,), optional=True),
        TensorSpec("caption", "BYTES", (1,), optional=True),
        TensorSpec("objects", "BYTES", (1,), optional=True),
        TensorSpec("max_objects", "INT32", (1,), optional=True),
    ),
    outputs=(
        TensorSpec("product_id", "BYTES", (-1,)),
        TensorSpec("score", "FP32", (-1,)),
        TensorSpec("image_score", "FP32", (-1,)),
        TensorSpec("text_score", "FP32", (-1,)),
        TensorSpec("product", "BYTES", (-1,)),
        TensorSpec("view", "INT32", (-1,)),
        TensorSpec("object", "INT32", (-1,)),
        TensorSpec("object_box", "FP32", (-1, 4)),
        TensorSpec("object_score", "FP32", (-1,)),
        TensorSpec("caption", "BYTES", (1,)),
        TensorSpec("details", "BYTES", (1,)),
    ),
)

PRODUCT_INGEST = ModelSpec(
    name="product_ingest",
    max_batch_size=32,
    inputs=(
        TensorSpec("operation", "BYTES", (1,)),
        TensorSpec("product", "BYTES", (1,)),
        TensorSpec("image", "BYTES", (-1,), optional=True),
        TensorSpec("caption", "BYTES", (1,), optional=True),
        TensorSpec("duplicates", "BYTES", (1,), optional=True),
    ),
    outputs=(
        TensorSpec("product_id", "BYTES", (1,)),
        TensorSpec("status", "BYTES", (1,)),
        TensorSpec("revision", "INT64", (1,)),
        TensorSpec("details", "BYTES", (1,)),
    ),
)

PRODUCT_FEEDBACK = ModelSpec(
    name="product_feedback",
    max_batch_size=64,
    inputs=(
        TensorSpec("request_id", "BYTES", (1,)),
        TensorSpec("product_id", "BYTES", (1,)),
        TensorSpec("event", "BYTES", (1,)),
    ),
    outputs=(TensorSpec("status", "BYTES", (1,)),),
)

# The picture is named by product_id, with a number, or by sha256.
PRODUCT_PICTURE = ModelSpec(
    name="product_picture",
    max_batch_size=32,
    inputs=(
        TensorSpec("product_id", "BYTES", (1,), optional=True),
        TensorSpec("number", "INT32", (1,), optional=True),
        TensorSpec("sha256", "BYTES", (1,), optional=True),
        TensorSpec("size", "INT32", (1,), optional=True),
        TensorSpec("format", "BYTES", (1,), optional=True),
        TensorSpec("encoding", "BYTES", (1,), optional=True),
    ),
    outputs=(
        TensorSpec("picture", "BYTES", (1,)),
        TensorSpec("content_type", "BYTES", (1,)),
        TensorSpec("width", "INT32", (1,)),
        TensorSpec("height", "INT32", (1,)),
        TensorSpec("sha256", "BYTES", (1,)),
    ),
)

# A report may take a second, so nobody waits for a batch of them.
PRODUCT_REPORT = ModelSpec(
    name="product_report",
    max_batch_size=1,
    inputs=(
        TensorSpec("report", "BYTES", (1,)),
        TensorSpec("limit", "INT32", (1,), optional=True),
        TensorSpec("hours", "FP32", (1,), optional=True),
    ),
    outputs=(TensorSpec("report", "BYTES", (1,)),),
)

ENCODER_SPECS = (IMAGE_ENCODER, TEXT_ENCODER)
CAPTION_ENGINE_SPECS = (CAPTION_VISION, CAPTION_DECODER)
ENGINE_SPECS = (*ENCODER_SPECS, *CAPTION_ENGINE_SPECS, OBJECT_DETECTOR)
# What every bundle serves, and what one with a captioner serves beside it. One with a detector
# serves OBJECT_DETECTOR too.
BASE_SPECS = (
    *ENCODER_SPECS,
    PRODUCT_INDEX,
    PRODUCT_MATCH,
    PRODUCT_INGEST,
    PRODUCT_FEEDBACK,
    PRODUCT_PICTURE,
    PRODUCT_REPORT,
)
CAPTION_SPECS = (*CAPTION_ENGINE_SPECS, IMAGE_CAPTIONER)
MODEL_SPECS = {spec.name: spec for spec in (*BASE_SPECS, *CAPTION_SPECS, OBJECT_DETECTOR)}

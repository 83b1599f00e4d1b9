"""The built encoders on the CPU: unit vectors that do not depend on the batch they came in."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from serving_support import REPOSITORY, SAMPLE, SMALL_BUNDLE, blocks
from tokenizers import Tokenizer

from bls_models.bundle import Bundle
from bls_models.engines.cpu import CpuEngine, CpuEngines
from bls_models.engines.encoders import Encoders
from bls_models.engines.precisions import graph_on_cpu
from bls_models.errors import BundleError, EncoderError
from bls_models.images.decoding import ImageLimits, decode_image, decode_pixels
from bls_models.images.preprocessing import prepare_pixels
from bls_models.specs import ENCODER_SPECS, IMAGE_ENCODER, TEXT_ENCODER, ModelSpec

Inputs = Mapping[str, npt.NDArray[Any]]


class Engines:
    """The real graphs in this process, as a ``Caller`` that remembers its batches."""

    def __init__(self) -> None:
        self._engines = CpuEngines.from_repository(REPOSITORY, ENCODER_SPECS, threads=1)
        self.batches: list[tuple[str, int]] = []

    def __call__(self, model: ModelSpec, inputs: Inputs) -> dict[str, npt.NDArray[Any]]:
        self.batches.append((model.name, len(inputs[model.inputs[0].name])))
        return self._engines(model, inputs)


@pytest.fixture(scope="module")
def engines(bundle: Bundle) -> Engines:
    return Engines()


@pytest.fixture(scope="module")
def encoders(bundle: Bundle, engines: Engines) -> Encoders:
    return Encoders.from_repository(engines, bundle, REPOSITORY)


def pixels(bundle: Bundle, seed: int) -> npt.NDArray[np.uint8]:
    return np.asarray(blocks(seed, 4).resize((bundle.image_size, bundle.image_size)))


def test_vectors_have_the_lengths_of_the_bundle_and_length_one(
    encoders: Encoders, bundle: Bundle
) -> None:
    images, texts = encoders.encode([pixels(bundle, 1), pixels(bundle, 2)], ["red mug"])
    assert images.shape == (2, bundle.image_dim)
    assert texts.shape == (1, bundle.text_dim)
    assert images.dtype == texts.dtype == np.float32
    lengths = np.linalg.norm(np.concatenate([images.ravel(), texts.ravel()]))
    assert lengths == pytest.approx(np.sqrt(3), abs=1e-4)


def test_nothing_to_encode_gives_no_vectors_and_asks_no_engine(
    encoders: Encoders, engines: Engines, bundle: Bundle
) -> None:
    before = len(engines.batches)
    images, texts = encoders.encode([], [])
    assert (images.shape, texts.shape) == ((0, bundle.image_dim), (0, bundle.text_dim))
    assert len(engines.batches) == before


def test_a_vector_does_not_depend_on_its_batch(encoders: Encoders, bundle: Bundle) -> None:
    pictures = [pixels(bundle, seed) for seed in range(3)]
    texts = ["mug", "a tall blue water bottle for sport and the office", "vase"]
    images, words = encoders.encode(pictures, texts)
    for number in range(3):
        image, text = encoders.encode(pictures[number : number + 1], texts[number : number + 1])
        np.testing.assert_allclose(image[0], images[number], atol=1e-4)
        np.testing.assert_allclose(text[0], words[number], atol=1e-4)


def test_more_than_the_largest_batch_is_encoded_in_several(
    encoders: Encoders, engines: Engines
) -> None:
    before = len(engines.batches)
    texts = [f"product {number}" for number in range(TEXT_ENCODER.max_batch_size + 1)]
    vectors = encoders.encode_texts(texts)
    assert len(vectors) == len(texts)
    assert engines.batches[before:] == [("text_encoder", 64), ("text_encoder", 1)]
    np.testing.assert_allclose(vectors[-1], encoders.encode_texts(texts[-1:])[0], atol=1e-4)


def test_a_text_is_cut_at_the_bundles_number_of_tokens(encoders: Encoders, bundle: Bundle) -> None:
    long = "mug " * (2 * bundle.max_tokens)
    cut, longer = encoders.encode_texts([long, long + "bottle"])
    np.testing.assert_allclose(cut, longer, atol=1e-5)


def test_texts_of_like_meaning_are_nearer_than_others(encoders: Encoders) -> None:
    mug, cup, skateboard = encoders.encode_texts(["red mug", "a red cup", "skateboard"])
    assert mug @ cup > mug @ skateboard + 0.2


def test_a_vector_that_is_not_finite_is_an_error_and_no_result() -> None:
    def broken(model: ModelSpec, inputs: Inputs) -> dict[str, npt.NDArray[Any]]:
        return {"text_embedding": np.full((1, 8), np.nan, np.float32)}

    tokenizer = Tokenizer.from_file(str(REPOSITORY / "text_encoder" / "1" / "tokenizer.json"))
    with pytest.raises(EncoderError, match=r"text_encoder gave a vector .* not finite"):
        Encoders(broken, SMALL_BUNDLE, tokenizer).encode_texts(["x"])


def test_fewer_vectors_than_inputs_are_an_error_and_no_result() -> None:
    def empty(model: ModelSpec, inputs: Inputs) -> dict[str, npt.NDArray[Any]]:
        return {"text_embedding": np.zeros((0, 8), np.float32)}

    tokenizer = Tokenizer.from_file(str(REPOSITORY / "text_encoder" / "1" / "tokenizer.json"))
    with pytest.raises(EncoderError, match="text_encoder gave 0 vectors for 1 inputs"):
        Encoders(empty, SMALL_BUNDLE, tokenizer).encode_texts(["x"])


def test_a_missing_graph_says_how_to_build(tmp_path: Any) -> None:
    with pytest.raises(BundleError, match=r"model\.onnx is missing: .*make models"):
        CpuEngine(tmp_path / "model.onnx", IMAGE_ENCODER)


def test_the_graph_of_another_model_is_refused(bundle: Bundle) -> None:
    path = graph_on_cpu(REPOSITORY, IMAGE_ENCODER.name)
    with pytest.raises(BundleError, match="not the graph of text_encoder"):
        CpuEngine(path, TEXT_ENCODER)


def test_reduced_decoding_keeps_the_vectors(encoders: Encoders, bundle: Bundle) -> None:
    limits, preprocess = ImageLimits(10**8, 10**8), bundle.preprocess
    cosines = []
    for path in sorted(SAMPLE.glob("queries/*/*"))[::6]:
        with Image.open(path) as picture:
            photo = picture.convert("RGB").resize((1500, 1500), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        photo.save(buffer, "JPEG", quality=90)
        reduced, data = decode_pixels(buffer.getvalue(), "image", limits, preprocess)
        whole = prepare_pixels(decode_image(data, "image", limits), preprocess)
        assert not (reduced == whole).all(), "nothing was reduced"
        first, second = encoders.encode_images([reduced, whole])
        cosines.append(float(first @ second))
    assert np.mean(cosines) >= 0.997
    # The graph as it is quantised here decides about single ones.
    assert min(cosines) >= 0.994

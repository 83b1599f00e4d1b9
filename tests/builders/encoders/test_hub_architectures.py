"""The hub bundles' architectures give, in every runtime, what transformers gives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from architectures import (
    TINY,
    TRUE_SIZE,
    Architecture,
    build_random,
    clip_tokenizer,
    spread_weights,
)
from PIL import Image
from serving_support import SAMPLE
from tokenizers import Tokenizer
from transformers import (
    AutoModel,
    AutoTokenizer,
    BitImageProcessorPil,
    CLIPImageProcessorPil,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    SiglipImageProcessorPil,
)

from bls_models.bundle import Bundle, graph_file
from bls_models.engines.cpu import CpuEngine
from bls_models.engines.encoders import Encoders
from bls_models.images.preprocessing import prepare_pixels
from bls_models.specs import IMAGE_ENCODER, TEXT_ENCODER, ModelSpec
from bls_models.vectors import FloatArray
from builders.config import BundleConfig, TextEncoderConfig
from builders.encoders.image import image_encoder_from_config
from builders.encoders.text import text_encoder_from_config, tokenizer_from_config
from builders.engines.building import engine_from_onnx
from builders.engines.profiles import profiles_for
from builders.engines.reading import check_engine
from builders.engines.tensorrt_api import compiler_for_target
from builders.graphs.export import onnx_from_torch
from builders.graphs.quantize import fp16_onnx_from_onnx, int8_onnx_from_onnx

MIN_COSINE = 0.9999
# Largest difference of one number of a unit vector.
MAX_DIFFERENCE = 1e-4
# Of normalised pixels, which reach from -2.2 to 2.7.
MAX_PIXEL_DIFFERENCE = 1e-5
# Different inputs lie at least this far apart, so that the limits above can be missed.
MAX_COSINE_OF_OTHERS = 0.98

BATCHES = (1, 3, 8)
TEXTS = [
    "mug",
    "Red Mug",
    "a",
    "a tall blue water bottle with white stripes, for sport and for the office",
    "Bürostuhl, schwarz",
    "mug, red " * 60,
    "anthracite",
    "3 red mugs",
]
PROCESSORS = {
    "dinov2": BitImageProcessorPil,
    "siglip": SiglipImageProcessorPil,
    "clip": CLIPImageProcessorPil,
}

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Built:
    """A bundle of random checkpoints, with what transformers makes of the same folders."""

    architecture: Architecture
    config: BundleConfig
    bundle: Bundle
    repository: Path

    @cached_property
    def model(self) -> Any:
        return AutoModel.from_pretrained(self.config.image_encoder.checkpoint).eval()

    @cached_property
    def pictures(self) -> list[Image.Image]:
        """Real pictures of just the size that the model's processor resizes to."""
        paths = sorted((SAMPLE / "images").glob("*/*.webp"))[::7][: max(BATCHES)]
        size = (self.bundle.image_size, self.bundle.image_size)
        return [Image.open(path).convert("RGB").resize(size) for path in paths]

    @cached_property
    def pixels(self) -> npt.NDArray[np.uint8]:
        """As the server prepares them, (B, S, S, 3)."""
        preprocess = self.bundle.preprocess
        return np.stack(
            [prepare_pixels(np.asarray(picture), preprocess) for picture in self.pictures]
        )

    def processed(self, pictures: list[Image.Image]) -> torch.Tensor:
        """Pixels (B, 3, M, M) as transformers prepares them."""
        folder = self.config.image_encoder.checkpoint
        processor = PROCESSORS[self.architecture.image].from_pretrained(folder)
        values: torch.Tensor = processor(images=pictures, return_tensors="pt").pixel_values
        return values

    def image_vectors(self) -> FloatArray:
        """transformers' own vectors of the pictures."""
        with torch.inference_mode():
            pixels = self.processed(self.pictures)
            if self.architecture.image == "dinov2":
                return unit(self.model(pixel_values=pixels).last_hidden_state[:, 0])
            return unit(self.model.get_image_features(pixel_values=pixels).pooler_output)

    def text_vectors(self) -> FloatArray:
        """transformers' own vectors of the texts, each in a batch of its own."""
        folder = self.config.text_encoder.checkpoint
        tokenizer = AutoTokenizer.from_pretrained(folder)
        options = {"truncation": True, "max_length": self.bundle.max_tokens, "return_tensors": "pt"}
        vectors = []
        with torch.inference_mode():
            for text in TEXTS:
                if self.architecture.image == "siglip":
                    tokens = tokenizer(text.lower(), padding="max_length", **options)
                    output = self.model.get_text_features(input_ids=tokens["input_ids"])
                    vectors.append(output.pooler_output)
                elif self.architecture.image == "clip":
                    output = self.model.get_text_features(**tokenizer(text, **options))
                    vectors.append(output.pooler_output)
                else:
                    model = AutoModel.from_pretrained(folder).eval()
                    states = model(**tokenizer(text, **options)).last_hidden_state
                    vectors.append(states.mean(dim=1))
        return unit(torch.cat(vectors))


@pytest.fixture(
    scope="module",
    params=[
        *(pytest.param(TINY[name], id=f"tiny {name}") for name in TINY),
        *(pytest.param(TRUE_SIZE[name], id=name, marks=pytest.mark.nightly) for name in TRUE_SIZE),
    ],
)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("architecture")
    config, bundle = build_random(request.param, folder, lambda line: None)
    return Built(request.param, config, bundle, folder / "repository")


def unit(vectors: torch.Tensor) -> FloatArray:
    normalised: FloatArray = torch.nn.functional.normalize(vectors, dim=1).numpy()
    return normalised


def runtimes(built: Built, spec: ModelSpec, module: torch.nn.Module) -> dict[str, Any]:
    """The torch module and its graph in ONNX Runtime and OpenVINO, from inputs to vectors."""
    path = built.repository / graph_file(spec.name, "fp32")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    engine = CpuEngine(path, spec)

    def by_torch(inputs: Arrays) -> FloatArray:
        with torch.inference_mode():
            vectors: FloatArray = module(*map(torch.from_numpy, inputs.values())).numpy()
        return vectors

    return {
        "torch": by_torch,
        "onnxruntime": lambda inputs: session.run(spec.output_names, inputs)[0],
        "openvino": lambda inputs: engine.infer(inputs)[spec.output_names[0]],
    }


def check(vectors: FloatArray, expected: FloatArray, where: str) -> None:
    assert vectors.shape == expected.shape, where
    assert vectors.dtype == np.float32, where
    assert (vectors * expected).sum(axis=1).min() >= MIN_COSINE, where
    assert np.abs(vectors - expected).max() <= MAX_DIFFERENCE, where


def check_apart(vectors: FloatArray) -> None:
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, 0)
    assert cosines.max() < MAX_COSINE_OF_OTHERS


def test_pictures_get_the_vectors_of_transformers_in_every_runtime_and_batch(built: Built) -> None:
    expected = built.image_vectors()
    check_apart(expected)
    module = image_encoder_from_config(built.config.image_encoder)
    for name, run in runtimes(built, IMAGE_ENCODER, module).items():
        for size in BATCHES:
            where = f"{name}, batch of {size}"
            check(run({"image": built.pixels[:size]}), expected[:size], where)


def test_texts_get_the_vectors_of_transformers_in_every_runtime_and_batch(built: Built) -> None:
    expected = built.text_vectors()
    check_apart(expected)
    module = text_encoder_from_config(built.config.text_encoder)
    for name, run in runtimes(built, TEXT_ENCODER, module).items():
        for size in BATCHES:

            def call(model: ModelSpec, inputs: Any, run: Any = run) -> Arrays:
                return {model.output_names[0]: run(dict(inputs))}

            encoders = Encoders.from_repository(call, built.bundle, built.repository)
            where = f"{name}, batch of {size}"
            check(encoders.encode_texts(TEXTS[:size]), expected[:size], where)


def test_pixels_in_the_graph_are_those_of_the_checkpoints_processor(built: Built) -> None:
    module = image_encoder_from_config(built.config.image_encoder)
    pixels = module.normalised(torch.from_numpy(built.pixels))
    expected = built.processed(built.pictures)
    assert pixels.shape == expected.shape
    assert (pixels - expected).abs().max() <= MAX_PIXEL_DIFFERENCE


def test_pictures_of_other_sizes_are_cut_as_the_processor_cuts_them(built: Built) -> None:
    path = sorted((SAMPLE / "images").glob("*/*.webp"))[0]
    picture = Image.open(path).convert("RGB").resize((700, 500), box=(0, 20, 320, 300))
    preprocess = built.bundle.preprocess
    module = image_encoder_from_config(built.config.image_encoder)
    prepared = prepare_pixels(np.asarray(picture), preprocess)
    pixels = module.normalised(torch.from_numpy(prepared[None]))
    # Another filter than the processor's, so not the same pixels, but of the same places.
    expected = built.processed([picture])
    assert (pixels - expected).abs().mean() < 0.03
    turned = built.processed([picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])
    assert (pixels - turned).abs().mean() > 0.1


def test_the_graphs_take_any_batch_and_keep_both_text_inputs(built: Built) -> None:
    for spec in (IMAGE_ENCODER, TEXT_ENCODER):
        path = built.repository / graph_file(spec.name, "fp32")
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        assert [item.name for item in session.get_inputs()] == [item.name for item in spec.inputs]
        assert session.get_inputs()[0].shape[0] == "batch"
        assert [item.name for item in session.get_outputs()] == spec.output_names


def test_the_manifest_says_what_the_checkpoint_says(built: Built) -> None:
    bundle = built.bundle
    wanted = {
        "dinov2": (256, "center_crop", False),
        "siglip": (224, "stretch", True),
        "clip": (224, "center_crop", True),
    }
    found = (bundle.image_size, bundle.resize, bundle.shared_space)
    assert found == wanted[built.architecture.image]
    assert bundle.shared_space == (bundle.image_dim == bundle.text_dim and found[2])


def test_tokens_are_padded_and_cut_as_in_training(built: Built) -> None:
    tokenizer = Tokenizer.from_file(str(built.repository / "text_encoder" / "1" / "tokenizer.json"))
    short, long = tokenizer.encode_batch(["Red Mug", "mug, red " * 60])
    assert len(short.ids) == len(long.ids) == built.bundle.max_tokens
    assert all(long.attention_mask)
    end = short.ids[sum(short.attention_mask) - 1]
    assert long.ids[-1] == end
    alone = tokenizer.encode("Red Mug")
    siglip = built.architecture.image == "siglip"
    assert len(alone.ids) == (built.bundle.max_tokens if siglip else sum(short.attention_mask))
    assert tokenizer.encode("red mug").ids == alone.ids or built.architecture.image == "dinov2"


def test_a_clip_config_that_names_the_end_token_pools_it_too(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    config = CLIPTextConfig(num_hidden_layers=1, vocab_size=600, eos_token_id=599, **sizes)
    model = CLIPTextModelWithProjection(config)
    spread_weights(model)
    model.save_pretrained(tmp_path)
    clip_tokenizer(600)().save_pretrained(tmp_path)
    text = TextEncoderConfig("clip_text", str(tmp_path), 77)
    module = text_encoder_from_config(text)
    encodings = Tokenizer.from_str(tokenizer_from_config(text)).encode_batch(TEXTS)
    batch = {
        "input_ids": np.array([item.ids for item in encodings], np.int64),
        "attention_mask": np.array([item.attention_mask for item in encodings], np.int64),
    }
    path = tmp_path / "model.onnx"
    free = {0: "batch", 1: "sequence"}
    onnx_from_torch(module, TEXT_ENCODER, batch, path, dict.fromkeys(batch, free))
    # Each text alone, so without padding.
    with torch.inference_mode():
        ids = [item.ids[: sum(item.attention_mask)] for item in encodings]
        alone = [model.eval()(torch.tensor([item])).text_embeds for item in ids]
    expected = unit(torch.cat(alone))
    check_apart(expected)
    check(CpuEngine(path, TEXT_ENCODER).infer(batch)["text_embedding"], expected, "openvino")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("spec", [IMAGE_ENCODER, TEXT_ENCODER], ids=lambda spec: spec.name)
def test_tensorrt_compiles_the_graph_in_every_precision(
    built: Built, spec: ModelSpec, precision: str, tmp_path: Path
) -> None:
    source = built.repository / graph_file(spec.name, "fp32")
    graph = tmp_path / f"{spec.name}.{precision}.onnx"
    if precision == "fp32":
        graph.symlink_to(source)
    elif precision == "fp16":
        fp16_onnx_from_onnx(source, graph)
    else:
        # Enough for ranges: vectors of random weights have no quality to keep.
        random = np.random.default_rng(0)
        size = built.bundle.image_size
        feed = (
            {"image": random.integers(0, 256, (2, size, size, 3)).astype(np.uint8)}
            if spec is IMAGE_ENCODER
            else _tokens(built)
        )
        int8_onnx_from_onnx(source, graph, [feed])
    compiler = compiler_for_target("rtx", ("8.9",))
    engine = engine_from_onnx(
        graph,
        spec,
        profiles_for(spec, built.bundle),
        compiler,
        tmp_path / "model.plan",
        bundle=built.bundle,
        precision=precision,
        report=lambda line: None,
    )
    check_engine(engine.path, spec, built.bundle, compiler)
    # Random weights at true size are gigabytes.
    engine.path.unlink()
    graph.unlink()


def _tokens(built: Built) -> dict[str, npt.NDArray[np.int64]]:
    tokenizer = Tokenizer.from_file(str(built.repository / TEXT_ENCODER.name / "1/tokenizer.json"))
    encodings = tokenizer.encode_batch(TEXTS)
    return {
        "input_ids": np.array([item.ids for item in encodings], np.int64),
        "attention_mask": np.array([item.attention_mask for item in encodings], np.int64),
    }

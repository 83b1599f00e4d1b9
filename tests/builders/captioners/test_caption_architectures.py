"""The captioner's graphs and the serving loop give the tokens of transformers' ``generate()``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from caption_architectures import (
    PROMPT,
    SMOLVLM_256M,
    TINY,
    CaptionArchitecture,
    captioner_config,
    write_captioner,
)
from onnx.reference import ReferenceEvaluator
from PIL import Image
from serving_support import SAMPLE
from tokenizers import Tokenizer
from transformers import (
    AutoModelForImageTextToText,
    AutoTokenizer,
    GotOcr2ImageProcessorPil,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    InternVLProcessor,
)

from bls_models.bundle import Bundle, CaptionerBundle
from bls_models.captions.captioner import Captioner
from bls_models.engines.cpu import CpuEngine, CpuEngines
from bls_models.images.preprocessing import prepare_pixels
from bls_models.specs import (
    CAPTION_DECODER,
    CAPTION_ENGINE_SPECS,
    CAPTION_VISION,
)
from builders.bundle.captioner import CaptionerBuild
from builders.captioners.families import captioner_from_config
from builders.captioners.graphs import token_embeddings
from builders.config import CaptionerConfig
from builders.engines.building import engine_from_onnx
from builders.engines.profiles import profiles_for
from builders.engines.reading import check_engine
from builders.engines.tensorrt_api import compiler_for_target
from builders.graphs.inventory import graph_precision
from builders.graphs.precisions import DECODER_RECIPE, graph_from_fp32
from builders.graphs.quantize import fp16_onnx_from_onnx

NEW_TOKENS = 12
PICTURES = 3
# Of the whole vocabulary's logits; what rounding to the name's precision may cost.
MIN_LOGIT_COSINE = {"int8": 0.99, "fp16": 0.9999}

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Built:
    """A captioner of random weights, with what transformers makes of the same folder."""

    architecture: CaptionArchitecture
    config: CaptionerConfig
    bundle: CaptionerBundle
    graphs: dict[str, Path]

    @property
    def folder(self) -> Path:
        return Path(self.config.checkpoint)

    @cached_property
    def model(self) -> Any:
        return AutoModelForImageTextToText.from_pretrained(self.folder).eval()

    @cached_property
    def tokenizer(self) -> Any:
        return AutoTokenizer.from_pretrained(self.folder)

    @cached_property
    def pictures(self) -> list[Image.Image]:
        """Real pictures of just the size that the model sees."""
        paths = sorted((SAMPLE / "images").glob("*/*.webp"))[::9][:PICTURES]
        size = (self.bundle.image_size, self.bundle.image_size)
        return [Image.open(path).convert("RGB").resize(size) for path in paths]

    @cached_property
    def pixels(self) -> npt.NDArray[np.uint8]:
        """As the server prepares them, (B, S, S, 3)."""
        preprocess = self.bundle.preprocess
        return np.stack(
            [prepare_pixels(np.asarray(picture), preprocess) for picture in self.pictures]
        )

    def inputs(self, prompts: list[str]) -> dict[str, torch.Tensor]:
        """What transformers' own processor makes of a picture each and its prompt."""
        messages = [
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}]
            for prompt in prompts
        ]
        count = self.bundle.visual_tokens
        template = self.architecture.template
        pictures = self.pictures[: len(prompts)]
        if self.architecture.family == "idefics3":
            processor = Idefics3Processor(
                Idefics3ImageProcessorPil.from_pretrained(self.folder),
                self.tokenizer,
                image_seq_len=count,
                chat_template=template,
            )
            texts = [
                processor.apply_chat_template(item, add_generation_prompt=True) for item in messages
            ]
            return dict(
                processor(
                    text=texts,
                    images=[[picture] for picture in pictures],
                    do_image_splitting=False,
                    # Otherwise it enlarges a picture fourfold before it shrinks it again.
                    size={"longest_edge": self.bundle.image_size},
                    padding=True,
                    padding_side="left",
                    return_tensors="pt",
                )
            )
        # The whole processor of InternVL cannot be had without the libraries for video.
        words = SimpleNamespace(
            start_image_token="<img>",
            end_image_token="</img>",
            image_token="<IMG_CONTEXT>",
            image_seq_length=count,
        )
        picture = InternVLProcessor.replace_image_token(words, {"num_patches": [1]}, 0)
        texts = [
            self.tokenizer.apply_chat_template(
                item, chat_template=template, add_generation_prompt=True, tokenize=False
            ).replace("<IMG_CONTEXT>", picture)
            for item in messages
        ]
        images = GotOcr2ImageProcessorPil.from_pretrained(self.folder)
        encoded = self.tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
        values = images(images=pictures, crop_to_patches=False, return_tensors="pt").pixel_values
        return {
            "input_ids": encoded.input_ids,
            "attention_mask": encoded.attention_mask,
            "pixel_values": values,
        }

    def generated(self, inputs: dict[str, torch.Tensor], **options: Any) -> list[list[int]]:
        """The new tokens of each row, by ``generate()``."""
        with torch.inference_mode():
            rows = self.model.generate(
                **inputs, max_new_tokens=NEW_TOKENS, do_sample=False, **options
            )
        return [row[inputs["input_ids"].shape[1] :].tolist() for row in rows]

    def captioner(self, **changes: Any) -> Captioner:
        """The serving loop over the graphs in OpenVINO."""
        engines = CpuEngines(
            CpuEngine(self.graphs[spec.name], spec, threads=1) for spec in CAPTION_ENGINE_SPECS
        )
        modules = captioner_from_config(self.config)
        return Captioner(
            engines,
            replace(self.bundle, **changes),
            Tokenizer.from_str(modules.tokenizer_json),
            token_embeddings(modules),
        )


def built(architecture: CaptionArchitecture, folder: Path) -> Built:
    (folder / "checkpoint").mkdir()
    config = captioner_config(
        architecture, write_captioner(architecture, folder / "checkpoint"), NEW_TOKENS
    )
    build = CaptionerBuild(config)
    graphs = {spec.name: folder / "b" / f"{spec.name}.fp32.onnx" for spec in CAPTION_ENGINE_SPECS}
    build.export(graphs, lambda line: None)
    return Built(architecture, config, build.manifest(), graphs)


@pytest.fixture(scope="module", params=TINY)
def captioner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return built(TINY[request.param], tmp_path_factory.mktemp(request.param))


def greedy(
    session: onnxruntime.InferenceSession,
    bundle: CaptionerBundle,
    embeds: npt.NDArray[np.float32],
    mask: npt.NDArray[np.int64],
    table: npt.NDArray[np.float32],
) -> list[list[int]]:
    """Greedy decoding of a padded batch, with a past that really grows, over the graph alone."""
    rows = len(embeds)
    past = np.zeros((rows, bundle.kv_planes, bundle.kv_heads, 1, bundle.head_dim), np.float32)
    seen = np.concatenate([np.zeros((rows, 1), np.int64), mask], axis=1)
    positions = np.maximum(mask.cumsum(axis=1) - 1, 0)
    tokens: list[npt.NDArray[np.int64]] = []
    while len(tokens) < NEW_TOKENS:
        logits, new = session.run(
            ["logits", "new_kv"],
            {
                "inputs_embeds": embeds,
                "attention_mask": seen,
                "position_ids": positions,
                "past_kv": past,
            },
        )
        tokens.append(logits.argmax(axis=1))
        past = np.concatenate([past, new], axis=3)
        seen = np.concatenate([seen, np.ones((rows, 1), np.int64)], axis=1)
        positions = positions[:, -1:] + 1
        embeds = table[tokens[-1]][:, None]
    return np.stack(tokens, axis=1).tolist()


def test_the_prompt_is_that_of_the_models_own_processor(captioner: Built) -> None:
    inputs = captioner.inputs([PROMPT])
    assert inputs["input_ids"][0].tolist() == captioner.bundle.prompt_ids


def test_pixels_become_what_the_models_own_processor_makes_of_them(captioner: Built) -> None:
    vision = captioner_from_config(captioner.config).vision
    expected = captioner.inputs([PROMPT])["pixel_values"].reshape(-1, 3, 64, 64)
    found = vision.normalised(torch.from_numpy(captioner.pixels[:1]))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_serving_loop_gives_the_tokens_of_generate(captioner: Built) -> None:
    expected = captioner.generated(captioner.inputs([PROMPT] * PICTURES), eos_token_id=None)
    captions = captioner.captioner(stop_ids=[]).caption(captioner.pixels)
    assert [list(caption.token_ids) for caption in captions] == expected
    # Random weights that repeat a token, or that do not look at the picture, would prove little.
    assert all(len(set(tokens)) > NEW_TOKENS / 2 for tokens in expected)
    assert len({tuple(tokens) for tokens in expected}) == PICTURES


def test_each_picture_gets_the_same_caption_alone(captioner: Built) -> None:
    loop = captioner.captioner()
    together = loop.caption(captioner.pixels)
    alone = [loop.caption(captioner.pixels[[row]])[0] for row in range(PICTURES)]
    assert [item.token_ids for item in alone] == [item.token_ids for item in together]
    assert [item.confidence for item in alone] == pytest.approx(
        [item.confidence for item in together], rel=1e-4
    )


def test_captions_end_where_those_of_generate_end(captioner: Built) -> None:
    inputs = captioner.inputs([PROMPT] * PICTURES)
    free = captioner.generated(inputs, eos_token_id=None)
    # Of each row another token, early in one and late in another.
    stops = [row[2 + 3 * number] for number, row in enumerate(free)]
    expected = [row[: min(row.index(stop) for stop in stops if stop in row)] for row in free]
    ended = captioner.generated(inputs, eos_token_id=stops, pad_token_id=0)
    captions = captioner.captioner(stop_ids=stops).caption(captioner.pixels)
    assert [list(caption.token_ids) for caption in captions] == expected
    assert [row[: len(tokens)] for row, tokens in zip(ended, expected, strict=True)] == expected
    assert len({len(tokens) for tokens in expected}) > 1


def test_confidence_is_the_mean_probability_that_generate_gives_its_tokens(
    captioner: Built,
) -> None:
    inputs = captioner.inputs([PROMPT])
    with torch.inference_mode():
        output = captioner.model.generate(
            **inputs,
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            eos_token_id=None,
            output_logits=True,
            return_dict_in_generate=True,
        )
    logs = [torch.log_softmax(step[0].double(), dim=0).max() for step in output.logits]
    (caption,) = captioner.captioner(stop_ids=[]).caption(captioner.pixels[:1])
    assert caption.confidence == pytest.approx(float(torch.stack(logs).mean().exp()), rel=1e-3)


def test_a_batch_padded_on_the_left_gives_the_tokens_of_generate(captioner: Built) -> None:
    inputs = captioner.inputs([PROMPT, "What is it?", ""])
    mask = inputs["attention_mask"].numpy()
    assert mask[:, 0].tolist() != [1, 1, 1]
    expected = captioner.generated(inputs, eos_token_id=None)
    vision = onnxruntime.InferenceSession(str(captioner.graphs[CAPTION_VISION.name]))
    (tokens,) = vision.run(None, {"image": captioner.pixels})
    table = captioner.model.get_input_embeddings().weight.detach().numpy()
    ids = inputs["input_ids"].numpy()
    embeds = table[ids]
    embeds[ids == captioner.bundle.image_token_id] = tokens.reshape(-1, tokens.shape[2])
    decoder = onnxruntime.InferenceSession(str(captioner.graphs[CAPTION_DECODER.name]))
    assert greedy(decoder, captioner.bundle, embeds, mask, table) == expected


@pytest.mark.parametrize("precision", MIN_LOGIT_COSINE)
def test_rounded_graphs_have_nearly_the_same_logits(captioner: Built, precision: str) -> None:
    source = captioner.graphs[CAPTION_DECODER.name]
    graph = graph_from_fp32(source, precision, DECODER_RECIPE, pytest.fail, lambda line: None)
    embeds = captioner.model.get_input_embeddings()(torch.arange(40).reshape(2, 20))
    bundle = captioner.bundle
    feed = {
        "inputs_embeds": embeds.detach().numpy(),
        "attention_mask": np.ones((2, 21), np.int64),
        "position_ids": np.tile(np.arange(20), (2, 1)),
        "past_kv": np.zeros((2, bundle.kv_planes, bundle.kv_heads, 1, bundle.head_dim), np.float32),
    }
    exact = CpuEngine(source, CAPTION_DECODER).infer(feed)["logits"]
    rounded = CpuEngine(graph, CAPTION_DECODER).infer(feed)["logits"]
    lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(rounded, axis=1)
    assert ((exact * rounded).sum(axis=1) / lengths).min() > MIN_LOGIT_COSINE[precision]
    assert not np.array_equal(exact, rounded)
    assert graph_precision(graph) == precision


def test_norms_of_large_states_survive_fp16(captioner: Built, tmp_path: Path) -> None:
    """States of some hundreds are common in language models, and their squares exceed FP16."""
    source = captioner.graphs[CAPTION_DECODER.name]
    graph = graph_from_fp32(source, "fp16", DECODER_RECIPE, pytest.fail, lambda line: None)
    naive = tmp_path / "naive.onnx"
    fp16_onnx_from_onnx(source, naive)
    bundle = captioner.bundle
    feed = {
        "inputs_embeds": np.random.default_rng(0)
        .normal(0, 700, (1, 5, bundle.hidden))
        .astype(np.float32),
        "attention_mask": np.ones((1, 6), np.int64),
        "position_ids": np.arange(5)[None],
        "past_kv": np.zeros((1, bundle.kv_planes, bundle.kv_heads, 1, bundle.head_dim), np.float32),
    }
    # onnxruntime has no FP16 on a CPU and leaves out roundings; this really computes in FP16.
    with np.errstate(all="ignore"):
        exact, half, wrong = (
            ReferenceEvaluator(str(path)).run(["logits"], feed)[0]
            for path in (source, graph, naive)
        )
    limit = 0.02 * np.abs(exact).max()
    np.testing.assert_allclose(half, exact, atol=limit)
    # The squares overflow, their mean is infinite, and the norm makes zeros of everything.
    assert not np.allclose(wrong, exact, atol=20 * limit)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_tensorrt_takes_both_graphs(captioner: Built, precision: str, tmp_path: Path) -> None:
    compiled(captioner, precision, tmp_path)


@pytest.mark.nightly
def test_tensorrt_takes_both_graphs_at_true_size(tmp_path: Path) -> None:
    smolvlm = built(SMOLVLM_256M, tmp_path)
    assert smolvlm.bundle.visual_tokens == 64
    assert (smolvlm.bundle.hidden, smolvlm.bundle.kv_planes) == (576, 60)
    for precision in ("fp16", "int8"):
        compiled(smolvlm, precision, tmp_path)


def compiled(captioner: Built, precision: str, folder: Path) -> None:
    """Compile both graphs for one GPU and read them back; vision stays FP16 where INT8 is asked.

    INT8 vision is the encoders' own path, with calibration, which has its own tests.
    """
    bundle = Bundle("b", "f" * 16, 64, "pad", 8, 8, 8, False, {}, captioner=captioner.bundle)
    compiler = compiler_for_target("rtx", ["8.9"])
    for spec in CAPTION_ENGINE_SPECS:
        own = "fp16" if (spec, precision) == (CAPTION_VISION, "int8") else precision
        source = captioner.graphs[spec.name]
        graph = graph_from_fp32(source, own, DECODER_RECIPE, pytest.fail, lambda line: None)
        engine = engine_from_onnx(
            graph,
            spec,
            profiles_for(spec, bundle),
            compiler,
            folder / f"{spec.name}.{own}.plan",
            bundle=bundle,
            precision=own,
            report=print,
        )
        check_engine(engine.path, spec, bundle, compiler)

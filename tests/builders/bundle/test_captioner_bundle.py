"""A bundle with a captioner is built whole, noticed when it changes, and removed when it goes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from architectures import TINY as TINY_ENCODERS
from architectures import bundle_config, write_bert, write_checkpoint
from caption_architectures import TINY, captioner_config, write_captioner
from tokenizers import Tokenizer

from bls_models.bundle import CAPTION_TOKENIZER_FILE, TOKEN_EMBEDDINGS_FILE, Bundle, graph_file
from bls_models.captions.captioner import Captioner
from bls_models.engines.cpu import CpuEngines
from bls_models.specs import CAPTION_ENGINE_SPECS, ENCODER_SPECS
from builders.bundle.building import build_bundle, is_built, precisions_of
from builders.bundle.fingerprints import caption_fingerprint_of, fingerprint_of
from builders.config import BundleConfig
from builders.graphs.calibration import calibration_from_catalogue
from builders.graphs.inventory import graph_precision

STALE = ("1/model.plan", "1/model.plan.json")


@dataclass(frozen=True)
class Built:
    """A tiny bundle with a captioner in a repository."""

    config: BundleConfig
    repository: Path
    lines: list[str]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("captioner-bundle")
    (folder / "captioner").mkdir()
    captioner = captioner_config(
        TINY["idefics3"], write_captioner(TINY["idefics3"], folder / "captioner")
    )
    encoders = bundle_config(
        TINY_ENCODERS["dinov2"],
        write_checkpoint(TINY_ENCODERS["dinov2"], folder / "image"),
        write_bert(folder / "text"),
    )
    config = replace(
        encoders,
        captioner=replace(
            captioner, vision_precision="int8", decoder_precision="int8", min_confidence=0.25
        ),
    )
    built = Built(config, folder / "model_repository", [])
    build_bundle(
        config, built.repository, built.lines.append, lambda: calibration_from_catalogue(samples=8)
    )
    return built


def test_the_manifest_has_the_captioners_sizes_and_files(built: Built) -> None:
    bundle = Bundle.read(built.repository)
    bundle.check_files(built.repository)
    captioner = bundle.require_captioner()
    assert captioner.fingerprint == caption_fingerprint_of(built.config.captioner)
    assert (captioner.image_size, captioner.resize, captioner.visual_tokens) == (64, "stretch", 16)
    assert (captioner.hidden, captioner.kv_planes, captioner.kv_heads) == (48, 4, 2)
    assert (captioner.head_dim, captioner.vocabulary) == (12, 300)
    assert (captioner.max_new_tokens, captioner.min_confidence) == (12, 0.25)
    assert {CAPTION_TOKENIZER_FILE, TOKEN_EMBEDDINGS_FILE} <= set(bundle.files)
    assert bundle.precisions == precisions_of(built.config)
    engines = (*ENCODER_SPECS, *CAPTION_ENGINE_SPECS)
    assert set(bundle.precisions) == {spec.name for spec in engines}


def test_the_vectors_fingerprint_is_that_of_the_bundle_without_a_captioner(built: Built) -> None:
    assert fingerprint_of(built.config) == fingerprint_of(replace(built.config, captioner=None))


def test_graphs_have_the_sizes_of_the_manifest_and_the_precision_asked_for(built: Built) -> None:
    bundle = Bundle.read(built.repository)
    graphs = [
        (spec, precision)
        for spec in CAPTION_ENGINE_SPECS
        for precision in bundle.precisions[spec.name]
    ]
    # A decoder's activations are never INT8, so it is right on every CPU.
    assert [precision for _, precision in graphs] == ["int8", "fp32", "int8"]
    for spec, precision in graphs:
        path = built.repository / graph_file(spec.name, precision)
        assert graph_precision(path) == precision
        graph = onnx.load(str(path)).graph
        for found, wanted in ((graph.input, spec.inputs), (graph.output, spec.outputs)):
            assert [item.name for item in found] == [tensor.name for tensor in wanted]
            for item, tensor in zip(found, wanted, strict=True):
                sizes = [dim.dim_value or -1 for dim in item.type.tensor_type.shape.dim]
                assert sizes == [
                    -1,
                    *(dim if isinstance(dim, int) else bundle.size(dim) for dim in tensor.dims),
                ]


def test_what_was_built_gives_captions(built: Built) -> None:
    engines = CpuEngines.from_repository(built.repository, CAPTION_ENGINE_SPECS, threads=1)
    bundle = Bundle.read(built.repository)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    captions = Captioner.from_repository(engines, bundle, built.repository).caption(pixels)
    tokenizer = Tokenizer.from_file(str(built.repository / CAPTION_TOKENIZER_FILE))
    for caption in captions:
        assert 0 < caption.confidence < 1
        assert caption.text == tokenizer.decode(list(caption.token_ids)).strip() != ""


def test_a_changed_captioner_is_noticed(built: Built) -> None:
    config, captioner = built.config, built.config.captioner
    assert captioner is not None
    assert is_built(config, built.repository)
    for other in (
        None,
        replace(captioner, prompt="What is it?"),
        replace(captioner, max_new_tokens=5),
        replace(captioner, min_confidence=0.5),
        replace(captioner, vision_precision="fp32"),
        replace(captioner, decoder_precision="fp16"),
    ):
        assert not is_built(replace(config, captioner=other), built.repository)


def test_each_step_is_reported_with_its_likeness_to_the_original(built: Built) -> None:
    text = "\n".join(built.lines)
    for line in (
        "caption_vision: cosine to the original at least 0.9999",
        "caption_decoder: cosine to the original at least 0.9999",
        "caption_vision: cosine of int8 to the original",
        "caption_decoder: cosine of int8 to the original",
    ):
        assert line in text.replace("1.000000", "0.999999")


def test_a_bundle_without_a_captioner_leaves_nothing_of_the_earlier_one(
    built: Built, tmp_path: Path
) -> None:
    repository = tmp_path / "model_repository"
    for name in (CAPTION_TOKENIZER_FILE, TOKEN_EMBEDDINGS_FILE):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_bytes(b"stale")
    stale = [repository / spec.name / name for spec in CAPTION_ENGINE_SPECS for name in STALE]
    graphs = [repository / graph_file(spec.name, "int8") for spec in CAPTION_ENGINE_SPECS]
    for path in (*stale, *graphs):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"stale")
    kept = repository / "caption_decoder" / "1" / "model.py"
    kept.write_text("code")
    config = replace(built.config, captioner=None)
    bundle = build_bundle(config, repository, print)
    assert bundle.captioner is None
    assert is_built(config, repository)
    assert not any("caption" in name for name in (*bundle.files, *bundle.precisions))
    left = {path for path in repository.rglob("*caption*/**/*") if path.is_file()}
    assert left == {kept}

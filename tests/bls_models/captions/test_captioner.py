"""The decoding loop over the built bundle's caption engines, in this process."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import array_api_strict
import numpy as np
import numpy.typing as npt
import pytest
from serving_support import REPOSITORY, SAMPLE

from bls_models.bundle import Bundle
from bls_models.captions.captioner import Captioner
from bls_models.engines.cpu import CpuEngines
from bls_models.errors import CaptionerError, RequestError
from bls_models.images.decoding import ImageLimits, decode_pixels
from bls_models.images.preprocessing import Preprocess
from bls_models.specs import CAPTION_DECODER, CAPTION_ENGINE_SPECS, CAPTION_VISION, ModelSpec
from bls_models.vectors import Arrays

LIMITS = ImageLimits(max_bytes=10_000_000, max_pixels=20_000_000)


class Engines:
    """The real graphs, as a ``Caller`` that remembers the shapes it was called with."""

    def __init__(self) -> None:
        self._engines = CpuEngines.from_repository(REPOSITORY, CAPTION_ENGINE_SPECS, threads=1)
        self.shapes: list[tuple[str, dict[str, tuple[int, ...]]]] = []

    def __call__(self, model: ModelSpec, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        shapes = {name: array.shape for name, array in inputs.items()}
        self.shapes.append((model.name, shapes))
        return self._engines(model, inputs)

    def called(self, model: ModelSpec) -> list[dict[str, tuple[int, ...]]]:
        return [shapes for name, shapes in self.shapes if name == model.name]


@pytest.fixture
def engines(bundle: Bundle) -> Engines:
    return Engines()


@pytest.fixture
def captioner(engines: Engines, bundle: Bundle) -> Captioner:
    return Captioner.from_repository(engines, bundle, REPOSITORY)


@pytest.fixture
def pixels(bundle: Bundle) -> npt.NDArray[np.uint8]:
    """Twenty real pictures: more than an engine takes at once."""
    found = bundle.require_captioner()
    preprocess = found.preprocess
    paths = sorted((SAMPLE / "images").glob("*/*.webp"))[:60:3]
    return np.stack([_read(path, preprocess) for path in paths])


def _read(path: Path, preprocess: Preprocess) -> npt.NDArray[np.uint8]:
    return decode_pixels(path.read_bytes(), str(path), LIMITS, preprocess)[0]


def test_more_pictures_than_an_engine_takes_are_split_and_keep_their_order(
    captioner: Captioner, engines: Engines, pixels: npt.NDArray[np.uint8]
) -> None:
    together = captioner.caption(pixels)
    assert [shapes["image"][0] for shapes in engines.called(CAPTION_VISION)] == [16, 4]
    assert len(together) == len(pixels)
    last = captioner.caption(pixels[-1:])[0]
    assert last.token_ids == together[-1].token_ids
    assert len({caption.text for caption in together}) > 1


def test_confidences_are_probabilities_and_captions_are_words(
    captioner: Captioner, bundle: Bundle, pixels: npt.NDArray[np.uint8]
) -> None:
    found = bundle.require_captioner()
    for caption in captioner.caption(pixels):
        assert 0 < caption.confidence <= 1
        assert len(caption.token_ids) <= found.max_new_tokens
        assert not set(caption.token_ids) & set(found.stop_ids)
        assert caption.text == caption.text.strip() != ""


def test_rows_that_have_ended_leave_the_batch(
    captioner: Captioner, engines: Engines, pixels: npt.NDArray[np.uint8]
) -> None:
    captions = captioner.caption(pixels[:16])
    steps = [shapes["inputs_embeds"][0] for shapes in engines.called(CAPTION_DECODER)]
    lengths = [len(caption.token_ids) for caption in captions]
    # Step n feeds token n of every row that has more than n tokens.
    assert steps == [16, *(sum(n <= length for length in lengths) for n in range(1, len(steps)))]


class DeviceEngines:
    """The real graphs, with the decoder's past in memory that numpy cannot read."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._device = array_api_strict.Device("device1")

    @property
    def arrays(self) -> SimpleNamespace:
        """The array library, with that memory in place of its default."""
        return SimpleNamespace(
            float32=array_api_strict.float32,
            zeros=partial(array_api_strict.zeros, device=self._device),
            asarray=partial(array_api_strict.asarray, device=self._device),
        )

    def __call__(self, model: ModelSpec, inputs: Arrays) -> dict[str, Any]:
        host = dict(inputs)
        if "past_kv" in inputs:
            past: Any = inputs["past_kv"]
            assert past.device == self._device
            # Its way to the host by the public method needs numpy 2.
            host["past_kv"] = past._array
        outputs: dict[str, Any] = self._engines(model, host)
        if "new_kv" in outputs:
            outputs["new_kv"] = self.arrays.asarray(outputs["new_kv"])
        return outputs


def test_keys_and_values_may_stay_in_memory_that_is_not_the_hosts(
    captioner: Captioner, engines: Engines, bundle: Bundle, pixels: npt.NDArray[np.uint8]
) -> None:
    device = DeviceEngines(engines)
    elsewhere = Captioner.from_repository(device, bundle, REPOSITORY, device.arrays)
    expected = [caption.token_ids for caption in captioner.caption(pixels[:8])]
    # Rows leave the batch at different steps, and the buffer grows.
    assert len({len(tokens) for tokens in expected}) > 1
    assert [caption.token_ids for caption in elsewhere.caption(pixels[:8])] == expected


def test_shapes_stay_within_the_engines_profiles(
    captioner: Captioner, engines: Engines, bundle: Bundle, pixels: npt.NDArray[np.uint8]
) -> None:
    from builders.engines.profiles import profiles_for

    prefill, decode = (item.shapes() for item in profiles_for(CAPTION_DECODER, bundle))
    captioner.caption(pixels[:3])
    first, *others = engines.called(CAPTION_DECODER)
    assert others
    for profile, steps in ((prefill, [first]), (decode, others)):
        for shapes in steps:
            for name, shape in shapes.items():
                allowed = profile[name]
                assert all(
                    low <= size <= high
                    for low, size, high in zip(allowed.minimum, shape, allowed.maximum, strict=True)
                )


def test_a_caption_is_cut_after_the_bundles_most_tokens(
    engines: Engines, bundle: Bundle, pixels: npt.NDArray[np.uint8]
) -> None:
    found = replace(bundle.require_captioner(), max_new_tokens=2, stop_ids=[])
    cut = Captioner.from_repository(engines, replace(bundle, captioner=found), REPOSITORY)
    whole = Captioner.from_repository(engines, bundle, REPOSITORY)
    short, full = (item.caption(pixels[:2]) for item in (cut, whole))
    assert [len(caption.token_ids) for caption in short] == [2, 2]
    assert [caption.token_ids for caption in short] == [item.token_ids[:2] for item in full]


def test_pictures_of_another_size_are_refused(captioner: Captioner) -> None:
    with pytest.raises(RequestError, match=r"\[1, 30, 40, 3\]"):
        captioner.caption(np.zeros((1, 30, 40, 3), np.uint8))


def test_logits_that_are_not_finite_are_an_error_and_no_caption(
    engines: Engines, bundle: Bundle, pixels: npt.NDArray[np.uint8]
) -> None:
    def broken(model: ModelSpec, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        outputs = engines(model, inputs)
        if "logits" in outputs:
            outputs["logits"][-1, 0] = np.nan
        return outputs

    captioner = Captioner.from_repository(broken, bundle, REPOSITORY)
    with pytest.raises(CaptionerError, match="logits that are not finite"):
        captioner.caption(pixels[:2])


def test_a_bundle_without_a_captioner_says_so(engines: Engines, bundle: Bundle) -> None:
    with pytest.raises(CaptionerError, match=f"bundle '{bundle.name}' has no captioner"):
        Captioner.from_repository(engines, replace(bundle, captioner=None), REPOSITORY)

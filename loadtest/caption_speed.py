"""What a caption costs: ``image_captioner`` next to the same loop in one plain process."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tritonclient.http as triton_http
from rich.table import Table

from bls_models.bundle import Bundle
from bls_models.captions.captioner import Captioner
from bls_models.engines.cpu import CpuEngine, CpuEngines
from bls_models.engines.precisions import graph_on_cpu
from bls_models.images.decoding import ImageLimits, decode_pixels
from bls_models.specs import CAPTION_DECODER, CAPTION_VISION, IMAGE_CAPTIONER
from bls_models.vectors import Pixels
from loadtest.measurements import LoadError
from loadtest.photos import Photo
from loadtest.workers import Worker

BATCHES = (1, 8)
WARM_UP_BATCHES = 3
# Both sides run the same graphs; a near tie of two tokens may fall either way.
MIN_AGREEMENT = 0.9


@dataclass(frozen=True)
class CaptionRound:
    """One round of captions.

    Attributes:
        captions: made.
        tokens: of all captions, those that end them included.
        seconds: of the round.
    """

    captions: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class CaptionSpeed:
    """Both sides at one batch size.

    Attributes:
        ms_per_caption: of ``image_captioner``.
        tokens_per_s: of ``image_captioner``.
        raw_ms_per_caption: of the plain loop.
        raw_tokens_per_s: of the plain loop.
        ratio: tokens a second relative to the plain loop's, the median of the rounds.
    """

    ms_per_caption: float
    tokens_per_s: float
    raw_ms_per_caption: float
    raw_tokens_per_s: float
    ratio: float


class RawCaptions:
    """The plain loop: the captioner's own code, its engines called directly.

    Args:
        repository: a built model repository.
    """

    def __init__(self, repository: Path) -> None:
        # One thread for the decoder: two on steps this short take a quarter longer.
        engines = CpuEngines(
            CpuEngine(graph_on_cpu(repository, spec.name), spec, threads)
            for spec, threads in ((CAPTION_VISION, 0), (CAPTION_DECODER, 1))
        )
        self._captioner = Captioner.from_repository(engines, Bundle.read(repository), repository)

    def captions(self, pixels: Pixels) -> list[tuple[str, int]]:
        """Text and number of tokens of pictures (n, S, S, 3)."""
        made = self._captioner.caption(pixels)
        return [(caption.text, len(caption.token_ids) + 1) for caption in made]

    def run(self, batches: Sequence[Pixels], seconds: float) -> CaptionRound:
        """Caption batch after batch for that long."""
        captions = tokens = number = 0
        start = time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds:
            made = self.captions(batches[number % len(batches)])
            captions, tokens = captions + len(made), tokens + sum(count for _, count in made)
            number += 1
        return CaptionRound(captions, tokens, spent)


def caption_speeds(
    repository: Path, http_url: str, photos: Sequence[Photo], rounds: int, seconds: float
) -> dict[int, CaptionSpeed]:
    """Measure both sides in turn, one batch under way at a time.

    Args:
        repository: the model repository that the server has.
        http_url: the server's address.
        photos: what is captioned.
        rounds: turns of each side and batch size.
        seconds: length of a turn.

    Returns:
        The speeds by batch size.

    Raises:
        LoadError: the server gives other captions, or a request fails.
    """
    pixels = _pixels(repository, photos)
    with Worker(RawCaptions, repository) as raw, contextlib.closing(_client(http_url)) as client:
        expected = [raw.call(RawCaptions.captions, item[np.newaxis])[0] for item in pixels]
        texts = [_served(client, item[np.newaxis])[0] for item in pixels]
        same = sum(one == text for one, (text, _) in zip(texts, expected, strict=True))
        if same < MIN_AGREEMENT * len(texts):
            raise LoadError(
                f"image_captioner gives the plain loop's caption for only {same} of {len(texts)} "
                "photos; does the server have the same bundle?"
            )
        tokens = {text: count for text, count in expected}
        speeds = {}
        for size in BATCHES:
            batches = [pixels[at : at + size] for at in range(0, len(pixels) - size + 1, size)]
            ours, theirs = [], []
            for _ in range(rounds):
                raw.call(RawCaptions.run, batches[:WARM_UP_BATCHES], 0.2)
                theirs.append(raw.call(RawCaptions.run, batches, seconds))
                for batch in batches[:WARM_UP_BATCHES]:
                    _served(client, batch)
                ours.append(_served_round(client, batches, seconds, tokens))
            speeds[size] = _speed(ours, theirs)
    return speeds


def table_from_speeds(speeds: dict[int, CaptionSpeed]) -> Table:
    """One line a batch size."""
    table = Table(title="\ncaptions", title_justify="left", box=None, pad_edge=False)
    for column in ("batch", "ms a caption", "raw", "tokens/s", "raw", "of raw"):
        table.add_column(column, justify="right")
    for size, speed in speeds.items():
        table.add_row(
            str(size),
            f"{speed.ms_per_caption:.1f}",
            f"{speed.raw_ms_per_caption:.1f}",
            f"{speed.tokens_per_s:.0f}",
            f"{speed.raw_tokens_per_s:.0f}",
            f"{speed.ratio:.2f}",
        )
    return table


def _speed(ours: Sequence[CaptionRound], theirs: Sequence[CaptionRound]) -> CaptionSpeed:
    def total(rounds: Sequence[CaptionRound]) -> tuple[float, float]:
        seconds = sum(item.seconds for item in rounds)
        captions = sum(item.captions for item in rounds)
        return seconds / captions * 1e3, sum(item.tokens for item in rounds) / seconds

    ratio = statistics.median(
        (mine.tokens / mine.seconds) / (raw.tokens / raw.seconds)
        for mine, raw in zip(ours, theirs, strict=True)
    )
    milliseconds, tokens = total(ours)
    raw_milliseconds, raw_tokens = total(theirs)
    return CaptionSpeed(
        round(milliseconds, 2),
        round(tokens, 1),
        round(raw_milliseconds, 2),
        round(raw_tokens, 1),
        round(ratio, 3),
    )


def _pixels(repository: Path, photos: Sequence[Photo]) -> Pixels:
    """What the captioner takes of each photo, (n, S, S, 3)."""
    captioner = Bundle.read(repository).require_captioner()
    limits, preprocess = ImageLimits(10**8, 10**8), captioner.preprocess
    return np.stack([decode_pixels(item.data, "photo", limits, preprocess)[0] for item in photos])


def _client(http_url: str) -> triton_http.InferenceServerClient:
    return triton_http.InferenceServerClient(http_url.removeprefix("http://"))


def _served(client: triton_http.InferenceServerClient, pixels: Pixels) -> list[str]:
    """Captions of pictures (n, S, S, 3), in one request."""
    tensor = triton_http.InferInput("image", list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(np.ascontiguousarray(pixels))
    answer = client.infer(IMAGE_CAPTIONER.name, [tensor]).as_numpy("caption")
    return [text.decode() for text in answer[:, 0]]


def _served_round(
    client: triton_http.InferenceServerClient,
    batches: Sequence[Pixels],
    seconds: float,
    tokens: dict[str, int],
) -> CaptionRound:
    """Like ``RawCaptions.run``; a caption has as many tokens as in the plain loop."""
    usual = round(statistics.fmean(tokens.values()))
    captions = count = number = 0
    start = time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        texts = _served(client, batches[number % len(batches)])
        captions, count = captions + len(texts), count + sum(tokens.get(t, usual) for t in texts)
        number += 1
    return CaptionRound(captions, count, spent)

"""Visual features of pictures and of altered copies, kept on disk.

The trunk is not trained, so a picture goes through it once, and training is a matter of minutes.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageEnhance

from bls_models.files import atomic_write
from bls_models.images.decoding import decode_image
from bls_models.images.preprocessing import Preprocess, prepare_pixels
from builders.caption_training.recolour import recoloured, targets
from builders.caption_training.samples import Sample
from builders.captioners.efficientnet import IMAGE_SIZE, CaptionerSettings, visual_features
from builders.graphs.calibration import LIMITS

# Part of a cached file's name: raise it when what is computed changes.
VERSION = 3

# Bounds of the alterations. Brightness and contrast keep hues, which captions name.
LEAST_SIDE = 0.7
BRIGHTNESS = (0.8, 1.2)
CONTRAST = (0.85, 1.15)

# Share of the altered copies that get other colours, where that is possible.
RECOLOURED = 0.6

Features = npt.NDArray[np.float16]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Copies:
    """One picture as it is, then altered.

    Attributes:
        features: (C, 10, F) float16.
        captions: what each copy is trained on; recoloured copies have other colours.
    """

    features: Features
    captions: tuple[str, ...]


class FeatureCache:
    """Features of picture files, computed once.

    Args:
        settings: of the captioner.
        folder: where features are kept, a file a picture.
        seed: of the alterations.
    """

    def __init__(self, settings: CaptionerSettings, folder: Path, seed: int = 0) -> None:
        self._settings = settings
        self._folder = folder
        self._preprocess = Preprocess(IMAGE_SIZE, settings.resize)
        self._model = visual_features(settings)
        self._seed = seed

    def features(self, samples: Sequence[Sample], progress: Progress) -> Features:
        """Features of pictures as they are.

        Args:
            samples: of JPEG, PNG or WebP files.
            progress: called after each picture with the number done and the number of all.

        Returns:
            (N, 10, F) float16.

        Raises:
            ImageError: a file cannot be read as a picture.
        """
        return np.stack([item.features[0] for item in self.copies(samples, 0, progress)])

    def copies(self, samples: Sequence[Sample], altered: int, progress: Progress) -> list[Copies]:
        """Features of pictures, each as it is and as a number of altered copies.

        Arguments and errors are those of ``features``.
        """
        copies = []
        for number, sample in enumerate(samples, start=1):
            copies.append(self._copies_of(sample, altered))
            progress(number, len(samples))
        return copies

    def _copies_of(self, sample: Sample, altered: int) -> Copies:
        data = sample.picture.read_bytes()
        s = self._settings
        key = (VERSION, s.trunk, s.resize, s.colours, s.colour_spread, self._seed, altered)
        digest = hashlib.sha256(repr((key, sample.caption)).encode() + data).hexdigest()
        path = self._folder / digest[:2] / f"{digest}.npz"
        if path.is_file():
            with np.load(path) as cached:
                return Copies(cached["features"], tuple(cached["captions"].tolist()))
        image = Image.fromarray(decode_image(data, str(sample.picture), LIMITS))
        rng = random.Random(digest)
        images, captions = [image], [sample.caption]
        for _ in range(altered):
            copy, colour = altered_copy(image, sample, rng)
            images.append(copy)
            captions.append(sample.caption_with(colour))
        pixels = np.stack([prepare_pixels(np.asarray(item), self._preprocess) for item in images])
        with torch.inference_mode():
            features: Features = self._model(torch.from_numpy(pixels)).numpy().astype(np.float16)
        with atomic_write(path) as stream:
            np.savez(stream, features=features, captions=np.array(captions))
        return Copies(features, tuple(captions))


def altered_copy(
    image: Image.Image, sample: Sample, rng: random.Random
) -> tuple[Image.Image, str | None]:
    """A random part of a picture, perhaps mirrored, lighter, darker or in other colours.

    Returns:
        The copy, and the colour that it shows, None where that is not known.
    """
    width, height = image.size
    sides = [rng.uniform(LEAST_SIDE, 1.0) * side for side in (width, height)]
    left = rng.uniform(0, width - sides[0])
    top = rng.uniform(0, height - sides[1])
    part = image.crop((int(left), int(top), int(left + sides[0]), int(top + sides[1])))
    if rng.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    colour = sample.colours[0] if sample.colours else None
    if colour is not None and sample.palette and rng.random() < RECOLOURED:
        choice = targets(colour)
        if choice:
            target = rng.choice(choice)
            part = recoloured(part, colour, target, rng.random())
            colour = target
    part = ImageEnhance.Brightness(part).enhance(rng.uniform(*BRIGHTNESS))
    return ImageEnhance.Contrast(part).enhance(rng.uniform(*CONTRAST)), colour

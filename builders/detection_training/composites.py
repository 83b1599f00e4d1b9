"""Pictures made of cut-out things on other grounds, with exact boxes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from builders.detection_training.backgrounds import Backgrounds
from builders.detection_training.cutouts import Cutout
from builders.detection_training.scenes import NO_BOXES, Boxes, Picture, Scene

# Longer side of a composite.
SIDE = 320

# How often a composite shows nothing, one large thing, several things, several of one kind close
# together, and so many of one kind that they fill it.
LAYOUTS = ("nothing", "one", "several", "bunch", "pile")
SHARES = (0.06, 0.22, 0.36, 0.28, 0.08)

# A thing of which less is seen is not pasted, nor may another hide more of it.
LEAST_SEEN = 0.5
TRIES = 30

Alpha = npt.NDArray[np.float32]


class Composer:
    """Draws composites.

    Args:
        groups: cut-out things of each source; a source is as likely as any other.
        weights: how likely each is, instead.
        backgrounds: what they are pasted on.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[Cutout]],
        weights: Sequence[float],
        backgrounds: Backgrounds,
    ) -> None:
        self._groups = groups
        self._weights = np.array(weights) / sum(weights)
        self._backgrounds = backgrounds

    def draw(self, rng: np.random.Generator) -> Scene:
        """One composite; the same from the same state of ``rng``."""
        ratio = rng.choice([1.0, 4 / 3, 3 / 2, 16 / 9]) if rng.random() < 0.7 else 1.0
        size = (SIDE, int(SIDE / ratio)) if rng.random() < 0.65 else (int(SIDE / ratio), SIDE)
        canvas = _Canvas(self._backgrounds.draw(size, rng))
        layout = rng.choice(LAYOUTS, p=SHARES)
        if layout == "one":
            self._one(canvas, rng)
        elif layout == "several":
            self._several(canvas, rng)
        elif layout != "nothing":
            self._same(canvas, rng, layout == "pile")
        return Scene(_as_photographed(canvas.picture, rng), canvas.boxes())

    def _thing(self, rng: np.random.Generator) -> Cutout:
        group = self._groups[int(rng.choice(len(self._groups), p=self._weights))]
        return _recoloured(group[int(rng.integers(len(group)))], rng)

    def _one(self, canvas: _Canvas, rng: np.random.Generator) -> None:
        side = min(canvas.size) * rng.uniform(0.45, 1.15)
        thing = _turned(self._thing(rng), side, _angle(rng), rng)
        for _ in range(TRIES):
            offset = rng.normal(0, 0.12, 2)
            centre = np.array(canvas.size) * (0.5 + offset)
            if canvas.paste(thing, centre, rng, least=0.6):
                return

    def _several(self, canvas: _Canvas, rng: np.random.Generator) -> None:
        count = int(rng.integers(2, 9))
        base = min(canvas.size) * rng.uniform(0.9, 1.5) / np.sqrt(count + 1)
        for _ in range(count):
            side = base * np.exp(rng.normal(0, 0.3))
            thing = _turned(self._thing(rng), side, _angle(rng), rng)
            canvas.paste_somewhere(thing, rng, 0.7)

    def _same(self, canvas: _Canvas, rng: np.random.Generator, fill: bool) -> None:
        """Things of one kind, each touching one that is there already."""
        thing = self._thing(rng)
        count = int(rng.integers(8, 20)) if fill else int(rng.integers(2, 9))
        if fill:
            side = max(canvas.size) * rng.uniform(1.3, 1.8) / np.sqrt(count)
        else:
            side = min(canvas.size) * rng.uniform(0.8, 1.35) / np.sqrt(count + 0.5)
        angle, spread = _angle(rng), rng.choice([0.05, 0.3, 3.0])
        reach = rng.uniform(0.62, 1.05)
        spots: list[npt.NDArray[np.float64]] = []
        for _ in range(count):
            copy = _turned(
                thing, side * np.exp(rng.normal(0, 0.08)), angle + rng.normal(0, spread), rng
            )
            extent = np.array([copy.shape[1], copy.shape[0]])
            for _ in range(TRIES):
                if spots:
                    way = rng.uniform(0, 2 * np.pi)
                    step = np.array([np.cos(way), np.sin(way)]) * extent * reach
                    centre = spots[int(rng.integers(len(spots)))] + step
                else:
                    centre = np.array(canvas.size) * rng.uniform(0.35, 0.65, 2)
                if canvas.paste(copy, centre, rng, least=0.45 if fill else 0.75):
                    spots.append(centre)
                    break


class _Canvas:
    """A picture under work: what is pasted, and how much of each thing is still seen."""

    def __init__(self, ground: Picture) -> None:
        self.picture = ground.astype(np.float32)
        self.size = (ground.shape[1], ground.shape[0])
        self._seen: list[npt.NDArray[np.bool_]] = []
        self._whole: list[int] = []

    def paste_somewhere(self, thing: Cutout, rng: np.random.Generator, least: float) -> bool:
        """Paste a thing where it fits, and perhaps leave it out."""
        return any(
            self.paste(thing, np.array(self.size) * rng.uniform(0.02, 0.98, 2), rng, least)
            for _ in range(TRIES)
        )

    def paste(
        self,
        thing: Cutout,
        centre: npt.NDArray[np.float64],
        rng: np.random.Generator,
        least: float,
    ) -> bool:
        """Paste a thing unless it, or one before it, would be seen too little; tell which."""
        place, part = self._place(thing, centre)
        mask = part[:, :, 3] > 127
        whole = int((thing[:, :, 3] > 127).sum())
        if mask.sum() < max(least * whole, 60):
            return False
        for seen, size in zip(self._seen, self._whole, strict=True):
            if seen.sum() - (seen[place] & mask).sum() < LEAST_SEEN * size:
                return False
        alpha = part[:, :, 3:].astype(np.float32) / 255
        if rng.random() < 0.6:
            self._shade(place, alpha[:, :, 0], rng)
        ground = self.picture[place]
        ground += (part[:, :, :3] - ground) * alpha
        for seen in self._seen:
            seen[place] &= ~mask
        self._seen.append(np.zeros(self.picture.shape[:2], bool))
        self._seen[-1][place] = mask
        self._whole.append(int(mask.sum()))
        return True

    def boxes(self) -> Boxes:
        """Boxes around what is seen of each thing."""
        found = []
        for seen in self._seen:
            x, y, width, height = cv2.boundingRect(seen.astype(np.uint8))
            found.append((x, y, x + width, y + height))
        scale = np.array([*self.size, *self.size], np.float32)
        return np.array(found, np.float32) / scale if found else NO_BOXES

    def _place(
        self, thing: Cutout, centre: npt.NDArray[np.float64]
    ) -> tuple[tuple[slice, slice], Cutout]:
        """Where on the canvas a thing comes to lie, and the part of it that does."""
        width, height = self.size
        left, top = (int(centre[0] - thing.shape[1] / 2), int(centre[1] - thing.shape[0] / 2))
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + thing.shape[1], width), min(top + thing.shape[0], height)
        part = thing[y0 - top : max(y1, y0) - top, x0 - left : max(x1, x0) - left]
        return (slice(y0, max(y1, y0)), slice(x0, max(x1, x0))), part

    def _shade(self, place: tuple[slice, slice], alpha: Alpha, rng: np.random.Generator) -> None:
        """Darken where a thing's shadow falls."""
        whole = np.zeros(self.picture.shape[:2], np.float32)
        whole[place] = alpha
        extent = np.sqrt(alpha.sum())
        matrix = np.array([[1, 0, rng.normal(0, 0.06)], [0, 1, rng.uniform(0, 0.1)]])
        matrix[:, 2] *= extent
        # On a coarser grid, as it is blurred anyway.
        small = cv2.resize(whole, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        matrix[:, 2] /= 4
        shadow = cv2.warpAffine(small, matrix, (small.shape[1], small.shape[0]))
        spread = max(0.3, extent * rng.uniform(0.01, 0.12) / 4)
        shadow = cv2.resize(cv2.GaussianBlur(shadow, (0, 0), spread), self.size)
        self.picture *= 1 - rng.uniform(0.1, 0.65) * shadow[:, :, None]


def _angle(rng: np.random.Generator) -> float:
    """In radians: most things stand upright, and some lie."""
    return float(rng.normal(0, 0.2) if rng.random() < 0.6 else rng.uniform(-np.pi, np.pi))


def _turned(thing: Cutout, side: float, angle: float, rng: np.random.Generator) -> Cutout:
    """A thing turned, mirrored and perhaps squeezed; ``side`` is its longer one before turning."""
    if rng.random() < 0.5:
        thing = np.ascontiguousarray(thing[:, ::-1])
    height, width = thing.shape[:2]
    scale = side / max(height, width)
    squeeze = np.exp(rng.normal(0, 0.15))
    matrix = np.array(
        [
            [np.cos(angle) * scale * squeeze, -np.sin(angle) * scale / squeeze],
            [np.sin(angle) * scale * squeeze, np.cos(angle) * scale / squeeze],
        ]
    )
    reach = np.abs(matrix) @ np.array([width, height])
    shift = reach / 2 - matrix @ np.array([width, height]) / 2
    if scale < 0.5:  # the affine transform alone would skip pixels
        factor = 2 * scale
        small = (max(2, round(width * factor)), max(2, round(height * factor)))
        thing = cv2.resize(thing, small, interpolation=cv2.INTER_AREA)
        matrix = matrix @ np.diag([width / small[0], height / small[1]])
    extent = (max(2, round(reach[0])), max(2, round(reach[1])))
    turned = cv2.warpAffine(thing, np.column_stack([matrix, shift]), extent, flags=cv2.INTER_LINEAR)
    x, y, w, h = cv2.boundingRect((turned[:, :, 3] > 127).astype(np.uint8))
    return np.ascontiguousarray(turned[y : y + max(h, 2), x : x + max(w, 2)])


def _recoloured(thing: Cutout, rng: np.random.Generator) -> Cutout:
    """Perhaps of another hue, and lighter or darker."""
    colours = thing[:, :, :3]
    if rng.random() < 0.45:
        hsv = cv2.cvtColor(colours, cv2.COLOR_RGB2HSV).astype(np.float32)
        hsv[:, :, 0] = (hsv[:, :, 0] + rng.uniform(0, 180)) % 180
        hsv[:, :, 1] *= rng.uniform(0.4, 1.3)
        colours = cv2.cvtColor(hsv.clip(0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB)
    curve = (np.arange(256) / 255) ** np.exp(rng.normal(0, 0.25)) * rng.uniform(0.75, 1.15)
    table = (255 * curve).clip(0, 255).astype(np.uint8)
    return np.dstack([cv2.LUT(np.ascontiguousarray(colours), table), thing[:, :, 3]])


def _as_photographed(picture: Alpha, rng: np.random.Generator) -> Picture:
    """With the light, the blur, the noise and the compression of a photo."""
    picture = picture * rng.uniform(0.75, 1.15) * rng.normal(1, 0.04, 3).astype(np.float32)
    if rng.random() < 0.35:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.5))
    if rng.random() < 0.4:
        picture = picture + rng.standard_normal(picture.shape, np.float32) * rng.uniform(1, 10)
    pixels = picture.clip(0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 95))]
        encoded = cv2.imencode(".jpg", pixels[:, :, ::-1], quality)[1]
        pixels = np.ascontiguousarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR)[:, :, ::-1])
    return np.asarray(pixels, np.uint8)

"""The objects of a photo that are matched for themselves: found, and cut out of it."""

from __future__ import annotations

import time

import numpy as np

from bls_models.engines.vector_cache import VectorCache
from bls_models.errors import DetectorError
from bls_models.images.arrays import fitted
from bls_models.images.preprocessing import Crop, Preprocess, cut_out, prepare_pixels
from bls_models.index.ordering import BY_SCORE
from bls_models.match.record import MatchedObject, MatchRequest, QueryImage
from bls_models.objects.boxes import of_whole, with_margin
from bls_models.objects.detector import ALWAYS, matched_objects
from bls_models.objects.outcome import NONE, OK, UNAVAILABLE, ObjectsOutcome
from bls_models.services import Services
from bls_models.vectors import Pixels

# The longer side of a photo in which objects are looked for, in sides of what the encoder takes: an
# object of a quarter of it still fills the encoder's pixels.
DETAIL = 4
# Of what is around an object, a share of its sides on each side of it is encoded too.
MARGIN = 0.1


class PhotoObjects:
    """Finds the objects of requests' photos.

    Methods may be called from any thread.

    Args:
        services: the detector, and the bundle that it may be missing from.
        vectors: those of images that are known.

    Attributes:
        detail: the size that a photo needs to be decoded at.
    """

    def __init__(self, services: Services, vectors: VectorCache) -> None:
        self._detector = services.detector
        self._bundle = services.bundle
        self._vectors = vectors
        self._preprocess = services.bundle.preprocess
        self.detail = Preprocess(DETAIL * self._preprocess.size, "pad")

    def photo(self, picture: Pixels, crop: Crop | None) -> Pixels:
        """The picture, or the part of it that is asked for, no larger than needed."""
        # A copy, which does not keep all of the picture.
        part = picture if crop is None else cut_out(picture, crop).copy()
        return fitted(part, self.detail.size)

    def find(self, request: MatchRequest) -> None:
        """Find the objects of its photo, and note those that are to be matched, and why not.

        A detector that fails costs the request its objects alone.
        """
        began = time.perf_counter()
        try:
            self._find(request)
        except DetectorError as error:
            request.objects_outcome = ObjectsOutcome(UNAVAILABLE, reason=str(error))
        finally:
            # What was cut out takes less memory.
            request.photo = None
        request.milliseconds["objects"] = round((time.perf_counter() - began) * 1e3, 3)

    def _find(self, request: MatchRequest) -> None:
        query, photo, (whole,) = request.query, request.photo, request.decoded
        assert query is not None
        assert photo is not None
        if self._detector is None:
            raise DetectorError(
                f"bundle {self._bundle.name!r} has no object detector; build a bundle that has "
                "one, or ask for no objects"
            )
        pixels = prepare_pixels(photo, self._detector.preprocess)
        found = self._detector.detect(pixels, (photo.shape[1], photo.shape[0]))
        for item in matched_objects(found, query.objects, query.max_objects):
            part = with_margin(item.box, MARGIN)
            image = QueryImage(whole.size, whole.sha256, of_whole(part, whole.crop))
            image.vector = self._vectors.get(image.key)
            if image.vector is None:
                image.pixels = prepare_pixels(photo, self._preprocess, part)
            box = of_whole(item.box, whole.crop)
            request.objects.append(MatchedObject(box, item.score, image))
        request.objects_outcome = ObjectsOutcome(OK if request.objects else NONE, len(found))

    def are_lacking(self, request: MatchRequest) -> bool:
        """Whether they were not looked for or not all matched; ``auto`` looks where it can."""
        assert request.query is not None
        wanted = request.query.objects == ALWAYS or self._bundle.detector is not None
        return wanted and bool(request.objects_outcome.reason)


def best_object(request: MatchRequest) -> int | None:
    """Which object the words fit best, 0 for the whole photo; None: there is nothing to say."""
    assert request.query is not None
    ranked = not request.query.offset and request.query.sort == BY_SCORE
    if not (ranked and request.objects and request.query.texts and request.matches):
        return None
    best = [matches[0].score if matches else -np.inf for matches in request.found]
    return int(np.argmax(best))

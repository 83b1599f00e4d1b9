"""``product_match``: photos and words to products, a batch of queries at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice

import numpy as np

from bls_models.captions.waiting import (
    ALWAYS,
    NO_IMAGE,
    OK,
    CaptionOutcome,
    PendingCaption,
    failed_outcome,
)
from bls_models.database.store import Store
from bls_models.engines.vector_cache import VectorCache
from bls_models.errors import CaptionerError, RefusedError, RequestError
from bls_models.images.decoding import ImageLimits, encoded_bytes, open_image
from bls_models.images.memory import MemoryBudget
from bls_models.images.preprocessing import finest_preprocess, prepare_pixels
from bls_models.index.ordering import BY_SCORE
from bls_models.index.query import IndexQuery
from bls_models.match.documents import ClientDocuments
from bls_models.match.photo_objects import PhotoObjects, best_object
from bls_models.match.record import (
    MatchRequest,
    QueryImage,
    StageClock,
    fail,
    match_log_entry,
    report_outcome,
)
from bls_models.match.request import MatchQuery
from bls_models.match.variants import Variants
from bls_models.metric.catalogue import NONE
from bls_models.picture_links import PictureLinks
from bls_models.product import json_bytes
from bls_models.services import Services
from bls_models.vectors import FloatArray

NO_MIN_SCORE = float("-inf")


class ProductMatcher:
    """The stages of a match, each for the requests that are there; a bad one fails alone.

    Methods may be called from any thread, each request by one at a time, and none of them raises.

    Args:
        services: what it calls; the log takes ``match_log`` entries.
        store: the documents of products.
        precisions: in which each engine computes, by model, for the details.
    """

    def __init__(
        self, services: Services, store: Store, precisions: Mapping[str, str] | None = None
    ) -> None:
        bundle, settings = services.bundle, services.settings
        self._services = services
        self._metrics = services.metrics
        self._about_bundle = {
            "name": bundle.name,
            "fingerprint": bundle.fingerprint,
            "precisions": dict(precisions or {}),
            "languages": bundle.languages,
        }
        self._documents = ClientDocuments(
            store,
            settings.document_cache_bytes,
            services.metrics,
            PictureLinks.from_settings(settings),
        )
        self._vectors = VectorCache(settings.vector_cache, services.metrics)
        self._bundle = bundle
        self._variants = Variants.from_settings(settings)
        self._default_min_scores = settings.default_min_scores
        self._max_answer_bytes = settings.max_answer_bytes
        self._caption_seconds = settings.caption_timeout_ms / 1e3
        self._limits = ImageLimits(
            settings.max_image_bytes, settings.max_image_pixels, settings.decode_bytes
        )
        self._memory = MemoryBudget(settings.decode_bytes)
        self._preprocess = bundle.preprocess
        captioner = bundle.captioner
        self._caption_preprocess = None if captioner is None else captioner.preprocess
        self._finest = finest_preprocess(self._preprocess, self._caption_preprocess)
        self._objects = PhotoObjects(services, self._vectors)

    def begin(self, request: MatchRequest) -> None:
        """Choose how the parts of its query are weighed."""
        # What a health check is told holds for most requests.
        probe = request.is_probe
        request.variant = self._variants.default if probe else self._variants.of(request.request_id)

    def decode(self, request: MatchRequest, number: int) -> None:
        """Decode one of its pictures, of the first also what the captioner wants to see."""
        try:
            self._decode(request, number)
        except Exception as error:
            request.error = request.error or error

    def _decode(self, request: MatchRequest, number: int) -> None:
        query = request.query
        assert query is not None
        tensor, crop = f"image[{number}]", query.crops[number]
        data = encoded_bytes(query.images[number], tensor, self._limits)
        image = QueryImage(len(data), hashlib.sha256(data).hexdigest(), crop)
        image.vector = self._vectors.get(image.key)
        captioned = number == 0 and query.wants_caption
        for_caption = self._caption_preprocess if captioned else None
        if image.vector is None or for_caption is not None or query.wants_objects:
            least = self._finest if captioned else self._preprocess
            if query.wants_objects:
                least = finest_preprocess(least, self._objects.detail)
            opened = open_image(data, tensor, self._limits, least, crop)
            with self._memory.hold(opened.memory):
                picture = opened.decode()
                if image.vector is None:
                    image.pixels = prepare_pixels(picture, self._preprocess, crop)
                if for_caption is not None:
                    same = image.pixels if for_caption == self._preprocess else None
                    request.caption_pixels = (
                        prepare_pixels(picture, for_caption, crop) if same is None else same
                    )
                if query.wants_objects:
                    request.photo = self._objects.photo(picture, crop)
                # Not only when this returns: by then others may hold what it takes.
                del picture
        request.images[number] = image

    def find_objects(self, request: MatchRequest) -> None:
        """Look for objects in its photo, and cut out those that are to be matched."""
        try:
            self._objects.find(request)
        except Exception as error:
            request.error = request.error or error

    def ask_for_caption(self, request: MatchRequest) -> None:
        """Start captioning the first image, or say why there will be no caption."""
        try:
            self._ask_for_caption(request)
        except Exception as error:
            request.error = request.error or error

    def _ask_for_caption(self, request: MatchRequest) -> None:
        query = request.query
        if query is None or request.error is not None or not query.wants_caption:
            return
        if not query.images:
            request.caption = CaptionOutcome(NO_IMAGE)
            return
        try:
            confidence = self._bundle.require_captioner().min_confidence
            assert request.caption_pixels is not None
            request.pending = PendingCaption(
                self._services.captions, request.caption_pixels, confidence, self._caption_seconds
            )
        except CaptionerError as error:
            request.caption = failed_outcome(error)

    def encode(self, requests: Sequence[MatchRequest]) -> None:
        """Make the index queries of requests whose pictures are decoded."""
        if not requests:
            return
        clock = StageClock(requests, self._metrics)
        try:
            for request, searches in zip(requests, self._encode(requests), strict=True):
                request.searches = searches
            clock.lap("encode")
        except Exception as error:
            # An engine that all of them need failed, or the code did.
            fail(requests, error)

    def takes_long(self, request: MatchRequest) -> bool:
        """Whether others should not wait for its search."""
        return bool(request.objects) or self._services.takes_long(request.searches)

    def search(self, requests: Sequence[MatchRequest]) -> None:
        """Search for requests that are encoded, and read documents."""
        if not requests:
            return
        clock = StageClock(requests, self._metrics)
        try:
            queries = [query for request in requests for query in request.searches]
            found, index_info = self._services.search(queries)
            answers = iter(found)
            for request in requests:
                request.answers = list(islice(answers, len(request.searches)))
                request.index_info = index_info
                if request.variant.raw:
                    request.index_info = index_info | {"metric": NONE}
                request.error = request.answers[0].refusal
                request.found = [answer.matches for answer in request.answers]
                refusals = (answer.refusal for answer in request.answers[1:])
                if refusal := next(filter(None, refusals), None):
                    # It costs its objects their matches.
                    request.objects_outcome = replace(request.objects_outcome, reason=str(refusal))
            clock.lap("search")
            good = [request for request in requests if request.error is None]
            self._add_documents(good, index_info["following"])
            clock.lap("documents")
        except Exception as error:
            fail(requests, error)

    def _encode(self, requests: Sequence[MatchRequest]) -> list[list[IndexQuery]]:
        """Every picture and text of the batch in one call to each engine.

        Returns:
            For each request the query for the index, then one for each of its objects.
        """
        weighted = [self._weighted_texts(request) for request in requests]
        pictures = [image for request in requests for image in request.pictures]
        texts = [text for words, _ in weighted for text in words]
        images, words = self._vectors_of(pictures, texts)
        searches = []
        image_at = text_at = 0
        for request, (own_texts, text_weights) in zip(requests, weighted, strict=True):
            image_end = image_at + len(request.pictures)
            text_end = text_at + len(own_texts)
            searches.append(
                self._index_queries(
                    request, images[image_at:image_end], words[text_at:text_end], text_weights
                )
            )
            image_at, text_at = image_end, text_end
        return searches

    def _index_queries(
        self, request: MatchRequest, images: FloatArray, words: FloatArray, text_weights: FloatArray
    ) -> list[IndexQuery]:
        """The query for the index, then one for each object, with the words that were sent."""
        assert request.query is not None
        count, texts = len(request.decoded), len(request.query.texts)
        whole = self._index_query(request, images[:count], words, text_weights)
        if not request.objects:
            return [whole]
        # A caption is of the whole photo.
        words, text_weights = words[:texts], text_weights[:texts]
        objects = [
            self._index_query(request, images[row : row + 1], words, text_weights)
            for row in range(count, len(images))
        ]
        share = 1 / len(objects)
        # What is counted are the products that fit the whole photo.
        return [whole, *(replace(query, facets=b"", work_share=share) for query in objects)]

    def _vectors_of(
        self, images: Sequence[QueryImage], texts: Sequence[str]
    ) -> tuple[FloatArray, FloatArray]:
        """Vectors of pictures (n, image_dim), each encoded once, and of texts (m, text_dim)."""
        new = {image.key: image.pixels for image in images if image.pixels is not None}
        encoded, words = self._services.encoders.encode(list(new.values()), texts)
        fresh = dict(zip(new, encoded, strict=True))
        for key, vector in fresh.items():
            # A copy: the row would keep its whole batch in memory.
            self._vectors.put(key, vector.copy())
        vectors = np.zeros((len(images), self._bundle.image_dim), np.float32)
        for row, image in zip(vectors, images, strict=True):
            row[:] = fresh[image.key] if image.vector is None else image.vector
        return vectors, words

    def _weighted_texts(self, request: MatchRequest) -> tuple[tuple[str, ...], FloatArray]:
        """A query's texts with their weights; a caption that can be relied on is one of them."""
        query, variant = request.query, request.variant
        assert query is not None
        weights = query.text_weights * np.float32(variant.text_weight)
        if request.caption.status == OK:
            weight = query.image_weights[0] * np.float32(
                variant.image_weight * variant.caption_weight
            )
            if weight:
                request.caption_used = True
                return (*query.texts, request.caption.text), np.append(weights, weight)
        return query.texts, weights

    def _index_query(
        self, request: MatchRequest, images: FloatArray, words: FloatArray, text_weights: FloatArray
    ) -> IndexQuery:
        """The query for the index; in a shared space its texts search the pictures too."""
        query, variant = request.query, request.variant
        assert query is not None
        least, like = self._min_score(request), query.like
        image_weights = query.image_weights * np.float32(variant.image_weight)
        # Only where text and image vectors can be compared.
        cross = np.float32(variant.cross_modal_weight if self._bundle.shared_space else 0.0)
        if cross and len(words):
            # Only the ratios of weights count, and shares of the smallest floats would be 0.
            largest = np.abs([*image_weights, *text_weights, *(w for _, w in like)]).max()
            image_weights, text_weights = image_weights / largest, text_weights / largest
            like = tuple((name, float(weight / largest)) for name, weight in like)
            images = np.concatenate([images, words])
            image_weights = np.append(image_weights, text_weights * cross)
            text_weights = text_weights * (1 - cross)
        return IndexQuery(
            image_vectors=images,
            image_weights=image_weights,
            text_vectors=words,
            text_weights=text_weights,
            top_k=query.top_k,
            offset=query.offset,
            min_score=NO_MIN_SCORE if least is None else least,
            filter=query.filter,
            view_power=variant.view_power,
            raw=variant.raw,
            like=like,
            facets=query.facets,
            sort=query.sort,
            # The words that were sent; what a caption says is a guess.
            text_words=query.texts,
            word_weight=variant.word_weight,
        )

    def _likely_score(self, query: MatchQuery) -> float | None:
        """The bundle's least score of a match of such a query; None: it has none.

        It was measured without vectors that push away, which lower all scores, and without those of
        products.
        """
        pushes = (query.image_weights < 0).any() or (query.text_weights < 0).any()
        unknown = pushes or query.like
        return None if unknown else self._bundle.min_scores.get(query.kind)

    def _min_score(self, request: MatchRequest) -> float | None:
        """What weaker matches are left out for: the request's, its variant's, or the default."""
        query = request.query
        assert query is not None
        if query.min_score is not None:
            return query.min_score
        if request.variant.min_score is not None:
            return request.variant.min_score
        return self._likely_score(query) if self._default_min_scores else None

    def _likely(self, request: MatchRequest) -> bool | None:
        """Whether the best match is likely one; None: nothing is known about it."""
        query = request.query
        assert query is not None
        least = None if query.offset or query.sort != BY_SCORE else self._likely_score(query)
        if least is None:
            return None
        best = request.found[0]
        return bool(best) and best[0].score >= least

    def _add_documents(self, requests: list[MatchRequest], following: bool) -> None:
        """Put the documents of all matches into the answers."""
        found = self._documents.find(
            (match for request in requests for match in request.matches), following
        )
        for request in requests:
            if found.complete:
                # A product deleted a moment ago may still be in the index.
                request.found = [
                    [item for item in matches if item.product_id in found.json]
                    for matches in request.found
                ]
            else:
                request.degraded.append("documents")
            # Without the database the matches are still right; they go out with their ids alone.
            request.products = [
                found.json.get(item.product_id) or json_bytes({"product_id": item.product_id})
                for item in request.matches
            ]
            size = sum(map(len, request.products))
            if size > self._max_answer_bytes:
                request.error = RequestError(
                    "top_k",
                    f"these {len(request.products)} products are {size} bytes",
                    f"at most {self._max_answer_bytes} (PRODUCT_MATCH_MAX_ANSWER_BYTES)",
                    "Ask for fewer products a page, with top_k and offset, or for fewer objects.",
                )

    def conclude(self, requests: Sequence[MatchRequest]) -> None:
        """Complete the details of requests that are answered now, and log them."""
        for request in requests:
            request.note_total()
            if request.error is None:
                if self._lacks_caption(request):
                    request.degraded.append("caption")
                if self._objects.are_lacking(request):
                    request.degraded.append("objects")
                request.details = {
                    "request_id": request.request_id,
                    "variant": request.variant.name,
                    "bundle": self._about_bundle,
                    "index": request.index_info,
                    "search": {
                        "scored": sum(answer.scored for answer in request.answers),
                        "filtered": request.answers[0].filtered,
                    },
                    "facets": request.answers[0].facets,
                    "min_score": self._min_score(request),
                    "likely": self._likely(request),
                    "caption": request.caption.details(request.caption_used),
                    "objects": request.objects_outcome.details,
                    "best_object": best_object(request),
                    "degraded": request.degraded,
                    "milliseconds": request.milliseconds,
                }
            report_outcome(request, self._metrics)
        now = datetime.now(UTC)
        # Answered probes would soon be most of the log, and so would what is refused.
        noted = [
            item
            for item in requests
            if (item.error or not item.is_probe) and not isinstance(item.error, RefusedError)
        ]
        self._services.log.write([match_log_entry(request, now) for request in noted])

    def _lacks_caption(self, request: MatchRequest) -> bool:
        """Whether a caption was wanted and failed; ``auto`` wants one where the bundle can."""
        assert request.query is not None
        wanted = request.query.caption == ALWAYS or self._bundle.captioner is not None
        return wanted and request.caption.failed

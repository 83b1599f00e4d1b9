"""``product_picture``: hands out products' pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

from bls_models.database.pictures import Pictures
from bls_models.database.store import Store
from bls_models.picture.finder import FoundPicture, PictureFinder
from bls_models.picture.request import PictureQuery, picture_query_from_tensors
from bls_models.specs import PRODUCT_PICTURE
from bls_models.telemetry.request_ids import request_id_from
from bls_models.triton.bridge import error_response, own_id_of, parameters_of, response, tensors_of
from bls_models.triton.public_model import BatchedModel


class TritonPythonModel(BatchedModel):
    """Served through the Python backend."""

    def initialize(self, args: dict[str, str]) -> None:
        """Connect to the database."""
        super().initialize(args)
        self._finder = PictureFinder(
            Store(self.database, self.settings.log_days),
            Pictures(self.database),
            self.settings,
            self.metrics,
        )
        self.closing.callback(self._finder.close)

    def answer(self, requests: list[Any]) -> list[Any]:
        """Find a batch's pictures; a bad request fails alone."""
        found = self._finder.run([self._read(request) for request in requests])
        return [
            _answer(item, request_id_from(own_id_of(request), parameters_of(request)).value)
            for item, request in zip(found, requests, strict=True)
        ]

    def _read(self, request: Any) -> PictureQuery | Exception:
        try:
            self.check_parameters(PRODUCT_PICTURE, parameters_of(request))
            return picture_query_from_tensors(tensors_of(request))
        except Exception as error:
            return error


def _answer(item: FoundPicture | Exception, request_id: str) -> Any:
    if isinstance(item, Exception):
        return error_response(item, request_id)
    values = {
        "picture": item.data,
        "content_type": item.content_type.encode(),
        "width": item.width,
        "height": item.height,
        "sha256": item.sha256.encode(),
    }
    return response(
        PRODUCT_PICTURE,
        {
            spec.name: np.array([[values[spec.name]]], spec.numpy_dtype)
            for spec in PRODUCT_PICTURE.outputs
        },
    )

"""``usual``: the service as tutorials write it.

One handler does all the work, one request at a time: decode, encode at batch 1, search, and one
find for each result. OpenVINO gets all CPUs for the one picture.
"""

from __future__ import annotations

from typing import Any

import openvino
from fastapi import FastAPI, HTTPException, Request
from openvino import properties

from bls_models.errors import ImageError
from loadtest.baselines.parts import DEFAULT_TOP_K, Parts, answer_from_matches


def create_app() -> FastAPI:
    """The application, with everything loaded."""
    parts = Parts()
    # All contestants run the graph as it is, also on CPUs that would round it to bfloat16.
    precision = {properties.hint.inference_precision: openvino.Type.f32}
    model = openvino.Core().compile_model(parts.graph, "CPU", precision)
    app = FastAPI()

    @app.post("/match")
    async def match(request: Request, top_k: int = DEFAULT_TOP_K) -> dict[str, Any]:
        try:
            pixels = parts.decode(await request.body())
        except ImageError as error:
            raise HTTPException(400, str(error)) from error
        vector = model({"image": pixels})["image_embedding"]
        matches = parts.search(vector, top_k)
        documents = {
            product_id: parts.products.find_one({"_id": product_id}) for product_id, _ in matches
        }
        return answer_from_matches(matches, documents)

    return app

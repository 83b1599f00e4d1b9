"""The models that clients call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bls_models.request_tensors import check_parameters
from bls_models.settings import Settings
from bls_models.specs import ModelSpec
from bls_models.triton.database_model import DatabaseModel


class PublicModel(DatabaseModel):
    """A model that clients call."""

    def check_parameters(self, model: ModelSpec, parameters: Iterable[str]) -> None:
        """Refuse parameters that nobody reads, unless the settings let them pass.

        Raises:
            RequestError: see ``bls_models.request_tensors.check_parameters``.
        """
        if self.settings.refuse_unknown_fields:
            check_parameters(model, parameters)


class BatchedModel(PublicModel):
    """One that works on a batch at a time, whose queue, which Triton keeps, is bounded.

    Triton refuses with 503 what finds the queue full, and what has waited too long when its turn
    comes, by the setting or by the ``timeout`` of the request, whichever is shorter. No model sees
    such a request. Configurations give these models two instances: with one, this release of
    Triton lets a request wait for half a second beside an idle instance where its queue has a
    bound.
    """

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Fill in how requests wait, which Triton asks for before it loads the model.

        Args:
            config: Triton's ``ModelConfig``.

        Raises:
            SetupError: a setting cannot be used.
        """
        settings = Settings.from_environment()
        config.as_dict()["dynamic_batching"] = {
            "default_queue_policy": {
                "timeout_action": "REJECT",
                "default_timeout_microseconds": settings.queue_timeout_ms * 1000,
                "allow_timeout_override": True,
                "max_queue_size": settings.queue_size,
            }
        }
        return config

"""What every ``model_repository/*/1/model.py`` begins and ends with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

from bls_models.bundle import Bundle
from bls_models.settings import Settings
from bls_models.triton.bridge import set_up_logging
from bls_models.watchdog import Watchdog, watched


class ServedModel(ABC):
    """A model of the Python backend, with its settings and its log.

    One that hangs ends its process (``bls_models.watchdog``).

    Attributes:
        settings: from the environment.
        repository: the model repository.
        closing: what ``finalize`` closes, the last entry first.
    """

    settings: Settings
    repository: Path
    closing: ExitStack

    def initialize(self, args: dict[str, str]) -> None:
        """Read the settings and set up the log.

        Args:
            args: Triton's.

        Raises:
            SetupError: a setting cannot be used.
        """
        self.settings = Settings.from_environment()
        set_up_logging(args, self.settings)
        self.repository = Path(args["model_repository"]).parent
        self.closing = ExitStack()
        self.closing.callback(Watchdog(self.settings.hang_seconds).close)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer a batch of Triton's; see ``answer``."""
        with watched():
            return self.answer(requests)

    @abstractmethod
    def answer(self, requests: list[Any]) -> list[Any]:
        """A response for each request; None for one that is answered later."""

    def finalize(self) -> None:
        """Close what was opened."""
        self.closing.close()

    @cached_property
    def bundle(self) -> Bundle:
        """The bundle that the repository was built with.

        Raises:
            BundleError: none is built.
        """
        return Bundle.read(self.repository)

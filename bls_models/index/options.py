"""How the product index stores and searches, as far as the settings say."""

from __future__ import annotations

from dataclasses import dataclass

from bls_models.settings import Settings

_DEFAULTS = Settings()


@dataclass(frozen=True)
class IndexOptions:
    """See the settings of the same names, with ``index_`` before them.

    Attributes:
        flat_rows: vectors of one kind up to which all are scored.
        exact_rows: under a filter that leaves so many vectors or fewer, all these are scored.
        probed_share: share of the lists that an approximate search looks through.
        device: ``cpu`` or ``gpu``.
    """

    flat_rows: int = _DEFAULTS.index_flat_rows
    exact_rows: int = _DEFAULTS.index_exact_rows
    probed_share: float = _DEFAULTS.index_probed_share
    device: str = _DEFAULTS.index_device

    @classmethod
    def of(cls, settings: Settings) -> IndexOptions:
        """The options that the settings name."""
        return cls(
            settings.index_flat_rows,
            settings.index_exact_rows,
            settings.index_probed_share,
            settings.index_device,
        )

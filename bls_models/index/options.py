"""How the product index stores and searches, as far as the settings say."""

from __future__ import annotations

from dataclasses import dataclass

from bls_models.settings import Settings

_DEFAULTS = Settings()


@dataclass(frozen=True)
class IndexOptions:
    """See the settings of the same names, some with ``index_`` before them.

    Attributes:
        flat_rows: vectors of one kind up to which all are scored.
        exact_rows: under a filter that leaves so many vectors or fewer, all these are scored.
        probed_share: share of the lists that an approximate search looks through.
        device: ``cpu`` or ``gpu``.
        max_search_work: of one query; see ``FrozenIndex.max_work``.
        max_filter_work: values that one filter may look at.
        max_attribute_keys: that filters can name.
    """

    flat_rows: int = _DEFAULTS.index_flat_rows
    exact_rows: int = _DEFAULTS.index_exact_rows
    probed_share: float = _DEFAULTS.index_probed_share
    device: str = _DEFAULTS.index_device
    max_search_work: int = _DEFAULTS.max_search_work
    max_filter_work: int = _DEFAULTS.max_filter_work
    max_attribute_keys: int = _DEFAULTS.max_attribute_keys

    @classmethod
    def of(cls, settings: Settings) -> IndexOptions:
        """The options that the settings name."""
        return cls(
            settings.index_flat_rows,
            settings.index_exact_rows,
            settings.index_probed_share,
            settings.index_device,
            settings.max_search_work,
            settings.max_filter_work,
            settings.max_attribute_keys,
        )

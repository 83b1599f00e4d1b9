"""The catalogue tab."""

from demo.catalogue.tab import add

__all__ = ["add"]

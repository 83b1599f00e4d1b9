"""The operations tab."""

from demo.operations.tab import add

__all__ = ["add"]

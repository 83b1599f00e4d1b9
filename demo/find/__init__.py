"""The find tab."""

from demo.find.tab import add

__all__ = ["add"]

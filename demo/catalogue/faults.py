"""What is wrong with a form before anything is sent."""

from __future__ import annotations

from bls_models.errors import ProductMatchError


class FormError(ProductMatchError):
    """Something in the form cannot be sent; its message says what to change."""

"""Several products in one photo: which are found, and what they are taken for."""

"""Filling the catalogue: readers of product catalogues and their bulk import."""

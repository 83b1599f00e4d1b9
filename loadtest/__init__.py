"""Benchmarks: the served product_match next to the same work in one plain process."""

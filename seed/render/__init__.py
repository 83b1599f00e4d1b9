"""Renders the sample catalogue: parametric products, studio views and held-out query views."""

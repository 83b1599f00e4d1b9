"""The page to try it: find products, edit the catalogue, see how the server does.

It speaks to the server through the Python client alone, with a key, as any shop's page would. It
may import what is below it and nothing imports it; ``python -m demo`` serves it.
"""

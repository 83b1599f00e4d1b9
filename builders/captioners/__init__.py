"""Captioner families: torch modules from checkpoints, and the two graphs that are made from them.

Bundles and the training of the demo captioner import it. A family imports ``modules`` and never
``families``, which lists them all.
"""

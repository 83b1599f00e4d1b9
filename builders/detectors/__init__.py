"""Detector families: torch modules from checkpoints, from pixels to boxes of objects.

Bundles, quality and the training of the demo detector import it. A family imports ``modules`` and
never ``families``, which lists them all.
"""

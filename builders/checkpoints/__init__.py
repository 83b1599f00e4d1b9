"""Checkpoints on disk, in packages and on the hub: found, checked, loaded and their settings read.

Encoders, captioners and bundles import it. It never makes a graph, and nothing else downloads.
"""

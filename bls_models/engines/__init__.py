"""Pixels and texts to vectors: the encoders, engines of this process, and a cache of vectors.

Captions, match and ingest import it. It is given what calls an engine model, and never knows
whether that goes through Triton.
"""

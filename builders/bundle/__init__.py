"""A bundle as a whole: its graphs, tokenizers, fingerprints and manifest in a model repository.

The commands import it. It never looks into a model; that is what encoders and captioners do.
"""

"""Encoder families: torch modules from checkpoints, from pixels or token ids to a vector.

Captioners, bundles and commands import it, each family's libraries only when a bundle has it. It
knows nothing of ONNX.
"""

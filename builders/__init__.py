"""Builders: from checkpoints to the graphs and the manifest that the models serve."""

"""Builders: from checkpoints to the graphs and the manifest that the models serve.

The modules here say what a bundle file and a catalogue are, and all packages below share them.
Serving never imports anything from here, but for compiling engines at a GPU container's start.
"""

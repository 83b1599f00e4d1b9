"""How near graphs and engines are to their originals, and what a caption's weight does.

The commands import it, and ``evaluation`` its sets of photos. It measures and never changes a
bundle.
"""

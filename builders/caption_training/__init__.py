"""Trains and measures the demo captioner of the mini bundle (``builders/demo_captioner``)."""

"""Measures how often a catalogue's products are found: ``python -m evaluation``."""

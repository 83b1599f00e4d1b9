"""Breaks parts of a real server under load, and counts what became of every request."""

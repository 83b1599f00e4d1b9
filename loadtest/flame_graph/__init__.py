"""Flame graphs of a server's processes under load."""

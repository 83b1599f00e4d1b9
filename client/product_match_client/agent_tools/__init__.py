"""Tools for agents over the Model Context Protocol: the catalogue as a language model uses it.

They call the server through `AsyncProductMatchClient` and know nothing else of it. The packages of
the extra ``agents`` are imported in `serving`, `tools` and `replies` alone, which the command
imports once it knows that they are there.
"""

"""Encoded picture files: their limits, decoding, and the pixels that an engine takes.

Imports the errors alone, so that everything may import it. It keeps no state, but for
how much memory is in use, and never looks at models, requests or the database.
"""

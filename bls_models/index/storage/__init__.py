"""The one copy of every vector: rows in blocks, and how they are read while they change.

The rest of the index imports it. It never chooses what is searched, and takes no lock itself.
"""

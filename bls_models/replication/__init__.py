"""Keeps the index equal to the database, in the process that holds it, and answers the others.

Follower, loader, sync check, snapshots on disk, and the socket by which the server's other
processes ask. It reads the database and changes the index, never the other way round.
"""

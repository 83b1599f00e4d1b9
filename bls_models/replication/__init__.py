"""Keeps the index equal to the database: follower, loader, sync check, and snapshots on disk.

``product_index`` alone imports it. It reads the database and changes the index, never the other
way round.
"""

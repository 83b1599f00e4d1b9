"""Inverted lists of codes that propose candidates, on the CPU or on a GPU.

Storage, snapshots and upkeep import it. No score that is returned comes from here; those are
computed from the stored vectors.
"""

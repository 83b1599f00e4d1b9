"""The product index in memory: weighted vectors and a filter in, products with exact scores out.

Match, ingest, replication and ``triton`` import it. It never reads the database; whoever owns it
puts products into it.
"""

"""MongoDB: products, embeddings, pictures, the journal of writes, the change stream and reports.

Everything that stores or reads imports it. It never computes a vector and never touches the
index.
"""

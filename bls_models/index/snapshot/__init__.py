"""The index's own files: how vectors, columns and lists are written to a folder and read again.

The index and its columns import it, and the snapshot folder its checksums. When a snapshot is
written, and which one is read, is decided in ``bls_models.replication``.
"""

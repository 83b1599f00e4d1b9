"""The index in Milvus: for catalogues that outgrow one machine.

Vectors and what filters see of products lie in Milvus, which proposes candidates; scores are made
here, exactly, from the vectors in the database. Nothing else imports pymilvus.
"""

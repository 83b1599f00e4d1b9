"""What of an image vector counts in this catalogue: a linear map, fitted from its own views.

The map and how it is fitted need numpy alone; ``catalogue.py`` reads views from the database and
keeps the versions there. Replication projects with it; it knows nothing of the index.
"""

"""The logic behind the models in ``model_repository/``: each ``model.py`` there is thin glue."""

__version__ = "0.1.0"

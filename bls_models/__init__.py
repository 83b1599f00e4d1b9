"""The logic behind the models in ``model_repository/``: each ``model.py`` there is thin glue.

The modules here are what all packages below share. ``triton`` alone knows Triton; nothing here
imports ``builders``, torch, transformers or onnx.
"""

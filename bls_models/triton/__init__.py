"""The bridge to Triton's Python backend: tensors, errors, calls of other models, metrics, traces.

``model_repository/*/1/model.py`` alone imports it, because most of it can be imported only inside
Triton. It holds no logic of the product.
"""

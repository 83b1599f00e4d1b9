"""TensorRT engines: compiled from graphs, described, read back, and put into a model repository.

Bundles, commands and the GPU container's start import it. The two TensorRT libraries are imported
in ``tensorrt_api`` alone; nothing here imports torch.
"""

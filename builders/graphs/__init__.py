"""ONNX graphs: export from torch, calibration, quantising, checks that others read them rightly.

Captioners, engines, bundles and quality import it. It takes any torch module and never imports an
encoder or a captioner.
"""

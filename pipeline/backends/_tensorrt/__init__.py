"""TensorRT, piece by piece; `pipeline/backends/tensorrt.py` puts them together."""

"""The checkpoint as a model: float and quantized, its float rewrites, statistics, ONNX export, operator parity."""

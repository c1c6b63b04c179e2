"""Graphs that share their weights: those of one model differ in their Q/DQ, and hold the same large arrays.

    graph (100 to 440 MB)     ->     graphs/<digest>.onnx (under 2 MB) + graphs/<digest of a weight>.bin, once for all

Both are ONNX: the weights are its external data. The pack's manifest vouches for every file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

GRAPHS = "graphs"
BIG = 16384  # bytes from which on a weight is a file of its own


def put(folder: Path, graph: bytes) -> str:
    """Returns the digest under which a graph is stored in a pack."""
    import onnx
    from onnx.external_data_helper import set_external_data

    target = folder / GRAPHS
    target.mkdir(parents=True, exist_ok=True)
    model = onnx.load_from_string(graph)
    for tensor in model.graph.initializer:
        content = onnx.numpy_helper.to_array(tensor).tobytes()
        if len(content) < BIG:
            continue
        path = target / f"{hashlib.sha256(content).hexdigest()[:24]}.bin"
        if not path.exists():
            path.write_bytes(content)
        for field in ("float_data", "int32_data", "int64_data"):
            tensor.ClearField(field)
        tensor.raw_data = b""  # what external data stand in for
        set_external_data(tensor, path.name, length=len(content))
        tensor.ClearField("raw_data")
    skeleton = model.SerializeToString(deterministic=True)
    digest = hashlib.sha256(skeleton).hexdigest()[:24]
    (target / f"{digest}.onnx").write_bytes(skeleton)
    return digest


def restore(folder: Path, digest: str) -> bytes:
    """Returns a stored graph as ONNX bytes, its weights in place."""
    import onnx
    from onnx.external_data_helper import load_external_data_for_model

    model = onnx.load(folder / GRAPHS / f"{digest}.onnx", load_external_data=False)
    load_external_data_for_model(model, str(folder / GRAPHS))
    return bytes(model.SerializeToString())

"""Graphs to disk."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as common


def write_checked(model: ir.Model, path: Path) -> None:
    """Writes an ONNX file that `onnx.checker` accepts, types and shapes included.

    The checker sees large constants as inputs of their type and shape: reading back a file of hundreds of megabytes
    just to check it takes longer than writing it.
    """
    common.CheckerPass(full_check=True)(model)
    ir.save(model, path)

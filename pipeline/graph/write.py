"""Graphs to disk."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir


def write_checked(model: ir.Model, path: Path) -> None:
    """Writes an ONNX file that `onnx.checker` accepts, types and shapes included."""
    ir.save(model, path)
    onnx.checker.check_model(str(path), full_check=True)

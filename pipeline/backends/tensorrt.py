"""TensorRT: the engine on NVIDIA GPUs. This version knows when it could run; it does not build plans yet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import BackendUnavailable
from pipeline.machine import gpu_name

if TYPE_CHECKING:
    from pipeline.backends import Engine
    from pipeline.recipe import Recipe

NAME = "tensorrt"
RANK = 10
FILES = ("model.plan",)


def unavailable_reason() -> str:
    """Returns why this backend cannot run here."""
    if gpu_name() is None:
        return (
            "TensorRT needs an NVIDIA GPU with its driver (nvidia-smi finds none here): install the driver; "
            "without a GPU use BACKEND=openvino"
        )
    return "this version does not build TensorRT plans yet: update it; until then use BACKEND=openvino"


def version() -> dict[str, str]:
    """Returns nothing: no package decides anything yet."""
    return {}


def build(qdq_onnx: Path, area: Path, recipe: Recipe) -> None:
    """Raises BackendUnavailable."""
    raise BackendUnavailable(f"backend {NAME!r} cannot run here: {unavailable_reason()}")


def load(folder: Path, threads: int | None) -> Engine:
    """Raises BackendUnavailable."""
    raise BackendUnavailable(f"backend {NAME!r} cannot run here: {unavailable_reason()}")

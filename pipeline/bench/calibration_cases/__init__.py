"""What `bench-calibration` measures, each case in a process of its own: `python -m pipeline.bench.calibration_cases`.

A process takes a case's name and the workload as JSON, and prints one line of JSON: what the case's function returned,
or {"unavailable": why} where a package is missing. Seconds are lists, one value a round; memory is in bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

# name: module and function
CASES = {
    "checkpoint": ("workload", "write_checkpoint"),
    "float_onnx": ("workload", "write_float_onnx"),
    "times": ("collecting", "times"),
    "float_memory": ("collecting", "float_memory"),
    "ours_memory": ("collecting", "ours_memory"),
    "pytorch_quantization_memory": ("collecting", "library_memory"),
    "computing": ("computing", "ours_and_library"),
    "modelopt": ("modelopt", "collect_and_compute"),
    "onnxruntime_percentile": ("onnxruntime", "percentile"),
    "onnxruntime_entropy": ("onnxruntime", "entropy"),
}


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A BERT checkpoint and the random tokens that it is calibrated with."""

    checkpoint: str  # a folder
    scratch: str  # a folder for what cases write
    tokens: int = 128
    batch_size: int = 8
    batches: int = 8
    rounds: int = 3  # timed ones, after one that is not
    threads: int = 2

    @property
    def float_onnx(self) -> str:
        """Where the case of that name writes the float graph."""
        return f"{self.scratch}/float.onnx"

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def get(name: str) -> Callable[[Workload], dict[str, Any]]:
    """Returns the function of a case."""
    module, function = CASES[name]
    found: Callable[[Workload], dict[str, Any]] = getattr(import_module(f"{__name__}.{module}"), function)
    return found

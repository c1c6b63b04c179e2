"""The backends that work on this machine, and what their kernels do."""

from __future__ import annotations

import sys

import pytest

from pipeline import backends
from pipeline.measure import machine, processor

USABLE = [name for name in backends.names() if backends.get(name).unavailable_reason() is None]


def saturates_here(backend: str) -> bool:
    """Returns whether a backend's kernels add in 16 bits here; ONNX Runtime's follow no variable by themselves."""
    limited = hasattr(sys.modules.get("sitecustomize"), "BeforeOnnxruntime")  # tests/without_vnni
    with pytest.MonkeyPatch.context() as patch:
        if backend != "openvino" and not limited:
            patch.delenv(machine.CAP, raising=False)
        return processor.saturates(machine.processor_class())

"""The versions of the packages that a stage's result depends on, and that a report lists."""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "numpy", "onnxruntime", "openvino", "tensorrt", "torch", "transformers", "onnx", "onnxscript",
    "pytorch-quantization",
)  # fmt: skip
OTHER_NAMES = {"onnxruntime": ("onnxruntime-gpu",)}  # distributions of the same package that exclude each other


def versions(*packages: str) -> dict[str, str]:
    """Returns the installed version of each package, 'absent' where there is none."""
    installed = {}
    for package in packages:
        installed[package] = "absent"
        for name in (package, *OTHER_NAMES.get(package, ())):
            with suppress(PackageNotFoundError):
                installed[package] = version(name)
                break
    return installed

"""What the quantizers of others share: whether their packages are here, the data, and a process of their own."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pipeline.backends import missing_package
from pipeline.bench.methods import Method, _calibration_data, found, get, original
from pipeline.judge.evaluation import read_arrays
from pipeline.measure import machine, processor
from pipeline.measure.process import call

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.bench.methods._calibration_data import Arrays

INSTALL = "pip install '.[bench]'"
SAMPLES = "samples.npz"


@dataclass(frozen=True)
class Peer(Method):
    """A quantizer of others. same_in_8_bits: of one with weights of 7 bits the label of its twin with 8.

    Weights of 7 bits have their place where sums of 8 saturate, and nowhere else.
    """

    same_in_8_bits: str | None = None
    peer: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = ()
    calibrated: ClassVar[bool] = True  # whether `quantize` gets samples

    def unavailable_reason(self) -> str | None:
        missing_here = super().unavailable_reason() or missing(*self.packages)
        here = machine.processor_class()
        if missing_here or not self.same_in_8_bits or processor.saturates(here):
            return missing_here
        return f"sums cannot saturate on this processor ({here}): {self.same_in_8_bits!r} is the same in 8 bits"

    def build(self, workspace: Workspace, area: Path) -> None:
        """Quantizes in a process of its own, its output aside.

        ModelOpt replaces functions of onnxruntime.quantization when it is imported: in one process, ONNX Runtime's own
        quantizer would be ModelOpt's from then on. A crash in C++ is an exception here too.
        """
        import numpy as np

        area.mkdir(parents=True, exist_ok=True)
        if self.calibrated:
            np.savez(area / SAMPLES, allow_pickle=False, **_calibration_data.arrays(workspace))
        (name,) = (name for name, method in found().items() if method == self)
        given = (name, str(original(workspace)), str(area))
        call(self.label, f"{__name__}:quantize", *given, environment={"NNCF_CI": "1"})  # NNCF asks nobody then

    def quantize(self, float_onnx: Path, area: Path, samples: Arrays) -> None:
        """Writes the quantized model into `area`; runs in a process of its own."""
        raise NotImplementedError


def missing(*packages: str) -> str | None:
    """Returns why a peer cannot run here with the command that installs it, None where every package is there.

    Nothing that is there is imported: most of these packages load torch.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            return missing_package(package, INSTALL)
    return None


def quantize(name: str, float_onnx: str, area: str) -> None:
    """Runs `quantize` of a peer on the samples in `area`, in the process that `Peer.build` starts."""
    method = get(name)
    assert isinstance(method, Peer)
    samples = read_arrays(Path(area) / SAMPLES) if method.calibrated else {}
    method.quantize(Path(float_onnx), Path(area), samples)

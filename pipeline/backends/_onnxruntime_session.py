"""ONNX Runtime sessions: options for measuring side by side, and one file as a callable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.backends import missing_package, ordered_feeds
from pipeline.errors import ArtifactError, BackendUnavailable
from pipeline.measure.machine import usable_cores

if TYPE_CHECKING:
    from pipeline.backends import Array

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
INSTALL = "pip install onnxruntime"
TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}


def missing() -> str | None:
    """Returns why there is no ONNX Runtime here and how to get it, None where there is."""
    return missing_package("onnxruntime", INSTALL)


def session_options(threads: int | None) -> Any:
    """Returns session options for `threads` threads that sleep between runs.

    By default ONNX Runtime's threads spin after a run and take the cores from whatever runs next, which would
    spoil every interleaved measurement; ONNX Runtime itself loses nothing by sleeping.
    """
    reason = missing()
    if reason is not None:
        raise BackendUnavailable(f"the float reference cannot run here: {reason}")
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.log_severity_level = 3  # errors; warnings repeat per session and name nothing a user can act on
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


class Session:
    """One ONNX file in ONNX Runtime: dict of arrays in, dict of arrays out.

    provider: what runs it, the first of `providers` that this ONNX Runtime has and that loads.
    """

    def __init__(self, path: Path, options: Any, providers: Sequence[str] = (CPU,)) -> None:
        import numpy as np
        import onnxruntime as ort

        self._path = path
        self._options = options
        try:
            self._session = ort.InferenceSession(str(path), options, providers=list(providers))
        except Exception as error:  # ONNX Runtime's classes share no public base
            raise ArtifactError(f"{path} cannot be loaded by ONNX Runtime: {str(error).strip()[:300]}") from error
        self.provider = str(self._session.get_providers()[0])
        self._types = {x.name: np.dtype(TYPES[x.type]) for x in self._session.get_inputs()}
        self.input_names = tuple(self._types)
        self.output_names = tuple(x.name for x in self._session.get_outputs())

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        import numpy as np

        arrays = ordered_feeds(feeds, self.input_names)
        typed = {name: np.asarray(x, dtype=self._types[name]) for name, x in arrays.items()}
        return dict(zip(self.output_names, self._session.run(None, typed), strict=True))

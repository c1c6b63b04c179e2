"""plan.json: what a TensorRT plan was built by, for which GPU and from what. A plan runs nowhere else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import ArtifactError, in_short

PLAN, NOTE = "model.plan", "plan.json"
FORMAT = 1


@dataclass(frozen=True)
class Maker:
    """The TensorRT and the GPU, on which a plan depends to the last digit."""

    tensorrt: str
    gpu: str
    compute_capability: str

    def __str__(self) -> str:
        return f"TensorRT {self.tensorrt} on {self.gpu} (compute capability {self.compute_capability})"


@dataclass(frozen=True)
class Note:
    """The content of plan.json.

    graph_sha256: of the ONNX bytes that the plan was built from. profiles: [{input: [min, opt, max]}]. flops: of the
    graph's matrix products and convolutions at batch 1, by node name; empty where onnx is not installed.
    """

    maker: Maker
    target: str
    precision: str
    graph_sha256: str
    profiles: list[dict[str, Any]]
    settings: dict[str, Any]
    flops: dict[str, int] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Writes plan.json."""
        document = {"format": FORMAT, **asdict(self.maker), **{k: v for k, v in vars(self).items() if k != "maker"}}
        (folder / NOTE).write_text(json.dumps(document, indent=1), encoding="utf-8")


def read(folder: Path) -> Note:
    """Returns the note beside a plan. Raises ArtifactError where it is missing or of another form."""
    path = folder / NOTE
    try:
        found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            raise ArtifactError(f"{path} has format {found['format']}, this version reads {FORMAT}.")
        maker = Maker(found["tensorrt"], found["gpu"], found["compute_capability"])
        rest = {k: found[k] for k in ("target", "precision", "graph_sha256", "profiles", "settings", "flops")}
        return Note(maker, **rest)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} cannot be read as the note of a plan ({in_short(error)}).") from error


def check(note: Note, present: Maker, folder: Path) -> None:
    """Raises ArtifactError for a plan that was not made by `present`."""
    if note.maker != present:
        raise ArtifactError(
            f"{folder / PLAN} was built by {note.maker}; here is {present}. A plan runs only with the TensorRT and on "
            "the kind of GPU that it was built with."
        )

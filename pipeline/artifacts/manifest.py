"""What `manifest.json` says of an artifact folder, and the digests by which files and documents are known again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ValidationError

from pipeline.errors import ArtifactError
from pipeline.files import digest_of

MANIFEST = "manifest.json"
FORMAT = 1


def sealed(document: dict[str, Any]) -> dict[str, Any]:
    """Returns a JSON document with a digest of its own content, by which a later change is seen.

    It protects from edits by mistake or without a word, and is no signature: who wants to can make it anew.
    """
    return {**document, "digest": digest_of(json.loads(json.dumps(document)))}


def is_as_sealed(document: Mapping[str, Any]) -> bool:
    """Returns whether a document that was read still is what `sealed` returned."""
    return bool(document["digest"] == digest_of({key: value for key, value in document.items() if key != "digest"}))


def _relative(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or str(path) != name or name == ".":
        raise ValueError(f"{name!r} is no name of a file in the folder")
    return name


_Name = Annotated[str, AfterValidator(_relative)]


class _File(BaseModel):
    sha256: str
    bytes: int
    stage: str


class _Stage(BaseModel):
    inputs: dict[str, Any]
    files: list[_Name]


class _Document(BaseModel):
    """What a manifest must have to be read; there may be more."""

    files: dict[_Name, _File]
    stages: dict[str, _Stage]
    recipe: dict[str, Any] = {}


@dataclass
class Manifest:
    """What `manifest.json` says: every file with the stage that made it, every stage with its inputs."""

    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Returns the folder's manifest, an empty one where there is none.

        Raises ArtifactError when the file is not a manifest of this format, names files outside the folder, or was
        changed after it was written; those of before manifests had a digest are taken without.
        """
        path = folder / MANIFEST
        content = stored(folder)
        return cls() if content is None else cls.parse(content, path)

    @classmethod
    def parse(cls, content: bytes, path: Path) -> Manifest:
        """Returns what the bytes of a manifest say. path: where they were read, for messages. Raises as `read`."""
        try:
            value = json.loads(content.decode("utf-8"))
            if value["format"] != FORMAT:
                raise ArtifactError(f"{path} has format {value['format']!r}, this version reads {FORMAT}")
            if "digest" in value and not is_as_sealed(value):
                raise ArtifactError(f"{path} was changed after it was written: its digest is another")
            _Document.model_validate(value)
        except ValidationError as error:
            raise ArtifactError(f"{path} is not a manifest ({_first_fault(error)})") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{path} is not a manifest ({error})") from error
        return cls(files=value["files"], stages=value["stages"], recipe=value.get("recipe", {}))

    def to_json(self) -> str:
        document = {"format": FORMAT, "recipe": self.recipe, "stages": self.stages, "files": self.files}
        return json.dumps(sealed(document), indent=1)


def stored(folder: Path) -> bytes | None:
    """Returns the bytes of a folder's manifest, None where there is none. Raises ArtifactError if it cannot be read."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} is not a manifest ({error})") from error


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}"


def enclosing(folder: Path) -> Path | None:
    """Returns the artifact folder in which another folder lies, None where it lies in none."""
    for parent in Path(os.path.realpath(folder)).parents:
        with suppress(ArtifactError):  # a manifest.json of something else
            if Manifest.read(parent).stages:
                return parent
    return None


def require_own(folder: Path) -> None:
    """Raises ArtifactError for a folder inside another artifact folder: their files would be taken for each other's."""
    if (outer := enclosing(folder)) is not None:
        raise ArtifactError(f"{folder} lies inside the artifact folder {outer}; give that, or move it out.")

"""What the values of a segmentation mask mean: a class, or nothing that is judged, as the checkpoint's files say.

In memory a mask is of the smallest unsigned integers that hold all classes and one value more: the largest value of the
type has no class.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.checkpoint.reading import read_object
from pipeline.errors import InputError
from pipeline.tasks import _files, _image_processing, _images
from pipeline.tasks._labels import class_names

USUAL = 255  # transformers ignores it where config.json names no other, and always where labels are reduced
MOST = 2**16 - 1  # classes
INDEX = "semantic_loss_ignore_index"  # of config.json


def kind(classes: int) -> np.dtype[Any]:
    """Returns the type of masks and label maps of so many classes."""
    return np.dtype(np.uint8 if classes <= USUAL else np.uint16)


def nothing(mask: np.ndarray | np.dtype[Any]) -> int:
    """Returns the value of a mask's type that has no class."""
    return int(np.iinfo(mask if isinstance(mask, np.dtype) else mask.dtype).max)


@dataclass(frozen=True)
class Meaning:
    """What stored values mean to a checkpoint of so many classes.

    ignore: the label that is not judged. reduces: 0 in a mask is no class, and k is class k − 1 (ADE20K).
    """

    classes: int
    ignore: int = USUAL
    reduces: bool = False

    @classmethod
    def of(cls, folder: Path, config: dict[str, Any]) -> Meaning:
        """Returns what a checkpoint's config.json and image processor say of masks.

        Raises InputError for settings that are of no use, contradict each other or leave open what a value means.
        """
        found = cls(len(class_names(config)), _ignored(folder, config), _image_processing.read(folder).reduces_labels)
        if found.classes > MOST:
            raise InputError(f"the checkpoint has {found.classes} classes; at most {MOST} fit the 16 bits of a mask.")
        if found.reduces and found.classes >= USUAL:
            raise InputError(
                f"{folder / _image_processing.FILE} has do_reduce_labels, by which transformers ignores a stored "
                f"{USUAL}, and the checkpoint has {found.classes} classes, so that it would also be class {USUAL - 1}. "
                "Set do_reduce_labels to false, and give masks whose values are class indices."
            )
        if 0 <= found.ignore < found.classes:
            name = class_names(config)[found.ignore]
            _files.say_once(f"class {found.ignore} ({name}) is not judged: it is the checkpoint's {INDEX}.")
        return found

    def read(self, path: Path) -> np.ndarray:
        """Returns the classes of a mask file, uint8 or uint16 [H, W]. Raises InputError for values that are none."""
        stored = _images.read_mask(path).astype(np.int64)
        labels = stored - 1 if self.reduces else stored
        none = labels == self.ignore
        if self.reduces:
            none |= (stored == 0) | (stored == USUAL)
        if (outside := ~none & ((labels < 0) | (labels >= self.classes))).any():
            raise InputError(
                f"{_files.shown(path)} has labels {np.unique(stored[outside])[:5].tolist()} outside the "
                f"{self.classes} classes of the checkpoint ({self._range()})."
            )
        return np.where(none, nothing(kind(self.classes)), labels).astype(kind(self.classes))

    def _range(self) -> str:
        shift = int(self.reduces)
        ignored = f"{USUAL if self.reduces else self.ignore} is ignored"
        if self.ignore < 0 and not self.reduces:
            ignored = f"nothing is ignored, as {INDEX} is {self.ignore}"
        return f"{shift}–{self.classes - 1 + shift}; {ignored}"


def _ignored(folder: Path, config: dict[str, Any]) -> int:
    """Returns the label that the checkpoint ignores: config.json's, else its image processor's, else the usual one."""
    processor = read_object(folder / _image_processing.FILE)
    said = {
        f"{INDEX} of {folder / 'config.json'}": config.get(INDEX),
        f"ignore_index of {folder / _image_processing.FILE}": processor.get("ignore_index"),
    }
    known = {name: value for name, value in said.items() if value is not None}
    for name, value in known.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise InputError(f"{name} is {value!r}; expected a label, as {USUAL}.")
    if len(set(known.values())) > 1:
        both = " and ".join(f"{value} ({name})" for name, value in known.items())
        raise InputError(f"the checkpoint names two labels that are not judged, {both}; make them one.")
    return next(iter(known.values()), USUAL)

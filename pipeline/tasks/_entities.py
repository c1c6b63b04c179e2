"""Entity F1, as CoNLL-2003 scores it (Tjong Kim Sang and De Meulder 2003, cs/0306050): an entity is right where its
type, its first and its last word are. Labels that are no B-, I-, O tags make every word an entity of its own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

OUTSIDE = "O"
TAG = re.compile("[BIESLUMW]-.+")
# the tags of BILOU and BMEWO as those of IOBES, which seqeval reads
SAME = {"L": "E", "U": "S", "M": "I", "W": "S"}

Entity = tuple[str, int, int]  # type, first and last word


def types(class_names: Sequence[str]) -> list[str]:
    """Returns the types of entities that these labels can name, in order."""
    named = [name for name in class_names if name != OUTSIDE]
    return sorted({name[2:] for name in named} if _are_tags(class_names) else set(named))


def entities(labels: Sequence[str], class_names: Sequence[str]) -> list[Entity]:
    """Returns the entities of one text; labels: of its words."""
    if not _are_tags(class_names):
        return [(label, i, i) for i, label in enumerate(labels) if label != OUTSIDE]
    from seqeval.metrics.sequence_labeling import get_entities

    return [(str(kind), int(a), int(b)) for kind, a, b in get_entities([_plain(label) for label in labels])]


def counts(found: Sequence[Sequence[str]], expected: Sequence[Sequence[str]], class_names: Sequence[str]) -> np.ndarray:
    """Returns of every text and type the entities that are right, found and expected [N, T, 3]."""
    at = {kind: i for i, kind in enumerate(types(class_names))}
    result = np.zeros((len(expected), len(at), 3))
    for row, own, truth in zip(result, found, expected, strict=True):
        sets = set(entities(own, class_names)), set(entities(truth, class_names))
        for column, chosen in enumerate((sets[0] & sets[1], *sets)):
            for kind, number in Counter(kind for kind, _, _ in chosen).items():
                row[at[kind], column] = number
    return result


def _are_tags(class_names: Sequence[str]) -> bool:
    return all(name == OUTSIDE or TAG.fullmatch(name) for name in class_names)


def _plain(label: str) -> str:
    return label if label == OUTSIDE else SAME.get(label[0], label[0]) + label[1:]

"""What a backend quantizes unless told otherwise, by kind of operator."""

from __future__ import annotations

from dataclasses import dataclass

PRECISIONS = ("int8", "fp16", "fp32")  # of an engine, the least exact first

KINDS = (
    "linear", "conv", "pointwise", "depthwise", "embedding", "scores", "context", "local", "residual", "sum", "head",
)  # fmt: skip


@dataclass(frozen=True)
class Policy:
    """A default: the kinds of operator that are fast in int8 on a backend.

    "head" is the layer that makes the final scores: a small share of the time, and its error is the answer's.
    """

    kinds: frozenset[str]

"""The faults a user can meet, one class per kind; the exit code of `python -m pipeline` follows from the class.

    PipelineError                 (never raised itself)
    ├── BudgetMissed        1     accuracy or latency is outside the recipe's budgets or the stored baseline
    │   └── EngineRefused   1     the built engine does not compute what its QDQ graph says
    ├── InputError          2     a recipe, checkpoint, data set, pattern or option that cannot be used
    │   └── ArtifactError   2     a file in exports/ that is missing, altered or made by something else
    └── BackendUnavailable  3     the requested backend cannot run on this machine

A message says what is wrong, with which value, what was available, and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PipelineError(Exception):
    """A fault that a user can act on."""

    exit_code = 2


class BudgetMissed(PipelineError):
    """The engine works but misses a budget."""

    exit_code = 1


class EngineRefused(BudgetMissed):
    """The runtime built an engine that is not the graph it was given; it is never kept."""


class InputError(PipelineError):
    """Something that the user gave cannot be used."""


class ArtifactError(InputError):
    """A file in the artifact folder is missing, altered or made by something else."""


class BackendUnavailable(PipelineError):
    """A backend cannot run here."""

    exit_code = 3


def near_names(name: str, available: Iterable[str]) -> str:
    """Returns ' Did you mean …? Available: ….' for an unknown `name`."""
    names = sorted(set(available))
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    shown = ", ".join(names[:20]) + (f", … ({len(names)} in all)" if len(names) > 20 else "")
    return f"{hint} Available: {shown or 'none'}."


def in_short(error: Exception) -> str:
    """Returns one line of what another library's exception says: the key that is missing, never the bytes of a file."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return str(text).splitlines()[0][:200].rstrip(".")

"""The backends that work on this machine."""

from __future__ import annotations

from pipeline import backends

USABLE = [name for name in backends.names() if backends.get(name).unavailable_reason() is None]

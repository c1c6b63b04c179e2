"""A Hugging Face SegFormer or BERT checkpoint goes in, a verified int8 engine comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.recipe import Recipe
    from pipeline.stages.build import build
    from pipeline.stages.engine_api import load_engine

__all__ = ["Recipe", "build", "load_engine"]
__version__ = "0.1.0"

_HOME = {"Recipe": "pipeline.recipe", "build": "pipeline.stages.build", "load_engine": "pipeline.stages.engine_api"}


def __getattr__(name: str) -> Any:
    # importing the package stays light: pydantic, numpy and the runtimes come with the first use
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")

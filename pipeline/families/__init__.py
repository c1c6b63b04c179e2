"""Model families: one file each, found by its name.

A family knows its architectures, its inputs, where quantizers go and which exact float rewrites it has:

    TASKS          {architecture: task}          MODEL_TYPE     the checkpoint's config "model_type"
    INPUTS         (name, …)                     OUTPUTS        {task: (name, …)}
    HEADS          operators that make the final scores (name patterns)
    COPIED         the checkpoint's preprocessing files that travel with the engine
    SETTINGS       the family's own recipe defaults, {'dotted.name': value}
    CONFIG         the settings of config.json it relies on: a subclass of `_config.Settings`
    WEIGHTS        {prefix of a weight's name: (architecture, …)}, for a config.json that names none
    def check(config, recipe)                    raises InputError for shapes the family cannot take
    def load(folder, architecture, config, outputs)  -> the float model (torch, eval mode), which gives these outputs
    def rewrites()                               -> {name: function(model) -> model}
    def insert_quantizers(model)                 -> the model with every candidate quantizer
    def dynamic_axes(inputs)                     -> {input: {axis: dimension name}}, of example inputs
    def input_limits(config, recipe)             -> {input: engine_inputs.Limits}, what an engine may be fed

These are the names of the protocol `Family`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from pipeline.errors import InputError, near_names

if TYPE_CHECKING:
    from torch import nn

    from pipeline.families._config import Settings
    from pipeline.families._engine_inputs import Limits
    from pipeline.recipe import Recipe


class Family(Protocol):
    """The names that a module of this package has."""

    MODEL_TYPE: str
    SETTINGS: dict[str, Any]

    @property
    def TASKS(self) -> Mapping[str, str]: ...
    @property
    def INPUTS(self) -> tuple[str, ...]: ...
    @property
    def OUTPUTS(self) -> Mapping[str, tuple[str, ...]]: ...
    @property
    def HEADS(self) -> tuple[str, ...]: ...
    @property
    def COPIED(self) -> tuple[str, ...]: ...
    @property
    def CONFIG(self) -> type[Settings]: ...
    @property
    def WEIGHTS(self) -> Mapping[str, tuple[str, ...]]: ...
    def check(self, config: dict[str, Any], recipe: Recipe) -> None: ...
    def load(self, folder: Path, architecture: str, config: dict[str, Any], outputs: tuple[str, ...]) -> nn.Module: ...
    def rewrites(self) -> dict[str, Callable[[nn.Module], nn.Module]]: ...
    def insert_quantizers(self, model: nn.Module) -> nn.Module: ...
    def dynamic_axes(self, inputs: Mapping[str, Any]) -> dict[str, dict[int, str]]: ...
    def input_limits(self, config: dict[str, Any], recipe: Recipe) -> dict[str, Limits]: ...


def names() -> list[str]:
    """Returns the name of every family."""
    return sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name[0] != "_")


def get(name: str) -> Family:
    """Returns the module of a family. Raises InputError with near names for an unknown one."""
    if name not in names():
        raise InputError(f"unknown model {name!r}.{near_names(name, names())}")
    return cast(Family, importlib.import_module(f"pipeline.families.{name}"))

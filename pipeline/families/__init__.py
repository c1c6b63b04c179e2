"""Model families: one file each, found by its name.

A family knows its architectures, its inputs, where quantizers go and which exact float rewrites it has:

    TASKS          {architecture: task}          MODEL_TYPE     the checkpoint's config "model_type"
    INPUTS         (name, …)                     OUTPUTS        {task: (name, …)}
    HEADS          operators that make the final scores (name patterns)
    COPIED         the checkpoint's preprocessing files that travel with the engine
    SETTINGS       the family's own recipe defaults, {'dotted.name': value}
    CONFIG         what it relies on of config.json: a class of `_config.Settings`
    WEIGHTS        {how a weight's name begins: (architecture, …)}, for a config.json that names none
    def check(config, recipe)                    raises InputError for shapes the family cannot take
    def load(folder, architecture, config)       -> the float model (torch, eval mode)
    def rewrites()                               -> {name: function(model) -> model}
    def insert_quantizers(model)                 -> the model with every candidate quantizer
    def dynamic_axes(inputs)                     -> {input: {axis: dimension name}}
    def input_limits(config, recipe)             -> {input: engine_inputs.Limits}, what an engine may be fed
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from pipeline.errors import InputError, near_names


def names() -> list[str]:
    """Returns every family."""
    return sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name[0] != "_")


def get(name: str) -> ModuleType:
    """Returns the module of a family. Raises InputError with the near names for an unknown one."""
    if name not in names():
        raise InputError(f"unknown model {name!r}.{near_names(name, names())}")
    return importlib.import_module(f"pipeline.families.{name}")

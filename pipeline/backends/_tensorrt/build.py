"""ONNX bytes become a plan through the part of TensorRT's API that 8.6, 10 and 11 share."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.backends._tensorrt import cache as timing
from pipeline.backends._tensorrt.api import collector, listed, module, new_builder, take_faults, version_numbers
from pipeline.backends._tensorrt.shapes import DYNAMIC, Profile, profiles
from pipeline.errors import EngineRefused, InputError, near_names

if TYPE_CHECKING:
    from pipeline.recipe import Shapes

log = logging.getLogger(__name__)

TACTIC_SOURCES = "TENSORRT_TACTIC_SOURCES"  # for machines without cuBLAS or cuDNN: the names to keep, with commas
FLAGS: Mapping[str, tuple[str, ...]] = {"int8": ("INT8", "FP16"), "fp16": ("FP16",), "fp32": ()}


@dataclass(frozen=True)
class Settings:
    """How a plan is built.

    target: "8.6" (types by builder flags) or "10" (strongly typed: the types are the graph's). precision: "int8",
    "fp16" or "fp32". workspace_mib: the most scratch memory of a kernel. optimization_level: 0 to 5.
    """

    target: str
    precision: str
    shapes: Shapes
    workspace_mib: int
    optimization_level: int
    cache: timing.Key

    @property
    def strongly_typed(self) -> bool:
        return self.target != "8.6"


def build_plan(graph: bytes, name: str, settings: Settings) -> tuple[bytes, list[Profile]]:
    """Returns a plan and its optimization profiles. `name` is how errors call the graph.

    Raises EngineRefused with everything that TensorRT said where it builds none, InputError for settings that this
    TensorRT does not have.
    """
    trt = module()
    take_faults(trt)  # of earlier work
    builder = new_builder(trt)
    network = builder.create_network(_creation_flags(trt, settings))
    parser = trt.OnnxParser(network, collector(trt))  # the network reads its memory until the plan is built
    if not parser.parse(graph):
        raise EngineRefused(_refusal(trt, parser, graph, name))
    found = _fix_shapes(network, settings.shapes)
    config = _config(trt, builder, settings)
    _add_profiles(builder, network, config, found)
    path = timing.path_for(settings.cache)
    _use_cache(config, timing.read(path, settings.cache), path)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineRefused(
            f"TensorRT {trt.__version__} builds no {settings.precision} plan from {name}; it said:\n"
            f"{listed(take_faults(trt))}"
        )
    cache = config.get_timing_cache()
    if cache is not None:
        timing.write(path, settings.cache, bytes(cache.serialize()))
    return bytes(plan), found


def _creation_flags(trt: Any, settings: Settings) -> int:
    """Returns the network's creation flags. Raises InputError for a target that this TensorRT is not."""
    flags, bits = trt.NetworkDefinitionCreationFlag, 0
    if hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH"):  # must be given to 8.6, is gone from 11
        bits |= 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    if settings.strongly_typed:
        typed = getattr(flags, "STRONGLY_TYPED", None)
        if typed is None:
            raise InputError(
                f"tensorrt.target = {settings.target!r} needs strongly typed networks, which TensorRT "
                f'{trt.__version__} does not have: use --set tensorrt.target="8.6", or TensorRT 10 or later.'
            )
        bits |= 1 << int(typed)
    elif version_numbers(trt.__version__)[0] >= 11:
        raise InputError(
            f'tensorrt.target = "8.6" needs networks typed by builder flags, which TensorRT {trt.__version__} does not '
            'have: use --set tensorrt.target="10", or TensorRT 8.6 to 10.'
        )
    return bits


def _refusal(trt: Any, parser: Any, graph: bytes, name: str) -> str:
    """Returns the message of a graph that the parser does not take: every fault with its node."""
    faults = [_fault(parser.get_error(index), graph) for index in range(parser.num_errors)]
    count = f"{len(faults)} node{'s' if len(faults) != 1 else ''} of " if faults else ""
    return (
        f"TensorRT {trt.__version__} cannot import {count}{name}:\n{listed(faults or take_faults(trt))}\n"
        "The verb `lint` on the QDQ graph names what the version does not take, and the fix."
    )


def _fault(parser_error: Any, graph: bytes) -> str:
    """Returns "name (operator): message"; 8.6 tells of the node only its place in the graph."""
    said = str(parser_error.desc()).strip()
    name, operator = getattr(parser_error, "node_name", None), getattr(parser_error, "node_operator", None)
    if name is not None and operator is not None and name():
        return f"{name()} ({operator()}): {said}"
    place = parser_error.node()
    if place < 0:
        return f"the graph: {said}"
    try:
        import onnx
    except ImportError:
        return f"node {place}: {said}"
    node = onnx.load_from_string(graph).graph.node[place]
    return f"{node.name or f'node {place}'} ({node.op_type}): {said}"


def _fix_shapes(network: Any, shapes: Shapes) -> list[Profile]:
    """Returns the profiles; axes that are the same in all of them become the network's own, and so fixed."""
    open_shapes = dict(_inputs(network))
    found = profiles(open_shapes, shapes)
    for index in range(network.num_inputs):
        network_input = network.get_input(index)
        limits = [limit for ranges in found for limit in ranges[network_input.name]]
        shape = tuple(axis[0] if len(set(axis)) == 1 else DYNAMIC for axis in zip(*limits, strict=True))
        if shape != open_shapes[network_input.name]:
            network_input.shape = shape
    return found


def _inputs(network: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yields name and shape of every input of a network."""
    for index in range(network.num_inputs):
        network_input = network.get_input(index)
        yield network_input.name, tuple(network_input.shape)


def _add_profiles(builder: Any, network: Any, config: Any, found: list[Profile]) -> None:
    """Adds the profiles of the inputs that are still open; a network without any needs none."""
    names = [name for name, shape in _inputs(network) if DYNAMIC in shape]
    for limits in found if names else []:
        profile = builder.create_optimization_profile()
        for name in names:
            profile.set_shape(name, *limits[name])
        if config.add_optimization_profile(profile) < 0:
            raise EngineRefused(f"TensorRT takes no optimization profile of {limits}.")


def _config(trt: Any, builder: Any, settings: Settings) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib << 20)
    config.builder_optimization_level = settings.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # without it the inspector gives names alone
    for flag in () if settings.strongly_typed else FLAGS[settings.precision]:
        config.set_flag(_named(trt, trt.BuilderFlag, flag, "builder flag"))
    if settings.precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default: 10 bits of mantissa are no fp32
    sources = tactic_sources()
    if sources:
        bits = [1 << int(_named(trt, trt.TacticSource, source, TACTIC_SOURCES)) for source in sources]
        config.set_tactic_sources(sum(set(bits)))
    return config


def tactic_sources() -> list[str]:
    """Returns the tactic sources that the environment limits builds to, none for TensorRT's own choice."""
    return [name.strip() for name in os.environ.get(TACTIC_SOURCES, "").split(",") if name.strip()]


def _named(trt: Any, enumeration: Any, name: str, what: str) -> Any:
    """Returns an enumeration's member. Raises InputError with those that this version has."""
    if not hasattr(enumeration, name):
        raise InputError(f"TensorRT {trt.__version__} has no {what} {name!r}.{near_names(name, members(enumeration))}")
    return getattr(enumeration, name)


def members(enumeration: Any) -> list[str]:
    """Returns the names of an enumeration of TensorRT's bindings."""
    return list(enumeration.__members__)


def _use_cache(config: Any, content: bytes, path: Path) -> None:
    """Gives the builder the timings on disk; what TensorRT itself does not take is left out and said so."""
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, False):
        if content:
            log.warning("TensorRT does not take the timing cache %s: every kernel is timed again", path)
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)

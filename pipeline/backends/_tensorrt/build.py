"""ONNX bytes become a plan: Polygraphy builds it; errors by node, fixed shapes and profiles are ours."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.backends._tensorrt import cache as timing
from pipeline.backends._tensorrt.api import (
    collector,
    listed,
    loaders,
    module,
    new_network,
    take_faults,
    version_numbers,
)
from pipeline.backends._tensorrt.shapes import DYNAMIC, Profile, profiles
from pipeline.errors import EngineRefused, InputError, near_names

if TYPE_CHECKING:
    from pipeline.recipe import Shapes

log = logging.getLogger(__name__)

TACTIC_SOURCES = "TENSORRT_TACTIC_SOURCES"  # for machines without cuBLAS or cuDNN: the names to keep, with commas
FLAGS: Mapping[str, Mapping[str, bool]] = {
    "int8": {"int8": True, "fp16": True},
    "fp16": {"fp16": True},
    "fp32": {},
}  # of a network without types of its own


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
    from polygraphy.exception import PolygraphyException

    trt = module()
    take_faults(trt)  # of earlier work
    _require_target(trt, settings)
    builder, network = new_network(trt, strongly_typed=settings.strongly_typed)
    parser = trt.OnnxParser(network, collector(trt))  # the network reads its memory until the plan is built
    if not parser.parse(graph):
        raise EngineRefused(_refusal(trt, parser, graph, name))
    found = _fix_shapes(network, settings.shapes)
    timings = timing.path_for(settings.cache)
    path = None if timings is None else str(timings)
    config = _config(trt, settings, _polygraphy_profiles(network, found), path)
    try:
        plan = loaders(trt).engine_bytes_from_network((builder, network, parser), config, save_timing_cache=path)
    except PolygraphyException as error:
        raise EngineRefused(
            f"TensorRT {trt.__version__} builds no {settings.precision} plan from {name}; it said:\n"
            f"{listed(take_faults(trt) or [str(error)])}"
        ) from error
    return bytes(plan), found


def _require_target(trt: Any, settings: Settings) -> None:
    """Raises InputError for a target that this TensorRT is not."""
    if settings.strongly_typed and not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        raise InputError(
            f"tensorrt.target = {settings.target!r} needs strongly typed networks, which TensorRT {trt.__version__} "
            'does not have: use --set tensorrt.target="8.6", or TensorRT 10 or later.'
        )
    if not settings.strongly_typed and version_numbers(trt.__version__)[0] >= 11:
        raise InputError(
            f'tensorrt.target = "8.6" needs networks typed by builder flags, which TensorRT {trt.__version__} does not '
            'have: use --set tensorrt.target="10", or TensorRT 8.6 to 10.'
        )


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


def _polygraphy_profiles(network: Any, found: list[Profile]) -> list[Any]:
    """Returns the profiles as Polygraphy takes them; a network whose inputs are all fixed needs none."""
    from polygraphy.backend.trt import Profile as Limits

    if all(DYNAMIC not in shape for _, shape in _inputs(network)):
        return []
    made = [Limits() for _ in found]
    for limits, ranges in zip(made, found, strict=True):
        for name, (low, best, high) in ranges.items():
            limits.add(name, low, best, high)
    return made


def _config(trt: Any, settings: Settings, profiles: list[Any], timings: str | None) -> Any:
    """Returns what makes the builder's configuration; its verbosity lets the inspector tell more than names."""
    sources = [_named(trt, trt.TacticSource, source, TACTIC_SOURCES) for source in tactic_sources()]
    return loaders(trt).CreateConfig(
        profiles=profiles,
        tf32=settings.precision != "fp32",  # 10 bits of mantissa are no fp32
        memory_pool_limits={trt.MemoryPoolType.WORKSPACE: settings.workspace_mib << 20},
        builder_optimization_level=settings.optimization_level,
        tactic_sources=sources or None,
        load_timing_cache=timings,
        **({} if settings.strongly_typed else FLAGS[settings.precision]),
    )


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

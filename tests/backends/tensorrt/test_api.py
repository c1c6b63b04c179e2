"""Every name of TensorRT's API that the backend uses exists in 8.6, 10 and 11, or stands behind hasattr or getattr.

The names are those of the real bindings (tests/helpers/tensorrt_names.py imports them); the uses are read off the
sources, by the names of the variables that hold TensorRT's objects.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from helpers import DATA, fake_tensorrt
from pipeline import backends

MODULE = "tensorrt"
OBJECTS = {
    "trt": MODULE,
    "builder": "Builder",
    "network": "INetworkDefinition",
    "network_input": "ITensor",
    "parser": "OnnxParser",
    "parser_error": "ParserError",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "cache": "ITimingCache",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "inspector": "EngineInspector",
}
RETURNS = {  # what a call gives must be called so
    "Builder": "builder",
    "OnnxParser": "parser",
    "Runtime": "runtime",
    "create_network": "network",
    "create_builder_config": "config",
    "create_optimization_profile": "profile",
    "create_timing_cache": "cache",
    "get_timing_cache": "cache",
    "get_input": "network_input",
    "get_error": "parser_error",
    "deserialize_cuda_engine": "engine",
    "create_execution_context": "context",
    "create_engine_inspector": "inspector",
}
UNREAD = {"DeviceType", "ILayer", "LayerType"}  # Polygraphy's needs alone: of these only the class was looked up
IN_PACKAGE = {"__version__"}  # set by the package around the extension module
FOLDER = Path(backends.__file__).parent
SOURCES = [FOLDER / "tensorrt.py", *sorted((FOLDER / "_tensorrt").glob("*.py"))]
BINDINGS = {
    found["version"]: found["names"]
    for path in DATA.glob("tensorrt-names-*.json")
    for found in [json.loads(path.read_text())]
}


@dataclass(frozen=True)
class Use:
    """An attribute of an object of TensorRT's."""

    owner: str
    name: str
    guarded: bool
    line: int


def uses(source: str) -> Iterator[Use]:
    """Yields every use in a source, and fails on a result of TensorRT's that is kept under an unknown name."""
    yield from _walk(ast.parse(source), frozenset())


def _walk(node: ast.AST, guards: frozenset[tuple[str, str]]) -> Iterator[Use]:
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        name = RETURNS.get(node.value.func.attr)
        if name is not None and owner(node.value.func.value) is not None:
            assert name in {_last(target) for target in node.targets}, f"line {node.lineno}: call it {name!r}"
    if isinstance(node, ast.Attribute):
        of = owner(node.value)
        if of is not None and (not node.attr.startswith("__") or node.attr in IN_PACKAGE):
            yield Use(of, node.attr, (ast.dump(node.value), node.attr) in guards, node.lineno)
    if isinstance(node, ast.Call) and _last(node.func) == "getattr" and len(node.args) == 2:
        of, name_node = owner(node.args[0]), node.args[1]
        if of is not None and isinstance(name_node, ast.Constant):
            yield Use(of, str(name_node.value), False, node.lineno)
    if isinstance(node, (ast.If, ast.IfExp)):
        yield from _walk(node.test, guards)
        inside = guards | set(_asked(node.test))
        for part in node.body if isinstance(node.body, list) else [node.body]:
            yield from _walk(part, inside)
        for part in node.orelse if isinstance(node.orelse, list) else [node.orelse]:
            yield from _walk(part, guards)
        return
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, guards)


def _asked(test: ast.expr) -> Iterator[tuple[str, str]]:
    """Yields (object, name) of a condition that is hasattr(object, "name")."""
    if isinstance(test, ast.Call) and _last(test.func) == "hasattr" and isinstance(test.args[1], ast.Constant):
        yield ast.dump(test.args[0]), str(test.args[1].value)


def _last(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr.lstrip("_")
    return node.id.lstrip("_") if isinstance(node, ast.Name) else ""


def owner(node: ast.AST) -> str | None:
    """Returns the class whose attribute is taken: by the variable's name, a call's, or an enumeration of the module."""
    if isinstance(node, ast.Call):
        return OBJECTS[RETURNS[_last(node.func)]] if _last(node.func) in RETURNS else None
    if isinstance(node, ast.Attribute) and owner(node.value) == MODULE:
        return node.attr
    return OBJECTS.get(_last(node))


def missing(use: Use) -> list[str]:
    """Returns the versions whose bindings lack a name."""
    if use.name in IN_PACKAGE and use.owner == MODULE:
        return []
    return [v for v, names in BINDINGS.items() if use.name not in names.get(use.owner, [])]


def faults(source: str) -> list[str]:
    return [
        f"line {use.line}: {use.owner}.{use.name} is not in {', '.join(missing(use))}"
        for use in uses(source)
        if not use.guarded and missing(use)
    ]


def test_the_bindings_of_three_lines_were_read() -> None:
    assert {version.split(".")[0] for version in BINDINGS} == {"8", "10", "11"}
    assert "8.6.0" in BINDINGS


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_every_name_exists_everywhere(path: Path) -> None:
    assert not faults(path.read_text(encoding="utf-8"))


def test_the_names_are_found() -> None:
    """Otherwise nothing would be checked."""
    found = {(use.owner, use.name) for path in SOURCES for use in uses(path.read_text(encoding="utf-8"))}
    assert {
        ("ITensor", "shape"),
        ("ICudaEngine", "get_tensor_profile_shape"), ("IExecutionContext", "execute_async_v3"), (MODULE, "Runtime"),
        ("EngineInspector", "get_engine_information"), ("OnnxParser", "get_error"), ("ParserError", "desc"),
        ("TensorIOMode", "INPUT"), ("MemoryPoolType", "WORKSPACE"), ("INetworkDefinition", "get_input"),
    } <= found  # fmt: skip


@pytest.mark.parametrize(
    ("line", "gone_from"),
    [
        ("config.set_flag(trt.BuilderFlag.FP16)", "11."),
        ("bits = 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)", "11."),
        ("bits = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)", "8.6.0"),
        ("for i in range(engine.num_bindings): pass", "10."),
        ("config.max_workspace_size = 1", "10."),
        ("name = parser_error.node_name()", "8.6.0"),
        ("self._context.execute_async_v2([], 0)", "10."),
        ("calibrator = trt.IInt8EntropyCalibrator2", "11."),
        ("x = getattr(trt.BuilderFlag, 'INT8')", "11."),
        ("x = parser.get_error(0).node_operator()", "8.6.0"),
        ("engine.no_such_name", "8.6.0"),
        ("if hasattr(trt.BuilderFlag, 'INT8'): config.set_flag(trt.BuilderFlag.FP16)", "11."),
        ("if hasattr(trt.BuilderFlag, 'FP16'): pass\nelse: config.set_flag(trt.BuilderFlag.FP16)", "11."),
    ],
)
def test_a_name_that_a_version_lacks_is_caught(line: str, gone_from: str) -> None:
    (fault,) = faults(line)
    assert f" {gone_from}" in fault


@pytest.mark.parametrize(
    "line",
    [
        "if hasattr(trt.BuilderFlag, 'FP16'): config.set_flag(trt.BuilderFlag.FP16)",
        "x = trt.BuilderFlag.FP16 if hasattr(trt.BuilderFlag, 'FP16') else None",
        "x = getattr(parser_error, 'node_name', None)",
        "x = trt.BuilderFlag.TF32",
    ],
)
def test_a_guarded_name_is_not(line: str) -> None:
    assert not faults(line)


def test_a_result_under_another_name_is_caught() -> None:
    with pytest.raises(AssertionError, match="call it 'config'"):
        faults("settings = builder.create_builder_config()")


@pytest.mark.parametrize("version", fake_tensorrt.VERSIONS)
def test_the_fake_has_no_name_that_the_real_one_lacks(version: str) -> None:
    line = version.split(".")[0]
    names = [found for real, found in BINDINGS.items() if real.split(".")[0] == line]
    trt = fake_tensorrt.make(version)
    for class_name in [n for n in vars(trt) if not n.startswith("_") and n != "state"]:
        assert all(class_name in found[MODULE] for found in names), class_name
        for name in _public(getattr(trt, class_name)) if class_name not in UNREAD else ():
            assert all(name in found[class_name] for found in names), f"{class_name}.{name}"


def _public(thing: Any) -> set[str]:
    """Returns what code can use of a class or an enumeration of the fake."""
    if hasattr(thing, "__members__"):
        return set(thing.__members__)
    if not isinstance(thing, type):
        return set()  # a function
    inherited = [vars(base) for base in thing.__mro__[:-1]]
    names = {n for of in (*inherited, getattr(thing, "SETTABLE", ())) for n in of if not n.startswith("_")}
    return names - {"SETTABLE"}

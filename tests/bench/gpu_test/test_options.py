"""The options of gpu-test: which there are, what each changes in the graph, and that it is judged against its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from helpers import fake_tensorrt, gpu_folders
from pipeline import backends
from pipeline.artifacts import Workspace
from pipeline.bench.gpu_test import options
from pipeline.bench.gpu_test.options import OPTIONS, Option
from pipeline.graph import BY_NAME
from pipeline.judge.evaluation import PROBES, Reference, first
from pipeline.judge.soundness import check, faults
from pipeline.recipe import Recipe


def test_every_option_has_its_passes_and_what_it_is_compared_with() -> None:
    for target in ("8.6", "10"):
        for family in ("bert", "segformer"):
            found = options.of(family, target)
            assert [options.BASE in found, options.DEFAULT in found] == [True, True]
            for method in found.values():
                if isinstance(method, Option):
                    assert method.against in found and set(method.passes(target)) <= set(BY_NAME)
    plain = {(o.residual, o.attention) for o in OPTIONS.values() if not o.question}
    assert plain == {(r, a) for r in ("none", "residual", "both") for a in (True, False)} - {("none", True)}


def test_the_questions_differ_from_int8_in_their_passes_or_kinds() -> None:
    standard = {target: option_of("residual").passes(target) for target in ("8.6", "10")}
    assert "store_int8_weights" in option_of("initializers").passes("8.6")
    assert "store_int8_weights" not in standard["8.6"]
    assert option_of("fp16_scales").passes("8.6") == standard["10"]
    halves = [p for p in standard["10"] if p not in option_of("fp32_scales").passes("10")]
    assert halves == ["half_scales", "half_precision"]
    assert option_of("depthwise").more == {"depthwise"} and option_of("depthwise").families == ("segformer",)


def option_of(name: str) -> Option:
    return OPTIONS[f"{options.DEFAULT}_{name}"]


@pytest.fixture(scope="module")
def graphs(exported: Callable[[str], Recipe], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Returns {dialect: {option: the graph that its engine is built from}} of a tiny BERT; every engine is sound."""
    found: dict[str, dict[str, Any]] = {}
    build = backends.build
    for target, version in (("8.6", "8.6.0"), ("10", "10.13.3")):
        area = tmp_path_factory.mktemp("options")
        workspace = Workspace(gpu_folders.lowered(tmp_path_factory, exported, area / "bert", target))
        reference = Reference.read(workspace)
        with pytest.MonkeyPatch.context() as patch:
            fake_tensorrt.install(patch, area, version)
            own = found.setdefault(target, {})

            def noted(backend: Any, graph: Path, *rest: Any, own: Any = own) -> None:
                own["last"] = onnx.load(graph)
                build(backend, graph, *rest)

            patch.setattr(backends, "build", noted)
            for name, method in options.of("bert", target).items():
                engine = method.make(workspace, area / name, 1)
                expected = method.expected(workspace, area / name, reference)
                assert faults(check(engine, expected, reference, 8)) == [], name  # type: ignore[arg-type]
                assert first(expected.outputs, PROBES).keys() == reference.outputs.keys()
                own[name.removeprefix("tensorrt_")] = own.pop("last")
                assert not list((area / name).glob("*.onnx")), "the graph is not kept"
    return found


def test_options_change_the_graph(graphs: dict[str, dict[str, Any]]) -> None:
    old, new = graphs["8.6"], graphs["10"]
    quantizers = {
        name: sum(node.op_type == "QuantizeLinear" for node in model.graph.node) for name, model in old.items()
    }
    assert quantizers["int8_attention_float"] < quantizers["int8"] < quantizers["int8_both"]
    assert quantizers["int8_initializers"] < quantizers["int8"], "a weight stored as int8 needs no Q"
    assert quantizers["int8_both_attention_float"] < quantizers["int8_both"]
    assert old["int8"] != old["int8_residual"], "the skip branch's pair serves the next linear too"
    kinds = {
        name: {x.data_type for x in model.graph.initializer} for name, model in {**new, "old": old["int8"]}.items()
    }
    half = onnx.TensorProto.FLOAT16
    assert half in kinds["int8"] and half not in kinds["int8_fp32_scales"] and half not in kinds["old"]
    assert half in {x.data_type for x in old["int8_fp16_scales"].graph.initializer}


def test_an_option_needs_what_lowers_and_computes_graphs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, "8.6.0")
    assert option_of("both").unavailable_reason() is None and not option_of("both").usual()
    for package in ("onnx_ir", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            assert f"the package {package!r} is not installed" in str(option_of("both").unavailable_reason())
            assert options.METHODS[options.DEFAULT].unavailable_reason() is None

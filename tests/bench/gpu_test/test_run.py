"""gpu-test on a stand-in for TensorRT and the GPU: rows, faults, going on, crashes, the command line, what it needs.

Timings here are those of ONNX Runtime on a CPU and say nothing; no test depends on them. But for the tests of crashes,
every step is called in this process, where the stand-in is.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import ROOT, fake_tensorrt, gpu_folders
from helpers.command_line import Cli, python
from pipeline.backends._tensorrt import build as building
from pipeline.backends._tensorrt import cuda
from pipeline.backends._tensorrt.engine import TensorRtEngine
from pipeline.bench.gpu_test import EXTRA, options, run, steps, targets
from pipeline.bench.gpu_test.run import Options
from pipeline.bench.methods.tensorrt import METHODS
from pipeline.bench.tables import gpu as table
from pipeline.errors import InputError
from pipeline.measure import process
from pipeline.recipe import Recipe

Exported = Callable[[str], Recipe]
Document = dict[str, Any]
QUICK = Options(rounds=6)
INITIALIZERS = "tensorrt_int8_initializers"
SHORT = [*METHODS, INITIALIZERS]  # enough where options are no matter


@pytest.fixture
def folder(exported: Exported, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a copy of a tiny BERT's folder with graphs for TensorRT 8.6."""
    return gpu_folders.lowered(tmp_path_factory, exported, tmp_path / "tiny")


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Returns the stand-in for TensorRT 8.6, in place, with few options."""
    monkeypatch.setattr(options, "OPTIONS", {INITIALIZERS: options.OPTIONS[INITIALIZERS]})
    monkeypatch.setattr(run, "call", gpu_folders.in_this_process)
    return fake_tensorrt.install(monkeypatch, tmp_path, "8.6.0")


def measured(folder: Path, options: Options = QUICK, said: list[str] | None = None) -> Document:
    """Returns the document of one run, as it is in the file beside the folder."""
    record = folder.parent / "gpu.json"
    heard: list[str] = [] if said is None else said
    document = run.run([folder], record, options, command="make gpu-test", announce=heard.append)
    assert json.loads(record.read_text()) == document
    return document


def rows_of(document: Document) -> dict[str, Document]:
    return {row["method"]: row for row in document["rows"]}


def target_of(document: Document, what: str) -> Document:
    return next(target for target in document["targets"] if target["what"].startswith(what))


def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns a list that names the precision of every plan that is built from now on."""
    found: list[str] = []
    original = building.build_plan

    def counted(graph: bytes, name: str, settings: Any) -> Any:
        found.append(settings.precision)
        return original(graph, name, settings)

    monkeypatch.setattr(building, "build_plan", counted)
    return found


# --- rows ---


@pytest.mark.parametrize("version", fake_tensorrt.VERSIONS)
def test_every_engine_has_a_whole_row(
    version: str, exported: Exported, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    fake_tensorrt.install(monkeypatch, tmp_path, version)
    monkeypatch.setattr(run, "call", gpu_folders.in_this_process)
    target = "8.6" if version == "8.6.0" else "10"
    document = measured(gpu_folders.lowered(tmp_path_factory, exported, tmp_path / "tiny", target))
    expected, rows = list(options.of("bert", target)), rows_of(document)
    assert document["finished"] and document["attempts"] == {} and document["target"] == target
    assert sorted(rows) == sorted(expected) and document["subjects"][0]["methods"] == expected
    assert (document["tensorrt"], document["gpu"], document["compute_capability"]) == (version, "NVIDIA Fake", "8.6")
    for name, row in rows.items():
        assert targets.faults(row) == [], name
        assert [b["batch"] for b in row["batches"]] == list(gpu_folders.BATCHES)
        assert {(p["way"], p["output"]) for p in row["parity"]} == {
            (way, f"{end}_logits") for way in ("one by one", "as one batch") for end in ("start", "end")
        }
        assert row["accuracy"]["samples"] > 0 and row["accuracy"]["sqnr_db"] > 15
        assert [found["batch"] for found in row["inspector"]] == [1, 8]
        assert (row["inspector"][0]["int8_ops"] > 0) == (row["precision"] == "int8")
        assert row["build"]["plan_bytes"] > 1000 and row["build"]["seconds"] >= 0
    graphs = {row["build"]["graph_sha256"] for row in rows.values()}
    assert len(graphs) == len(rows) - (target == "8.6"), "fp16 and fp32 have one graph there"
    for batch in gpu_folders.BATCHES:
        (timing,) = [t for t in document["timings"] if t["batch"] == batch]
        assert sorted(timing["ms"]) == sorted(expected) and {len(x) for x in timing["ms"].values()} == {6}
        assert timing["calls"] >= 1 and timing["faults"] == {} and set(timing["clocks"]) == {"before", "after"}
    shown = table.section(document).markdown()
    assert all(row["label"] in shown for row in rows.values()) and "Not finished" not in shown


def test_a_wrong_engine_is_a_failed_row_is_not_timed_and_not_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, trt: Any
) -> None:
    """One engine gives other outputs than its graph: a graph with other weights, as a fault of TensorRT would."""
    original = building.build_plan

    def other(graph: bytes, name: str, settings: Any) -> Any:
        return original(damaged(graph) if settings.precision == "fp32" else graph, name, settings)

    monkeypatch.setattr(building, "build_plan", other)
    document = measured(folder)
    row = rows_of(document)["tensorrt_fp32"]
    assert row["fault"] is None and any("one by one: the difference has" in fault for fault in row["faults"])
    assert all("tensorrt_fp32" not in t["ms"] and "tensorrt_fp16" in t["ms"] for t in document["timings"])
    assert not target_of(document, "every engine computes its graph")["met"]
    shown = table.section(document).markdown()
    assert re.search(r"TensorRT fp32 \| failed: \w+_logits, one by one: the difference has", shown)
    kept = sorted(path.name for path in (folder / steps.PLANS).iterdir())
    assert kept == sorted(set(SHORT) - {"tensorrt_fp32"})


def damaged(content: bytes) -> bytes:
    """Returns a graph whose outputs have another sign."""
    import onnx

    model = onnx.load_from_string(content)
    for output in model.graph.output:
        node = next(n for n in model.graph.node if output.name in n.output)
        index = list(node.output).index(output.name)
        node.output[index] = f"{output.name}/right"
        model.graph.node.append(
            onnx.helper.make_node("Neg", [f"{output.name}/right"], [output.name], name=f"{output.name}/Neg")
        )
    return bytes(model.SerializeToString())


def test_engines_that_are_wrong_in_a_batch_are_not_timed(folder: Path, trt: Any) -> None:
    """NVIDIA/TensorRT#4853: silently wrong from the second sample of a batch on."""
    trt.state.wrong_at_batch = True
    document = measured(folder)
    for row in document["rows"]:
        assert [bool(b["fault"]) for b in row["batches"]] == [False, True, True]
        assert "differs from the same samples alone: the difference has" in row["batches"][1]["fault"]
        assert any("as one batch" in fault for fault in row["faults"])
        assert all(p["reason"] is None for p in row["parity"] if p["way"] == "one by one")
    assert document["timings"] == [] and not target_of(document, "every engine computes its graph")["met"]


def test_a_build_failure_is_a_row(folder: Path, trt: Any) -> None:
    trt.state.build_fault = "Error Code 10: Could not find any implementation for node {ForeignNode}"
    document = measured(folder)
    assert document["finished"] and len(document["rows"]) == len(SHORT) and document["timings"] == []
    for row in document["rows"]:
        assert "Could not find any implementation" in row["fault"] and row["parity"] == []
    assert all(t["met"] is False for t in document["targets"])
    assert "failed: TensorRT 8.6.0 builds no" in table.section(document).markdown()


def test_whatever_a_runtime_raises_is_a_row(folder: Path, monkeypatch: pytest.MonkeyPatch, trt: Any) -> None:
    original = steps.judgement

    def raising(engine: Any, expected: Any, *rest: Any) -> Document:
        if expected.limits and INITIALIZERS in asked[-1]:
            raise RuntimeError("something of the runtime's")
        return original(engine, expected, *rest)

    def noted(what: str, function: str, *arguments: Any) -> Any:
        asked.append(what)
        return gpu_folders.in_this_process(what, function, *arguments)

    asked: list[str] = []
    monkeypatch.setattr(steps, "judgement", raising)
    monkeypatch.setattr(run, "call", noted)
    said: list[str] = []
    document = measured(folder, said=said)
    fault = "RuntimeError: something of the runtime's"
    assert rows_of(document)[INITIALIZERS]["fault"] == fault
    assert f"gpu-test: tiny, {INITIALIZERS}: {fault}" in said
    right = target_of(document, "every engine computes its graph")
    assert right["met"], "an engine that answers a question may fail"
    asks = "does TensorRT 8.6 take int8 initializers as weights? fails: RuntimeError: something"
    assert asks in table.section(document).markdown()


def test_an_engine_that_does_not_run_leaves_the_others_timed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, trt: Any
) -> None:
    original = TensorRtEngine.resident

    def short_of_memory(self: TensorRtEngine, feeds: Any) -> Any:
        if self.precision == "fp32":
            raise MemoryError("out of memory")
        return original(self, feeds)

    monkeypatch.setattr(TensorRtEngine, "resident", short_of_memory)
    document = measured(folder)
    for timing in document["timings"]:
        assert timing["faults"] == {"tensorrt_fp32": "MemoryError: out of memory"}
        assert sorted(timing["ms"]) == sorted(set(SHORT) - {"tensorrt_fp32"})
    right = target_of(document, "every engine computes its graph")
    assert not right["met"] and "tensorrt_fp32, timing at batch 1: MemoryError" in right["why"]


def test_the_inspectors_answers_are_kept_where_asked_for(folder: Path, tmp_path: Path, trt: Any) -> None:
    measured(folder, Options(rounds=6, layers=tmp_path / "layers"))
    found = json.loads((tmp_path / "layers/tiny.tensorrt_int8.8.json").read_text())
    assert found["layers"] and found["int8_ops"] > 0


def test_what_is_not_here_is_left_out_and_named(folder: Path, monkeypatch: pytest.MonkeyPatch, trt: Any) -> None:
    monkeypatch.setitem(sys.modules, "onnx_ir", None)
    document = measured(folder)
    (subject,) = document["subjects"]
    assert subject["methods"] == list(METHODS) and list(rows_of(document)) == list(METHODS) and document["finished"]
    assert "| not run: the package 'onnx_ir' is not installed: pip" in table.section(document).markdown()


# --- going on ---


def test_a_run_goes_on_where_one_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch, trt: Any) -> None:
    made, original = builds(monkeypatch), steps.judgement

    def interrupted(engine: Any, *rest: Any) -> Document:
        if engine.precision == "fp32":
            return original(engine, *rest)
        raise KeyboardInterrupt("by hand")

    monkeypatch.setattr(steps, "judgement", interrupted)
    with pytest.raises(KeyboardInterrupt, match="by hand"):
        measured(folder)
    stopped = json.loads((folder.parent / "gpu.json").read_text())
    assert [row["method"] for row in stopped["rows"]] == ["tensorrt_fp32"] and not stopped["finished"]
    assert stopped["attempts"] in ({}, {"rows, tiny, tensorrt_fp16": 0})
    assert "Not finished" in table.section(stopped).markdown()
    monkeypatch.setattr(steps, "judgement", original)
    document = measured(folder)
    assert document["finished"] and document["rows"][0] == stopped["rows"][0]
    assert made == ["fp32", "fp16", "int8", "int8"], "the plan that was built before is taken"
    again = measured(folder)
    assert again == document and len(made) == 4, "nothing is left to do"


def test_time_that_is_over_begins_nothing(folder: Path, trt: Any) -> None:
    said: list[str] = []
    document = measured(folder, Options(rounds=6, seconds=-1.0), said)
    assert document["rows"] == [] and not document["finished"] and "seconds are over" in said[-1]
    assert list(run.left(document)) == [f"tiny, {name}" for name in document["subjects"][0]["methods"]]
    assert measured(folder)["finished"]


def test_what_answers_the_targets_comes_first(folder: Path, monkeypatch: pytest.MonkeyPatch, trt: Any) -> None:
    made, seen = builds(monkeypatch), []

    def noted(what: str, function: str, *arguments: Any) -> Any:
        if function.endswith("time_all"):
            seen.append((len(made), arguments[2]))
        return gpu_folders.in_this_process(what, function, *arguments)

    monkeypatch.setattr(run, "call", noted)
    measured(folder)
    assert seen == [(3, list(METHODS))] * 3 + [(4, SHORT)] * 3, "all are timed together again once all are there"


def test_failures_are_tried_again_only_where_asked_for(folder: Path, trt: Any) -> None:
    trt.state.build_fault = "no"
    failed = measured(folder)
    trt.state.build_fault = None
    assert measured(folder)["rows"] == failed["rows"]
    again = measured(folder, Options(rounds=6, retry=True))
    assert all(targets.faults(row) == [] for row in again["rows"]) and len(again["timings"]) == 3


def test_a_plan_that_is_gone_is_built_again(folder: Path, monkeypatch: pytest.MonkeyPatch, trt: Any) -> None:
    document = measured(folder)
    document["timings"] = [t for t in document["timings"] if t["batch"] == 1]
    (folder.parent / "gpu.json").write_text(json.dumps(document))
    for path in (folder / steps.PLANS / "tensorrt_int8").iterdir():
        path.unlink()
    made = builds(monkeypatch)
    assert len(measured(folder)["timings"]) == 3 and made == ["int8"]


def test_a_folder_for_another_tensorrt_names_the_command(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    with pytest.raises(InputError, match=r"are not for TensorRT 10\.13\.3"):
        measured(folder)
    assert not (tmp_path / "gpu.json").exists()


# --- crashes ---


def test_a_crash_costs_one_engine(folder: Path, monkeypatch: pytest.MonkeyPatch, trt: Any) -> None:
    def crashing(what: str, function: str, *arguments: Any) -> Any:
        if "tensorrt_fp16" in what or "tiny, 8" in what:
            environment = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
            return process.call(what, "helpers.gpu_folders:dies", *arguments, environment=environment)
        return gpu_folders.in_this_process(what, function, *arguments)

    monkeypatch.setattr(run, "call", crashing)
    document = measured(folder)
    rows = rows_of(document)
    assert rows["tensorrt_fp16"]["fault"] == "the process for tiny, tensorrt_fp16 was killed by signal 11"
    assert all(targets.faults(row) == [] for name, row in rows.items() if name != "tensorrt_fp16")
    faults = {timing["batch"]: timing["fault"] for timing in document["timings"]}
    assert faults == {1: None, 4: None, 8: "the process for tiny, 8 was killed by signal 11"}
    assert document["attempts"] == {} and document["finished"]


@pytest.mark.skipif(cuda.device() is not None, reason="there is a GPU")
def test_the_step_is_called_in_a_process_of_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch, trt: Any) -> None:
    """There is no TensorRT there: the stand-in is in this process alone."""
    monkeypatch.setattr(run, "call", process.call)
    monkeypatch.setattr(options, "OPTIONS", {})
    monkeypatch.setattr(options, "METHODS", {"tensorrt_int8": METHODS["tensorrt_int8"]})
    (row,) = measured(folder)["rows"]
    assert row["fault"].startswith("backend 'tensorrt' cannot run here: TensorRT needs an NVIDIA GPU")


def test_an_engine_that_kills_everything_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch, trt: Any) -> None:
    class Killed(BaseException):
        """Stands for a signal that no program survives."""

    def killing(what: str, function: str, *arguments: Any) -> Any:
        if "tensorrt_fp16" in what:
            raise Killed("signal 9")
        return gpu_folders.in_this_process(what, function, *arguments)

    monkeypatch.setattr(run, "call", killing)
    for _ in range(2):
        with pytest.raises(Killed, match="signal 9"):
            measured(folder)
    document = measured(folder)
    assert document["finished"] and "killed 2 times" in rows_of(document)["tensorrt_fp16"]["fault"]
    assert measured(folder, Options(rounds=6)) == document
    monkeypatch.setattr(run, "call", gpu_folders.in_this_process)
    assert rows_of(measured(folder, Options(rounds=6, retry=True)))["tensorrt_fp16"]["fault"] is None


# --- the command line ---


def test_without_a_gpu_it_is_exit_code_3(folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "library", lambda: None)
    answer = cli("gpu-test", folder, "--record", folder.parent / "gpu.json")
    assert answer.code == 3 and "TensorRT needs an NVIDIA GPU" in answer.err
    assert f"and run there\n  python -m pipeline gpu-test {folder}" in answer.err
    assert not (folder.parent / "gpu.json").exists()


def test_exit_codes_are_those_of_the_targets(folder: Path, tmp_path: Path, cli: Cli, trt: Any) -> None:
    given = ("--record", tmp_path / "gpu.json", "--rounds", 6)
    stopped = cli("gpu-test", folder, *given, "--seconds", 0)
    assert stopped.code == 1 and "not finished, 4 engines are left" in stopped.err
    answer = cli("gpu-test", folder, *given)
    assert answer.code == 0, answer.err
    assert "ours int8, TensorRT" in answer.out and "Targets:" in answer.out and "met" in answer.out
    assert json.loads(cli("gpu-test", folder, *given, "--json").out)["finished"]
    trt.state.build_fault = "no"
    other = cli("gpu-test", folder, "--record", tmp_path / "other.json", "--rounds", 6)
    assert other.code == 0, "plans that are there are taken"
    for path in (folder / steps.PLANS).rglob("made.json"):
        path.unlink()
    failed = cli("gpu-test", folder, "--record", tmp_path / "third.json", "--rounds", 6)
    assert failed.code == 1 and "failed: TensorRT 8.6.0 builds no" in failed.out


def test_a_missed_budget_is_a_missed_target(exported: Exported, tmp_path: Path, trt: Any) -> None:
    """Random weights answer nothing right: the samples prove nothing, which is no pass."""
    asked = {"budgets.relative_drop": 0.5, "budgets.sqnr_db": 100}
    document = measured(gpu_folders.make(exported("bert"), tmp_path / "strict", **asked))
    assert document["subjects"][0]["judged"]
    accuracy = target_of(document, "accuracy")
    assert not accuracy["met"] and "the budget is 100 dB" in accuracy["why"] and "cannot judge" in accuracy["why"]
    assert all("tensorrt_int8" in t["ms"] for t in document["timings"]), "right, if not accurate: it is timed"


def test_the_help_names_what_the_machine_must_have(cli: Cli) -> None:
    assert " ".join(EXTRA) in " ".join(cli("gpu-test", "--help").out.split())


ZEROS = """
import importlib
from pathlib import Path
import numpy as np
from pipeline.artifacts import Workspace
from pipeline.backends import tensorrt
from pipeline.backends._tensorrt import plan
from pipeline.bench.gpu_test import run
from pipeline.bench.methods.tensorrt import TensorRt
from pipeline.bench.tables import gpu
from pipeline.judge.evaluation import Reference

shapes = {{n: x.shape[1:] for n, x in Reference.read(Workspace(Path({folder!r}))).outputs.items()}}
maker = plan.Maker("8.6.0", "none", "9.0")

class Zeros:
    def __call__(self, feeds):
        count = len(next(iter(feeds.values())))
        return {{name: np.zeros((count, *shape), np.float32) for name, shape in shapes.items()}}
    def precision_report(self, feeds):
        return dict(int8_ops=0, float_ops=0, unknown_ops=0, int8_flop_share=0.0, unknown_flop_share=0.0,
                    quantize_layers=[], reformats={{}})

def build(self, workspace, area, recipe):
    (area / plan.PLAN).write_bytes(workspace.path(self._graph).read_bytes())
    plan.Note(maker, "8.6", self.precision, "", [], {{}}).write(area)
    return 1.0

def call(what, function, *arguments):
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)(*arguments)

tensorrt.maker = lambda: maker
tensorrt.unavailable_reason = lambda: None
TensorRt.build_anew, TensorRt.load, run.call = build, lambda *given: Zeros(), call
document = run.run([Path({folder!r})], Path({record!r}))
assert document["finished"] and all(row["fault"] is None and row["faults"] for row in document["rows"]), document
assert [row["method"] for row in document["rows"]] == ["tensorrt_fp32", "tensorrt_fp16", "tensorrt_int8"]
assert all(row["accuracy"]["samples"] > 0 for row in document["rows"])
print(gpu.section(document).markdown())
"""
ABSENT = (
    "torch", "transformers", "onnx_ir", "onnxscript", "onnxruntime", "openvino", "sklearn", "scipy", "matplotlib",
    "pytorch_quantization", "tokenizers", "safetensors", "psutil", "jinja2", "polygraphy", "pytest",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "segformer"])
def test_the_machine_with_the_gpu_needs_no_more_than_the_help_says(
    name: str, exported: Exported, tmp_path: Path
) -> None:
    """Numpy and EXTRA; TensorRT itself and a GPU are stood in for by zeros."""
    folder = gpu_folders.make(exported(name), tmp_path / name)
    for path in (folder / name for name in ("model.onnx", "candidates.onnx", "calibration.npz")):
        path.unlink()
    done = python(ZEROS.format(folder=str(folder), record=str(tmp_path / "gpu.json")), absent=ABSENT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "failed: " in done.stdout and "onnx_ir" in done.stdout


def test_the_blocking_works() -> None:
    """Otherwise the test above would pass whatever is imported."""
    done = python("import onnxruntime", absent=ABSENT)
    assert "No module named 'onnxruntime'" in done.stderr

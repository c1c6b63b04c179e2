"""The second half of gpu-test, on a stand-in for TensorRT and the GPU: rows, faults, going on, targets, table, codes.

Timings here are those of ONNX Runtime on a CPU and say nothing; no test depends on them.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from helpers import ROOT, fake_tensorrt, gpu_packs
from helpers.command_line import Cli, python
from helpers.fake_cuda import FakeDriver
from pipeline.backends._tensorrt import build as building
from pipeline.backends._tensorrt import cuda
from pipeline.bench.gpu_test import EXTRA, bench, engines, guard, judge, opened, run, targets, variants
from pipeline.bench.gpu_test.bench import Options
from pipeline.bench.tables import gpu as table
from pipeline.errors import InputError
from pipeline.recipe import Recipe

Exported = Callable[[str], Recipe]
Document = dict[str, Any]
QUICK = Options(rounds=6)
SHORT = ("fp32", "fp16", "int8", "int8-initializers", "int8-fp16-scales")  # enough where options are no matter


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, exported: Exported) -> Path:
    """Returns the pack of a tiny trained BERT with every variant."""
    return gpu_packs.make(exported("bert"), tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, exported: Exported) -> Path:
    """Returns a pack of few variants for TensorRT 8.6."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variants, "VARIANTS", [v for v in variants.VARIANTS if v.name in SHORT])
        return gpu_packs.make(exported("bert"), tmp_path_factory.mktemp("few"), targets=("8.6",))


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Returns the stand-in for TensorRT 8.6, in place."""
    return fake_tensorrt.install(monkeypatch, tmp_path, "8.6.0")


def measured(folder: Path, tmp_path: Path, options: Options = QUICK, said: list[str] | None = None) -> Document:
    """Returns the document of one run, as it is in the file."""
    record = tmp_path / "gpu.json"
    document = run.run(folder, record, options, command="make gpu-test", announce=(said or []).append)
    assert json.loads(record.read_text()) == document
    return document


def rows_of(document: Document) -> dict[str, Document]:
    return {row["variant"]: row for row in document["rows"]}


def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns a list that names every plan that is built from now on."""
    found: list[str] = []
    original = building.build_plan

    def counted(graph: bytes, name: str, settings: Any) -> Any:
        found.append(Path(name).parent.name)
        return original(graph, name, settings)

    monkeypatch.setattr(building, "build_plan", counted)
    return found


# --- rows ---


@pytest.mark.parametrize("version", fake_tensorrt.VERSIONS)
def test_every_engine_has_a_whole_row(
    version: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, version)
    document = measured(whole, tmp_path)
    target = "8.6" if version == "8.6.0" else "10"
    expected = [variant.name for variant in variants.variants_of("bert", target)]
    rows = rows_of(document)
    assert document["finished"] and document["running"] is None and document["target"] == target
    assert sorted(rows) == sorted(expected) and document["subjects"][0]["variants"] == expected
    assert (document["tensorrt"], document["gpu"], document["compute_capability"]) == (version, "NVIDIA Fake", "8.6")
    for name, row in rows.items():
        assert targets.faults(row) == [], name
        assert [b["batch"] for b in row["batches"]] == list(gpu_packs.BATCHES)
        assert {p["output"] for p in row["parity"]} == {"start_logits", "end_logits"}
        assert 0 < row["accuracy"]["samples"] <= 8 and row["accuracy"]["missed"] == []
        assert [found["batch"] for found in row["inspector"]] == [1, 8]
        assert (row["inspector"][0]["int8_ops"] > 0) == (row["precision"] == "int8")
        assert row["build"]["plan_bytes"] > 1000
        assert row["float"]["cosine"] > (0.9 if row["precision"] == "int8" else 0.999)
    for batch in gpu_packs.BATCHES:
        (timing,) = [t for t in document["timings"] if t["batch"] == batch]
        assert sorted(timing["ms"]) == sorted(expected) and {len(x) for x in timing["ms"].values()} == {6}
        assert timing["calls"] >= 1 and timing["faults"] == {} and set(timing["clocks"]) == {"before", "after"}
    shown = table.section(document).markdown()
    assert all(row["label"] in shown for row in rows.values()) and "Not finished" not in shown


def test_equal_graphs_are_built_once(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trt: Any) -> None:
    original = opened.Case.variants

    def with_twin(case: opened.Case, target: str) -> list[Document]:
        found = [v for v in original(case, target) if v["name"] in ("fp16", "int8")]
        return [*found, {**found[1], "name": "int8-again", "against": "int8"}]

    monkeypatch.setattr(opened.Case, "variants", with_twin)
    made = builds(monkeypatch)
    document = measured(whole, tmp_path)
    assert made == ["fp16", "int8"] and rows_of(document)["int8-again"]["same_as"] == "int8"
    assert document["finished"] and all(t["met"] for t in document["targets"])
    assert "the same graph as int8" in table.section(document).markdown()


def test_a_wrong_engine_is_a_failed_row_and_not_timed(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trt: Any
) -> None:
    """One engine gives other outputs than its graph: a graph with other weights, as a fault of TensorRT would."""
    original = opened.Case.graph

    def other(case: opened.Case, digest: str) -> bytes:
        content = original(case, digest)
        return damaged(content) if digest == wrong else content

    (case,) = opened.read(packed).cases
    wrong = next(row["graph"] for row in case.variants("8.6") if row["name"] == "int8")
    monkeypatch.setattr(opened.Case, "graph", other)
    document = measured(packed, tmp_path)
    row = rows_of(document)["int8"]
    assert row["fault"] is None and any("rounding explains" in str(p["reason"]) for p in row["parity"])
    assert all("int8" not in t["ms"] and "fp16" in t["ms"] for t in document["timings"])
    by_what = {t["what"]: t for t in document["targets"]}
    assert not by_what["every engine computes its graph"]["met"]
    assert re.search(r"\| int8 \| failed: \w+_logits: the difference has", table.section(document).markdown())


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


def test_engines_that_are_wrong_in_a_batch_are_timed_only_where_they_are_right(
    packed: Path, tmp_path: Path, trt: Any
) -> None:
    """NVIDIA/TensorRT#4853: silently wrong from the second sample of a batch on."""
    trt.state.wrong_at_batch = True
    document = measured(packed, tmp_path)
    for row in document["rows"]:
        assert [bool(b["fault"]) for b in row["batches"]] == [False, True, True]
        assert "differs from the same samples alone: the difference has" in row["batches"][1]["fault"]
        assert all(p["reason"] is None for p in row["parity"])
    assert [(t["batch"], len(t["ms"])) for t in document["timings"]] == [(1, len(SHORT))]
    assert "wrong outputs" in table.section(document).markdown()
    assert not next(t for t in document["targets"] if t["what"] == "every engine computes its graph")["met"]


def test_a_build_failure_is_a_row(packed: Path, tmp_path: Path, trt: Any) -> None:
    trt.state.build_fault = "Error Code 10: Could not find any implementation for node {ForeignNode}"
    document = measured(packed, tmp_path)
    assert document["finished"] and len(document["rows"]) == len(SHORT) and document["timings"] == []
    for row in document["rows"]:
        assert "Could not find any implementation" in row["fault"] and row["parity"] == []
    assert all(t["met"] is False for t in document["targets"])
    assert "failed: TensorRT 8.6.0 builds no" in table.section(document).markdown()


def test_whatever_a_runtime_raises_is_a_row(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trt: Any
) -> None:
    original = judge.judge

    def raising(case: Any, variant: Mapping[str, Any], *rest: Any) -> Document:
        if variant["name"] == "int8-initializers":
            raise RuntimeError("something of the runtime's")
        return original(case, variant, *rest)

    monkeypatch.setattr(judge, "judge", raising)
    document = measured(packed, tmp_path)
    assert rows_of(document)["int8-initializers"]["fault"] == "RuntimeError: something of the runtime's"
    right = next(t for t in document["targets"] if t["what"] == "every engine computes its graph")
    assert right["met"], "an engine that answers a question may fail"
    asked = "does TensorRT 8.6 take int8 initializers as weights? fails: RuntimeError: something"
    assert asked in table.section(document).markdown()


def test_an_engine_that_does_not_run_leaves_the_others_timed(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trt: Any
) -> None:
    original = engines.TensorRtEngine.resident

    def short_of_memory(self: engines.TensorRtEngine, feeds: Any) -> Any:
        if self.precision == "fp32":
            raise MemoryError("out of memory")
        return original(self, feeds)

    monkeypatch.setattr(engines.TensorRtEngine, "resident", short_of_memory)
    document = measured(packed, tmp_path)
    for timing in document["timings"]:
        assert timing["faults"] == {"fp32": "MemoryError: out of memory"} and sorted(timing["ms"]) == sorted(
            set(SHORT) - {"fp32"}
        )
    right = next(t for t in document["targets"] if t["what"] == "every engine computes its graph")
    assert not right["met"] and "fp32, timing at batch 1: MemoryError" in right["why"]


def test_the_inspectors_answers_are_kept_where_asked_for(packed: Path, tmp_path: Path, trt: Any) -> None:
    measured(packed, tmp_path, Options(rounds=6, layers=tmp_path / "layers"))
    found = json.loads((tmp_path / "layers/tiny.int8.8.json").read_text())
    assert found["layers"] and found["int8_ops"] > 0


# --- going on ---


def test_a_run_goes_on_where_one_stopped(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trt: Any
) -> None:
    made, original = builds(monkeypatch), judge.judge

    def interrupted(case: Any, variant: Mapping[str, Any], *rest: Any) -> Document:
        if variant["name"] == "fp32":
            return original(case, variant, *rest)
        raise KeyboardInterrupt("by hand")

    monkeypatch.setattr(judge, "judge", interrupted)
    with pytest.raises(KeyboardInterrupt, match="by hand"):
        measured(packed, tmp_path)
    stopped = json.loads((tmp_path / "gpu.json").read_text())
    assert [row["variant"] for row in stopped["rows"]] == ["fp32"] and not stopped["finished"]
    assert stopped["running"] is None and "Not finished" in table.section(stopped).markdown()
    monkeypatch.setattr(judge, "judge", original)
    document = measured(packed, tmp_path)
    assert document["finished"] and document["rows"][0] == stopped["rows"][0]
    assert made == ["fp32", "fp16", "fp16", "int8", "int8-initializers", "int8-fp16-scales"]
    again = measured(packed, tmp_path)
    assert again == document and len(made) == 6, "nothing is left to do"


def test_time_that_is_over_begins_nothing(packed: Path, tmp_path: Path, trt: Any) -> None:
    said: list[str] = []
    document = measured(packed, tmp_path, Options(rounds=6, seconds=-1.0), said)
    assert document["rows"] == [] and not document["finished"]
    assert list(run.left(document)) == [f"tiny, {name}" for name in document["subjects"][0]["variants"]]
    assert measured(packed, tmp_path)["finished"]


def test_what_answers_the_targets_comes_first(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trt: Any
) -> None:
    made, seen = builds(monkeypatch), []
    original = engines.time_all

    def timed(runs: Mapping[str, Any], rounds: int) -> Document:
        seen.append((len(made), sorted(runs)))
        return original(runs, rounds)

    monkeypatch.setattr(engines, "time_all", timed)
    measured(packed, tmp_path)
    core, every = sorted(variants.CORE), sorted(SHORT)
    assert seen == [(3, core)] * 3 + [(5, every)] * 3, "all are timed together again once all are there"


def test_failures_are_tried_again_only_where_asked_for(packed: Path, tmp_path: Path, trt: Any) -> None:
    trt.state.build_fault = "no"
    failed = measured(packed, tmp_path)
    trt.state.build_fault = None
    assert measured(packed, tmp_path)["rows"] == failed["rows"]
    again = measured(packed, tmp_path, Options(rounds=6, retry=True))
    assert all(targets.faults(row) == [] for row in again["rows"]) and len(again["timings"]) == 3


def test_a_plan_that_is_gone_is_built_again(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trt: Any
) -> None:
    document = measured(packed, tmp_path)
    document["timings"] = [t for t in document["timings"] if t["batch"] == 1]
    (tmp_path / "gpu.json").write_text(json.dumps(document))
    (packed / "plans/tiny/int8/model.plan").unlink()
    (packed / "plans/tiny/int8/plan.json").unlink()
    made = builds(monkeypatch)
    assert len(measured(packed, tmp_path)["timings"]) == 3 and made == ["int8"]


@pytest.mark.parametrize(
    ("version", "driver", "said"),
    [
        ("8.6.1", FakeDriver(), "tensorrt 8.6.0, here 8.6.1"),
        ("8.6.0", FakeDriver(name="NVIDIA Other"), "gpu NVIDIA Fake, here NVIDIA Other"),
    ],
)
def test_a_file_of_another_machine_is_not_gone_on_with(
    version: str, driver: FakeDriver, said: str, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trt: Any
) -> None:
    measured(packed, tmp_path)
    fake_tensorrt.install(monkeypatch, tmp_path, version, driver)
    with pytest.raises(InputError, match=f"was measured with {said}; give another --record"):
        measured(packed, tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pack": "x"}'])
def test_a_file_of_something_else_is_not_overwritten(content: str, packed: Path, tmp_path: Path, trt: Any) -> None:
    (tmp_path / "gpu.json").write_text(content)
    with pytest.raises(InputError, match="is no result of gpu-test"):
        measured(packed, tmp_path)
    assert (tmp_path / "gpu.json").read_text() == content


def test_a_pack_for_another_tensorrt_names_the_command(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    with pytest.raises(InputError, match=r"packed for TensorRT 8.6, here is 10.13.3; pack again .*--targets 10"):
        measured(packed, tmp_path)


# --- crashes ---

CRASHING = """
import json, os, signal, sys
from pathlib import Path
from pipeline.bench.gpu_test.record import Record, read
path = Path(sys.argv[1])
state = Record(path, read(path))
if len(state.document["rows"]) < 2:
    state.begin("rows", {**state.document["like"], "variant": f"v{len(state.document['rows'])}"})
    os.kill(os.getpid(), signal.SIGSEGV)
if not state.document["timings"]:
    state.begin("timings", {"subject": "tiny", "batch": 8, "fault": None, "faults": {}, "tried": ["v0"], "ms": {}})
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(1)
"""


def test_a_crash_costs_one_engine(tmp_path: Path) -> None:
    path, said = tmp_path / "gpu.json", []
    like = bench.blank("tiny", {"name": "", "question": None, **dict.fromkeys(bench.VARIANT)})
    path.write_text(json.dumps({**synthetic(), "rows": [], "timings": [], "like": like}))
    code = guard.run([sys.executable, "-c", CRASHING, str(path)], path, said.append)
    document = json.loads(path.read_text())
    assert code == 1 and len(said) == 3 and document["running"] is None
    assert [row["variant"] for row in document["rows"]] == ["v0", "v1"]
    assert all("ended with signal SIGSEGV while it worked on this" in row["fault"] for row in document["rows"])
    assert "SIGKILL" in document["timings"][0]["fault"]


def test_a_crash_before_anything_began_ends_the_run(tmp_path: Path) -> None:
    said: list[str] = []
    command = [sys.executable, "-c", f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"]
    assert guard.run(command, tmp_path / "gpu.json", said.append) == 1
    assert said == ["gpu-test: the process ended with signal SIGKILL before it began with an engine"]


# --- targets and table ---


def synthetic(**speed: float) -> Document:
    """Returns a document of BERT-base; speed: milliseconds by variant, the same at every batch size."""
    speed = speed or {"fp32": 4.0, "fp16": 2.0, "int8": 1.6, "int8-both": 1.0}
    known = {variant.name: vars(variant) for variant in variants.VARIANTS}
    rows = []
    for name in speed:
        row = bench.blank("bert-base", {**known[name], "more": [], "graph": name, "fault": None})
        row["batches"] = [{"batch": b, "cosine": 1.0, "max_abs_diff": 0.0, "fault": None} for b in (1, 8, 32)]
        row["float"] = {"cosine": 0.99876, "sqnr_db": 26.0}
        row["parity"] = [{"output": "logits", "cosine": 0.99991, "reason": None}]
        rows.append(row)
    clocks = {"sm_mhz": 1755.0}
    timings = [
        {
            **bench.empty_timing("bert-base", batch, list(speed)),
            "ms": {name: [ms + 0.001 * i for i in range(9)] for name, ms in speed.items()},
            "rounds": 9,
            "clocks": {"before": clocks, "after": {"sm_mhz": 1980.0}},
        }
        for batch in (1, 8, 32)
    ]
    subject = {"name": "bert-base", "weights": "drawn", "inputs": {"input_ids": [128]}, "batches": [1, 8, 32]}
    document = {
        "command": "make gpu-test", "pack": "d", "target": "8.6", "tensorrt": "8.6.0", "gpu": "NVIDIA Fake",
        "compute_capability": "9.0", "subjects": [{**subject, "variants": list(speed)}], "rows": rows,
        "timings": timings, "finished": True, "running": None,
        "environment": {
            "date": "2026-11-22T09:00:00+00:00", "gpu": {"driver": "550.1", "most_sm_mhz": 1980.0},
            "tactic_sources": ["JIT_CONVOLUTIONS", "EDGE_MASK_CONVOLUTIONS"],
        },
    }  # fmt: skip
    return {**document, "targets": targets.evaluate(document)}


def test_targets_are_those_of_the_fastest_int8_engine() -> None:
    found = {(t["what"], t["batch"]): t for t in synthetic()["targets"]}
    first, last = (found["speed-up of int8 over fp16", batch] for batch in (1, 32))
    assert first["variant"] == last["variant"] == "int8-both"
    assert (first["limit"], last["limit"], first["met"], last["met"]) == (1.2, 1.7, True, True)
    assert last["value"]["median"] == pytest.approx(2.004 / 1.004) and last["value"]["low"] <= last["value"]["median"]
    assert found["every engine computes its graph", None]["met"]


def test_a_target_is_missed_by_speed_by_faults_and_by_absence() -> None:
    slow = {t["batch"]: t["met"] for t in synthetic(fp16=2.0, int8=1.5)["targets"]}
    assert slow == {1: True, 32: False, None: True}
    alone = synthetic(int8=1.0)["targets"]
    assert [t["met"] for t in alone] == [False, False, True] and "no int8 and fp16 engine" in alone[0]["why"]
    document = synthetic()
    document["subjects"][0]["variants"].append("int8-residual")
    document["rows"][2]["batches"][2]["fault"] = "differs"
    (right,) = [t for t in targets.evaluate(document) if t["batch"] is None]
    assert right["why"] == "int8-residual: not measured; int8: batch 32: differs"
    assert targets.is_right(document["rows"][2], 8) and not targets.is_right(document["rows"][2], 32)


def test_an_engine_that_answers_a_question_is_no_target() -> None:
    document = synthetic(**{"fp16": 2.0, "int8": 1.9, "int8-initializers": 0.5})
    assert targets.fastest(document, "bert-base") == "int8"
    document["rows"][2]["fault"] = "not built"
    assert {t["batch"]: t["met"] for t in targets.evaluate(document)} == {1: False, 32: False, None: True}


def test_accuracy_is_that_of_the_default_engine() -> None:
    row = {"variant": "int8", "accuracy": {"missed": []}}
    assert targets.accurate("bert", [row])["met"]
    row["accuracy"] = {"missed": ["f1 drops by 2.00%"]}
    missed = targets.accurate("bert", [row])
    assert not missed["met"] and missed["why"] == "f1 drops by 2.00%"
    assert targets.accurate("bert", [])["why"] == "not measured"


def test_the_table_says_what_the_file_says(tmp_path: Path) -> None:
    from pipeline.bench import tables

    path = tmp_path / "gpu.json"
    path.write_text(json.dumps(synthetic()))
    readme = tmp_path / "README.md"
    readme.write_text("# GPU\n<!-- gpu gpu.json -->\nold\n<!-- /gpu -->\nend\n")
    assert tables.refresh(readme) == ["gpu.json"]
    text = readme.read_text()
    assert "`make gpu-test`, 2026-11-22: NVIDIA Fake (compute capability 9.0), driver 550.1, TensorRT 8.6.0, " in text
    assert "dialect 8.6, tactic sources JIT_CONVOLUTIONS and EDGE_MASK_CONVOLUTIONS alone; clock 1755" in text
    assert "clock 1755–1980 MHz around the timings, 1980 at most" in text and "9 interleaved rounds" in text
    assert "bert-base, drawn weights, input 128:" in text
    ms = " | ".join(["1.00 | 2.00 (1.99–2.00)"] * 3)
    assert f"| int8, both inputs of adds in int8 | {ms} | – | – | 0.99991 | 0.99876 |" in text
    assert "- bert-base, batch 32: speed-up of int8 over fp16 (int8-both): 2.00 (1.99–2.00), at least 1.7: met" in text
    assert "- bert-base: every engine computes its graph: met" in text
    assert "(against int8): built, and computes its graph; times as fast: 1.598 (1.596–1.599) at batch 1" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1, "every row has every column"


# --- the command line ---


def test_without_a_gpu_it_is_exit_code_3(
    packed: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "library", lambda: None)
    answer = cli("gpu-test", packed, "--record", tmp_path / "gpu.json", "--no-guard")
    assert answer.code == 3 and "TensorRT needs an NVIDIA GPU" in answer.err and not (tmp_path / "gpu.json").exists()


@pytest.mark.skipif(cuda.device() is not None, reason="there is a GPU")
def test_the_guarded_process_hands_its_code_on(packed: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline", "gpu-test", str(packed), "--record", str(tmp_path / "gpu.json")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 3 and done.stderr.count("error: ") == 1


def test_exit_codes_are_those_of_the_targets(packed: Path, tmp_path: Path, cli: Cli, trt: Any) -> None:
    options = ("--record", tmp_path / "gpu.json", "--rounds", 6, "--no-guard")
    stopped = cli("gpu-test", packed, *options, "--seconds", 0)
    assert stopped.code == 1 and "not finished, 5 engines are left" in stopped.err
    answer = cli("gpu-test", packed, *options)
    assert answer.code == 0, answer.err
    assert re.search(r"^\W*int8\W", answer.out, re.MULTILINE) and "Targets:" in answer.out and "met" in answer.out
    assert json.loads(cli("gpu-test", packed, *options, "--json").out)["finished"]
    trt.state.build_fault = "no"
    failed = cli("gpu-test", packed, "--record", tmp_path / "other.json", "--rounds", 6, "--no-guard")
    assert failed.code == 1 and "failed: TensorRT 8.6.0 builds no" in failed.out


def test_a_missed_budget_is_a_missed_target(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trt: Any
) -> None:
    strict = opened.Budgets(relative_drop=0.0, agreement=1.0, speedup=0.0)
    monkeypatch.setattr(opened.Case, "budgets", property(lambda case: strict))
    monkeypatch.setattr(judge, "score", lambda case, predictions: float(predictions is case.samples.predictions))
    document = measured(packed, tmp_path)
    (accuracy,) = [t for t in document["targets"] if t["what"].startswith("accuracy")]
    assert not accuracy["met"] and accuracy["why"].startswith("f1 drops by 100.00%")
    assert all("int8" in t["ms"] for t in document["timings"]), "right, if not accurate: it is timed"


def test_the_help_names_what_the_kit_must_have(cli: Cli) -> None:
    assert " ".join(EXTRA) in " ".join(cli("gpu-test", "--help").out.split())


ZEROS = """
from pathlib import Path
import numpy as np
from pipeline.cli import verbs as cli
from pipeline.backends import tensorrt
from pipeline.backends._tensorrt.plan import Maker
from pipeline.bench.gpu_test import engines, guard, run
from pipeline.bench.tables import gpu

class Zeros:
    def __call__(self, feeds):
        count = len(next(iter(feeds.values())))
        return {{name: np.zeros((count, *{shape!r}), np.float32) for name in {outputs!r}}}
    def precision_report(self, feeds):
        return dict(int8_ops=0, float_ops=0, unknown_ops=0, int8_flop_share=0.0, unknown_flop_share=0.0,
                    quantize_layers=[], reformats={{}})

tensorrt.maker = lambda: Maker("8.6.0", "none", "9.0")
engines.build = lambda case, variant, target, folder: {{"bytes": len(case.graph(variant["graph"]))}}
engines.load = lambda folder: Zeros()
document = run.run(Path({folder!r}), Path({record!r}))
assert document["finished"] and all(row["parity"][0]["reason"] for row in document["rows"]), "zeros are wrong"
assert all(row["accuracy"]["samples"] > 0 for row in document["rows"])
print(gpu.section(document).markdown())
"""
ABSENT = (
    "torch", "transformers", "onnx_ir", "onnxscript", "onnxruntime", "openvino", "sklearn", "scipy", "matplotlib",
    "pytorch_quantization", "tokenizers", "safetensors", "psutil", "jinja2", "polygraphy", "pytest", "calibration",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "segformer"])
def test_the_machine_with_the_gpu_needs_no_more_than_the_kit(
    name: str, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numpy and EXTRA; TensorRT itself and a GPU are stood in for by zeros."""
    monkeypatch.setattr(variants, "VARIANTS", [v for v in variants.VARIANTS if v.name in ("fp16", "int8")])
    folder = gpu_packs.make(exported(name), tmp_path, targets=("8.6",))
    (case,) = opened.read(folder).cases
    floats = case.samples.floats
    shape = {x.shape[1:] for x in floats.values()} if name == "bert" else {(4, 16, 16)}
    assert name == "bert" or next(iter(floats.values())).shape[1] == 4 * 16 * 16
    script = ZEROS.format(
        shape=shape.pop(), outputs=tuple(floats), folder=str(folder), record=str(tmp_path / "gpu.json")
    )
    done = python(script, absent=ABSENT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "failed: " in done.stdout


def test_the_blocking_works() -> None:
    """Otherwise the test above would pass whatever is imported."""
    done = python("import onnxruntime", absent=ABSENT)
    assert "No module named 'onnxruntime'" in done.stderr

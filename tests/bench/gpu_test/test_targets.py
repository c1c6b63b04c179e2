"""The targets of gpu-test on results made by hand, and the table that says them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.gpu_documents import synthetic
from pipeline.bench import tables
from pipeline.bench.gpu_test import targets

FAST = "tensorrt_int8_both"


def test_targets_are_those_of_the_fastest_int8_engine() -> None:
    found = {(t["what"], t["batch"]): t for t in synthetic()["targets"]}
    first, last = (found["speed-up of int8 over fp16", batch] for batch in (1, 32))
    assert first["method"] == last["method"] == FAST
    assert (first["limit"], last["limit"], first["met"], last["met"]) == (1.2, 1.7, True, True)
    assert last["value"]["median"] == pytest.approx(2.004 / 1.004) and last["value"]["low"] <= last["value"]["median"]
    assert found["every engine computes its graph", None]["met"]


def test_a_target_is_missed_by_speed_by_faults_and_by_absence() -> None:
    slow = {t["batch"]: t["met"] for t in synthetic(tensorrt_fp16=2.0, tensorrt_int8=1.5)["targets"]}
    assert slow == {1: True, 32: False, None: True}
    alone = synthetic(tensorrt_int8=1.0)["targets"]
    assert [t["met"] for t in alone] == [False, False, True] and "no int8 and tensorrt_fp16 engine" in alone[0]["why"]
    document = synthetic()
    document["subjects"][0]["methods"].append("tensorrt_int8_residual")
    document["rows"][2]["batches"][2]["fault"] = "differs"
    (right,) = [t for t in targets.evaluate(document) if t["batch"] is None]
    assert right["why"] == "tensorrt_int8_residual: not measured; tensorrt_int8: batch 32: differs"
    assert targets.is_right(document["rows"][2], 8) and not targets.is_right(document["rows"][2], 32)
    document["rows"][2]["faults"] = ["logits, one by one: differs"]
    assert not targets.is_right(document["rows"][2], 8)


def test_an_engine_that_answers_a_question_is_no_target() -> None:
    document = synthetic(tensorrt_fp16=2.0, tensorrt_int8=1.9, tensorrt_int8_initializers=0.5)
    assert targets.fastest(document, "gpu-bert-base") == "tensorrt_int8"
    document["rows"][2]["fault"] = "not built"
    assert {t["batch"]: t["met"] for t in targets.evaluate(document)} == {1: False, 32: False, None: True}


def test_accuracy_is_that_of_the_default_engine() -> None:
    row = {"method": "tensorrt_int8", "accuracy": {"missed": []}}
    assert targets.accurate("gpu-bert", [row])["met"]
    row["accuracy"] = {"missed": ["f1 drops by 2.00%"]}
    missed = targets.accurate("gpu-bert", [row])
    assert not missed["met"] and missed["why"] == "f1 drops by 2.00%"
    assert targets.accurate("gpu-bert", [])["why"] == "not measured"
    document = synthetic()
    document["subjects"][0]["judged"] = True
    assert "accuracy of int8 within the budgets" in [t["what"] for t in targets.evaluate(document)]


def test_the_table_says_what_the_file_says(tmp_path: Path) -> None:
    (tmp_path / "gpu.json").write_text(json.dumps(synthetic()))
    readme = tmp_path / "README.md"
    readme.write_text("# GPU\n<!-- gpu gpu.json -->\nold\n<!-- /gpu -->\nend\n")
    assert tables.refresh(readme) == ["gpu.json"]
    text = readme.read_text()
    assert "`make gpu-test`, 2026-11-22: NVIDIA Fake (compute capability 9.0), driver 550.1, TensorRT 8.6.0, " in text
    assert "dialect 8.6, tactic sources JIT_CONVOLUTIONS and EDGE_MASK_CONVOLUTIONS alone; clock 1755" in text
    assert "clock 1755–1980 MHz around the timings, 1980 at most" in text and "9 interleaved rounds" in text
    assert "gpu-bert-base, input 128, accuracy not judged:" in text
    ms = " | ".join(["1.00 | 2.00 (1.99–2.00)"] * 3)
    assert f"| ours int8, TensorRT, both inputs of adds in int8 | {ms} | – | – | 0.99991 | 26.0 |" in text
    assert (
        f"- gpu-bert-base, batch 32: speed-up of int8 over fp16 ({FAST}): 2.00 (1.99–2.00), at least 1.7: met" in text
    )
    assert "- gpu-bert-base: every engine computes its graph: met" in text
    assert "(against tensorrt_int8): built, and computes its graph; times as fast: 1.598 (1.596–1.599) at" in text
    assert "| ours int8, TensorRT, attention float | not run: no onnx_ir |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1, "every row has every column"

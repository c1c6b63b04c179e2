"""The benchmark of calibration: every row has its numbers, ratios follow from them, and the equality check can fail."""

from __future__ import annotations

import copy
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration import Statistic
from helpers import tiny
from helpers.once import once
from pipeline.bench import calibration_cost, results, tables
from pipeline.bench.calibration_cost import CASES, checks, rows
from pipeline.bench.calibration_cost.collecting import library_calibrator
from pipeline.bench.calibration_cost.workload import Workload
from pipeline.cli import show
from pipeline.errors import BudgetMissed, InputError

BATCHES = 2


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Returns the table of a BERT of one layer, every case in its own process, ModelOpt hidden from them."""

    def fill(root: Path) -> None:
        tiny.bert(root / "tiny" / "checkpoint", num_hidden_layers=1)
        (root / "hidden").mkdir()
        (root / "hidden" / "modelopt.py").write_text(
            "raise ModuleNotFoundError(\"No module named 'modelopt'\", name='modelopt')", encoding="utf-8"
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(root / "hidden"))
            calibration_cost.run(
                root / "tiny",
                tokens=32,
                batches=BATCHES,
                rounds=2,
                threads=1,
                record=root / "table.json",
                command="make bench-calibration",
            )

    file = once(tmp_path_factory, "calibration-bench", fill) / "table.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


@pytest.mark.slow
def test_every_way_of_collecting_has_a_row_with_its_numbers(table: dict[str, Any]) -> None:
    labels = [row["label"] for row in table["collecting"]]
    assert len(set(labels)) == 7
    peers = {rows.LIBRARY, rows.MODELOPT, *rows.ONNXRUNTIME.values()}
    assert peers <= set(labels)
    plain, own, longer = table["collecting"][:3]
    assert longer["batches"] == BATCHES * calibration_cost.MANY and longer["seconds"] is None
    for row in table["collecting"]:
        if row["skipped"] or row is longer:
            continue
        assert row["batches"] == BATCHES and row["peak"] > 2**20
        assert 0 < row["seconds"]["low"] <= row["seconds"]["median"] <= row["seconds"]["high"]
        if not row["label"].startswith("ONNX"):  # its forward pass is another one
            assert row["ratio"]["low"] > 0
    assert plain["ratio"]["median"] == 1.0 and plain["growth"] is None
    assert own["growth"] == (own["peak"] - plain["peak"]) / table["quantizers"]
    assert table["quantizers"] > table["statistics"] > 0, "quantizers that read one tensor share a statistic"
    assert [t["limit"] for t in own["targets"]] == [rows.RATIO, rows.BYTES_A_QUANTIZER]


@pytest.mark.slow
def test_every_way_of_computing_has_a_row_with_its_numbers(table: dict[str, Any]) -> None:
    by_label = {row["label"]: row for row in table["computing"]}
    everything = table["computing"][0]
    assert everything["tensors"] > table["quantizers"] and everything["targets"][0]["value"] == everything["seconds"]
    timed = {label: row for label, row in by_label.items() if row["skipped"] is None and row is not everything}
    assert {"ours, percentile", "ours, mse", "ours, entropy", "pytorch-quantization, entropy"} <= set(timed)
    bins = {
        "ONNX Runtime (2048 bins), percentile",
        "ONNX Runtime (2048 bins), entropy",
        "ONNX Runtime (128 bins), entropy",
    }
    assert bins <= set(timed)
    for label, row in timed.items():
        own = by_label[f"ours, {label.rpartition(', ')[2]}"]
        assert row["each"] == row["seconds"] / row["tensors"] > 0
        assert row["ratio"] == pytest.approx(row["each"] / own["each"])


@pytest.mark.slow
def test_a_peer_that_is_not_installed_is_a_row_with_the_reason(table: dict[str, Any]) -> None:
    skipped = [row for row in [*table["collecting"], *table["computing"]] if row["skipped"]]
    assert {row["label"] for row in skipped} == {
        "ModelOpt's HistogramCalibrator",
        "ModelOpt, percentile",
        "ModelOpt, mse",
        "ModelOpt, entropy",
    }
    assert all("'modelopt' is not installed: pip install" in row["skipped"] for row in skipped)


@pytest.mark.slow
def test_our_amax_is_the_librarys(table: dict[str, Any]) -> None:
    compared = {check["method"]: check for check in table["checks"] if check["skipped"] is None}
    assert list(compared) == ["entropy", "max", "percentile 99.9", "percentile 99.99", "percentile 99.999"]
    assert all(check["passed"] and 0 <= check["bins"] <= 1.001 for check in compared.values())
    assert compared["max"]["quantizers"] == table["quantizers"] and compared["max"]["bins"] == 0.0
    assert [c["method"] for c in table["checks"] if c["skipped"]] == ["mse"]


@pytest.mark.slow
def test_the_tables_are_printed_and_written_into_the_readme(
    table: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results.write(table, tmp_path / "results" / "calibration.json")
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- calibration results/calibration.json -->\nold\n<!-- /calibration -->\nz\n")
    assert tables.refresh(readme) == ["results/calibration.json"]
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("a\n<!-- calibration") and text.endswith("<!-- /calibration -->\nz\n") and "old" not in text
    show.recorded("calibration", table, as_json=False)
    printed = capsys.readouterr().out
    own = table["collecting"][1]
    for row in [*table["collecting"], *table["computing"]]:
        assert row["label"] in text and row["label"] in printed
    assert f"{own['ratio']['median']:.2f} | {own['peak'] / 2**20:.0f}" in text
    assert "ratio ≤ 1.5: " in printed
    columns = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert columns == {5, 8, 9}, "each of the three tables has rows of one length"
    show.recorded("calibration", table, as_json=True)
    assert json.loads(capsys.readouterr().out) == table


def test_a_kind_of_table_is_found_by_its_name_and_a_missing_file_is_named(tmp_path: Path) -> None:
    assert {"bench", "calibration"} <= set(tables.kinds())
    readme = tmp_path / "README.md"
    readme.write_text("<!-- bench gone.json -->\n<!-- /bench -->\n")
    with pytest.raises(InputError, match=r"gone\.json"):
        tables.refresh(readme)


@pytest.mark.parametrize("name", CASES)
def test_every_case_is_a_function_that_exists(name: str) -> None:
    module, function = CASES[name].split(".")
    assert callable(getattr(importlib.import_module(f"pipeline.bench.calibration_cost.{module}"), function))


def test_a_case_of_ours_that_fails_raises_and_a_peers_is_a_reason(tmp_path: Path) -> None:
    work = Workload(checkpoint=str(tmp_path / "absent"), scratch=str(tmp_path))
    with pytest.raises(InputError, match="absent"):
        calibration_cost.measure("float_memory", work)
    found = calibration_cost.attempt("onnxruntime_percentile", work)
    assert list(found) == ["skipped"] and found["skipped"].startswith("failed: ") and "absent" in found["skipped"]


# --- the equality checks, on tensors made here ---

Collected = tuple[dict[str, Statistic], dict[str, checks.Pair]]


@pytest.fixture
def collected() -> Collected:
    """Returns our statistics and the library's calibrators after the same batches; the later ones are larger."""
    import torch

    rng = np.random.default_rng(0)
    statistics, theirs = {}, {}
    for name, draw in {"normal": rng.standard_normal, "tail": lambda n: rng.standard_t(3, n)}.items():
        statistics[name], theirs[name] = Statistic(name=name), checks.Pair(library_calibrator)
        for scale in (1.0, 1.3, 0.7):
            x = torch.from_numpy((scale * draw(60_000)).astype(np.float32))
            statistics[name].collect(x)
            theirs[name].collect(x)
    return statistics, theirs


def all_checks(statistics: dict[str, Statistic], theirs: dict[str, checks.Pair]) -> dict[str, Any]:
    entropy = {name: checks.library_entropy(statistics[name]) for name in theirs}
    found = [
        checks.check_max(statistics, theirs),
        checks.check_percentile(statistics, theirs, 99.9),
        checks.check_entropy(statistics, entropy),
    ]
    return {check["method"]: check for check in found}


def test_the_checks_pass_on_the_same_tensors(collected: Collected) -> None:
    found = all_checks(*collected)
    assert all(check["passed"] for check in found.values()), found
    calibration_cost.require_equal([*found.values(), checks.MSE])


def move_counts(statistic: Statistic) -> None:
    """Every count moves 40 bins up."""
    statistic.counts[1:] = np.roll(statistic.counts[1:], 40)


def lower_amax(statistic: Statistic) -> None:
    statistic.amax = float(np.float32(statistic.amax - 3 * statistic.width))


@pytest.mark.parametrize(("corrupt", "method"), [(move_counts, "percentile 99.9"), (lower_amax, "max")])
def test_a_corrupted_histogram_fails_the_check_and_is_named(
    collected: Collected, corrupt: Callable[[Statistic], None], method: str
) -> None:
    statistics, theirs = copy.deepcopy(collected[0]), collected[1]
    corrupt(statistics["tail"])
    check = all_checks(statistics, theirs)[method]
    assert not check["passed"] and check["where"] == "tail"
    with pytest.raises(BudgetMissed, match=f"{method}: .* at tail, the worst of 2"):
        calibration_cost.require_equal([check, checks.MSE])


def test_an_entropy_of_another_histogram_fails_the_check(collected: Collected) -> None:
    statistics = collected[0]
    theirs = {name: checks.library_entropy(s) for name, s in statistics.items()}
    move_counts(statistics["tail"])
    check = checks.check_entropy(statistics, theirs)
    assert not check["passed"] and check["where"] == "tail"


def test_a_nan_is_no_equality() -> None:
    assert not checks.compare("max", {"a": 1.0}, {"a": float("nan")}, {"a": 0.1})["passed"]

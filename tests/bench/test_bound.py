"""The bound of an engine: its own work at the best rates of the machine, each of them measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from helpers.command_line import Cli
from helpers.onnx_text import parse
from helpers.usable import USABLE
from pipeline import backends
from pipeline.bench import bound, published, tables
from pipeline.bench.tables import bound as text
from pipeline.errors import PipelineError
from pipeline.recipe import Recipe
from pipeline.stages import build

CHAIN = (8, 32, 64)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bound, "CHAINS", (CHAIN, (64, 64, 64)))
    monkeypatch.setattr(bound, "MEMORY_BYTES", 1 << 20)


@pytest.fixture(scope="module")
def recipe(built: Callable[[str], Recipe], tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Returns the recipe of a tiny BERT's built engine."""
    folder = shutil.copytree(built("bert").folder, tmp_path_factory.mktemp("bound") / "bert")
    return built("bert").model_copy(update={"folder": Path(folder), "backend": USABLE[0]})


def test_the_bound_is_the_engines_work_at_the_best_rates(recipe: Recipe, tmp_path: Path) -> None:
    document = bound.run(recipe, batch=2, rounds=6, record=tmp_path / "bound.json", command="make bound")
    assert json.loads((tmp_path / "bound.json").read_text(encoding="utf-8")) == document
    int8, float_, weights = document["limits"]
    assert (int8["name"], float_["name"], weights["name"]) == (
        "int8 products",
        "float products",
        "weights from memory",
    )
    for entry, resource in ((int8, "int8"), (float_, "float"), (weights, "memory")):
        rates = {name: rate for name, rate in document["rates"].items() if name.startswith(resource)}
        assert len(rates) == 2 and entry["rate"] == max(rates.values()) == rates[entry["best"]]
        assert entry["ms"] == pytest.approx(entry["amount"] / entry["rate"] * 1e3)
    assert int8["amount"] > 0 and weights["amount"] > 0
    assert int8["amount"] + float_["amount"] == sum(row["flops"] for row in document["layers"])
    arithmetic = int8["ms"] + float_["ms"]
    assert document["bound_ms"] == max(arithmetic, weights["ms"])
    assert document["bound_without_overlap_ms"] == arithmetic + weights["ms"]
    assert document["inputs"]["input_ids"][0] == 2


def test_twice_the_samples_are_twice_the_work_on_the_same_weights(recipe: Recipe) -> None:
    one, two = (bound.run(recipe, batch=n, rounds=6)["limits"] for n in (1, 2))
    assert two[0]["amount"] == 2 * one[0]["amount"] and two[2]["amount"] == one[2]["amount"]


def test_only_constants_that_every_run_reads_whole_are_weights(tmp_path: Path) -> None:
    model = parse(
        """g (int64[2] rows, float[2, 4] x) => (float[2, 3] y) {
            row = Gather <axis = 0> (table, rows)
            sum = Add (row, x)
            right = DequantizeLinear (weight, scale)
            y = MatMul (sum, right)
        }""",
        table=np.ones((9, 4), np.float32),
        weight=np.ones((4, 3), np.int8),
        scale=np.float32(0.5),
    )
    ir.save(model, tmp_path / "model.onnx")
    assert bound.weight_bytes(tmp_path / "model.onnx") == 12 + 4


@pytest.mark.parametrize("backend", USABLE)
@pytest.mark.parametrize("kind", ["int8", "float"])
def test_a_chain_runs_in_the_type_that_it_stands_for(backend: str, kind: str, recipe: Recipe, tmp_path: Path) -> None:
    call, operations = bound.products(CHAIN, kind, backend, recipe, tmp_path / "chain", threads=1)
    outputs: Any = call()
    (found,) = outputs.values()
    assert operations == 2 * 8 * 32 * 64 * bound.LINKS
    assert found.shape == (8, 32) and np.isfinite(found).all() and found.std() > 0


def test_a_chain_that_is_not_int8_gives_no_peak(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = bound.chain_of_products
    monkeypatch.setattr(bound, "chain_of_products", lambda *sizes, quantized: honest(*sizes, quantized=False))
    with pytest.raises(PipelineError, match=rf"{USABLE[0]} computes 0% of a chain of int8 products in int8"):
        bound.products(CHAIN, "int8", USABLE[0], recipe, tmp_path / "chain", threads=1)


def test_chains_are_valid_models() -> None:
    for quantized in (True, False):
        onnx.checker.check_model(bound.chain_of_products(*CHAIN, quantized=quantized), full_check=True)


def test_the_readme_block_has_the_limits_the_profile_and_the_conclusion(recipe: Recipe, tmp_path: Path) -> None:
    document = bound.run(recipe, batch=1, rounds=6, record=tmp_path / "b.json", command="make bound MODEL=bert")
    readme = tmp_path / "README.md"
    readme.write_text("<!-- bound b.json -->\nbefore\n<!-- /bound -->\n", encoding="utf-8")
    assert tables.refresh(readme) == ["b.json"]
    found = readme.read_text(encoding="utf-8")
    assert "before" not in found and "`make bound MODEL=bert`" in found
    rows = text.profile(document).rows
    assert found.count("\n| ") == 2 + 3 + len(rows)  # headers, rows
    assert text.conclusion(document) in found
    first = document["layers"][0]
    assert f"| {first['type']} | {first['precision']} | {first['layers']} |" in found


def test_kinds_of_layers_that_take_no_time_share_a_row() -> None:
    layer = {"precision": "int8", "flops": 0}
    shown = [
        {"type": "A", "layers": 3, "ms": 9.0, **layer, "flops": 18e9},
        {"type": "B", "layers": 1, "ms": 1.0, **layer},
    ]
    small = [{"type": name, "layers": 2, "ms": 0.02, **layer} for name in "CD"]
    rows = text.profile({"layers": [*shown, *small]}).rows
    assert rows == [
        ["A", "int8", "3", "9.00", "2000"],
        ["B", "int8", "1", "1.00", "–"],
        ["2 other kinds", "", "4", "0.04", "–"],
    ]
    assert len(text.profile({"layers": shown}).rows) == 2


def test_the_command_prints_the_tables(recipe: Recipe, cli: Cli) -> None:
    answer = cli("bound", "bert", "--output", recipe.folder, "--rounds", 6, "--backend", recipe.backend)
    assert answer.code == 0, answer.err
    assert "int8 products" in answer.out and "times as fast" in answer.out
    answer = cli("bound", "bert", "--output", recipe.folder, "--rounds", 6, "--backend", recipe.backend, "--json")
    assert json.loads(answer.out)["backend"] == recipe.backend


def test_faults_are_told_before_anything_is_measured(cli: Cli, tmp_path: Path) -> None:
    answer = cli("bound", "bert", "--shape", "segformer-b0", "--output", tmp_path / "x")
    assert answer.code == 2 and "the shape segformer-b0 is a segformer, not a bert" in answer.err
    answer = cli("bound", "bert", "--output", tmp_path / "nothing")
    assert answer.code == 2 and answer.out == ""


@pytest.mark.parametrize(("asked", "built"), [(["onnxruntime"], ["onnxruntime"]), (None, ["openvino", "onnxruntime"])])
def test_a_shapes_engine_is_built_for_the_backend_that_is_asked_for(
    asked: list[str] | None, built: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(backends, "usable", lambda: ["openvino", "onnxruntime"])
    monkeypatch.setattr(build, "build", lambda recipe, announce: made.append(recipe.backend))
    monkeypatch.setattr(published, "write_checkpoint", lambda name, folder: folder)
    recipe = published.built(published.recipe("bert-base", tmp_path / "x", {}, "bert"), print, asked)
    assert made == built and recipe.backend == built[-1]

"""`sensitivity`: every quantizer by itself, the one at fault first, and a killed run goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import Cli
from helpers.runs import options_of, run_stages
from helpers.usable import USABLE
from pipeline.bench import sensitivity
from pipeline.bench.tables import sensitivity as table_of
from pipeline.lowering import Candidates
from pipeline.recipe import Recipe

BACKEND = USABLE[0]


@pytest.fixture
def recipe(exported: Callable[[str], Recipe], tmp_path: Path) -> Recipe:
    source = exported("bert")
    calibration = source.calibration.model_copy(update={"selection_samples": 4})
    folder = Path(shutil.copytree(source.folder, tmp_path / "bert"))
    return source.model_copy(update={"folder": folder, "backend": BACKEND, "calibration": calibration})


def on(recipe: Recipe) -> set[str]:
    placed = json.loads((recipe.folder / BACKEND / "placement.json").read_text())
    return {q["name"] for q in placed["quantizers"] if q["enabled"]}


def test_every_quantizer_is_probed_both_ways(recipe: Recipe, cli: Cli) -> None:
    run_stages(recipe, "lower")
    options = [*options_of(recipe), "--backend", BACKEND, "--set", "calibration.selection_samples=4"]
    answer = cli("sensitivity", "bert", *options, "--samples", "3")
    assert answer.code == 0, answer.err
    table = json.loads((recipe.folder / BACKEND / sensitivity.FILE).read_text())
    assert table["finished"] and table["samples"] == 3 and table["command"].startswith("make sensitivity MODEL=bert")
    rows = {scope: [r for r in table["rows"] if r["scope"] == scope] for scope in sensitivity.SCOPES}
    names = {row["name"] for row in rows["quantizer"]}
    assert names <= on(recipe) and len(names) == len(rows["quantizer"])
    for scope in ("kind", "layer"):
        assert sum(row["quantizers"] for row in rows[scope]) == len(names)
    whole = table["whole"]
    assert whole["float"]["sqnr_db"] > 80 > whole["int8"]["sqnr_db"] > 5
    for row in table["rows"]:
        assert row["gain_db"] == pytest.approx(row["off"]["sqnr_db"] - whole["int8"]["sqnr_db"])
        assert row["on"]["sqnr_db"] >= whole["int8"]["sqnr_db"] - 3, "one alone costs no more than all"
    section = table_of.section(table)
    assert [t.title.partition(",")[0] for t in section.tables] == list(table_of.TITLES.values())
    assert section.headline.partition("All quantizers on")[2] in " ".join(answer.out.split())
    assert all(row[0] in answer.out for table_shown in section.tables for row in table_shown.rows)


def test_the_quantizer_at_fault_is_first(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = "bert.encoder.layer.1.attention.self.value._input_quantizer"
    read = Candidates._amax

    def too_wide(self: Candidates, *given: Any) -> dict[str, list[float]]:
        found = read(self, *given)
        return {**found, fault: [x * 40 for x in found[fault]]}

    monkeypatch.setattr(Candidates, "_amax", too_wide)
    table = sensitivity.run(recipe, count=3)
    first = {scope: table_of.ranked(table["rows"], scope)[0]["name"] for scope in sensitivity.SCOPES}
    assert fault in first["quantizer"] and first["kind"] == "linear" and first["layer"] == "bert.encoder.layer.1"


def test_a_killed_run_goes_on_where_it_was(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    judged: list[int] = []
    judge = sensitivity.Judge.__call__

    def counted(self: sensitivity.Judge, outputs: Any) -> dict[str, float]:
        judged.append(1)
        if len(judged) == 21:  # two for the whole, then two a row
            raise Killed("killed")
        return judge(self, outputs)

    monkeypatch.setattr(sensitivity.Judge, "__call__", counted)
    with pytest.raises(Killed, match="killed"):
        sensitivity.run(recipe, count=3)
    file = recipe.folder / BACKEND / sensitivity.FILE
    left = json.loads(file.read_text())
    assert not left["finished"] and len(left["rows"]) == 9
    judged.clear()
    judged.extend([1] * 100)
    table = sensitivity.run(recipe, count=3)
    assert table["finished"] and table["rows"][:9] == left["rows"]
    assert (len(judged) - 100 - 2) // 2 == len(table["rows"]) - 9
    judged.clear()
    judged.extend([1] * 100)
    again = sensitivity.run(recipe, count=2)
    assert (len(judged) - 100 - 2) // 2 == len(again["rows"]), "other samples: nothing of it counts"

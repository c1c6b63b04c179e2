"""The bench of parity finds what it is to find, on a small graph: sound engines pass, and faults are counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers import qdq_models as models
from helpers.usable import USABLE
from pipeline import stages
from pipeline.bench import parity, tables
from pipeline.bench.tables import parity as table_of
from pipeline.cli import show


def test_every_fault_is_tried_at_every_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "small"
    for backend in USABLE:
        models.export(folder, backend)
    monkeypatch.setattr(parity, "build", lambda recipe, announce: stages.run("engine", recipe))
    record = tmp_path / "parity.json"
    recipe = models.recipe(folder, USABLE[0], **{"budgets.speedup": 0.0})
    for _ in range(2):  # a table of the same model is replaced
        table = parity.run(recipe, groups=3, command="make bench-parity", announce=print, record=record)
    assert (len(json.loads(record.read_text())), table["backends"]) == (1, USABLE)
    threads = len({1, table["environment"]["threads"]})
    assert table["false_alarms"] == {"refused": 0, "trials": 3 * len(USABLE) * threads * 2}
    kinds = {fault["fault"] for fault in table["faults"]}
    assert kinds == {*parity.OUTPUT_FAULTS, *parity.GRAPH_FAULTS}
    assert {fault["trials"] for fault in table["faults"]} == {3 * len(USABLE)}
    large = {f["fault"]: f["refused"] / f["trials"] for f in table["faults"] if f["size"] == 0.1}
    assert large["output too large"] == large["noise on the output"] == 1
    show.recorded("parity", table, as_json=False)
    printed = capsys.readouterr().out
    assert "Sound engines refused: 0 of" in printed
    (rows,) = table_of.section(table).tables
    assert {row[0] for row in rows.rows} == kinds and rows.markdown() in tables.section("parity", record)

"""Result files: what a document says of its origin, and which of a file's results a new one replaces."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pipeline.bench import results
from pipeline.measure import machine


def test_a_document_begins_with_its_command_and_ends_with_where_it_was_measured() -> None:
    document = results.document("make bench", 2, packages=("numpy",), model="bert", batch=1)
    assert list(document) == ["command", "model", "batch", "environment"]
    about = document["environment"]
    assert (about["threads"], about["versions"]["numpy"]) == (2, np.__version__)
    assert about["date"] and about["processor"] == machine.processor_class()


def test_a_result_replaces_the_one_that_is_the_same_in_all_that_is_named(tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "bench.json"
    for model, batch, ms in (("bert", 1, 3.0), ("bert", 8, 20.0), ("segformer", 1, 30.0), ("bert", 1, 2.0)):
        results.add({"model": model, "batch": batch, "ms": ms}, None, file, same=("model", "batch"))
    found = [(x["model"], x["batch"], x["ms"]) for x in json.loads(file.read_text())]
    assert found == [("bert", 8, 20.0), ("segformer", 1, 30.0), ("bert", 1, 2.0)]
    results.write({"alone": 1}, None, file)
    assert json.loads(file.read_text()) == {"alone": 1}


def test_shapes_are_lists_as_json_has_them() -> None:
    assert results.shapes_of({"x": np.zeros((1, 3, 4))}) == {"x": [1, 3, 4]}

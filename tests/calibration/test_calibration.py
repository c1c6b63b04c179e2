"""The package works without torch, loads nothing it does not need, and never looks at the pipeline."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import calibration
from calibration import store
from helpers.command_line import python

WITHOUT_TORCH = """
import numpy as np
from calibration import CalibrationTable, QuantizerRecord, Statistic, compute_all, weight_amax
from calibration.histograms import read_histograms, write_histograms
statistic = Statistic(name="a")
statistic.collect(np.random.default_rng(0).normal(size=9000).astype(np.float16))
assert len(compute_all(statistic)) == 6
assert weight_amax(np.eye(3), 0).tolist() == [1.0, 1.0, 1.0]
write_histograms(sys.argv[1], {"a": statistic})
assert read_histograms(sys.argv[1]) == ({"a": statistic}, {})
record = QuantizerRecord.from_statistic(statistic, name="a", kind="input", samples=1)
records = {"a": record}
table = CalibrationTable(data_digest="-", samples=1, batches=1, records=records)
assert CalibrationTable.model_validate_json(table.to_json()) == table
"""

LIGHT = """
import sys
import calibration
heavy = {"torch", "pytorch_quantization", "pydantic", "scipy"} & set(sys.modules)
assert not heavy, heavy
try:
    calibration.Histogram
except AttributeError as fault:
    assert "'Histogram'" in str(fault)
else:
    raise AssertionError("an unknown name was found")
"""


def run(code: str, *arguments: str) -> None:
    done = python(code, *arguments, absent=("torch", "pytorch_quantization", "transformers"))
    assert done.returncode == 0, done.stderr


def test_works_where_torch_is_not_installed(tmp_path: Path) -> None:
    run(WITHOUT_TORCH, str(tmp_path / "histograms.npz"))


def test_import_is_light() -> None:
    run(LIGHT)


def test_what_is_heavy_is_found_by_its_name() -> None:
    assert calibration.CalibrationTable is store.CalibrationTable
    assert calibration.QuantizerRecord is store.QuantizerRecord
    with pytest.raises(AttributeError, match="module 'calibration' has no attribute 'Histogram'"):
        calibration.Histogram  # noqa: B018


@pytest.mark.parametrize("path", sorted(Path(calibration.__file__).parent.rglob("*.py")), ids=lambda path: path.stem)
def test_never_imports_the_pipeline(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [name for name in names if name.split(".")[0] == "pipeline"], f"{path.name}:{node.lineno}"

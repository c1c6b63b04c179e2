"""calibration.json and the histograms: what is written is read again, what is damaged is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration import CalibrationError, CalibrationTable, QuantizerRecord, Statistic
from calibration.histograms import histograms_to_bytes, read_histograms, write_histograms
from helpers.messages import all_of


def statistics() -> dict[str, Statistic]:
    """Returns three statistics: an ordinary one, one with other bins, and one that was never reached."""
    rng = np.random.default_rng(0)
    named = {
        "encoder.0/query.input": Statistic(name="encoder.0/query.input"),
        "head.input": Statistic(256, name="head.input"),
        "pooler.input": Statistic(name="pooler.input"),
    }
    named["encoder.0/query.input"].collect(rng.normal(size=500))
    named["encoder.0/query.input"].collect(rng.normal(size=500))
    named["head.input"].collect(np.abs(rng.normal(size=500)))
    return named


def table(**changes: Any) -> CalibrationTable:
    """Returns a small table: three activations and one weight."""
    records = {
        name: QuantizerRecord.from_statistic(statistic, name=name, kind="input", samples=20)
        for name, statistic in statistics().items()
    }
    records["query.weight"] = QuantizerRecord(
        name="query.weight", kind="weight", axis=0, amax={"max": [0.1, 0.0, 0.3], "mse": [0.1, 0.0, 0.2]}
    )
    fields = {"data_digest": "sha256:1", "samples": 20, "batches": 2}
    return CalibrationTable(**{**fields, "versions": {"torch": "2"}, "records": records, **changes})


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    table().write(tmp_path / "calibration.json")
    assert CalibrationTable.read(tmp_path / "calibration.json") == table()


def test_the_text_does_not_depend_on_the_order_of_records() -> None:
    turned = dict(reversed(table().records.items()))
    assert table(records=turned).to_json() == table().to_json()


def test_amax_survives_as_the_same_float32_in_short_decimals() -> None:
    value = float(np.float32(0.1))
    record = QuantizerRecord(name="a", kind="input", amax={"max": [value]})
    assert record.amax["max"] == [0.1] and np.float32(record.amax["max"][0]) == np.float32(value)


def test_records_tell_the_amax_or_why_there_is_none() -> None:
    records = table().records
    assert records["pooler.input"].degenerate == "was never reached by the calibration data"
    assert records["pooler.input"].amax_for("max") is None
    reached = records["encoder.0/query.input"]
    assert reached.amax_for("percentile", 99.9) == reached.amax["percentile_99.9"]
    assert (reached.batches, reached.elements, reached.samples) == (2, 1000, 20)
    with pytest.raises(CalibrationError, match=r"'encoder.0/query.input' has no 'percentile_98'; stored: entropy"):
        reached.amax_for("percentile", 98.0)


def edited(change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(table().to_json())
    change(document)
    return json.dumps(document)


def head(document: dict[str, Any]) -> dict[str, Any]:
    record: dict[str, Any] = document["records"]["head.input"]
    return record


DAMAGED = {
    "empty": ("", "file"),
    "no JSON": ("{'method': 1}", "file"),
    "truncated": (table().to_json()[:700], "file"),
    "missing": (edited(lambda d: d.pop("data_digest")), "data_digest: Field required"),
    "unknown key": (edited(lambda d: d.update(colour=1)), "colour"),
    "other format": (edited(lambda d: d.update(format=2)), "format"),
    "amax as text": (edited(lambda d: head(d)["amax"].update(max=["big"])), "records.head.input.amax.max.0"),
    "negative amax": (edited(lambda d: head(d)["amax"].update(max=[-1.0])), "records.head.input.amax.max.0"),
    "NaN": (edited(lambda d: head(d)["amax"].update(max=[float("nan")])), "records.head.input.amax.max.0"),
    "two for a tensor": (edited(lambda d: head(d)["amax"].update(max=[1.0, 2.0])), "records.head.input: "),
    "no amax": (edited(lambda d: head(d).update(amax={})), "records.head.input: "),
    "unequal channels": (
        edited(lambda d: d["records"]["query.weight"]["amax"].update(mse=[1.0])),
        "records.query.weight: ",
    ),
    "another name": (edited(lambda d: head(d).update(name="other")), "under another name"),
    "impossible number": (edited(lambda d: d.update(samples=-1)), "samples"),
    "a method, which is the run's": (edited(lambda d: d.update(method="max")), "method"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_table_is_refused_with_file_and_field(case: str, tmp_path: Path) -> None:
    text, field = DAMAGED[case]
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(CalibrationError, match=all_of(path, field)):
        CalibrationTable.read(path)


@pytest.mark.parametrize("read", [CalibrationTable.read, read_histograms])
def test_a_missing_file_is_named(read: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"absent.*No such file"):
        read(tmp_path / "absent")
    with pytest.raises(CalibrationError, match="directory"):
        read(tmp_path)


def test_histograms_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_histograms(tmp_path / "histograms.npz", statistics())
    again, channels = read_histograms(tmp_path / "histograms.npz")
    assert again == statistics() and channels == {}
    assert [again[name].batches for name in sorted(again)] == [2, 1, 0]
    assert all(statistic.name == name for name, statistic in again.items())


def test_no_histograms_are_histograms_too(tmp_path: Path) -> None:
    write_histograms(tmp_path / "histograms.npz", {})
    assert read_histograms(tmp_path / "histograms.npz") == ({}, {})


def test_equal_statistics_give_equal_bytes() -> None:
    assert histograms_to_bytes(dict(reversed(statistics().items()))) == histograms_to_bytes(statistics())


def saved(path: Path, **changes: Any) -> None:
    write_histograms(path, statistics())
    with np.load(path) as archive:
        arrays = {**archive, **changes}
    np.savez(path, allow_pickle=True, **{key: value for key, value in arrays.items() if value is not None})


DAMAGED_HISTOGRAMS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("histograms"),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(histograms_to_bytes(statistics())[:-400]),
    "missing array": lambda path: saved(path, **{"tensor/0/amax": None}),
    "pickled objects": lambda path: saved(path, **{"tensor/names": np.array([{}, [], ()], dtype=object)}),
    "other counts": lambda path: saved(path, **{"tensor/0/counts": np.eye(1, 2049, dtype=np.int64)[0]}),
    "other amax": lambda path: saved(path, **{"tensor/0/amax": np.array(9.0, np.float32)}),
    "one name less": lambda path: saved(path, **{"tensor/names": np.array(["a", "b"])}),
    "a single array": lambda path: np.save(path.open("wb"), np.ones(3)),
}


@pytest.mark.parametrize("case", DAMAGED_HISTOGRAMS)
def test_damaged_histograms_are_refused(case: str, tmp_path: Path) -> None:
    path = tmp_path / "histograms.npz"
    DAMAGED_HISTOGRAMS[case](path)
    with pytest.raises(CalibrationError, match=r"histograms\.npz"):
        read_histograms(path)

"""calibration.json and the histograms: what is written is read again, what is damaged is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from calibration import CalibrationError, CalibrationTable, QuantizerRecord, Statistic, compute_all
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
    assert reached.amax_for("percentile") == reached.amax["percentile_99.99"]
    assert (reached.batches, reached.elements, reached.samples) == (2, 1000, 20)
    with pytest.raises(CalibrationError, match=r"'encoder.0/query.input' has no 'percentile_98'; stored: entropy"):
        reached.amax_for("percentile", 98.0)


def test_a_record_reads_amax_for_the_integers_that_the_quantizer_has() -> None:
    statistic = Statistic()
    statistic.collect(np.maximum(np.random.default_rng(0).normal(size=4000), 0))
    options: dict[str, Any] = {"num_bits": 4, "unsigned": True}
    record = QuantizerRecord.from_statistic(
        statistic, name="a", kind="input", samples=7, percentiles=(99.0,), **options
    )
    found = {method: amax for method, (amax,) in record.amax.items()}
    assert found == pytest.approx(compute_all(statistic, (99.0,), **options))
    assert found != pytest.approx(compute_all(statistic, (99.0,), num_bits=4), rel=1e-4), "signed is something else"
    assert found != pytest.approx(compute_all(statistic, (99.0,), unsigned=True), rel=1e-4), "and so are 8 bits"
    assert (record.num_bits, record.unsigned, record.samples, record.axis) == (4, True, 7, None)
    plain = QuantizerRecord.from_statistic(statistic, name="a", kind="input", samples=7)
    assert (plain.num_bits, plain.unsigned) == (8, False)
    assert [*plain.amax] == ["max", "percentile_99.9", "percentile_99.99", "percentile_99.999", "mse", "entropy"]


@pytest.mark.parametrize(("num_bits", "is_one"), [(1, False), (2, True), (16, True), (17, False)])
def test_a_record_is_of_2_to_16_bits(num_bits: int, is_one: bool) -> None:
    fields: dict[str, Any] = {"name": "a", "kind": "input", "amax": {"max": [1.0]}, "num_bits": num_bits}
    if is_one:
        assert QuantizerRecord(**fields).num_bits == num_bits
    else:
        with pytest.raises(ValidationError, match="num_bits"):
            QuantizerRecord(**fields)


@pytest.mark.parametrize("field", ["samples", "batches", "elements"])
def test_a_record_of_nothing_has_no_fewer(field: str) -> None:
    fields: dict[str, Any] = {"name": "a", "kind": "input", "amax": {"max": [0.0]}}
    assert getattr(QuantizerRecord(**fields), field) == 0
    with pytest.raises(ValidationError, match=field):
        QuantizerRecord(**fields, **{field: -1})


def test_what_was_read_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        table().samples = 3
    with pytest.raises(ValidationError, match="frozen"):
        table().records["head.input"].unsigned = True


def test_the_text_of_a_small_table(tmp_path: Path) -> None:
    record = QuantizerRecord(name="a", kind="input", amax={"max": [0.5]})
    found = CalibrationTable(data_digest="d", samples=0, batches=0, records={"a": record})
    assert found.to_json() == (
        '{\n "format": 1,\n "data_digest": "d",\n "samples": 0,\n "batches": 0,\n "versions": {},\n "records": {\n'
        '  "a": {\n   "name": "a",\n   "kind": "input",\n   "num_bits": 8,\n   "unsigned": false,\n   "amax": {\n'
        '    "max": [\n     0.5\n    ]\n   },\n   "samples": 0,\n   "batches": 0,\n   "elements": 0\n  }\n }\n}\n'
    )


@pytest.mark.parametrize(("count", "more"), [(1, ""), (5, ""), (6, r" \(and 1 more\)"), (8, r" \(and 3 more\)")])
def test_five_faults_of_a_table_are_listed(count: int, more: str, tmp_path: Path) -> None:
    text = edited(lambda d: d.update({f"odd{i}": 1 for i in range(count)}))
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(CalibrationError, match=rf"odd{min(count, 5) - 1}: [^;]*{more}; calibrate again") as error:
        CalibrationTable.read(tmp_path / "calibration.json")
    assert str(error.value).count("odd") == min(count, 5) and ("more)" in str(error.value)) is (count > 5)


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
    with pytest.raises(
        CalibrationError, match=r"absent: cannot be read \(No such file or directory\); calibrate again"
    ):
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


SAID = {
    "a single array": "holds no histograms: a single array",
}
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
    with pytest.raises(CalibrationError, match=rf"histograms\.npz.*{SAID.get(case, '')}"):
        read_histograms(path)


def test_a_statistic_that_nobody_is_named_for_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "histograms.npz", **{"tensor/names": np.array(["a"]), "tensor/place": np.array([0])})
    with pytest.raises(CalibrationError, match="names and tensor statistics do not belong together"):
        read_histograms(tmp_path / "histograms.npz")

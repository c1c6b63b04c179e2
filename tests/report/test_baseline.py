"""The baseline: what a report must keep, what counts as a regression and what as noise."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.artifacts import sealed
from pipeline.errors import ArtifactError, InputError
from pipeline.report import baseline

PERCENTILES = {"p50": 10.0, "p90": 11.0, "p99": 12.0, "mean": 10.2}
REPORT: dict[str, Any] = {
    "model": "bert", "checkpoint": "embedded", "family": "bert", "task": "question-answering",
    "backend": "openvino", "precision": "int8", "verdict": "pass", "reasons": [],
    "accuracy": {"metric": "f1", "float": 0.9, "engine": 0.895, "drop": 0.005, "relative_drop": 0.0056,
                 "agreement": 0.98, "sqnr_db": 25.0, "samples": 500},
    "latency": {"batch": 1, "shape": [1, 128], "threads": 2, "warmup": 3, "runs": 30, "float_ort": PERCENTILES,
                "engine": PERCENTILES, "speedup": {"median": 3.0, "low": 2.9, "high": 3.1},
                "samples": {"engine": [10.0]}},
    "batches": [{"batch": 1, "max_abs_diff": 0.1, "cosine": 0.999, "agreement": 1.0}],
    "size": {"float_onnx": 400, "qdq_onnx": 110, "engine": 100},
    "precision_report": {"int8_ops": 90, "float_ops": 40, "int8_flop_share": 0.98, "layers": [{"name": "a"}]},
    "calibration": {"method": "max", "batches": 8, "samples": 64, "seconds": 1.0},
    "environment": {"cpu": "this", "gpu": None, "threads": 2, "os": "linux", "versions": {}, "date": "2026"},
    "stages": [],
}  # fmt: skip


def changed(**values: Any) -> dict[str, Any]:
    """Returns a report with some values exchanged; 'accuracy__engine' is accuracy → engine."""
    report = copy.deepcopy(REPORT)
    for path, value in values.items():
        *parents, last = path.split("__")
        part = report
        for parent in parents:
            part = part[parent]
        part[last] = value
    return report


def regressions(report: dict[str, Any]) -> list[str]:
    return [c.name for c in baseline.compare(report, REPORT) if c.regression]


def test_an_equal_report_has_no_regression() -> None:
    changes = baseline.compare(REPORT, REPORT)
    assert [c.name for c in changes] == [
        "f1", "agreement", "speed-up", "engine bytes", "int8 share of the arithmetic",
    ]  # fmt: skip
    assert not any(c.regression for c in changes)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"accuracy__engine": 0.87}, ["f1"]),
        ({"accuracy__engine": 0.885}, []),  # 0.01 below: within the margin of 500 samples, 0.0175
        ({"accuracy__engine": 0.885, "accuracy__samples": 50_000}, []),  # the fewer samples decide
        ({"accuracy__engine": 0.95}, []),
        ({"accuracy__agreement": 0.93}, ["agreement"]),
        ({"latency__speedup": {"median": 2.7, "low": 2.6, "high": 2.8}}, ["speed-up"]),
        ({"latency__speedup": {"median": 2.8, "low": 2.6, "high": 2.95}}, []),  # the intervals meet
        ({"latency__speedup": {"median": 4.0, "low": 3.9, "high": 4.1}}, []),
        ({"size__engine": 103}, ["engine bytes"]),
        ({"size__engine": 101}, []),
        ({"precision_report__int8_flop_share": 0.9}, ["int8 share of the arithmetic"]),
    ],
)
def test_regressions(change: dict[str, Any], expected: list[str]) -> None:
    assert regressions(changed(**change)) == expected


def test_every_change_is_one_line() -> None:
    now = changed(accuracy__engine=0.87, accuracy__samples=400, size__engine=110)
    assert [str(c) for c in baseline.compare(now, REPORT)] == [
        "f1: 0.8950 -> 0.8700 (margin 0.0196, 500 samples before and 400 now)",
        "agreement: 0.9800 -> 0.9800 (margin 0.0196, 500 samples before and 400 now)",
        "speed-up: 3.00 [2.90, 3.10] -> 3.00 [2.90, 3.10] (95 % intervals)",
        "engine bytes: 100 -> 110 (+10.0%)",
        "int8 share of the arithmetic: 0.9800 -> 0.9800",
    ]
    assert str(baseline.compare(REPORT, REPORT)[0]) == "f1: 0.8950 -> 0.8950 (margin 0.0175)"


@pytest.mark.parametrize(
    ("before", "now", "samples", "margin"),
    [
        (0.98, 0.98, (500, 500), 1.96 * np.sqrt(0.04 / 500)),
        (0.98, 0.9, (500, 500), 1.96 * np.sqrt(0.12 / 500)),
        (0.9, 0.98, (500, 200), 1.96 * np.sqrt(0.12 / 200)),
        (0.9, 0.98, (200, 500), 1.96 * np.sqrt(0.12 / 200)),
        (1.0, 1.0, (500, 500), 0.001),  # with no answer changed there is a little room still
    ],
)
def test_the_margin_by_hand(before: float, now: float, samples: tuple[int, int], margin: float) -> None:
    figures = [{"agreement": share, "samples": n} for share, n in zip((before, now), samples, strict=True)]
    assert baseline.accuracy_margin(*figures) == pytest.approx(margin)


EXACT = changed(accuracy__agreement=1.0, accuracy__engine=0.5, size__engine=1000, precision_report__int8_flop_share=0.5)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"accuracy__engine": 0.4992}, []),
        ({"accuracy__engine": 0.4988}, ["f1"]),
        ({"size__engine": 1019}, []),
        ({"size__engine": 1021}, ["engine bytes"]),
        ({"size__engine": 500}, []),
        ({"precision_report__int8_flop_share": 0.491}, []),
        ({"precision_report__int8_flop_share": 0.489}, ["int8 share of the arithmetic"]),
        ({"precision_report__int8_flop_share": 0.9}, []),
        ({"latency__speedup": {"median": 2.8, "low": 2.7, "high": 2.9}}, []),  # the intervals touch
        ({"latency__speedup": {"median": 2.8, "low": 2.7, "high": 2.899}}, ["speed-up"]),
    ],
)
def test_how_much_worse_is_a_regression(change: dict[str, Any], expected: list[str]) -> None:
    now = copy.deepcopy(EXACT)
    for path, value in change.items():
        part, _, key = path.partition("__")
        now[part][key] = value
    assert [c.name for c in baseline.compare(now, EXACT) if c.regression] == expected


@pytest.mark.parametrize(
    ("place", "was"),
    [
        ({"environment__cpu": "other"}, "other, class unknown, 2 threads"),
        ({"environment__processor": "vnni"}, "this, vnni, 2 threads"),
        ({"latency__threads": 4}, "this, class unknown, 4 threads"),
    ],
)
def test_a_place_is_processor_class_and_threads(place: dict[str, Any], was: str) -> None:
    slow = changed(latency__speedup={"median": 1.0, "low": 0.9, "high": 1.1})
    (speed,) = [c for c in baseline.compare(slow, changed(**place)) if c.name == "speed-up"]
    assert not speed.regression and speed.note == f"not judged: the baseline is from another machine ({was})"


def test_speed_of_another_machine_is_not_judged() -> None:
    slow = {"median": 1.0, "low": 0.9, "high": 1.1}
    report = changed(latency__speedup=slow, environment__cpu="another")
    (speed,) = [c for c in baseline.compare(report, REPORT) if c.name == "speed-up"]
    assert not speed.regression and "another machine" in str(speed)


def test_a_speed_up_that_was_not_measured_is_not_judged() -> None:
    without = changed(latency__speedup=None, latency__float_ort=None)
    for now, before, who in ((without, REPORT, "this run"), (REPORT, without, "the baseline")):
        (speed,) = [c for c in baseline.compare(now, before) if c.name == "speed-up"]
        assert (
            not speed.regression and f"not judged: {who} has none" in str(speed) and "3.00 [2.90, 3.10]" in str(speed)
        )


def test_a_missing_speed_up_has_no_interval() -> None:
    without = changed(latency__speedup=None, latency__float_ort=None)
    (speed,) = [c for c in baseline.compare(without, REPORT) if c.name == "speed-up"]
    assert (speed.before, speed.now) == ("3.00 [2.90, 3.10]", "–")


@pytest.mark.parametrize("key", ["family", "checkpoint", "task", "backend"])
def test_unequal_things_are_not_compared(key: str) -> None:
    with pytest.raises(InputError, match=f"the baseline is of {key}"):
        baseline.compare(changed(**{key: "other"}), REPORT)


def test_margin_covers_chance() -> None:
    """Runs that differ only in which d·n predictions flip, to right or wrong alike, stay within it 95 times in 100."""
    rng = np.random.default_rng(0)
    samples, share = 500, 0.02
    figures = {"agreement": 1 - share, "samples": samples}
    margin = baseline.accuracy_margin(figures, figures)
    falls = []
    for _ in range(2000):
        flips = rng.random((2, samples)) < share
        falls.append(float((flips * rng.choice([-1, 1], (2, samples))).sum(1) @ [1, -1]) / samples)
    assert 0.95 <= np.mean(np.array(falls) <= margin) < 1


def test_stored_and_read(tmp_path: Path) -> None:
    stored = baseline.store(REPORT, tmp_path)
    assert baseline.read(tmp_path) == stored
    assert "layers" not in stored["precision_report"] and "samples" not in stored["latency"]
    assert not any(c.regression for c in baseline.compare(REPORT, baseline.read(tmp_path)))


def test_what_a_baseline_keeps(tmp_path: Path) -> None:
    stored = baseline.store(REPORT, tmp_path)
    assert set(stored) == {
        "format", "model", "family", "checkpoint", "task", "backend", "precision", "accuracy", "latency", "size",
        "environment", "precision_report", "held_out", "made_of", "digest",
    }  # fmt: skip
    assert stored["precision_report"] == {"int8_ops": 90, "float_ops": 40, "int8_flop_share": 0.98}
    assert stored["latency"] == {k: v for k, v in REPORT["latency"].items() if k != "samples"}
    assert (stored["format"], stored["held_out"], stored["made_of"]["engine"]) == (2, None, None)


def test_digests_of_samples_are_told_by_twelve_of_their_digits() -> None:
    with pytest.raises(InputError, match="of held-out samples 'aaaaaaaaaaaa', this report of 'bbbbbbbbbbbb'; compare"):
        baseline.compare(changed(held_out="b" * 64), changed(held_out="a" * 64))


def test_stored_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "baselines" / "of today" / "bert.json"
    stored = baseline.store(REPORT, tmp_path, path)
    assert baseline.read(tmp_path, path)["model"] == "bert"
    assert path.read_text() == json.dumps(stored, indent=1), "a line a value: to be read, and compared by git"
    with pytest.raises(InputError, match="to store one, run"):
        baseline.read(tmp_path)


def test_a_report_of_another_form_is_not_stored(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"accuracy\.engine"):
        baseline.store(changed(accuracy__engine="good"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a baseline"),
        ("[]", "is not a baseline"),
        ("{}", "is not a baseline"),
        ('{"format": 2}', "is not a baseline"),
        ('{"format": 7}', "has format 7"),
        ('{"format": 1}', "has format 1, this version reads 2; to store it again"),
    ],
)
def test_a_damaged_baseline_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / baseline.FILE).write_text(content)
    with pytest.raises(ArtifactError, match=message):
        baseline.read(tmp_path)


def test_baseline_is_plain_json(tmp_path: Path) -> None:
    baseline.store(REPORT, tmp_path)
    assert json.loads((tmp_path / baseline.FILE).read_text())["latency"]["speedup"]["median"] == 3.0


# --- edited, of another form, of other things ---


def edit(path: Path, **values: Any) -> None:
    """Changes a stored baseline by hand: 'accuracy__engine' is accuracy → engine."""
    document = json.loads(path.read_text())
    for name, value in values.items():
        *parents, last = name.split("__")
        part = document
        for parent in parents:
            part = part[parent]
        part[last] = value
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "change",
    [{"accuracy__engine": 0.1}, {"latency__speedup": None}, {"size__engine": 10**9}, {"model": "x"}, {"more": 1},
     {"held_out": "x"}, {"digest": "0" * 16}, {"made_of__report": ""}, {"accuracy__metric": "miou"}],
)  # fmt: skip
def test_an_edited_baseline_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    baseline.store(REPORT, tmp_path)
    edit(tmp_path / baseline.FILE, **change)
    with pytest.raises(ArtifactError, match=r"was changed after it was stored; to store it again, run"):
        baseline.read(tmp_path)


def test_a_baseline_may_be_set_out_anew(tmp_path: Path) -> None:
    stored = baseline.store(REPORT, tmp_path)
    path = tmp_path / baseline.FILE
    path.write_text(json.dumps(stored, indent=4, sort_keys=True))
    assert baseline.read(tmp_path) == stored


def test_a_baseline_says_what_it_was_made_of(tmp_path: Path) -> None:
    judged = {"openvino/model.bin": "ab"}
    stored = baseline.store(changed(judged=judged, held_out="cd"), tmp_path)
    assert stored["made_of"]["engine"] == judged and stored["held_out"] == "cd"
    assert stored["made_of"]["report"] != baseline.store(REPORT, tmp_path)["made_of"]["report"]


def test_a_baseline_of_before_they_had_a_digest_is_stored_again(tmp_path: Path) -> None:
    baseline.store(REPORT, tmp_path)
    edit(tmp_path / baseline.FILE, format=1)
    with pytest.raises(ArtifactError, match=r"has format 1, this version reads 2; to store it again"):
        baseline.read(tmp_path)
    edit(tmp_path / baseline.FILE, format=baseline.FORMAT + 1)
    with pytest.raises(ArtifactError, match=r"has format 3, this version reads 2"):
        baseline.read(tmp_path)


def test_metrics_are_compared_by_name() -> None:
    with pytest.raises(InputError, match="the baseline is of metric 'f1', this report of 'accuracy'"):
        baseline.compare(changed(accuracy__metric="accuracy"), REPORT)


def test_other_samples_are_not_compared() -> None:
    with pytest.raises(InputError, match="the baseline is of held-out samples 'a', this report of 'b'"):
        baseline.compare(changed(held_out="b"), changed(held_out="a"))
    with pytest.raises(InputError, match="the baseline is of held-out samples 'None', this report of 'b'"):
        baseline.compare(changed(held_out="b"), REPORT)
    assert baseline.compare(changed(held_out="b"), changed(held_out="b"))


def test_a_folder_may_have_another_name_now() -> None:
    assert regressions(changed(model="renamed")) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "0.9", True, [0.9]])
@pytest.mark.parametrize(
    "name", ["accuracy__engine", "accuracy__agreement", "accuracy__samples", "size__engine", "latency__speedup__low",
             "precision_report__int8_flop_share"],
)  # fmt: skip
def test_what_is_no_number_is_not_compared(name: str, value: Any) -> None:
    """NaN compares false with everything: no regression would ever be seen."""
    for now, before, whose in ((changed(**{name: value}), REPORT, "this report"),
                               (REPORT, changed(**{name: value}), "the baseline")):  # fmt: skip
        with pytest.raises(ArtifactError, match=f"(?s)nothing to compare with.*{name.replace('__', '.')}.*{whose}"):
            baseline.compare(now, before)


@pytest.mark.parametrize("share", [-0.01, 1.01])
def test_an_impossible_share_is_not_compared(share: float) -> None:
    with pytest.raises(ArtifactError, match=r"precision_report\.int8_flop_share"):
        baseline.compare(changed(precision_report__int8_flop_share=share), REPORT)
    for possible in (0.0, 1.0):
        assert baseline.compare(changed(precision_report__int8_flop_share=possible), REPORT)


def test_a_stored_baseline_without_a_number_is_not_read(tmp_path: Path) -> None:
    stored = copy.deepcopy(baseline.store(REPORT, tmp_path))
    del stored["accuracy"]["agreement"], stored["digest"]
    (tmp_path / baseline.FILE).write_text(json.dumps(sealed(stored)))
    with pytest.raises(ArtifactError, match=r"(?s)accuracy\.agreement: Field required.*to store it again"):
        baseline.read(tmp_path)


def test_a_missing_number_is_not_compared() -> None:
    before = changed()
    del before["accuracy"]["agreement"]
    with pytest.raises(ArtifactError, match=r"accuracy\.agreement: Field required"):
        baseline.compare(REPORT, before)


@pytest.mark.parametrize(("now", "expected"), [(-0.5, ["f1"]), (-0.1, []), (0.3, [])])
def test_a_negative_metric_falls_downwards(now: float, expected: list[str]) -> None:
    before = changed(accuracy__engine=-0.1)
    assert [c.name for c in baseline.compare(changed(accuracy__engine=now), before) if c.regression] == expected

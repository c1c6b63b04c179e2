"""The HTML report says what report and artifacts hold, needs no network, and names what is missing."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from helpers.report_samples import EXAMPLES, HOSTILE, sample_report, sample_workspace, scene
from pipeline.artifacts import Workspace
from pipeline.report import overlays
from pipeline.report.page import render

VOID = {"meta", "img", "br", "input", "wbr"}  # elements without an end tag


class Page(HTMLParser):
    """Collects text and attributes, and requires that every element is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.open, self.words = html, [], []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        assert not self.open
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)


def draw(report: dict[str, Any], workspace: Workspace, examples: Any = (), names: Any = ("sky", "road")) -> Page:
    area = workspace.folder.parent / "area"
    render(report, workspace, area, examples=examples, class_names=names)
    return Page((area / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return sample_workspace(tmp_path / "exports" / "segformer")


@pytest.mark.parametrize("kind", EXAMPLES)
def test_page_needs_nothing_from_outside_and_runs_no_foreign_script(workspace: Workspace, kind: str) -> None:
    assert overlays.kind_of(EXAMPLES[kind]) == kind
    page = draw(sample_report(), workspace, EXAMPLES[kind], ("sky", HOSTILE))
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "object", "base"}
        for name in ("src", "href", "xlink:href", "action"):
            assert re.match(r"data:image/|#", attributes.get(name) or "#"), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"@import|url\((?!#)", page.html)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "default-src 'none'" in page.html
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert HOSTILE in page.text  # shown as it is, not swallowed


def test_page_says_what_the_report_holds(workspace: Workspace) -> None:
    text = draw(sample_report(), workspace, EXAMPLES["segmentation"]).text
    for said in (
        "PASS", "4.00×", "95 % interval 3.90 to 4.10", "✓ budget: at least 2×",
        "0.39 %", "mIoU 0.8123 → 0.8091 (−0.0032), 16 samples", "✓ budget: at most 1 %",
        "98.77 %", "SQNR 27.2 dB", "✗ budget: at least 99 %",
        "latency p99 130 ms 32.5 ms 4.00× faster", "engine file 4.0 MiB 1.5 MiB 2.67× smaller",
        "0.999123", "99.11 %", "87.5 %", "All 3 layers", "12 s", "1.0 GiB", "in an earlier run", "2026.4",
        "make engine MODEL=segformer DATA='my data'",
        "1 of 2 quantizers are on", "2 channels", "because", "3 interleaved rounds",
    ):  # fmt: skip
        assert said in text, said


def test_failed_verdict_shows_its_reasons(workspace: Workspace) -> None:
    report = {
        **sample_report(),
        "verdict": "fail",
        "reasons": ["agreement 0.98 is below the budget 0.99", HOSTILE],
    }
    page = draw(report, workspace)
    assert "FAIL" in page.text and "PASS" not in page.text
    assert "agreement 0.98 is below the budget 0.99" in page.text


@pytest.mark.parametrize("key", [*sample_report(), "everything"])
def test_a_missing_part_leaves_a_page(workspace: Workspace, key: str) -> None:
    report = sample_report() if key != "everything" else {}
    report.pop(key, None)
    page = draw(report, workspace)
    expected = {
        "latency": "no latency measurement", "batches": "no check of batch sizes", "stages": "no stage times",
        "accuracy": "no accuracy per class", "environment": "does not describe its environment",
        "precision_report": "does not tell which precision", "verdict": "NO VERDICT",
        "everything": "The report holds no measurement.",
    }  # fmt: skip
    assert expected.get(key, "The task offers no examples.") in page.text


def test_a_page_without_a_float_runtime_says_so_and_shows_the_engine(workspace: Workspace) -> None:
    report = sample_report()
    reason = "the package 'onnxruntime' is not installed"
    report["latency"] |= {"float_ort": None, "speedup": None, "not_compared": reason}
    report["latency"].pop("float_ort_rewritten", None)
    page = draw(report, workspace)
    assert f"float ONNX Runtime was not timed: {reason}" in page.text and "95 % interval" not in page.text
    assert "no latency measurement" not in page.text and not re.search(r"\b(nan|None)\b", page.text)


@pytest.mark.parametrize("section", ["accuracy", "latency", "size", "precision_report", "calibration", "environment"])
def test_a_missing_number_leaves_a_page(workspace: Workspace, section: str) -> None:
    for key in sample_report()[section]:
        report = sample_report()
        for drawn in {"accuracy", "latency"} - {section}:
            del report[drawn]  # figures take most of the time and are not what is tested here
        report[section][key] = float("nan") if isinstance(report[section][key], int | float) else None
        assert not re.search(r"\b(nan|None)\b", draw(report, workspace).text), key


@pytest.mark.parametrize("name", ["calibration.json", "calibration.npz", "openvino/placement.json"])
def test_an_altered_artifact_is_named_and_not_shown(workspace: Workspace, name: str) -> None:
    (workspace.folder / name).write_bytes(b"{}")
    text = draw(sample_report(), workspace).text
    assert f"{name} was altered" in text
    assert ("because" in text) == (name != "openvino/placement.json")


@pytest.mark.parametrize(
    ("broken", "section"),
    [
        ("plots.latency", "latency"),
        ("plots.per_class", "accuracy"),
        ("plots.per_sample", "accuracy"),
        ("overlays.segmentation", "examples"),
        ("summary.operators", "operators"),
        ("quantizers.groups", "quantizers"),
    ],
)
def test_no_picture_costs_a_report(
    broken: str, section: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = draw(sample_report(), workspace, EXAMPLES["segmentation"])
    assert "could not be drawn" not in whole.text

    def fail(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(f"pipeline.report.{broken}", fail)
    page = draw(sample_report(), workspace, EXAMPLES["segmentation"])
    said = "This could not be drawn (ZeroDivisionError: division by zero); please report it."
    assert page.text.count(said) == 1 and "PASS" in page.text
    assert said in page.html.partition(f'<section id="{section}">')[2].partition("</section>")[0]
    assert "The report holds no" not in page.text and "no quantizer" not in page.text


def test_names_of_any_bytes_leave_a_page(workspace: Workspace) -> None:
    report = {**sample_report(), "checkpoint": b"caf\xe9".decode("utf-8", "surrogateescape")}
    assert "PASS" in draw(report, workspace).text


def test_same_input_gives_the_same_bytes(workspace: Workspace) -> None:
    pages = [draw(sample_report(), workspace, EXAMPLES["segmentation"]).html for _ in range(2)]
    assert pages[0] == pages[1]


def test_page_is_drawn_without_torch(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of it now fails
    assert "PASS" in draw(sample_report(), workspace, EXAMPLES["questions"]).text


def test_page_of_many_large_samples_stays_small(workspace: Workspace) -> None:
    page = draw(sample_report(), workspace, [scene(512, 1000)] * 20)
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == overlays.LIMIT * 5
    assert len(page.html) < 5 * 2**20


def test_the_scores_of_auto_are_shown_best_first(workspace: Workspace) -> None:
    report = sample_report()
    assert 'id="calibration"' not in draw(report, workspace).html, "no table where no method was chosen by score"
    rows = [
        {"label": "max + migration", "relative_drop": 0.0025, "agreement": 0.95, "sqnr_db": 21.94, "samples": 128},
        {"label": HOSTILE, "relative_drop": 0.0187, "agreement": 0.83, "sqnr_db": 13.2, "samples": 128},
    ]
    page = draw({**report, "calibration": {**report["calibration"], "candidates": rows}}, workspace)
    assert 'id="calibration"' in page.html and "128 held-out samples" in page.text
    assert page.text.index("max + migration") < page.text.index(HOSTILE)
    assert "21.9 dB" in page.text and "0.25" in page.text


def test_a_migrated_quantizer_says_where_its_outliers_went(workspace: Workspace) -> None:
    path = workspace.folder / "openvino" / "placement.json"
    document = json.loads(path.read_text())
    document["migrations"] = [
        {"quantizers": ["encoder.0.query.input"], "into": "LayerNorm", "strength": 0.85, "gain_db": 6.4}
    ]
    with workspace.staging("lower", {}, {}) as area:
        (area / "openvino").mkdir()
        (area / "openvino" / "placement.json").write_text(json.dumps(document))
    page = draw(sample_report(), workspace)
    assert "outliers moved into the weights (by LayerNorm, strength 0.85, 6.4 dB less noise)" in page.text

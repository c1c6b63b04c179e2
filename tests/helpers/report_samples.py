"""A report, its artifacts and examples of every kind, for the tests of the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from calibration.histograms import write_histograms
from calibration.statistics import Statistic
from calibration.store import CalibrationTable, QuantizerRecord
from pipeline.artifacts import MANIFEST, Workspace
from pipeline.files import write_atomic

HOSTILE = "<script>alert('$x_')</script> & \"q\""
AMAX = {"encoder.0.query.input": 2.0, "encoder.0.query.weight": [0.5, 0.25]}
SCALE = {"encoder.0.query.input": 2.0 / 127, "encoder.0.query.weight": [0.5 / 127, 0.25 / 127]}


def sample_workspace(folder: Path) -> Workspace:
    """Returns a folder with two quantizers: an input, on at its mse amax 2, and a per-channel weight, off."""
    statistic = Statistic(name="encoder.0.query.input")
    statistic.collect(np.linspace(-4, 4, 1001, dtype=np.float32))
    records = [
        QuantizerRecord(
            name="encoder.0.query.input",
            kind="input",
            amax={"max": [4.0], "percentile_99.99": [3.9], "mse": [2.0]},
        ),
        QuantizerRecord(name="encoder.0.query.weight", kind="weight", axis=0, amax={"max": [0.5, 0.25]}),
    ]
    table = CalibrationTable(
        data_digest="d",
        samples=4,
        batches=2,
        records={r.name: r for r in records},
    )
    workspace = Workspace(folder)
    with workspace.staging("calibrate", {}, {}) as area:
        table.write(area / "calibration.json")
        write_histograms(area / "calibration.npz", {statistic.name or "": statistic})
    with workspace.staging("lower", {}, {}) as area:
        (area / "openvino").mkdir()
        placed = [
            {
                "name": r.name,
                "kind": r.kind,
                "enabled": r.axis is None,
                "amax": AMAX[r.name],
                "scale": SCALE[r.name],
                "reason": "because",
            }
            for r in records
        ]
        (area / "openvino" / "placement.json").write_text(
            json.dumps(
                {
                    "quantizers": placed,
                    "migrations": [],
                    "calibration": {"method": "percentile", "percentile": 99.99, "migration": False},
                }
            )
        )
    manifest = workspace.manifest
    manifest.recipe = {
        "budgets": {"relative_drop": 0.01, "agreement": 0.99, "speedup": 2.0},
        "data": "my data",
    }
    write_atomic(workspace.folder / MANIFEST, manifest.to_json().encode())
    return workspace


def sample_report() -> dict[str, Any]:
    """Returns a report with every key of the contract and the optional ones that the page knows."""
    times = {"p50": 100.0, "p90": 110.0, "p99": 130.0, "mean": 102.0}
    return {
        "model": "segformer",
        "checkpoint": "embedded",
        "family": "segformer",
        "task": "semantic-segmentation",
        "backend": "openvino",
        "precision": "int8",
        "verdict": "pass",
        "reasons": [],
        "accuracy": {
            "metric": "miou", "float": 0.8123, "engine": 0.8091, "drop": 0.0032, "relative_drop": 0.0039,
            "agreement": 0.98765, "sqnr_db": 27.25, "samples": 16,
            "per_class": [
                {"name": "sky", "float": 0.9, "engine": 0.91},
                {"name": HOSTILE, "float": 0.5, "engine": 0.4},
            ],
            "per_sample": {"float": [1.0, 0.5, 0.0], "engine": [1.0, 0.25, 0.0]},
        },
        "latency": {
            "batch": 1, "shape": [1, 3, 64, 64], "threads": 2, "warmup": 3, "runs": 3, "float_ort": times,
            "engine": {name: value / 4 for name, value in times.items()},
            "float_ort_rewritten": {name: value / 2 for name, value in times.items()},
            "speedup": {"median": 4.0, "low": 3.9, "high": 4.1},
            "samples": {"float_ort": [100, 101, 130], "engine": [25, 25, 33]},
        },
        "batches": [{"batch": 2, "max_abs_diff": 0.0625, "cosine": 0.999123, "agreement": 0.9911}],
        "size": {"float_onnx": 4 * 2**20, "qdq_onnx": 2**20, "engine": 2**20 + 2**19},
        "precision_report": {
            "int8_ops": 2, "float_ops": 1, "int8_flop_share": 0.875,
            "layers": [
                {"name": HOSTILE, "type": "Convolution", "precision": "i8", "kernel": "brgemm", "ms": 3.0},
                {"name": "b", "type": "Convolution", "precision": "f32", "kernel": "ref", "ms": 1.0},
                {"name": "c", "type": "Softmax", "precision": "f32", "kernel": "jit", "ms": 2.0},
            ],
        },
        "calibration": {"method": "percentile", "batches": 2, "samples": 4, "seconds": 1.5},
        "environment": {
            "cpu": "a cpu", "gpu": None, "threads": 2, "os": "Linux", "date": "2026-01-02",
            "versions": {"openvino": "2026.4"},
        },
        "stages": [
            {"name": "calibrate", "seconds": 12.0, "peak_rss_bytes": 2**30, "skipped": False},
            {"name": "export", "seconds": 0.0, "peak_rss_bytes": 0, "skipped": True},
        ],
    }  # fmt: skip


def scene(side: int, changed: int = 0, labelled: bool = True) -> dict[str, Any]:
    """A noisy picture whose left half is class 0 and right half class 1; int8 changes `changed` pixels."""
    label = np.zeros((side, side), np.uint8)
    label[:, side // 2 :] = 1
    engine = label.copy()
    engine.ravel()[1 : 1 + changed] = 1
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return {"image": image, "float": label, "engine": engine, "label": label if labelled else None}


QUESTION = {
    "question": HOSTILE, "context": "Ada built the bridge in 1874 in Marlow.", "answers": ["1874"],
    "float": "1874", "engine": "1874 in Marlow",
}  # fmt: skip
EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "segmentation": [scene(64, 3), scene(64, labelled=False)],
    "photos": [
        {"photo": np.zeros((3, 8, 12), np.float32), "name": HOSTILE, "label": "a", "float": "a", "engine": HOSTILE}
    ],
    "questions": [QUESTION, {**QUESTION, "engine": "1874"}, {**QUESTION, "float": "", "engine": ""}],
    "neighbours": [{"text": HOSTILE, "cosine": 0.99, "float_neighbour": "near", "engine_neighbour": "far"}],
    "labels": [{"text": "fine", "label": "good", "float": "good", "engine": HOSTILE}],
    "fields": [{"anything": HOSTILE, "other": 3}],
}

"""Result files of gpu-test made by hand."""

from __future__ import annotations

from typing import Any

from pipeline.bench.gpu_test import options, record, targets


def synthetic(**speed: float) -> dict[str, Any]:
    """Returns a document of BERT-base; speed: milliseconds by method, the same at every batch size."""
    standard = {"tensorrt_fp32": 4.0, "tensorrt_fp16": 2.0, "tensorrt_int8": 1.6, "tensorrt_int8_both": 1.0}
    speed, known = speed or standard, {**options.METHODS, **options.OPTIONS}
    rows = []
    for name in speed:
        row = record.row("gpu-bert-base", name, known[name])
        row["batches"] = [{"batch": b, "cosine": 1.0, "max_abs_diff": 0.0, "fault": None} for b in (1, 8, 32)]
        row["accuracy"] = {"sqnr_db": 26.0, "relative_drop": 0.001, "agreement": 0.99, "missed": []}
        row["parity"] = [{"output": "logits", "cosine": 0.99991, "reason": None}]
        rows.append(row)
    timings = [
        {
            **record.timing("gpu-bert-base", batch, list(speed)),
            "ms": {name: [ms + 0.001 * i for i in range(9)] for name, ms in speed.items()},
            "rounds": 9,
            "clocks": {"before": {"sm_mhz": 1755.0}, "after": {"sm_mhz": 1980.0}},
        }
        for batch in (1, 8, 32)
    ]
    subject = {
        "name": "gpu-bert-base", "digest": "d", "judged": False, "inputs": {"input_ids": [1, 128]},
        "batches": [1, 8, 32], "methods": list(speed),
        "left_out": {"ours int8, TensorRT, attention float": "no onnx_ir"},
    }  # fmt: skip
    document = {
        "command": "make gpu-test", "target": "8.6", "tensorrt": "8.6.0", "gpu": "NVIDIA Fake",
        "compute_capability": "9.0", "subjects": [subject], "rows": rows, "timings": timings, "finished": True,
        "attempts": {}, "device": {"driver": "550.1", "most_sm_mhz": 1980.0},
        "tactic_sources": ["JIT_CONVOLUTIONS", "EDGE_MASK_CONVOLUTIONS"],
        "environment": {"date": "2026-11-22T09:00:00+00:00"},
    }  # fmt: skip
    return {**document, "targets": targets.evaluate(document)}

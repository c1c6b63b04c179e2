"""Accuracy by calibration method, from `compare --record`."""

from __future__ import annotations

from typing import Any

from pipeline.bench.quality import lines


def section(table: dict[str, Any]) -> str:
    """Returns one table: drop of the metric, agreement and SQNR, without and with migration, beside the peers."""
    about, samples = table["environment"], table["samples"]
    versions = about["versions"]
    text = [
        f"`{table['command']}`, {about['date'][:10]}: {table['metric']} of the float model {table['float']:.4f}, "
        f"{samples['calibration']} calibration and {samples['evaluation']} other samples, through the "
        f"{table['backend']} engine; openvino {versions['openvino'].split('-')[0]}, onnxruntime "
        f"{versions['onnxruntime']}, nncf {versions['nncf']}, modelopt {versions['nvidia-modelopt']}.",
        "",
        "| amax by | drop | agreement | SQNR dB | migrated: drop | agreement | SQNR dB |",
        "|---|---|---|---|---|---|---|",
    ]
    text += [f"| {' | '.join(row)} |" for row in lines(table)]
    cost = table["migration_cost"]
    if cost:
        ratio = cost["ratio"]
        text += [
            "",
            f"Latency with migration over without, {cost['runs']} pairs at batch 1: {ratio['median']:.3f} "
            f"({ratio['low']:.3f}–{ratio['high']:.3f}).",
        ]
    return "\n".join(text) + "\n"

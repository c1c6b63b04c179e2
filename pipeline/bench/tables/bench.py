"""The README table of `bench --record`: a list of tables, each with its methods from slow to fast."""

from __future__ import annotations

from typing import Any

from pipeline.bench.tables._markdown import machine_of


def section(tables: list[dict[str, Any]]) -> str:
    """Returns the Markdown of one result file: every table with its command, machine, date and rounds."""
    return "\n".join(markdown(table) for table in tables)


def markdown(table: dict[str, Any]) -> str:
    """Returns one table: latency, speed-up with its interval, and how close the outputs are to float's."""
    about, shape = table["environment"], next(iter(table["inputs"].values()))
    versions = about["versions"]
    lines = [
        f"`{table['command']}`, {about['date'][:10]}: input {'×'.join(map(str, shape))}, {machine_of(about)}"
        f", {table['runs']} interleaved rounds; onnxruntime {versions['onnxruntime']}, "
        f"openvino {versions['openvino'].split('-')[0]}.",
        "",
        "| method | p50 ms | speed-up | 95 % interval | agreement with float | cosine |",
        "|---|---|---|---|---|---|",
    ]
    for row in sorted(table["methods"], key=lambda r: -r.get("latency", {}).get("p50", 0)):  # slow to fast
        if row["skipped"]:
            lines.append(f"| {row['label']} | not run: {row['skipped']} | | | | |")
            continue
        ratio, fit = row["speedup"], row["accuracy"]
        interval = f"{ratio['low']:.2f}–{ratio['high']:.2f}"
        lines.append(
            f"| {row['label']} | {row['latency']['p50']:.1f} | {ratio['median']:.2f} | {interval} "
            f"| {fit['agreement']:.4f} | {fit['cosine']:.4f} |"
        )
    return "\n".join(lines) + "\n"

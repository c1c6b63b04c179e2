"""README tables from the files that `bench --record` wrote; nobody types a measured number.

A table stands between `<!-- bench FILE -->` and `<!-- /bench -->` and is replaced as a whole.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pipeline.errors import InputError

BLOCK = re.compile(r"(<!-- bench (?P<file>\S+) -->\n).*?(<!-- /bench -->)", re.DOTALL)


def refresh(readme: Path) -> list[str]:
    """Returns the result files whose tables were written into `readme`. Raises InputError for a missing one."""
    used: list[str] = []

    def replace(match: re.Match[str]) -> str:
        used.append(match["file"])
        return f"{match[1]}{section(readme.parent / match['file'])}{match[3]}"

    text = BLOCK.sub(replace, readme.read_text(encoding="utf-8"))
    readme.write_text(text, encoding="utf-8")
    return used


def section(file: Path) -> str:
    """Returns the Markdown of one result file: every table with its command, machine, date and rounds."""
    try:
        tables = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} is not a result file of `bench --record`: {error}.") from error
    return "\n".join(markdown(table) for table in tables)


def markdown(table: dict[str, Any]) -> str:
    """Returns one table: latency, speed-up with its interval, and how close the outputs are to float's."""
    about, shape = table["environment"], next(iter(table["inputs"].values()))
    versions = about["versions"]
    lines = [
        f"`{table['command']}`, {about['date'][:10]}: input {'×'.join(map(str, shape))}, {about['cpu']}, "
        f"{about['threads']} threads, {table['runs']} interleaved rounds; onnxruntime {versions['onnxruntime']}, "
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

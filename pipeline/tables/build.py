"""The README block of `bench-build --record`: seconds of a whole run by stage, beside NNCF's."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from pipeline.tables import _markdown

Table = tuple[list[str], list[list[str]]]


def section(document: dict[str, Any]) -> str:
    """Returns the Markdown of one recorded run."""
    return f"{headline(document)}\n\n{_markdown.table(*table(document))}\n"


def headline(document: dict[str, Any]) -> str:
    """Returns what was measured, where and when."""
    about = document["environment"]
    return (
        f"`{document['command']}`, {about['date'][:10]}: {about['cpu']}, {about['threads']} threads, "
        f"{document['rounds']} rounds in turns, every run a process of its own in an empty folder; "
        f"nncf {about['versions']['nncf']}, openvino {about['versions']['openvino'].split('-')[0]}."
    )


def table(document: dict[str, Any]) -> Table:
    """Returns (header, rows): ours as a whole, what of it is the peer's work too, its stages, then the peer."""
    ours, samples = document["ours"], document["samples"]
    rows = [
        ["make engine, from the checkpoint to the verdict", str(samples), *cells(ours["seconds"])],
        ["its stages calibrate, lower and engine", str(samples), *cells(ours["same_work"])],
    ]
    rows += [[f"its stage {name}", "", *cells(found)] for name, found in ours["stages"].items()]
    label = "NNCF int8, from the float ONNX to the first answer"
    rows += [[label, str(row["samples"]), *cells(row["seconds"])] for row in document["peers"]]
    if document["skipped"]:
        rows.append([label, "", f"not run: {document['skipped']}", ""])
    return ["work", "samples", "seconds, median", "least to most"], rows


def cells(seconds: Sequence[float]) -> list[str]:
    """Returns the median and the range as text."""
    return [f"{statistics.median(seconds):.1f}", f"{min(seconds):.1f}–{max(seconds):.1f}"]

"""What the command line prints on stdout: tables and aligned lines for people, one JSON document for machines."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.report.sections import float_name

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pipeline.bench.tables._table import Section, Table
    from pipeline.lint import Report
    from pipeline.recipe import Recipe

WIDE = 10_000  # columns of what is no terminal: nothing is wrapped, a line is a row for grep


def result(report: dict[str, Any], recipe: Recipe, *, as_json: bool) -> None:
    """Prints the verdict, the numbers behind it and where the files are."""
    _print(report, [_pairs([*_outcome(report), ("report", str(recipe.folder / "report.html"))])], as_json=as_json)


def _outcome(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields (name, value) of what a report is about, in the order of its weight."""
    accuracy, latency, size = report["accuracy"], report["latency"], report["size"]
    drop, speedup, made = accuracy["drop_interval"], latency["speedup"], report["processor"]
    share = report["precision_report"]["int8_flop_share"]
    yield "verdict", report["verdict"].upper() + "".join(f"\n- {reason}" for reason in report["reasons"])
    yield "model", f"{report['model']} ({report['task']}), {report['checkpoint']}"
    yield "engine", f"{report['backend']}, {report['precision']}, {share:.0%} of the FLOPs in int8"
    if made:
        yield "right on", f"{made['right_on']}; built and timed on {made['built_on']}"
    placement = report["calibration"]["placement"]
    if placement["default_of"] == "user":
        yield "placement", f"yours, measured on {placement['measured_on']}"
    yield (
        accuracy["metric"],
        f"{accuracy['engine']:.4f}, float {accuracy['float']:.4f} (drop {accuracy['relative_drop']:+.2%}, 95 % "
        f"interval {drop['relative_low']:+.2%} to {drop['relative_high']:+.2%}), {accuracy['samples']} samples",
    )
    for row in accuracy.get("further", ()):
        if row["engine"] is not None:
            yield row["name"], f"{row['engine']:.4f}, float {row['float']:.4f}"
    for note in report["notes"]:
        yield "note", note
    yield "agreement", f"{accuracy['agreement']:.4f} with float, SQNR {accuracy['sqnr_db']:.1f} dB"
    before = f", {float_name(report)} {latency['float_ort']['p50']:.1f} ms" if speedup else ""
    how = f"(p50, batch {latency['batch']}, {latency['threads']} threads)"
    yield "latency", f"{latency['engine']['p50']:.1f} ms{before} {how}"
    if speedup:
        yield "speed-up", f"{speedup['median']:.2f}x, 95 % interval {speedup['low']:.2f}-{speedup['high']:.2f}"
    else:
        yield "speed-up", f"not measured: {latency['not_compared']}"
    if len(report["candidates"]) > 1:
        yield "chosen from", ", ".join(map(rival, report["candidates"]))
    if report["instead"]:
        yield "instead", report["instead"]
    engine, qdq, original = (size[name] / 2**20 for name in ("engine", "qdq_onnx", "float_onnx"))
    yield "size", f"{engine:.1f} MiB, QDQ ONNX {qdq:.1f}, float ONNX {original:.1f}"


def rival(row: dict[str, Any]) -> str:
    """Returns one of the engines that were built: its latency, and whether it ships or must not."""
    said = "refused" if row["fault"] else f"{row['p50_ms']:.3f} ms"
    return f"{row['backend']} {row['precision']} {said}{' (ships)' if row['chosen'] else ''}"


def comparison(report: dict[str, Any], changes: Sequence[Any], *, as_json: bool) -> None:
    """Prints what changed against the baseline."""
    rows = [("-", reason) for reason in report["reasons"]]
    rows += [("note", note) for note in report["notes"]]
    rows += [("REGRESSED" if change.regression else "ok", str(change)) for change in changes]
    document = {"verdict": report["verdict"], "changes": [vars(change) for change in changes]}
    headline = f"{report['model']} on {report['backend']}: budgets {report['verdict']}"
    _print(document, [headline, _pairs(rows, indent=2)], as_json=as_json)


def recorded(kind: str, document: dict[str, Any], *, as_json: bool) -> None:
    """Prints what a benchmark measured, as a kind of `pipeline.bench.tables` words it."""
    _print(document, _section(kind, document), as_json=as_json)


def status(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """Prints a line per stage, and below it every reason to run again."""

    def said(row: dict[str, Any]) -> str:
        return "\n".join(["up to date" if row["up_to_date"] else "would run", *(f"- {why}" for why in row["reasons"])])

    _print(rows, [_pairs([(row["stage"], said(row)) for row in rows])], as_json=as_json)


def doctor(facts: dict[str, Any], *, as_json: bool) -> None:
    """Prints what works here, and the one thing to install for each backend that does not."""
    rows = [(name, str(value)) for name, value in facts["machine"].items()]
    rows += [
        (row["backend"], f"works, {row['version']}" if row["available"] else row["reason"]) for row in facts["backends"]
    ]
    rows += [("placement", f"{row['family']} on {row['backend']}: {row['said']}") for row in facts["placements"]]
    _print(facts, [_pairs(rows)], as_json=as_json)


def lint(report: Report, *, as_json: bool) -> None:
    """Prints what the linter found, the worst first, and the facts beside it."""
    from pipeline.lint import text

    _print(report.to_json(), text.lines(report), as_json=as_json)


def _print(document: Any, parts: Iterable[RenderableType], *, as_json: bool) -> None:
    """Prints a document as JSON, or its parts as text; a terminal's lines are wrapped at its width, no others."""
    if as_json:
        print(json.dumps(document, indent=1))
        return
    from rich.console import Console

    terminal = sys.stdout.isatty()
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=terminal, width=None if terminal else WIDE, highlight=False)
    for part in parts:
        console.print(part, markup=False, emoji=False, soft_wrap=isinstance(part, str))
    for line in drawn.getvalue().splitlines():
        print(line.rstrip())


def _pairs(rows: Iterable[tuple[str, str]], indent: int = 0) -> RenderableType:
    """Returns names with what is said of each beside them."""
    from rich.table import Table as Grid

    grid = Grid.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    for name, value in rows:
        grid.add_row(*(_plain(text) for text in (" " * indent + name, value)))
    return grid


def _section(kind: str, document: Any) -> Iterator[RenderableType]:
    """Yields a headline, tables and notes, an empty line between them."""
    from pipeline.bench import tables

    section: Section = tables.shown(kind, document)
    yield _plain(section.headline.replace("`", ""))
    for table in section.tables:
        yield ""
        if table.title:
            yield table.title
        yield from _table(table)
    for note in section.notes:
        yield ""
        yield _plain(note)


def _table(table: Table) -> Iterator[RenderableType]:
    """Yields a table, figures to the right, and below it what has none, with the reason."""
    from rich import box
    from rich.table import Table as Grid

    full = [row for row in table.rows if len(row) == len(table.columns)]
    grid = Grid(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name, *cells in zip(table.columns, *full, strict=True):
        figures = all(cell[:1] in "+-–" or cell[0].isdigit() for cell in cells)
        grid.add_column(name, justify="right" if figures else "left", overflow="fold")
    for row in full:
        grid.add_row(*map(_plain, row))
    yield grid
    short = [row for row in table.rows if len(row) < len(table.columns)]
    if short:
        yield _pairs([(", ".join(row[:-1]), row[-1]) for row in short])


def _plain(text: str) -> RenderableType:
    """Returns a text whose brackets are no markup."""
    from rich.text import Text

    return Text(text)

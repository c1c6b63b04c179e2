"""What the command line prints on stdout: a few aligned lines for people, one JSON document for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.report.sections import float_name

if TYPE_CHECKING:
    from pipeline.lint import Report
    from pipeline.recipe import Recipe


def result(report: dict[str, Any], recipe: Recipe, *, as_json: bool) -> None:
    """Prints the verdict, the numbers behind it and where the files are."""
    if as_json:
        print(json.dumps(report, indent=1))
        return
    accuracy, latency, size = report["accuracy"], report["latency"], report["size"]
    drop = accuracy["drop_interval"]
    speedup, quant, made = latency["speedup"], report["precision_report"], report["processor"]
    before = f", {float_name(report)} {latency['float_ort']['p50']:.1f} ms" if speedup else ""
    rivals = ", ".join(map(rival, report["candidates"])) if len(report["candidates"]) > 1 else ""
    rows = [
        ("verdict", report["verdict"].upper() + "".join(f"\n  - {reason}" for reason in report["reasons"])),
        ("model", f"{report['model']} ({report['task']}), {report['checkpoint']}"),
        ("engine", f"{report['backend']}, {report['precision']}, {quant['int8_flop_share']:.0%} of the FLOPs in int8"),
        *([("right on", f"{made['right_on']}; built and timed on {made['built_on']}")] if made else []),
        (
            accuracy["metric"],
            f"{accuracy['engine']:.4f}, float {accuracy['float']:.4f} (drop {accuracy['relative_drop']:+.2%}, 95 % "
            f"interval {drop['relative_low']:+.2%} to {drop['relative_high']:+.2%}), {accuracy['samples']} samples",
        ),
        *(("note", said) for said in report["notes"]),
        ("agreement", f"{accuracy['agreement']:.4f} with float, SQNR {accuracy['sqnr_db']:.1f} dB"),
        (
            "latency",
            f"{latency['engine']['p50']:.1f} ms{before} (p50, batch {latency['batch']}, {latency['threads']} threads)",
        ),
        (
            "speed-up",
            f"{speedup['median']:.2f}x, 95 % interval {speedup['low']:.2f}-{speedup['high']:.2f}"
            if speedup
            else f"not measured: {latency['not_compared']}",
        ),
        *([("chosen from", rivals)] if rivals else []),
        *([("instead", report["instead"])] if report["instead"] else []),
        (
            "size",
            f"{size['engine'] / 2**20:.1f} MiB, QDQ ONNX {size['qdq_onnx'] / 2**20:.1f}, "
            f"float ONNX {size['float_onnx'] / 2**20:.1f}",
        ),
        ("report", str(recipe.folder / "report.html")),
    ]
    _aligned(rows)


def rival(row: dict[str, Any]) -> str:
    """Returns one of the engines that were built: its latency, and whether it ships or must not."""
    said = "refused" if row["fault"] else f"{row['p50_ms']:.3f} ms"
    return f"{row['backend']} {row['precision']} {said}{' (ships)' if row['chosen'] else ''}"


def comparison(report: dict[str, Any], changes: Sequence[Any], *, as_json: bool) -> None:
    """Prints what changed against the baseline."""
    if as_json:
        print(json.dumps({"verdict": report["verdict"], "changes": [vars(c) for c in changes]}, indent=1, default=str))
        return
    print(f"{report['model']} on {report['backend']}: budgets {report['verdict']}")
    for reason in report["reasons"]:
        print(f"  - {reason}")
    for note in report["notes"]:
        print(f"  note: {note}")
    for change in changes:
        print(f"  {'REGRESSED' if change.regression else 'ok':<10}{change}")


def bench(table: dict[str, Any], *, as_json: bool) -> None:
    """Prints a line per method: latency, speed-up over float ONNX Runtime with its interval, accuracy."""
    if as_json:
        print(json.dumps(table, indent=1))
        return
    shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in table["inputs"].items())
    print(f"{table['model']}: {shapes}, {table['environment']['threads']} threads, {table['runs']} rounds")
    print(
        f"{'method':<40}{'p50 ms':>9}{'p90 ms':>9}{'speed-up':>10}{'95 % interval':>16}{'agreement':>11}{'cosine':>9}"
    )
    for row in sorted(table["methods"], key=lambda r: -r.get("latency", {}).get("p50", 0)):
        if row["skipped"]:
            print(f"{row['label']:<40}not run: {row['skipped']}")
            continue
        ms, ratio, fit = row["latency"], row["speedup"], row["accuracy"]
        interval = f"{ratio['low']:.2f}-{ratio['high']:.2f}"
        print(
            f"{row['label']:<40}{ms['p50']:>9.1f}{ms['p90']:>9.1f}{ratio['median']:>10.2f}{interval:>16}"
            f"{fit['agreement']:>11.4f}{fit['cosine']:>9.4f}"
        )


def bound(document: dict[str, Any], *, as_json: bool) -> None:
    """Prints the limits, the bound and the profile of one engine."""
    _recorded("bound", document, as_json=as_json)


def build_bench(document: dict[str, Any], *, as_json: bool) -> None:
    """Prints the seconds of a whole run by stage, of the peer, and of the libraries' part alone."""
    _recorded("build", document, as_json=as_json)


def bench_parity(table: dict[str, Any], *, as_json: bool) -> None:
    """Prints how many sound engines parity refused, and of every fault by size how many faulty ones."""
    if as_json:
        print(json.dumps(table, indent=1))
        return
    from pipeline.bench.parity import SIZES
    from pipeline.bench.tables.parity import rows

    alarms = table["false_alarms"]
    print(f"{table['model']} on {', '.join(table['backends'])}")
    print(f"sound engines refused: {alarms['refused']} of {alarms['trials']}")
    _columns(("faulty engines refused", *(f"{size:.0%}" for size in SIZES)), rows(table))


def compare(table: dict[str, Any], *, as_json: bool) -> None:
    """Prints a line per calibration method and peer: drop, agreement, SQNR, without and with migration."""
    if as_json:
        print(json.dumps(table, indent=1))
        return
    from pipeline.bench.quality import lines

    print(f"{table['model']} on {table['backend']}: float {table['metric']} {table['float']:.4f}, {table['samples']}")
    header = ("amax by", "drop", "agreement", "SQNR dB", "migrated", "agreement", "SQNR dB")
    for first, *cells in (header, *lines(table)):
        print(f"{first:<36}" + "".join(f"{cell:>11}" for cell in cells))
    if table["migration_cost"]:
        ratio = table["migration_cost"]["ratio"]
        print(f"latency with migration over without: {ratio['median']:.3f} ({ratio['low']:.3f}-{ratio['high']:.3f})")


def place(table: dict[str, Any], *, as_json: bool) -> None:
    """Prints a line per placement that was tried, and what the winner changes."""
    if as_json:
        print(json.dumps(table, indent=1))
        return
    shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in table["inputs"].items())
    timed = table["shape"] or table["model"]
    print(
        f"{table['model']} on {table['backend']}: accuracy of {table['checkpoint']}, latency of {timed} at {shapes}, "
        f"{table['environment']['threads']} threads, {table['rounds']} rounds"
    )
    cells = ("p50 ms", "speed-up", "95 % interval", "drop", "agreement", "SQNR dB")
    print(f"{'round, toggled':<28}" + "".join(f"{cell:>14}" for cell in cells) + "  taken")
    for row in table["rows"]:
        change = f" {'off -> on' if row['on'] else 'on -> off'}" if row["toggled"] else "default"
        name = f"{row['round']}  {' + '.join(row['toggled'])}{change}"
        ms, ratio, fit = row["latency"], row["again"] or row["speedup"], row["accuracy"]
        shown = (
            f"{ms['p50']:.2f}" if ms else "",
            f"{ratio['median']:.3f}" if ratio else "",
            f"{ratio['low']:.3f}-{ratio['high']:.3f}" if ratio else "",
            f"{fit['relative_drop']:+.2%}" if fit else "",
            f"{fit['agreement']:.4f}" if fit else "",
            f"{fit['sqnr_db']:.1f}" if fit else "",
        )
        taken = f"  {'yes' if row['taken'] else 'no'}: {row['why']}" if row["round"] else ""
        print(f"{name:<28}" + "".join(f"{cell:>14}" for cell in shown) + taken)
    before, after = set(table["default"]), set(table["winner"])
    changes = [f"+ {kind}" for kind in table["winner"] if kind not in before]
    changes += [f"- {kind}" for kind in table["default"] if kind not in after]
    print(f"default: {', '.join(table['default'])}")
    if not changes:
        print(f"winner:  the default{', ' + table['kept'] if table['kept'] else ''}")
        return
    ms, ratio = table["latency"], table["latency"]["speedup"]
    print(
        f"winner:  {' '.join(changes)}, {ratio['median']:.3f}x the default's speed ({ratio['low']:.3f}-"
        f"{ratio['high']:.3f}), {ms['default']['p50']:.2f} -> {ms['winner']['p50']:.2f} ms"
    )


def scaling(document: dict[str, Any], *, as_json: bool) -> None:
    """Prints a line per point and method: latency, speed-up over float ONNX Runtime with its interval, peak memory."""
    if as_json:
        print(json.dumps(document, indent=1))
        return
    header = ("p50 ms", "p90 ms", "speed-up", "95 % interval", "cosine", "peak MiB", "rounds")
    print(f"{document['shape']}, random weights, {document['environment']['threads']} threads")
    print(f"{'point':<13}{'method':<36}" + "".join(f"{name:>15}" for name in header))
    for row in document["rows"]:
        place = f"{row['axis'] + ' ' + str(row['value']):<13}{row['label']:<36}"
        if row["skipped"]:
            print(f"{place}not timed: {row['skipped']}")
            continue
        ms, ratio = row["latency"], row["speedup"]
        cells = (
            f"{ms['p50']:.1f}",
            f"{ms['p90']:.1f}",
            f"{ratio['median']:.2f}",
            f"{ratio['low']:.2f}-{ratio['high']:.2f}",
            f"{row['cosine']:.4f}",
            f"{row['peak_rss_bytes'] / 2**20:.0f}",
            str(row["rounds"]),
        )
        print(place + "".join(f"{cell:>15}" for cell in cells))


def calibration_bench(table: dict[str, Any], *, as_json: bool) -> None:
    """Prints the tables of collecting, computing and equality."""
    _recorded("calibration", table, as_json=as_json)


def status(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """Prints a line per stage, and below it every reason to run again."""
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        print(f"{row['stage']:<10}{'up to date' if row['up_to_date'] else 'would run'}")
        for reason in row["reasons"]:
            print(f"{'':<10}- {reason}")


def doctor(facts: dict[str, Any], *, as_json: bool) -> None:
    """Prints what works here, and the one thing to install for each backend that does not."""
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    _aligned([(name, str(value)) for name, value in facts["machine"].items()])
    for row in facts["backends"]:
        print(f"{row['backend']:<14}{'works, ' + row['version'] if row['available'] else row['reason']}")


def lint(report: Report, *, as_json: bool) -> None:
    """Prints what the linter found, the worst first, and the facts beside it."""
    if as_json:
        print(json.dumps(report.to_json(), indent=1))
        return
    from pipeline.lint import text

    for line in text.lines(report):
        print(line)


def _recorded(kind: str, document: dict[str, Any], *, as_json: bool) -> None:
    """Prints what a kind of `pipeline.bench.tables` writes: headline, tables, and its conclusion if any."""
    if as_json:
        print(json.dumps(document, indent=1))
        return
    from pipeline.bench.tables import load

    text = load(kind)
    print(text.headline(document))
    for header, rows in text.tables(document):
        print()
        _columns(header, rows)
    if hasattr(text, "conclusion"):
        print(f"\n{text.conclusion(document)}")


def _columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table whose columns are as wide as their widest cell."""
    full = [row for row in rows if "" not in row]  # a reason may be longer than its column
    widths = [max(len(row[i]) for row in [header, *full]) + 2 for i in range(len(header))]
    widths[0] = max(len(row[0]) for row in [header, *rows]) + 2
    for row in [header, *rows]:
        print("".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _aligned(rows: Sequence[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows) + 2
    for name, value in rows:
        print(f"{name:<{width}}{value}")

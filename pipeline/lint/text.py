"""The lines that `lint` prints for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.lint.findings import SEVERITIES, TARGETS, Attention, Finding, Report

NAMES = 3  # shown of each finding; --json has all
GIGA = 1e9


def lines(report: Report) -> Iterator[str]:
    """Yields the report: verdicts, findings with the worst first, then the facts."""
    counts = f"{report.operators} operators, {report.quantize} Q, {report.dequantize} DQ"
    yield f"{report.file}: opset {report.opset}, {counts}"
    for target in report.targets:
        found = [_count(report.count(target, severity), name) for severity, name in SEVERITIES.items()]
        yield f"{TARGETS[target]:<20}{', '.join(found)}"
    for finding in report.findings:
        yield ""
        yield from _finding(finding, report)
    yield ""
    yield from facts(report)


def _count(number: int, name: str) -> str:
    plural = name if name == "info" or number == 1 else f"{name}s"
    return f"{number or 'no'} {plural}"


def _finding(finding: Finding, report: Report) -> Iterator[str]:
    only = "" if finding.targets == report.targets else f" [{', '.join(TARGETS[t] for t in finding.targets)} only]"
    yield f"{SEVERITIES[finding.severity]:<8}{finding.rule}  {finding.problem}{only}"
    yield f"{'':<8}fix: {finding.fix}"
    places = [_place(place.node, place.detail) for place in finding.places]
    more = len(places) - NAMES
    for i, place in enumerate([*places[:NAMES], *([f"and {more} more"] if more > 0 else [])]):
        yield f"{'':<8}{'' if i else f'{len(places)}×':<5}{place}"


def _place(node: str | None, detail: str) -> str:
    if node is None:
        return f"the graph ({detail})" if detail else "the graph"
    return f"{node} ({detail})" if detail else node


def _some(names: Sequence[str]) -> str:
    """Returns the first few names and how many are left."""
    more = f", and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return "; ".join(names[:NAMES]) + more


def facts(report: Report) -> Iterator[str]:
    """Yields coverage, predicted kernels of Q and DQ, residual adds and the table of attention blocks."""
    found = report.coverage
    if found.share is None:
        yield "int8      no multiply-accumulates that could be counted"
    else:
        total = found.int8_macs + found.float_macs
        assumed = ", ".join(f"{name} = {size}" for name, size in found.assumed.items())
        counted = f", counted with {assumed}" if assumed else ""
        yield f"int8      {found.share:.1%} of {total / GIGA:.2f} G multiply-accumulates{counted}"
    if found.uncounted:
        yield f"          {len(found.uncounted)} operators of unknown shape not counted: {_some(found.uncounted)}"
    if report.saturation is not None:
        risky, products = report.saturation.may_saturate, report.saturation.products
        worst = f", the worst: {_some(risky)}" if risky else ""
        yield f"CPU       {len(risky)} of {products} int8 products may saturate without VNNI{worst}"
    names = [f"{entry.node} ({entry.reason})" for entry in report.unfused]
    yield f"unfused   {len(names)} Q/DQ predicted to be kernels of their own{': ' if names else ''}{_some(names)}"
    if any(report.residual.values()):
        adds = ", ".join(f"{count} with {name}" for name, count in report.residual.items() if count)
        yield f"residual  adds by quantized inputs: {adds}"
    if report.attention:
        yield ""
        yield from attention_table(report.attention)


def attention_table(blocks: Sequence[Attention]) -> list[str]:
    """Returns a line per kind of attention block: those that differ in their names alone are one line."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    for block in blocks:
        verdict = f"{block.verdict}: {block.why}" if block.why else block.verdict
        sizes = (_size(block.head_size), _size(block.queries), _size(block.keys))
        kinds.setdefault((*sizes, ", ".join(block.quantized) or "none", verdict), []).append(block.node)
    rows = [["attention", "blocks", "head", "S_q", "S_kv", "quantized", "verdict"]]
    for cells, names in kinds.items():
        rows.append([names[0] + (", …" if len(names) > 1 else ""), str(len(names)), *cells])
    widths = [max(len(row[i]) for row in rows) + 2 for i in range(len(rows[0]))]
    return ["".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _size(dim: int | str | None) -> str:
    return "?" if dim is None else str(dim)

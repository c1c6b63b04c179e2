"""The README block of `gpu-test --record`: an engine a row, then what was asked and met, and what the GPU settled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.bench.gpu_test import targets
from pipeline.bench.gpu_test.options import BASE
from pipeline.bench.tables._table import Section, Table
from pipeline.bench.tables._words import by, ratio_with_interval, three_digits
from pipeline.measure.latency import quantile

NONE = "–"
Row = Mapping[str, Any]
SHORTEST = 160  # characters of a fault in a cell


def section(document: dict[str, Any]) -> Section:
    """Returns a table a subject, and the lists below."""
    tables = [Table(header(s), rows(document, s), title(s)) for s in document["subjects"]]
    notes = [f"{name}:\n\n" + "\n".join(f"- {line}" for line in lines) for name, lines in lists(document) if lines]
    return Section(headline(document), tables, notes)


def headline(document: dict[str, Any]) -> str:
    """Returns what was measured, where and when."""
    about, driver = document["environment"], document["device"]["driver"] or "unknown"
    rounds = sorted({timing["rounds"] for timing in document["timings"] if timing["rounds"]})
    return (
        f"`{document['command']}`, {about['date'][:10]}: {document['gpu']} (compute capability "
        f"{document['compute_capability']}), driver {driver}, TensorRT {document['tensorrt']}, "
        f"dialect {document['target']}{limited(document['tactic_sources'])}; {clocks(document)}. "
        "Latency is of one computation with inputs and outputs on the GPU, "
        f"the median of {' or '.join(map(str, rounds)) or 'no'} interleaved rounds; speed-up over TensorRT's "
        f"fp16 with its 95 % interval. {'' if document['finished'] else 'Not finished: some engines are missing.'}"
    ).strip()


def limited(sources: Sequence[str]) -> str:
    """Returns what says that TensorRT built without its other tactics, cuBLAS for example."""
    return f", tactic sources {' and '.join(sources)} alone" if sources else ""


def clocks(document: dict[str, Any]) -> str:
    """Returns the range of the processor's clock around the timings, and its limit."""
    seen = [t["clocks"][when]["sm_mhz"] for t in document["timings"] if t["clocks"] for when in ("before", "after")]
    known = [mhz for mhz in seen if isinstance(mhz, int | float)]
    most = document["device"]["most_sm_mhz"]
    if not known:
        return "clocks unknown"
    return f"clock {min(known):.0f}–{max(known):.0f} MHz around the timings" + (f", {most:.0f} at most" if most else "")


def title(subject: Row) -> str:
    """Returns a subject's name and input."""
    shape = by(next(iter(subject["inputs"].values()))[1:])
    return f"{subject['name']}, input {shape}{'' if subject['judged'] else ', accuracy not judged'}:"


def header(subject: Row) -> list[str]:
    """Returns the names of the columns."""
    timed = [name for batch in subject["batches"] for name in (f"batch {batch}, ms", "speed-up")]
    accuracy = ["metric drop", "agreement"] if subject["judged"] else []
    return ["engine", *timed, "FLOPs in int8", "unfused Q/DQ", "cosine to its graph", "SQNR to float, dB", *accuracy]


def rows(document: dict[str, Any], subject: Row) -> list[list[str]]:
    """Returns a row an engine; one that is wrong at all batch sizes, or not there, says why."""
    found = []
    width = len(header(subject))
    known = {row["method"]: row for row in document["rows"] if row["subject"] == subject["name"]}
    for name in subject["methods"]:
        row = known.get(name)
        why = not_shown(row, subject)
        found.append(
            [row["label"] if row else name, why, *[""] * (width - 2)]
            if why or row is None
            else cells(document, subject, row)
        )
    left_out = subject["left_out"].items()
    return [*found, *([label, f"not run: {short(why)}", *[""] * (width - 2)] for label, why in left_out)]


def not_shown(row: Row | None, subject: Row) -> str:
    """Returns why an engine has no figures, "" where it has."""
    if row is None:
        return "not run yet"
    if any(targets.is_right(row, batch) for batch in subject["batches"]):
        return ""
    return f"failed: {short('; '.join(targets.faults(row)))}"


def cells(document: dict[str, Any], subject: Row, row: Row) -> list[str]:
    """Returns the cells of an engine that is right at one batch size at least."""
    found = [row["label"]]
    for batch in subject["batches"]:
        found += timed(document, subject["name"], row, batch)
    found += inspected(row)
    cosines = [p["cosine"] for p in row["parity"]]
    found.append(NONE if None in cosines or not cosines else f"{min(cosines):.5f}")
    made = row["accuracy"]
    found.append(NONE if not made or made["sqnr_db"] is None else f"{made['sqnr_db']:.1f}")
    if subject["judged"]:
        found += [f"{made['relative_drop']:+.2%}", f"{made['agreement']:.4f}"] if made else [NONE, NONE]
    return found


def timed(document: dict[str, Any], subject: str, row: Row, batch: int) -> list[str]:
    """Returns latency and speed-up at one batch size."""
    if not targets.is_right(row, batch):
        return ["wrong outputs", NONE]
    for timing in targets.timings(document, subject):
        if timing["batch"] == batch and row["method"] in timing["ms"]:
            ratio = targets.speedup(document, subject, batch, row["method"], BASE)
            text = ratio_with_interval(ratio) if ratio else NONE
            return [three_digits(quantile(timing["ms"][row["method"]], 0.5)), text if row["method"] != BASE else "1"]
    return ["not timed", NONE]


def inspected(row: Row) -> list[str]:
    """Returns the int8 share and the Q/DQ that are layers of their own, at the smallest and the largest batch."""
    if not row["inspector"]:
        return [NONE, NONE]
    shares = [f"{found['int8_flop_share']:.0%}{doubt(found)}" for found in row["inspector"]]
    unfused = [str(found["unfused"]) for found in row["inspector"]]
    return [" / ".join(dict.fromkeys(shares)), " / ".join(dict.fromkeys(unfused))]


def doubt(found: Row) -> str:
    """Returns the share that the inspector proves neither int8 nor float."""
    return f" (+{found['unknown_flop_share']:.0%} unknown)" if found["unknown_flop_share"] else ""


def lists(document: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Returns the lists below the tables: name, then lines."""
    asked = []
    for target in document["targets"]:
        at = f", batch {target['batch']}" if target["batch"] else ""
        of = f" ({target['method']})" if target["method"] else ""
        parts = [f"{target['subject']}{at}", f"{target['what']}{of}", short(targets.result(target))]
        asked.append(": ".join([*filter(None, parts), "met" if target["met"] else "missed"]))
    return [("Targets", asked), ("One option changed", settled(document))]


def settled(document: dict[str, Any]) -> list[str]:
    """Returns a line for every engine that differs from another in one option: the question and what was found."""
    lines = []
    for row in document["rows"]:
        if row["against"]:
            asked = f" {row['question']}" if row["question"] else ""
            lines.append(f"{row['subject']}, {row['label']} (against {row['against']}):{asked} {answer(document, row)}")
    return lines


def answer(document: dict[str, Any], row: Row) -> str:
    """Returns what became of an engine: why it failed, or its speed over the one that it differs from."""
    faults = targets.faults(row)
    ratios = []
    for timing in targets.timings(document, row["subject"]):
        ratio = targets.speedup(document, row["subject"], timing["batch"], row["method"], row["against"])
        if ratio:
            ratios.append(f"{ratio_with_interval(ratio, 3)} at batch {timing['batch']}")
    failed = [f"fails: {short('; '.join(faults))}"] if faults else ["built, and computes its graph"]
    return "; ".join([*failed, *([f"times as fast: {', '.join(ratios)}"] if ratios else [])]) + "."


def short(text: str) -> str:
    """Returns a text as one line that is not too long for a table."""
    line = " ".join(text.split()).replace("|", "/")
    return line if len(line) <= SHORTEST else f"{line[:SHORTEST]}…"

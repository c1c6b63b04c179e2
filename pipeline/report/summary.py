"""The words and small tables of the page, derived from the report's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.artifacts import commands
from pipeline.measure.precision import kind
from pipeline.report.formats import ABSENT, counted, milliseconds, number, plain, printed, ratio, share, signed, size
from pipeline.report.sections import float_name
from pipeline.tasks._image_processing import described

METRICS = {"miou": "mIoU", "f1": "F1", "cosine": "cosine to float", "accuracy": "accuracy", "pearson": "Pearson’s r"}
BACKENDS = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT"}
KINDS = ("int8", "float", "other")


def metric_name(report: Mapping[str, Any]) -> str:
    """Returns the task metric as people write it."""
    metric = str(_part(report, "accuracy").get("metric") or "metric")
    return METRICS.get(metric, metric)


def engine_name(report: Mapping[str, Any]) -> str:
    """Returns 'OpenVINO int8'."""
    backend = str(report.get("backend") or "engine")
    return f"{BACKENDS.get(backend, backend)} {report.get('precision') or ''}".strip()


def headline(report: Mapping[str, Any]) -> str:
    """Returns the verdict as one sentence."""
    accuracy, latency = _part(report, "accuracy"), _part(report, "latency")
    speed = number(_part(latency, "speedup").get("median"))
    pieces = []
    if speed is not None:
        pieces.append(f"{engine_name(report)} runs {speed:.2f}× as fast as {float_name(report)}")
    if number(accuracy.get("engine")) is not None:
        before, after = plain(accuracy.get("float")), plain(accuracy["engine"])
        pieces.append(f"{metric_name(report)} goes from {before} to {after}")
    if number(accuracy.get("agreement")) is not None:
        pieces.append(f"{share(accuracy['agreement'])} of its predictions equal the float model's")
    return "; ".join(pieces) + "." if pieces else "The report holds no measurement."


def tiles(report: Mapping[str, Any], budgets: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the three main numbers as {title, value, detail, budget, met}; the last two None without a budget."""
    accuracy, latency = _part(report, "accuracy"), _part(report, "latency")
    speedup = _part(latency, "speedup")
    speed, drop = number(speedup.get("median")), number(accuracy.get("relative_drop"))
    agreement = number(accuracy.get("agreement"))
    reason = latency.get("not_compared")
    not_compared = f"float ONNX Runtime was not timed: {reason}" if reason else ""
    samples, change = accuracy.get("samples"), signed(_negative(accuracy.get("drop")))
    before, after = plain(accuracy.get("float")), plain(accuracy.get("engine"))
    return [
        {
            "title": "Speed-up",
            "value": ABSENT if speed is None else f"{speed:.2f}×",
            "detail": not_compared
            or f"95 % interval {plain(speedup.get('low'), 2)} to {plain(speedup.get('high'), 2)}, "
            f"batch {printed(latency.get('batch'))}, {counted(latency.get('threads'), 'thread')}",
            **_judged(speed, budgets.get("speedup"), "at least", lambda limit: f"{limit:g}×"),
        },
        {
            "title": "Accuracy drop",
            "value": ABSENT if drop is None else _drop(drop),
            "detail": f"{metric_name(report)} {before} → {after} ({change}), {counted(samples, 'sample')}"
            + _drop_interval(_part(accuracy, "drop_interval")),
            **_judged(drop, budgets.get("relative_drop"), "at most", lambda limit: f"{100 * limit:g} %"),
        },
        {
            "title": "Agreement",
            "value": share(agreement),
            "detail": f"predictions equal to float's, SQNR {plain(accuracy.get('sqnr_db'), 1)} dB",
            **_judged(agreement, budgets.get("agreement"), "at least", lambda limit: f"{100 * limit:g} %"),
        },
    ]


def _drop_interval(interval: Mapping[str, Any]) -> str:
    """Returns ', 95 % interval 0.12 % to 0.80 %', "" where there is none."""
    ends = [number(interval.get(key)) for key in ("relative_low", "relative_high")]
    return f", 95 % interval {' to '.join(_drop(x) for x in ends if x is not None)}" if None not in ends else ""


def chance(report: Mapping[str, Any]) -> str:
    """Returns how the float model compares with the best answer that needs no look at the input; "" if unknown."""
    accuracy = _part(report, "accuracy")
    chance = _part(accuracy, "chance")
    if number(chance.get("score")) is None:
        return ""
    return f"Chance, {chance['answer']}, has {plain(chance['score'])}; the float model {plain(accuracy.get('float'))}."


def _drop(relative: float) -> str:
    text = f"{abs(100 * relative):.2f}"
    return f"{text} %" if relative >= 0 or not float(text) else f"−{text} %"


def _negative(value: Any) -> float | None:
    x = number(value)
    return None if x is None else -x


def _judged(value: float | None, limit: Any, bound: str, shown: Any) -> dict[str, Any]:
    allowed = number(limit)
    if allowed is None or value is None:
        return {"budget": None, "met": None}
    met = value >= allowed if bound == "at least" else value <= allowed
    return {"budget": f"budget: {bound} {shown(allowed)}", "met": met}


def comparison(report: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Returns rows that compare float with the engine: (name, float, engine, change)."""
    accuracy, latency, sizes = (_part(report, key) for key in ("accuracy", "latency", "size"))
    before, after = _part(latency, "float_ort"), _part(latency, "engine")
    rows = [
        (
            metric_name(report),
            plain(accuracy.get("float")),
            plain(accuracy.get("engine")),
            signed(_negative(accuracy.get("drop"))),
        )
    ]
    rows += [
        (str(row.get("name")), plain(row.get("float")), plain(row.get("engine")), ABSENT)
        for row in accuracy.get("further") or []
    ]
    rows += [
        (
            f"latency {name}",
            milliseconds(before.get(key)),
            milliseconds(after.get(key)),
            _better(before.get(key), after.get(key), "faster"),
        )
        for key, name in (("p50", "median"), ("p90", "p90"), ("p99", "p99"), ("mean", "mean"))
    ]
    float_size, qdq, engine = (sizes.get(key) for key in ("float_onnx", "qdq_onnx", "engine"))
    rows.append(("engine file", size(float_size), size(engine), _better(float_size, engine, "smaller")))
    rows.append(("QDQ ONNX file", size(float_size), size(qdq), _better(float_size, qdq, "smaller")))
    return rows


def _better(before: Any, after: Any, word: str) -> str:
    text = ratio(before, after)
    return text if text == ABSENT else f"{text} {word}"


def operators(precision: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns one row per operator type: {type, int8, float, other, ms, bar}, the most expensive first.

    `other` is index arithmetic. `bar` holds the three parts of time, or of layers, in per cent of the longest.
    """
    layers = precision.get("layers") or []
    timed = any(number(layer.get("ms")) for layer in layers)
    rows: dict[str, dict[str, Any]] = {}
    for layer in layers:
        operator, side = str(layer.get("type") or "?"), kind(str(layer.get("precision")))
        row = rows.setdefault(operator, {"type": operator, **dict.fromkeys(KINDS, 0), "bar": dict.fromkeys(KINDS, 0.0)})
        row[side] += 1
        row["bar"][side] += (number(layer.get("ms")) or 0.0) if timed else 1.0
    longest = max((sum(row["bar"].values()) for row in rows.values()), default=0.0)
    for row in rows.values():
        row["ms"] = sum(row["bar"].values()) if timed else None
        row["bar"] = {name: 100 * part / longest for name, part in row["bar"].items()}
    return sorted(rows.values(), key=lambda row: -sum(row["bar"].values()))


OPTIONS = {"checkpoint": "CHECKPOINT", "data": "DATA", "backend": "BACKEND", "calibration.method": "CALIBRATION"}


def rebuild(report: Mapping[str, Any], recorded: Mapping[str, Any], folder: Path) -> str:
    """Returns the command that makes this report again: every recorded setting that is not the family's default."""
    from pipeline import families

    family = str(report.get("family") or recorded.get("family") or report.get("model") or "MODEL")
    variables, arguments = {"MODEL": family}, ["--output", str(folder)] if commands.is_elsewhere(folder, family) else []
    if family in families.names():
        same_size = _part(report, "image_size").get("same")  # what the recipe gets when it names none
        budgets = report.get("budgets") or recorded.get("budgets") or {}
        for name, value in commands.changed({**recorded, "family": family, "budgets": budgets}).items():
            if name in OPTIONS:
                variables[OPTIONS[name]] = str(value)
            elif not (same_size and name == "shapes.image_size"):
                arguments += ["--set", f"{name}={commands.as_text(value)}"]
    return commands.by_make("engine", variables, arguments)


def images(report: Mapping[str, Any]) -> str:
    """Returns that the engine's images have another size than the checkpoint's processor makes, or are windows on
    larger ones; "" if not.
    """
    size = _part(report, "image_size")
    engine = size.get("engine")
    if isinstance(engine, int):  # an older report's
        engine = {"height": engine, "width": engine}
    if engine and size.get("window_stride"):
        apart = described(size["window_stride"])
        return f"windows of {described(engine)} slide over images, which keep their size, {apart} apart"
    if not engine or size["same"]:
        return ""
    return f"images of {described(engine)}, where the checkpoint's own processor has {described(size['checkpoint'])}"


def date(report: Mapping[str, Any]) -> str:
    """Returns when the engine was verified: 2026-11-21 22:07 UTC."""
    text = str(_part(report, "environment").get("date") or "")
    return f"{text[:10]} {text[11:16]} UTC" if text.endswith("+00:00") else text


def _part(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Returns a section of the report, an empty one where it is missing."""
    value = document.get(key)
    return value if isinstance(value, Mapping) else {}


def longest(stages: Sequence[Mapping[str, Any]]) -> float:
    """Returns the seconds of the longest stage, for the length of the bars."""
    return max((number(stage.get("seconds")) or 0.0 for stage in stages), default=0.0)

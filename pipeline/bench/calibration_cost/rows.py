"""The rows of `bench-calibration`, from what its cases measured: medians, spreads, ratios, memory per quantizer.

A row has a label and `skipped`: None, or why it holds no numbers. A number that a row does not have is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.measure import latency

if TYPE_CHECKING:
    from pipeline.bench.calibration_cost.workload import Workload

# What we aim at; a miss is shown and changes no exit code.
RATIO = 1.5  # times the plain forward pass
BYTES_A_QUANTIZER = 2e6
GROWTH_A_QUANTIZER = 1e5  # bytes from 8 to 64 batches: as good as nothing, the allocator's noise is in it
COMPUTING_SECONDS = 5.0

LIBRARY = "pytorch-quantization's HistogramCalibrator"
MODELOPT = "ModelOpt's HistogramCalibrator"
ONNXRUNTIME = {
    "onnxruntime_percentile": "ONNX Runtime's PercentileCalibrater",
    "onnxruntime_entropy": "ONNX Runtime's EntropyCalibrater",
}
Seconds = Sequence[float]


def collecting(found: dict[str, Any], work: Workload, many: int) -> list[dict[str, Any]]:
    """Returns a row per way of collecting: seconds, ratio to the plain forward pass, peak, growth a quantizer.

    A ratio is of rounds of one process. ONNX Runtime has none, and no growth: its forward pass is another one.
    """
    times, modelopt = found["times"]["seconds"], found["modelopt"]
    plain, quantizers = times["float"], found["ours_memory"]["quantizers"]

    def row(
        label: str, name: str, seconds: Seconds = (), forward: Seconds = (), places: int = 0, note: str = ""
    ) -> dict[str, Any]:
        case = found[name]
        if "skipped" in case:
            return {"label": label, "skipped": case["skipped"]}
        return {
            "label": label,
            "skipped": None,
            "note": note,
            "batches": work.batches,
            "seconds": spread(seconds),
            "ratio": latency.speedup(seconds, forward) if forward else None,
            "peak": case["peak"],
            "growth": (case["peak"] - found["float_memory"]["peak"]) / places if places else None,
            "targets": [],
        }

    own = row("ours, as the calibrate stage collects", "ours_memory", times["ours"], plain, quantizers)
    longer = {**row("ours, more batches", "ours_memory_many", places=quantizers), "batches": many}
    own["targets"] = [
        target("ratio", own["ratio"]["median"], RATIO),
        target("bytes a quantizer", own["growth"], BYTES_A_QUANTIZER),
    ]
    more = (longer["peak"] - own["peak"]) / quantizers
    longer["targets"] = [target("bytes a quantizer more than with fewer batches", more, GROWTH_A_QUANTIZER)]
    library, seconds = "pytorch_quantization_memory", times["pytorch_quantization"]
    rounds = modelopt.get("seconds", {"modelopt": (), "float": ()})
    theirs = (rounds["modelopt"], rounds["float"], quantizers)
    return [
        row("plain forward, PyTorch float32", "float_memory", plain, plain),
        own,
        longer,
        row(LIBRARY, library, seconds, plain, found[library]["quantizers"], "its defaults: torch_hist, 2048 bins"),
        row(MODELOPT, "modelopt", *theirs, "its defaults, at our quantizers' places"),
        *(
            row(label, name, found[name].get("seconds", ()), note=remark(found[name]))
            for name, label in ONNXRUNTIME.items()
        ),
    ]


def spread(seconds: Sequence[float]) -> dict[str, float] | None:
    """Returns {median, low, high} of the rounds, None without any."""
    if not seconds:
        return None
    return {"median": latency.quantile(seconds, 0.5), "low": min(seconds), "high": max(seconds)}


def target(what: str, value: float, limit: float) -> dict[str, Any]:
    return {"what": what, "value": value, "limit": limit, "met": value <= limit}


def remark(case: dict[str, Any]) -> str:
    """Returns what of the graph ONNX Runtime calibrates, and how."""
    tensors = max((method["tensors"] for method in case.get("computing", {}).values()), default=0)
    return f"{tensors} tensors around MatMul and Gemm, {case.get('bins')} bins, one round, every batch kept to its end"


def computing(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns a row per way of computing: all of ours together, then method by method, ours before the others'."""
    case = found["computing"]
    parts = [case["activations"], case["weights"]]
    everything = {
        "label": f"ours, everything: 6 amax of {parts[0]['tensors']} activations, 1 of {parts[1]['tensors']} weights",
        "skipped": None,
        **{key: sum(part[key] for part in parts) for key in ("tensors", "seconds")},
        "each": None,
        "ratio": None,
        "peak": case["peak"],
    }
    everything["targets"] = [target("seconds", everything["seconds"], COMPUTING_SECONDS)]
    rows = [everything]
    for method, own in case["ours"].items():
        rows.append(method_row(f"ours, {method}", own, own, None))
        for label, peer in others(found, method):
            if "skipped" in peer:
                rows.append({"label": f"{label}, {method}", "skipped": peer["skipped"]})
            elif method in peer["computing"]:
                peak = peer.get("computing_peak")
                rows.append(method_row(f"{label}, {method}", peer["computing"][method], own, peak))
    return rows


def others(found: dict[str, Any], method: str) -> list[tuple[str, dict[str, Any]]]:
    """Returns label and case of those who may have computed a method; ONNX Runtime has no mse."""
    onnxruntime = [found[name] for name in ONNXRUNTIME] if method != "mse" else []
    return [
        ("pytorch-quantization", {"computing": found["computing"]["library"]}),
        ("ModelOpt", found["modelopt"]),
        *((f"ONNX Runtime ({case['bins']} bins)" if "bins" in case else "ONNX Runtime", case) for case in onnxruntime),
    ]


def method_row(label: str, timed: dict[str, Any], own: dict[str, Any], peak: int | None) -> dict[str, Any]:
    """Returns one method's row; `ratio` is the time a tensor over ours."""
    each = timed["seconds"] / timed["tensors"]
    ratio = each / (own["seconds"] / own["tensors"])
    return {"label": label, "skipped": None, **timed, "each": each, "ratio": ratio, "peak": peak, "targets": []}

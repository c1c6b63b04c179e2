"""How fast an engine could be on this machine: the roofline of its own products, beside its profile.

The roofline model (Williams, Waterman, Patterson, 2009): a program that multiplies N times and reads B bytes from
memory takes at least max(N / peak, B / bandwidth). Both limits are measured here, in the rounds that time the engine:
the peak is the best rate that the same runtime reaches on chains of nothing but products, the bandwidth the best of
plain reading and copying. Everything that is no product counts as free, so the bound is below what any placement,
layout or fusion can reach with this runtime's kernels.
"""

from __future__ import annotations

import itertools
import logging
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import backends, stages
from pipeline.bench import results, timing
from pipeline.errors import PipelineError
from pipeline.judge.evaluation import Reference
from pipeline.measure import latency, precision
from pipeline.run import Run

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

log = logging.getLogger(__name__)

WARMUP = 3
# rows × width × inner width of chains of [M, K]·[K, N] and [M, N]·[N, K] in turn: transformers' own, and a large one
CHAINS: tuple[tuple[int, int, int], ...] = ((128, 768, 3072), (1024, 768, 3072), (2048, 2048, 2048))
LINKS = 4  # an even number ends at the width it began with
MEMORY_BYTES = 256 << 20  # per array of the bandwidth test: more than any processor's cache
SCALE = 0.02

Probe = tuple[Callable[[], object], float]  # a call, and what it does: operations, or bytes moved


def run(
    recipe: Recipe, *, batch: int, rounds: int = 30, record: Path | None = None, command: str = ""
) -> dict[str, Any]:
    """Returns what bounds the engine in `recipe.folder`, {engine, limits, bound_ms, layers, …}; times are medians.

    Raises ArtifactError where no engine was built, PipelineError where the runtime does not multiply the chains of
    products in int8: its rate would then be no peak of int8.
    """
    (judged,) = stages.runs_for("verify", Run.of(recipe))
    workspace, threads, backend = judged.workspace, judged.threads, judged.backend.NAME
    engine = backends.load_checked(workspace, backend, threads)
    feeds = Reference.read(workspace).first(batch).inputs
    profile = engine.precision_report(feeds)
    weights = weight_bytes(workspace.path(f"{backend}/model.qdq.onnx"))
    with tempfile.TemporaryDirectory(prefix="bound-") as scratch:
        probes: dict[str, Probe] = {}
        for kind, chain in itertools.product(("int8", "float"), CHAINS):
            name = f"{kind} {'×'.join(map(str, chain))}"
            probes[name] = products(chain, kind, backend, recipe, Path(scratch) / name, threads)
        probes |= memory(threads)
        # the second call of a round finds the caches as a served model does, the first one as the other work left them
        calls: dict[str, Callable[[], object]] = {name: partial(engine, feeds) for name in ("cold engine", "engine")}
        calls |= {name: call for name, (call, _) in probes.items()}
        times = timing.in_turns(calls, warmup=WARMUP, runs=rounds)
    ms = {name: latency.summary(seconds)["p50"] for name, seconds in times.items()}
    rates = {name: work / ms[name] * 1e3 for name, (_, work) in probes.items()}
    limits = [
        limit("int8 products", flops(profile, "int8"), "int8", rates),
        limit("float products", flops(profile, "float"), "float", rates),
        limit("weights from memory", weights, "memory", rates),
    ]
    arithmetic, traffic = limits[0]["ms"] + limits[1]["ms"], limits[2]["ms"]
    document = results.document(
        command,
        threads,
        model=recipe.model,
        backend=backend,
        inputs=results.shapes_of(feeds),
        rounds=rounds,
        engine=latency.summary(times["engine"]),
        rates=rates,
        limits=limits,
        bound_ms=max(arithmetic, traffic),
        bound_without_overlap_ms=arithmetic + traffic,
        layers=by_type(profile["layers"]),
    )
    results.write(document, record)
    return document


def limit(name: str, amount: float, resource: str, rates: Mapping[str, float]) -> dict[str, Any]:
    """Returns {name, amount, rate, best, ms}: the time that `amount` takes at the resource's best measured rate."""
    best = max((key for key in rates if key.startswith(resource)), key=lambda key: rates[key])
    return {"name": name, "amount": amount, "rate": rates[best], "best": best, "ms": amount / rates[best] * 1e3}


def flops(profile: Mapping[str, Any], kind: str) -> int:
    """Returns the operations, two a multiply-add, of the products that ran in int8 or in float."""
    return sum(layer["flops"] for layer in profile["layers"] if precision.kind(layer["precision"]) == kind)


def by_type(layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns {type, precision, layers, ms, flops} of the profile's layers, those of most time first."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for layer in layers:
        groups[layer["type"], precision.kind(layer["precision"])].append(layer)
    rows = [
        {
            "type": type_,
            "precision": kind,
            "layers": len(group),
            "ms": sum(layer.get("ms", 0.0) for layer in group),
            "flops": sum(layer["flops"] for layer in group),
        }
        for (type_, kind), group in groups.items()
    ]
    return sorted(rows, key=lambda row: -float(row["ms"]))


def weight_bytes(graph: Path) -> int:
    """Returns the bytes of the constants that every run reads whole: all but the tables that rows are gathered from."""
    import onnx_ir as ir

    found = 0
    for value in ir.load(graph).graph.initializers.values():
        if value.const_value is not None and not all(node.op_type == "Gather" for node, _ in value.uses()):
            found += value.const_value.nbytes
    return found


def products(chain: tuple[int, int, int], kind: str, backend: str, recipe: Recipe, area: Path, threads: int) -> Probe:
    """Returns (a call of an engine of nothing but products, its operations). Raises PipelineError: see `run`."""
    import numpy as np
    import onnx

    rows, width, inner = chain
    area.mkdir(parents=True)
    onnx.save(chain_of_products(rows, width, inner, quantized=kind == "int8"), area / "chain.onnx")
    module = backends.get(backend)
    module.build(area / "chain.onnx", area / "engine", recipe)
    engine = module.load(area / "engine", threads)
    feeds = {"x": np.random.default_rng(0).standard_normal((rows, width), dtype=np.float32)}
    share = engine.precision_report(feeds)["int8_flop_share"]
    if share != float(kind == "int8"):
        raise PipelineError(
            f"{backend} computes {share:.0%} of a chain of {kind} products in int8: no peak to compare with."
        )
    engine.prepare({"x": (rows, width)})
    return partial(engine, feeds), 2.0 * rows * width * inner * LINKS


def chain_of_products(rows: int, width: int, inner: int, *, quantized: bool) -> Any:
    """Returns an ONNX model of LINKS products, with the CPU backends' Q/DQ: unsigned activations."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    nodes = []
    constants: dict[str, Any] = {"scale": np.float32(SCALE), "zero": np.uint8(128)}
    source = "x"
    for i in range(LINKS):
        shape = (width, inner) if i % 2 == 0 else (inner, width)
        right = f"w{i}"
        if quantized:
            constants[f"q{i}"] = rng.integers(-127, 128, shape, dtype=np.int8)
            constants[f"s{i}"] = np.full(shape[1], SCALE / shape[0], np.float32)
            constants[f"z{i}"] = np.zeros(shape[1], np.int8)
            nodes += [
                helper.make_node("QuantizeLinear", [source, "scale", "zero"], [f"x{i}_q"]),
                helper.make_node("DequantizeLinear", [f"x{i}_q", "scale", "zero"], [f"x{i}"]),
                helper.make_node("DequantizeLinear", [f"q{i}", f"s{i}", f"z{i}"], [right], axis=1),
            ]
            source = f"x{i}"
        else:
            constants[right] = rng.standard_normal(shape, dtype=np.float32) / np.float32(shape[0])
        nodes.append(helper.make_node("MatMul", [source, right], [f"y{i}"]))
        source = f"y{i}"
    used = {name: value for name, value in constants.items() if quantized or name.startswith("w")}
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, width])],
        [helper.make_tensor_value_info(source, TensorProto.FLOAT, [rows, width])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in used.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def memory(threads: int) -> dict[str, Probe]:
    """Returns calls that read, and copy, arrays larger than the caches on all threads, with the bytes they move."""
    import numpy as np

    pool = ThreadPoolExecutor(threads)  # numpy computes without Python's lock
    sources = [np.ones(MEMORY_BYTES // 8) for _ in range(threads)]
    targets = [np.empty_like(source) for source in sources]

    def read() -> None:
        list(pool.map(np.max, sources))

    def copy() -> None:
        list(pool.map(np.copyto, targets, sources))

    moved = float(MEMORY_BYTES * threads)
    return {"memory read": (read, moved), "memory copied": (copy, 2 * moved)}

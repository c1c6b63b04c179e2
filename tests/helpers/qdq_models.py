"""Small QDQ graphs for the tests of backends, engines and verdicts, with the artifact folder around them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from pipeline.artifacts import Workspace
from pipeline.graph import saturation
from pipeline.judge import evaluation
from pipeline.judge.evaluation import one_by_one
from pipeline.judge.parity import Limit, Parity, compare
from pipeline.judge.reference import dithered_outputs, exact_session, float_session
from pipeline.judge.soundness import Expected
from pipeline.lowering.document import at_risk
from pipeline.recipe import Recipe

OPSET = 20
WIDTH = 32
CLASSES = 4


@dataclass
class Graph:
    """An ONNX graph written node by node: float, or with the Q/DQ that `quantize` and `weight` add."""

    qdq: bool = True
    signed: bool = True
    seed: int = 0
    bounded: bool = True  # right on processors without VNNI too
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        output = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: np.ndarray | float) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def quantize(self, x: str, scale: float) -> str:
        """x -> Q -> DQ, int8 or the exactly equivalent uint8 with zero point 128."""
        if not self.qdq:
            return x
        zero = np.int8(0) if self.signed else np.uint8(128)
        s, z = self.constant(f"{x}_scale", np.float32(scale)), self.constant(f"{x}_zero", np.asarray(zero))
        return self.add("DequantizeLinear", self.add("QuantizeLinear", x, s, z), s, z)

    def weight(self, name: str, shape: tuple[int, ...], axis: int) -> str:
        """An int8 initializer -> DQ per channel; in the float graph the same values as float."""
        others = tuple(i for i in range(len(shape)) if i != axis)
        spread = np.exp(0.5 * self.rng.standard_normal(shape[axis]))  # channels of unlike size
        spread = spread.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        fan_in = np.prod(shape) / shape[axis]
        value = (self.rng.standard_normal(shape) * spread / np.sqrt(fan_in)).astype(np.float32)
        inner = {1: 0, 0: 1}[axis]  # of input channels: a matrix [K, N], a convolution [O, C, k, k]
        rows = np.moveaxis(value, (axis, inner), (0, -1)).reshape(shape[axis], -1, shape[inner])  # [N, P, C]
        scale = (np.abs(value).max(others, keepdims=True) / 127).astype(np.float32)
        if self.bounded:
            scale = saturation.bounded_scale(rows, scale.reshape(-1)).reshape(scale.shape)
        stored = np.clip(np.rint(value / scale), -127, 127).astype(np.int8)
        if not self.qdq:
            return self.constant(name, value)
        s = self.constant(f"{name}_scale", scale.reshape(-1))
        z = self.constant(f"{name}_zero", np.zeros(shape[axis], np.int8))
        return self.add("DequantizeLinear", self.constant(name, stored), s, z, axis=axis)

    def bias(self, name: str, size: int) -> str:
        return self.constant(name, (0.1 * self.rng.standard_normal(size)).astype(np.float32))

    def save(self, path: Path, inputs: dict[str, list[Any]], outputs: dict[str, str]) -> Path:
        """Writes the graph; `outputs` maps the output's name to the value it shows."""
        for name, value in outputs.items():
            self.nodes.append(helper.make_node("Identity", [value], [name], name=name))
        graph = helper.make_graph(
            self.nodes,
            "small",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in inputs.items()],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(onnx.shape_inference.infer_shapes(model), path)
        return path


def linear(path: Path, **options: Any) -> Path:
    """Two linear layers with a ReLU: x [n, 32] -> logits [n, 4]."""
    g = Graph(**options)
    y = g.add("MatMul", g.quantize("x", 0.03), g.weight("w1", (WIDTH, 64), 1))
    y = g.add("Relu", g.add("Add", y, g.bias("b1", 64)))
    y = g.add("MatMul", g.quantize(y, 0.03), g.weight("w2", (64, CLASSES), 1))
    y = g.add("Add", y, g.bias("b2", CLASSES))
    return g.save(path, {"x": ["n", WIDTH]}, {"logits": y})


def attention(path: Path, **options: Any) -> Path:
    """A linear layer and a product of two activations: x [n, s, 32] -> scores [n, s, s]."""
    g = Graph(**options)
    y = g.add("MatMul", g.quantize("x", 0.03), g.weight("w", (WIDTH, WIDTH), 1))
    q = g.quantize(g.add("Add", y, g.bias("b", WIDTH)), 0.04)
    scores = g.add("MatMul", q, g.add("Transpose", q, perm=[0, 2, 1]))
    return g.save(path, {"x": ["n", "s", WIDTH]}, {"scores": g.add("Softmax", scores, axis=-1)})


def convolution(path: Path, **options: Any) -> Path:
    """A 3×3 and a depthwise convolution: image [n, 8, 16, 16] -> map [n, 16, 16, 16]."""
    g = Graph(**options)
    y = g.add("Conv", g.quantize("image", 0.03), g.weight("w", (16, 8, 3, 3), 0), g.bias("b", 16), pads=[1] * 4)
    y = g.add("Relu", y)
    y = g.add("Conv", y, g.constant("dw", np.full((16, 1, 3, 3), 0.1, np.float32)), group=16, pads=[1] * 4)
    y = g.add("Conv", g.quantize(y, 0.02), g.weight("p", (16, 16, 1, 1), 0), g.bias("c", 16))
    return g.save(path, {"image": ["n", 8, 16, 16]}, {"map": y})


def concat_head(path: Path, **options: Any) -> Path:
    """SegFormer's own head in small: maps resized to one size -> Concat -> Q/DQ -> 1×1 convolution."""
    g = Graph(**options)
    maps = []
    for i in range(3):
        factor = g.constant(f"f{i}", np.array([1, 1, 2**i, 2**i], np.float32))
        mode = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        maps.append(g.add("Resize", f"x{i}", "", factor, **mode))
    y = g.quantize(g.add("Concat", *maps, axis=1), 0.03)
    y = g.add("Relu", g.add("Conv", y, g.weight("fuse", (16, 3 * WIDTH, 1, 1), 0)))
    y = g.add("Conv", g.quantize(y, 0.03), g.weight("classify", (CLASSES, 16, 1, 1), 0), g.bias("b", CLASSES))
    shapes = {f"x{i}": ["n", WIDTH, 16 // 2**i, 16 // 2**i] for i in range(3)}
    return g.save(path, shapes, {"logits": y})  # type: ignore[arg-type]


def projection(path: Path, **options: Any) -> Path:
    """A decode head's projection: tokens -> map -> 1×1 convolution -> Resize to sizes asked of its own shape."""
    g = Graph(**options)
    y = g.add("Reshape", g.quantize("x", 0.03), g.constant("map", np.array([-1, 8, 8, WIDTH], np.int64)))
    y = g.add("Transpose", y, perm=[0, 3, 1, 2])
    y = g.add("Conv", y, g.weight("w", (16, WIDTH, 1, 1), 0), g.bias("b", 16))
    size = g.constant("size", np.array([16, 16], np.int64))
    size = g.add("Concat", g.add("Shape", y, start=0, end=2), size, axis=0)
    y = g.add("Resize", y, "", "", size, mode="linear", coordinate_transformation_mode="half_pixel")
    return g.save(path, {"x": ["n", 64, WIDTH]}, {"map_out": y})


MAKERS = {
    "linear": linear,
    "attention": attention,
    "convolution": convolution,
    "concat_head": concat_head,
    "projection": projection,
}


def feeds(path: Path, batch: int, seed: int = 1) -> dict[str, np.ndarray]:
    """Random inputs for a graph of this file; a sequence has 12 entries."""
    rng = np.random.default_rng(seed)
    sizes = {"n": batch, "s": 12}
    made = {}
    for value in onnx.load(path).graph.input:
        shape = [sizes.get(d.dim_param) or d.dim_value for d in value.type.tensor_type.shape.dim]
        made[value.name] = rng.standard_normal(shape).astype(np.float32)
    return made


def change_scale(source: Path, target: Path, name: str, factor: float) -> Path:
    """Writes a copy in which one scale is multiplied by `factor`."""
    model = onnx.load(source)
    (found,) = [x for x in model.graph.initializer if x.name == name]
    found.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(found) * np.float32(factor), name))
    target.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, target)
    return target


def recipe(folder: Path, backend: str, **overrides: Any) -> Recipe:
    """A recipe for the artifact folder of a small graph: one thread, few runs."""
    small = {
        "verification.threads": 1,
        "verification.runs": 6,
        "verification.warmup": 1,
        "shapes.batches": (1, 2, 3),
    }
    return Recipe.load("bert", overrides={"folder": str(folder), "backend": backend, **small, **overrides})


def write_exact(workspace: Workspace, graph: Path) -> None:
    """Writes what `graph` computes of the first samples beside it, as the lower stage does."""
    Expected.computed(graph, evaluation.Reference.read(workspace), 1).write(graph.with_name(evaluation.EXACT))


def export(folder: Path, backend: str, maker: Any = linear, samples: int = 24, rewritten: bool = False) -> Workspace:
    """Fills an artifact folder as the stages before `engine` leave it; labels mostly float's classes."""
    workspace = Workspace(folder)
    with workspace.staging("quantize", {}, {"seconds": 1.0, "peak_rss_bytes": 1}) as area:
        about = {"family": "bert", "task": "text-classification", "quantizers": []}
        (area / "quantizers.json").write_text(json.dumps(about))
        (area / "config.json").write_text(json.dumps({"id2label": {str(i): f"c{i}" for i in range(CLASSES)}}))
    with workspace.staging("calibrate", {}, {"seconds": 2.0, "peak_rss_bytes": 2}) as area:
        (area / "calibration.json").write_text(
            json.dumps({"data_digest": "d", "batches": 2, "samples": 16, "records": {}})
        )
    with workspace.staging("export", {}, {"seconds": 3.0, "peak_rss_bytes": 3}) as area:
        model = maker(area / "model.onnx", qdq=False)
        if rewritten:
            maker(area / "original.onnx", qdq=False)
        given = feeds(model, samples)
        given = {n: np.concatenate([x, x[:1]]) for n, x in given.items()}  # two equal samples
        found = one_by_one(float_session(model, 1), given)
        label = next(iter(found.values())).reshape(samples + 1, -1).argmax(1)
        label[::7] = (label[::7] + 1) % CLASSES  # a score below 1
        arrays = {f"input/{n}": x for n, x in given.items()} | {f"output/{n}": x for n, x in found.items()}
        labels = {
            "label/label": label,
            "label/text": np.array([f"sample {i}" for i in range(len(label))]),
            "label/class_names": np.array([f"c{i}" for i in range(CLASSES)]),
        }
        np.savez(area / "reference.npz", **arrays, **labels)  # type: ignore[arg-type]
    lower(workspace, backend, maker)
    return workspace


def lower(workspace: Workspace, backend: str, maker: Any = linear, **options: Any) -> None:
    """Writes a backend's QDQ graph and what belongs to it, as the lower stage does."""
    with workspace.staging(f"lower/{backend}", {}, {"seconds": 4.0, "peak_rss_bytes": 4}) as area:
        write_exact(
            workspace, maker(area / backend / "model.qdq.onnx", **{"signed": backend != "onnxruntime", **options})
        )
        chosen = {"method": "percentile", "percentile": 99.999, "migration": True}
        placed = {"backend": backend, "calibration": chosen, "quantizers": [], "migrations": []}
        placed |= {"measured_on": None, "default_of": "backend"}
        placed["saturation"] = at_risk(ir.load(area / backend / "model.qdq.onnx"))
        (area / backend / "placement.json").write_text(json.dumps(placed))


def parities(graph: Path, original: Path, engine: Any, given: dict[str, np.ndarray]) -> list[Parity]:
    """Returns the parity of an engine with a graph; original: the float one."""
    exact, floats = exact_session(graph, 1)(given), float_session(original, 1)(given)
    near = dithered_outputs(graph, given, 1, 2)
    limits = {n: Limit.of_neighbours(x, [other[n] for other in near], floats[n]) for n, x in exact.items()}
    return compare(exact, engine(given), limits)

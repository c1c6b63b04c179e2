"""Graphs for the linter as ONNX text: for every rule one that breaks it and one that does not."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser

from pipeline.lint import lint

CONSTANTS: dict[str, Any] = {
    "s": np.float32(0.1),
    "s2": np.float32(0.2),
    "s_zero": np.float32(0),
    "s_tiny": np.float32(1e-9),
    "s_half": np.float16(0.1),
    "s_exact": np.float32(0.125),
    "s_exact_half": np.float16(0.125),
    "s_half_tiny": np.float16(1e-5),
    "s_list": np.array([0.1], np.float32),
    "s_nan": np.array([0.1, np.nan], np.float32),
    "s_just": np.float32(1e-7),
    "s_half_just": np.float16(2.0**-14),
    "s_square": np.full((2, 2), 0.1, np.float32),
    "s_none": np.zeros(0, np.float32),
    "s3": np.full(3, 0.1, np.float32),
    "s4": np.full(4, 0.1, np.float32),
    "s16": np.full(16, 0.1, np.float32),
    "s32": np.full(32, 0.1, np.float32),
    "z": np.int8(0),
    "z5": np.int8(5),
    "z_int16": np.int16(0),
    "z_uint16": np.uint16(0),
    "z_int32": np.int32(0),
    "z2": np.zeros(2, np.int8),
    "z05": np.array([0, 0, 5], np.int8),
    "z_unsigned": np.uint8(128),
    "z3": np.zeros(3, np.int8),
    "z16": np.zeros(16, np.int8),
    "z32": np.zeros(32, np.int8),
    "w": np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32),
    "w8": np.ones((32, 32), np.int8),
    "loud8": np.full((32, 32), 65, np.int8),
    "half8": np.full((32, 32), 64, np.int8),
    "narrow": np.ones((32, 8), np.float32),
    "odd": np.ones((32, 40), np.float32),
    "c": np.ones((16, 16, 3, 3), np.float32),
    "dw": np.ones((16, 1, 3, 3), np.float32),
    "g4": np.ones((16, 4, 3, 3), np.float32),
    "g8": np.ones((16, 8, 3, 3), np.float32),
    "g_odd": np.ones((6, 8, 3, 3), np.float32),
    "g_two": np.ones((32, 2, 3, 3), np.float32),
    "c8": np.ones((8, 16, 3, 3), np.float32),
    "c8b": np.ones((16, 8, 3, 3), np.float32),
    "c_in": np.ones((16, 8, 3, 3), np.float32),
    "c6": np.ones((6, 16, 3, 3), np.float32),
    "stack": np.ones((2, 16, 8), np.float32),
    "c24": np.ones((24, 16, 3, 3), np.float32),
    "w15": np.ones((15, 16), np.float32),
    "w16": np.ones((16, 16), np.float32),
    "w17": np.ones((17, 16), np.float32),
    "odd17": np.ones((17, 40), np.float32),
    "column": np.ones((32, 1), np.float32),
    "cube": np.ones((4, 4, 4), np.float32),
    "b": np.zeros(16, np.float32),
    "b32": np.zeros(16, np.int32),
    "ones32": np.ones(32, np.float32),
    "to": np.array([4, 32]),
    "square": np.array([32, 32]),
    "sixteen": np.array([16]),
    "last": np.array([-1]),
    "first": np.array([1]),
    "start": np.array([0]),
    "eps": np.float32(1e-5),
    "root2": np.float32(2**0.5),
    "cubic": np.float32(0.044715),
    "root2pi": np.float32((2 / np.pi) ** 0.5),
    "one": np.float32(1),
    "two": np.float32(2),
    "three": np.float32(3),
    "half": np.float32(0.5),
    "twice": np.array([1, 1, 2, 2], np.float32),
    "table": np.ones((100, 32), np.float32),
    "picked": np.array([3, 5]),
}


def write(path: Path, text: str, *, opset: int = 20, named: bool = True, ir_version: int = 10) -> Path:
    """Writes an ONNX text with the constants that it reads; a node is called as its output. Nothing is checked."""
    header = f'<ir_version: {ir_version}, opset_import: ["" : {opset}, "com.example" : 1, "com.microsoft" : 1]>'
    model = onnx.parser.parse_model(f"{header} {text}")
    made = {name for node in model.graph.node for name in node.output} | {v.name for v in model.graph.input}
    for name, value in CONSTANTS.items():
        if re.search(rf"\b{name}\b", text) and name not in made:
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    for node in model.graph.node:
        node.name = node.output[0] if named else ""
    onnx.save(model, path)
    return path


def said(folder: Path, rule: str, text: str, target: str = "10", **options: Any) -> dict[str | None, str]:
    """Returns {node: detail} of all that one rule finds in an ONNX text."""
    report = lint(write(folder / "model.onnx", text, **options), target)
    return {p.node: p.detail for found in report.findings if found.rule == rule for p in found.places}


def pair(x: str, scale: str = "s", zero: str = "z", axis: int | None = None, into: str = "") -> str:
    """x -> into_q -> into_d; `into` is `x` itself where it is left out."""
    name, attribute = into or x, "" if axis is None else f"<axis = {axis}>"
    return (
        f"{name}_q = QuantizeLinear{attribute}({x}, {scale}, {zero}) "
        f"{name}_d = DequantizeLinear{attribute}({name}_q, {scale}, {zero})"
    )


X, W = pair("x"), pair("w", "s32", "z32", axis=1)


def linear(x: str = X, w: str = W, product: str = "h = MatMul(x_d, w_d)", end: str = "y = Relu(h)") -> str:
    """x [4, 32] → Q → DQ → MatMul ← DQ ← Q ← w, with parts replaced."""
    return f"g (float[4, 32] x) => (float[A, B] y) {{ {x} {w} {product} {end} }}"


C = pair("c", "s16", "z16", axis=0)
CONV = "h = Conv<pads = [1, 1, 1, 1]>"


def conv(c: str = C, product: str = f"{CONV}(x_d, c_d, b)", end: str = "y = Relu(h)") -> str:
    """x [1, 16, 8, 8] → Q → DQ → 3×3 Conv ← DQ ← Q ← c, with parts replaced; `skip` is another map of that size."""
    return f"g (float[1, 16, 8, 8] x, float[1, 16, 8, 8] skip) => (float[A, B, C, D] y) {{ {X} {c} {product} {end} }}"


POINTS = ("query", "key", "softmax", "value", "output")
NAMES = dict(zip(POINTS, "qkpvc", strict=True))


def attention(
    quantized: tuple[str, ...] = POINTS,
    head: int | str = 32,
    queries: int | str = 128,
    keys: int | str = 128,
    scores: str = "p = Softmax<axis = -1>(r)",
    key: str = "",
) -> str:
    """q [1, 2, S_q, D], k [1, 2, D, S_kv], v [1, 2, S_kv, D]; `scores` makes p of r, `key` makes k_d in another way."""
    pairs = {name: pair(x) if name in quantized else f"{x}_d = Identity({x})" for name, x in NAMES.items()}
    return f"""g (float[1, 2, {queries}, {head}] q, float[1, 2, {head}, {keys}] k, float[1, 2, {keys}, {head}] v)
        => (float[A, B, C, D] y) {{
        {pairs["query"]} {key or pairs["key"]}
        r = MatMul(q_d, k_d) {scores} {pairs["softmax"]} {pairs["value"]}
        c = MatMul(p_d, v_d) {pairs["output"]} y = Relu(c_d) }}"""


LAYER_NORM = """m = ReduceMean(h, last) d = Sub(h, m) e = Pow(d, two) v = ReduceMean(e, last) a = Add(v, eps)
    root = Sqrt(a) n = Div(d, root) y = Mul(n, ones32)"""
GELU = "e0 = Div(h, root2) e1 = Erf(e0) e2 = Add(e1, one) e3 = Mul(h, e2) y = Mul(e3, half)"
GELU_IN_PAIRS = (
    f"e0 = Div(h, root2) {pair('e0')} e1 = Erf(e0_d) {pair('e1')} e2 = Add(e1_d, one) {pair('e2')} "
    f"e3 = Mul(h, e2_d) {pair('e3')} y = Mul(e3_d, half)"
)
RESIZE = 't = Resize<mode = "{mode}", coordinate_transformation_mode = "asymmetric">(x_d, , twice) h = Conv(t, c_d, b)'


@dataclass(frozen=True)
class Case:
    """A graph that breaks a rule and the nodes that the rule names, and a graph that keeps it."""

    rule: str
    bad: str
    good: str
    nodes: frozenset[str]  # empty: the graph as a whole
    severity: str = "W"
    target: str = "10"
    opset: int = 20
    good_opset: int | None = field(default=None)


def case(rule: str, nodes: str, bad: str, good: str, severity: str = "W", **options: Any) -> Case:
    return Case(rule, bad, good, frozenset(nodes.split()), severity, **options)


CASES = [
    case("Q00", "h", linear(product="t = com.example.Mix(x_d) h = MatMul(t, w_d)"), linear(), "I"),
    case("Q01", "x_q", linear(pair("x", zero="z_unsigned")), linear(), "E"),
    case("Q02", "x_q", linear(pair("x", zero="z5")), linear(), "E"),
    case("Q03", "x_d", linear("x_q = QuantizeLinear(x, s, z) x_d = DequantizeLinear(x_q, s)"), linear(), "E",
         target="8.6"),
    case("Q04", "x_q x_d", linear("t = Identity(s) " + pair("x", "t")), linear(), "E"),
    case("Q05", "x_q", linear(pair("x", "s_zero")), linear(pair("x", "s_list")), "E"),
    case("Q06", "x_q", linear(pair("x", "s_half")), linear(), "E", target="8.6"),
    case("Q07", "x_q", linear(pair("x", "s_half")), linear(pair("x", "s_half")), "E", opset=17, good_opset=19),
    case("Q08", "w_q", linear(w=pair("w", "s3", "z3", axis=1)), linear(), "E"),
    case("Q09", "x_q", linear(pair("x", "s32", "z32", axis=1)), linear(), "E"),
    case("Q10", "w_q w_d", linear(w=pair("w", "s32", "z32")), linear(), "E"),
    case("Q11", "w_d", linear(w=pair("w", "s32", "z32", axis=0)), linear(), "E"),
    case("Q12", "h", linear(product="h = MatMulInteger(x_q, w_q)"), linear(), "E"),
    case("Q13", "y", linear(end="y = Gelu(h)"), linear(end="y = Relu(h)"), "E", target="8.6", good_opset=17),
    case("Q14", "t", linear("x_q = QuantizeLinear(x, s, z) t = Reshape(x_q, to) x_d = DequantizeLinear(t, s, z)"),
         linear(f"t = Reshape(x, to) {pair('t', into='x')}"), "E"),
    case("Q15", "h", linear(w=f"{pair('w', into='m')} w_d = Mul(m_d, s)"),
         linear(w=f"{pair('w', 's32', 'z32', axis=0, into='m')} w_d = Transpose<perm = [1, 0]>(m_d)"), "E"),
    case("Q16", "b_d", conv(product=f"b_d = DequantizeLinear(b32, s) {CONV}(x_d, c_d, b_d)"), conv(), "E"),
    case("Q17", "x_q", linear(f"i = Cast<to = 6>(x) {pair('i', into='x')}"), linear(), "E"),
    case("Q18", "h", linear(product="h = MatMul(x_d, w)"), linear()),
    case("Q19", "t", linear(product="t = Mul(x_d, s) h = MatMul(t, w_d)"),
         linear(f"t = Mul(x, s) {pair('t', into='x')}")),
    case("Q20", "p", attention(("query", "key", "value", "output")), attention(("output",))),
    case("Q21", "p", attention(queries=1024), attention(())),
    case("Q22", "t", attention(scores="t = Mul(r, s) p = Softmax<axis = -1>(t)"),
         attention((), scores="t = Mul(r, s) p = Softmax<axis = -1>(t)")),
    case("Q23", "a", conv(end=f"a = Add(h, skip) {pair('a')} y = Relu(a_d)"),
         conv(end=f"{pair('skip')} a = Add(h, skip_d) {pair('a')} y = Relu(a_d)")),
    case("Q24", "h_q", conv(end=f"{pair('h')} y = Relu(h_d)"), conv(end=f"r = Relu(h) {pair('r')} y = Exp(r_d)")),
    case("Q25", "y", conv(end="y = BatchNormalization(h, b, b, b, b)"),
         conv(end="t = Relu(h) y = BatchNormalization(t, b, b, b, b)")),
    case("Q26", "h_d", linear(end=f"{pair('h')} y = Softmax(h_d)"), linear(end="y = Softmax(h)")),
    case("Q27", "t", linear(product="t = Concat<axis = 0>(x_d, x) h = MatMul(t, w_d)"),
         linear(product="t = Concat<axis = 0>(x_d, x_d) h = MatMul(t, w_d)")),
    case("Q28", "x_q u_q", linear(product=f"{pair('x', 's2', into='u')} k = MatMul(u_d, w_d) h = MatMul(x_d, w_d)",
                                  end="y = Max(h, k)"),
         linear(product="k = MatMul(x_d, w_d) h = MatMul(x_d, w_d)", end="y = Max(h, k)")),
    case("Q29", "h", conv(pair("dw", "s16", "z16", axis=0), f"{CONV[:-1]}, group = 16>(x_d, dw_d, b)"),
         conv(pair("g4", "s16", "z16", axis=0), f"{CONV[:-1]}, group = 4>(x_d, g4_d, b)")),
    case("Q30", "h", linear(w=pair("narrow", into="w")), linear()),
    case("Q31", "", linear(), linear(end="t = Cast<to = 10>(h) y = Relu(t)")),
    case("Q32", "t", linear(product="t = Cast<to = 10>(x_d) h = MatMul(t, w_d)"), linear()),
    case("Q33", "root", linear(end=LAYER_NORM), linear(end="y = LayerNormalization<axis = -1>(h, ones32)")),
    case("Q34", "e0_q e1_q e2_q e3_q", linear(end=GELU_IN_PAIRS), linear(end=GELU)),
    case("Q35", "u_q", linear(product=f"{pair('x_d', 's2', into='u')} h = MatMul(u_d, w_d)"), linear()),
    case("Q36", "h", linear(end="y = Softmax(h)"), linear(end="y = Relu(h)")),
    case("Q37", "h", linear().replace("[4, 32]", "[N, 32]"), linear(), "I"),
    case("Q38", "i", linear(f"i = Cast<to = 1>(x) {pair('i', into='x')}").replace("float[4", "int64[4"), linear(), "I",
         target="8.6"),
    case("Q39", "h", linear(product="h = MatMul(x, w)"), linear(), "I"),
    case("Q40", "t", conv(product=RESIZE.format(mode="linear")), conv(product=RESIZE.format(mode="nearest")), "I"),
    case("Q41", "h", linear(w="w_d = DequantizeLinear<axis = 1>(loud8, s32, z32)"),
         linear(w="w_d = DequantizeLinear<axis = 1>(half8, s32, z32)"), target="cpu"),
]  # fmt: skip

"""The linter's rules: for every one a graph that breaks it and one that does not, and the cases within a rule."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.lint_graphs import CASES, CONV, LAYER_NORM, Case, attention, conv, linear, pair, write
from pipeline.lint import TARGETS, Finding, Report, lint
from pipeline.lint.rules import every_rule, rule


def examine(folder: Path, text: str, target: str = "10", **options: int) -> Report:
    return lint(write(folder / "model.onnx", text, **options), target)  # type: ignore[arg-type]


def found(report: Report, name: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.rule == name]


def details(report: Report, name: str) -> dict[str | None, str]:
    return {place.node: place.detail for finding in found(report, name) for place in finding.places}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_every_rule_is_broken_by_one_graph_and_kept_by_another(case: Case, tmp_path: Path) -> None:
    bad = found(examine(tmp_path, case.bad, case.target, opset=case.opset), case.rule)
    assert [frozenset(f.nodes) for f in bad if f.severity == case.severity] == [case.nodes]
    assert all(f.targets == (case.target,) for f in bad)
    good = examine(tmp_path, case.good, case.target, opset=case.good_opset or case.opset)
    assert found(good, case.rule) == []


def test_the_cases_cover_every_rule_and_the_rules_the_whole_list() -> None:
    ids = [entry.id for entry in every_rule()]
    assert ids == [f"Q{i:02}" for i in range(42)]
    assert sorted(case.rule for case in CASES) == ids


def test_a_rule_has_two_sentences_and_exists_once() -> None:
    for entry in every_rule():
        for sentence in (entry.problem, entry.fix):
            assert sentence[0].isupper() and sentence.endswith(".") and "\n" not in sentence
        assert entry.severity and set(entry.severity) <= set(TARGETS)
    with pytest.raises(ValueError, match="rule Q01 exists twice: signed_int8 and again"):

        @rule("Q01", "E", "Two rules share an id.", "Number one anew.")
        def again(view: object) -> list:  # type: ignore[type-arg]
            return []


def test_a_clean_graph_has_no_finding_for_8_6(tmp_path: Path) -> None:
    report = examine(tmp_path, linear(), "8.6", opset=17)
    assert report.findings == () and report.errors == ()
    assert report.coverage.share == 1


GRAPHS = sorted({text for case in CASES for text in (case.bad, case.good)})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.sampled_from(GRAPHS), opset=st.sampled_from([11, 13, 17, 19, 21]), named=st.booleans())
def test_findings_name_nodes_of_the_file(text: str, opset: int, named: bool, tmp_path: Path) -> None:
    """Under any opset, whatever is wrong with the graph; a node without a name goes by its first output."""
    path = write(tmp_path / "model.onnx", text, opset=opset, named=named)
    known = {name for node in onnx.load(path).graph.node for name in (node.name, node.output[0]) if name}
    report = lint(path)
    for finding in report.findings:
        assert set(finding.nodes) <= known and finding.places
    named_elsewhere = [entry.node for entry in (*report.unfused, *report.attention)]
    assert {*named_elsewhere, *dict(report.coverage.float_nodes), *report.coverage.uncounted} <= known


# --- within the rules ---


def test_a_severity_may_differ_by_target(tmp_path: Path) -> None:
    report = examine(tmp_path, linear("x_q = QuantizeLinear(x, s, z) x_d = DequantizeLinear(x_q, s)"), "all")
    assert [(f.severity, f.targets) for f in found(report, "Q03")] == [("E", ("8.6",)), ("W", ("10",))]
    assert [f.targets for f in found(report, "Q14")] == [("8.6", "10")], "the same everywhere is one finding"


@pytest.mark.parametrize(
    ("scale", "severity", "detail"),
    [("s_zero", "E", "0"), ("s_tiny", "W", "1e-09"), ("s_half_tiny", "W", "1e-05 in float16")],
)
def test_scales_that_are_not_usable(scale: str, severity: str, detail: str, tmp_path: Path) -> None:
    report = examine(tmp_path, linear(pair("x", scale)))
    assert [f.severity for f in found(report, "Q05")] == [severity]
    assert details(report, "Q05") == {"x_q": detail}


@pytest.mark.parametrize(
    ("weights", "product", "wrong"),
    [
        (pair("c", "s16", "z16", axis=0), f"{CONV}(x_d, c_d)", ""),
        (pair("c", "s16", "z16", axis=1), f"{CONV}(x_d, c_d)", "axis 1, 0 for Conv h"),
        (pair("c", "s16", "z16", axis=-4), f"{CONV}(x_d, c_d)", ""),
        (pair("c", "s16", "z16", axis=0), "h = ConvTranspose(x_d, c_d)", "axis 0, 1 for ConvTranspose h"),
        (pair("c", "s16", "z16", axis=1), "h = ConvTranspose(x_d, c_d)", ""),
    ],
)
def test_the_channel_axis_of_convolutions(weights: str, product: str, wrong: str, tmp_path: Path) -> None:
    report = examine(tmp_path, conv(weights, product))
    assert details(report, "Q11") == ({"c_d": wrong} if wrong else {})


@pytest.mark.parametrize(
    ("axis", "product", "wrong"),
    [
        (1, "h = Gemm(x_d, w_d)", ""),
        (0, "h = Gemm(x_d, w_d)", "axis 0, 1 for Gemm h"),
        (0, "h = Gemm<transB = 1>(x_d, w_d)", ""),
        (1, "h = Gemm<transB = 1>(x_d, w_d)", "axis 1, 0 for Gemm h"),
        (0, "t = Transpose<perm = [1, 0]>(w_d) h = MatMul(x_d, t)", ""),
        (1, "t = Transpose<perm = [1, 0]>(w_d) h = MatMul(x_d, t)", "axis 1, 0 for MatMul h"),
        (0, "t = Transpose(w_d) u = Identity(t) h = MatMul(x_d, u)", ""),
        (0, "t = Reshape(w_d, to) h = MatMul(x_d, t)", ""),  # nothing is said
    ],
)
def test_the_channel_axis_of_linear_layers(axis: int, product: str, wrong: str, tmp_path: Path) -> None:
    report = examine(tmp_path, linear(w=pair("w", "s32", "z32", axis=axis), product=product))
    assert details(report, "Q11") == ({"w_d": wrong} if wrong else {})


@pytest.mark.parametrize(
    ("weights", "severity", "detail"),
    [
        ("w_d = DequantizeLinear<axis = 1>(w8, s32, z32)", "", ""),
        ("t = Transpose(w) " + pair("t", into="w"), "W", "Transpose before Q"),
        (f"{pair('w', into='a')} {pair('a_d', into='w')}", "E", "2 Q and 2 DQ"),
        ("w_q = QuantizeLinear(w, s, z) t = Transpose(w_q) w_d = DequantizeLinear(t, s, z)", "E",
         "Transpose between Q and DQ"),
        (f"t = Cast<to = 1>(w) {pair('t', into='w')}", "E", "Cast on the path"),
        ("w_d = Transpose(w)", "", ""),  # float weights are Q18's
    ],
)  # fmt: skip
def test_the_path_of_weights(weights: str, severity: str, detail: str, tmp_path: Path) -> None:
    report = examine(tmp_path, linear(w=weights))
    assert [f.severity for f in found(report, "Q15")] == [severity] * bool(severity)
    assert details(report, "Q15") == ({"h": detail} if detail else {})


def test_a_bias_that_is_not_stored_is_an_error_on_8_6_alone(tmp_path: Path) -> None:
    text = conv(product=f"t = Relu(skip) u = ReduceMean<axes = [0, 2, 3], keepdims = 0>(t) {CONV}(x_d, c_d, u)")
    assert details(examine(tmp_path, text, "8.6", opset=17), "Q16") == {"h": "the bias is not stored"}
    assert found(examine(tmp_path, text, "10", opset=17), "Q16") == []


@pytest.mark.parametrize(
    ("end", "opset", "change"),
    [
        ("y = ReduceMean<keepdims = 1>(h, last)", 18, "ReduceMean with 2 inputs"),
        ("y = ReduceMean<axes = [-1]>(h)", 17, ""),
        ("y, y2 = Split<axis = 0, num_outputs = 2>(h)", 18, "Split with num_outputs"),
        ("y = Gelu(h)", 20, "Gelu is no operator of opset 17"),
        ("y = LayerNormalization(h, ones32)", 20, ""),
        ("y = Cast<to = 1, saturate = 1>(h)", 19, ""),  # new, but only says the default
        ("y = Cast<to = 1, saturate = 0>(h)", 19, "Cast with saturate"),
    ],
)
def test_operators_that_changed_after_opset_17(end: str, opset: int, change: str, tmp_path: Path) -> None:
    report = examine(tmp_path, linear(end=end), "all", opset=opset)
    errors = [f for f in found(report, "Q13") if f.severity == "E"]
    assert [place.detail for f in errors for place in f.places] == [change] * bool(change)
    assert all(f.targets == ("8.6",) for f in errors)
    warned = [f.targets for f in found(report, "Q13") if f.severity == "W"]
    assert warned == [("8.6",)] * (opset > 17)


def test_operator_sets_that_are_too_old_or_too_new(tmp_path: Path) -> None:
    assert set(details(examine(tmp_path, linear(), opset=12), "Q13")) == {"w_q", "w_d"}
    assert details(examine(tmp_path, linear(), opset=21), "Q13") == {None: "opset 21; 10.0 and 10.1 know 20"}


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        (linear(product="h = MatMul(x_d, w_d) i = Relu(x_q)"), {"i"}),
        (linear(product="h = MatMul(x_d, w_d)", end="y = Relu(h) k = Transpose(w8)"), {"k"}),
        (linear("x_q = QuantizeLinear(x, s, z) x_d = DequantizeLinear(x_q, s2, z)"), {"x_d"}),
        (linear("x_q = QuantizeLinear(x, s, z) x_d = DequantizeLinear(x_q, s_list, z)"), set()),
        (linear().replace("y)", "y, int8[4, 32] x_q)"), {"x_q"}),
    ],
    ids=["reader of Q", "reader of stored int8", "other scale", "the same scale, written as a list", "graph output"],
)
def test_int8_is_only_read_by_its_dq(text: str, nodes: set[str], tmp_path: Path) -> None:
    assert set(details(examine(tmp_path, text), "Q14")) == nodes


@pytest.mark.parametrize(
    ("product", "between"),
    [
        ("t = Mul(x_d, s) h = MatMul(t, w_d)", {"t"}),
        ("t = Mul(x_d, s) u = Transpose(t) v = Transpose(u) h = MatMul(v, w_d)", {"t"}),
        ("t = Add(x_d, x_d) h = MatMul(t, w_d)", {"t"}),
        ("t = Add(x_d, x) h = MatMul(t, w_d)", set()),  # a sum with a float branch is a residual, no slip
        ("t = Mul(x_d, s) h = MatMul(t, w)", set()),  # the product was not meant to be int8
        ("t = Transpose(x_d) u = Transpose(t) h = MatMul(u, w_d)", set()),
    ],
)
def test_what_stands_between_dq_and_its_product(product: str, between: set[str], tmp_path: Path) -> None:
    assert set(details(examine(tmp_path, linear(product=product)), "Q19")) == between


@pytest.mark.parametrize(
    ("weights", "severity", "detail"),
    [("narrow", "W", "N 8"), ("odd", "I", "N 40"), ("w", "", "")],
)
def test_sizes_of_products(weights: str, severity: str, detail: str, tmp_path: Path) -> None:
    report = examine(tmp_path, linear(w=pair(weights, into="w")))
    assert [f.severity for f in found(report, "Q30")] == [severity] * bool(severity)
    assert details(report, "Q30") == ({"h": detail} if detail else {})
    single = linear(w=pair(weights, into="w")).replace("[4, 32]", "[1, 32]")
    assert "M 1" in details(examine(tmp_path, single), "Q30")["h"]


def test_residual_adds_warn_where_one_kernel_could_do_it_all(tmp_path: Path) -> None:
    fused = conv(end=f"a = Add(h, skip) {pair('a')} y = Relu(a_d)")
    behind_norm = linear(end=f"a = Add(h, x) n = LayerNormalization(a, ones32) {pair('n')} y = MatMul(n_d, w_d)")
    float_after = conv(end="a = Add(h, skip) y = Softmax(a)")
    assert [f.severity for f in found(examine(tmp_path, fused), "Q23")] == ["W"]
    assert [f.severity for f in found(examine(tmp_path, behind_norm), "Q23")] == ["I"]
    assert found(examine(tmp_path, float_after), "Q23") == []


@pytest.mark.parametrize(
    ("end", "nodes"),
    [
        (f"{pair('h')} y = Add(h_d, skip)", {"h_q"}),
        (f"h2 = Conv(skip, c_d) {pair('h2')} y = Add(h, h2_d)", set()),  # the branch that goes around
        (f"{pair('h')} t = Div(h_d, root2) u = Erf(t) y = Mul(u, h_d)", {"h_q"}),
        (f"{pair('h')} y = Conv(h_d, c_d)", set()),
    ],
)
def test_pairs_behind_a_convolution(end: str, nodes: set[str], tmp_path: Path) -> None:
    assert set(details(examine(tmp_path, conv(end=end)), "Q24")) == nodes


@pytest.mark.parametrize(
    ("end", "nodes"),
    [
        (f"{pair('h')} y = Add(h_d, skip)", set()),  # a residual
        (f"{pair('h')} y = LayerNormalization(h_d, skip)", set()),  # lets the convolution write int8
        (f"t = Exp(h) {pair('t')} y = LayerNormalization(t_d, skip)", {"t_d"}),
        (f"t = Exp(h) {pair('t')} u = AveragePool<kernel_shape = [2, 2]>(t_d) {pair('u')} y = Conv(u_d, c_d)", set()),
        (f"t = Exp(h) {pair('t')} u = AveragePool<kernel_shape = [2, 2]>(t_d) y = Conv(u, c)", {"t_d"}),
        (f"t = Exp(h) {pair('t')} y = com.example.Mix(t_d)", set()),  # who knows
    ],
)
def test_pairs_that_nothing_in_int8_reads(end: str, nodes: set[str], tmp_path: Path) -> None:
    assert set(details(examine(tmp_path, conv(end=end)), "Q26")) == nodes


TANH_GELU = (
    "p = Pow(h, three) m = Mul(p, cubic) {0} a = Add(h, {1}) k = Mul(a, root2pi) t = Tanh(k) o = Add(t, one) "
    "n = Mul(h, half) y = Mul(n, o)"
)


@pytest.mark.parametrize(
    ("end", "nodes"),
    [
        (TANH_GELU.format("", "m"), set()),
        (TANH_GELU.format(pair("m"), "m_d"), {"m_q"}),
        (f"{pair('h', into='i')} e0 = Div(i_d, root2) e1 = Erf(e0) e2 = Add(e1, one) e3 = Mul(i_d, e2) "
         f"e4 = Mul(e3, half) {pair('e4')} y = MatMul(e4_d, w_d)", set()),
        (f"t = Tanh(h) {pair('t')} y = MatMul(t_d, w_d)", set()),
    ],
    ids=["tanh", "tanh with a pair", "around the chain", "a tanh alone"],
)  # fmt: skip
def test_pairs_inside_gelu(end: str, nodes: set[str], tmp_path: Path) -> None:
    assert set(details(examine(tmp_path, linear(end=end)), "Q34")) == nodes


def test_superfluous_pairs(tmp_path: Path) -> None:
    twice = linear(product=f"{pair('x', into='u')} k = MatMul(u_d, w_d) h = MatMul(x_d, w_d)", end="y = Max(h, k)")
    assert details(examine(tmp_path, twice), "Q35") == {"u_q": "equals x_q"}
    assert found(examine(tmp_path, twice), "Q28") == [], "equal pairs are no conflict of scales"
    dead = linear(end=f"y = Relu(h) {pair('h')}")
    assert details(examine(tmp_path, dead), "Q35") == {"h_d": "nothing reads it"}
    same = linear(product=f"{pair('x_d', into='u')} h = MatMul(u_d, w_d)")
    assert found(examine(tmp_path, same), "Q35") == [], "an equal scale cancels"


@pytest.mark.parametrize(
    ("end", "where"),
    [
        ("y = Softmax(h)", {"h": "final classifier"}),
        ("t = Add(h, ones32) y = Reshape(t, to)", {"h": "final classifier"}),
        ("y = LayerNormalization(h, ones32)", {}),
        (f"r = Relu(h) {pair('r')} y = Reshape(r_d, to)", {"r_d": "output of the graph"}),
        (f"{pair('table')} r = Gather(table_d, picked) y = Max(h, r)", {"table_d": "embedding r"}),
        (f"r = Relu(h) {pair('r')} t = Gather(r_d, picked) y = Exp(t)", {}),  # picks rows of an activation
    ],
)
def test_pairs_at_the_ends(end: str, where: dict[str, str], tmp_path: Path) -> None:
    assert details(examine(tmp_path, linear(end=end)), "Q36") == where


def test_a_layer_normalization_over_another_axis_is_none(tmp_path: Path) -> None:
    assert found(examine(tmp_path, linear(end=LAYER_NORM.replace("last", "to"))), "Q33") == []


def test_the_transposed_key_is_named(tmp_path: Path) -> None:
    late = attention(key=f"{pair('k', into='l')} k_d = Transpose<perm = [0, 1, 3, 2]>(l_d)")
    early = attention(key=f"l = Transpose<perm = [0, 1, 3, 2]>(k) {pair('l', into='k')}")
    assert set(details(examine(tmp_path, late), "Q22")) == {"k_d"}
    assert found(examine(tmp_path, early), "Q22") == []


def test_scales_of_one_value_in_two_types_are_the_same(tmp_path: Path) -> None:
    """As behind a float32 input of a float16 graph; each is looked at for itself all the same."""
    text = linear("x_q = QuantizeLinear(x, s_exact, z) x_d = DequantizeLinear(x_q, s_exact_half, z)")
    assert found(examine(tmp_path, text), "Q14") == []
    assert details(examine(tmp_path, text, "8.6"), "Q06") == {"x_d": "float16"}
    rounded = text.replace("s_exact,", "s,")
    assert set(details(examine(tmp_path, rounded), "Q14")) == {"x_d"}


def test_eight_bit_floats_are_let_pass_on_10(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", linear())
    model = onnx.load(path)
    (zero,) = [tensor for tensor in model.graph.initializer if tensor.name == "z"]
    zero.CopyFrom(onnx.helper.make_tensor("z", onnx.TensorProto.FLOAT8E4M3FN, [], [0.0]))
    onnx.save(model, path)
    assert [f.targets for f in found(lint(path), "Q01")] == [("8.6",)]


def test_block_size_and_output_type_are_unknown_to_8_6(tmp_path: Path) -> None:
    text = linear("x_q = QuantizeLinear(x, s, z) x_d = DequantizeLinear<output_dtype = 1>(x_q, s, z)")
    assert details(examine(tmp_path, text, "all", opset=23), "Q17") == {"x_d": "output_dtype 1"}
    assert found(examine(tmp_path, text, "10", opset=23), "Q17") == []

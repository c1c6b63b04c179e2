"""The engine inspector's JSON becomes a precision report: evidence for int8, Q/DQ on their own, reformats, modules."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from helpers import DATA
from helpers import qdq_models as models
from pipeline.backends._tensorrt import profile
from pipeline.backends._tensorrt.nodes import flops, is_pair_operator, is_product, module_of
from pipeline.errors import EngineRefused
from pipeline.measure import precision
from pipeline.recipe import Shapes

LAYOUTS = {n: json.loads((DATA / f"tensorrt-inspector-{n}.json").read_text()) for n in ("10", "11")}
FLOPS = {
    "patch/Conv": 1000,
    "dwconv/Conv": 100,
    "query/MatMul": 300,
    "key/MatMul": 300,
    "attention/MatMul": 40,
    "attention/MatMul_1": 60,
    "dense/MatMul": 500,
    "head/MatMul": 200,
}
both = pytest.mark.parametrize("layout", sorted(LAYOUTS))


def report(information: dict[str, Any], **more: Any) -> dict[str, Any]:
    return profile.report(information, more.pop("flops", FLOPS), more.pop("times", {}), **more)


def changed(layout: str, name: str, **values: Any) -> dict[str, Any]:
    """Returns the sample with some keys of one layer changed; None removes a key."""
    information = copy.deepcopy(LAYOUTS[layout])
    (layer,) = [x for x in information["Layers"] if x["Name"] == name]
    for key, value in values.items():
        layer[key] = value
        if value is None:
            del layer[key]
    return information


def precisions(found: dict[str, Any]) -> dict[str, str]:
    return {layer["name"]: layer["precision"] for layer in found["layers"]}


def test_the_samples_differ_in_layout_alone() -> None:
    assert report(LAYOUTS["10"]) == report(LAYOUTS["11"])
    assert "Bindings" in LAYOUTS["10"] and "I/O Tensors" in LAYOUTS["11"]


@both
def test_what_ran_in_what(layout: str) -> None:
    assert precisions(report(LAYOUTS[layout])) == {
        "Reformatting CopyNode for Input Tensor 0 to patch": "reformat",
        "patch._input_quantizer/QuantizeLinear": "quantize",
        "patch/Conv": "i8",  # by its weights
        "dwconv/Conv": "f16",  # reads int8, computes in half
        "query/MatMul+key/MatMul_myl0_1": "i8",  # by its kernel
        "_gemm_mha_v2_myl0_2": "i8",  # a fused attention with int8 operands
        "__myl_QuantizeCast_myl0_3": "quantize",
        "dense/MatMul_myl0_4": "unknown",  # int8 operands, a kernel that says nothing
        "{ForeignNode[head/MatMul...head/Add]}": "unknown",
    }


@both
def test_the_counts(layout: str) -> None:
    found = report(LAYOUTS[layout])
    assert (found["int8_ops"], found["float_ops"], found["unknown_ops"]) == (3, 1, 2)
    assert found["flops"] == sum(FLOPS.values())
    assert found["int8_flop_share"] == pytest.approx((1000 + 600 + 100) / 2500)
    assert found["unknown_flop_share"] == pytest.approx((500 + 200) / 2500)
    assert found["quantize_layers"] == ["patch._input_quantizer/QuantizeLinear", "__myl_QuantizeCast_myl0_3"]
    assert found["reformats"] == {"REFORMAT": 1}
    assert set(precision.summarize([])) <= set(found)


@both
def test_layers_lead_back_to_the_modules(layout: str) -> None:
    found = report(LAYOUTS[layout])
    attention = found["layers"][5]
    assert attention["nodes"] == ["attention/MatMul", "attention/Softmax", "attention/MatMul_1"]
    assert attention["modules"] == ["attention"]
    assert found["modules"] == {
        "patch": "i8", "dwconv": "f16", "query": "i8", "key": "i8", "attention": "i8", "dense": "unknown",
        "head": "unknown",
    }  # fmt: skip


@both
def test_an_int8_input_is_no_proof(layout: str) -> None:
    """The same layer with a kernel that computes in half is float, with one that names int8 it is int8."""
    half = changed(layout, "dense/MatMul_myl0_4", TacticName="sm80_xmma_gemm_f16f16_f16f16_f16_tn_n")
    int8 = changed(layout, "dense/MatMul_myl0_4", TacticName="sm80_xmma_gemm_i8i8_i8i32_f32_tn_n")
    assert precisions(report(half))["dense/MatMul_myl0_4"] == "f16"
    assert precisions(report(int8))["dense/MatMul_myl0_4"] == "i8"
    assert report(int8)["int8_flop_share"] > report(LAYOUTS[layout])["int8_flop_share"]


@both
def test_int8_weights_are_proof(layout: str) -> None:
    float_weights = changed(layout, "patch/Conv", Weights={"Type": "Half", "Count": 288})
    assert precisions(report(float_weights))["patch/Conv"] == "unknown"


@both
def test_attention_with_one_float_operand_is_not_int8(layout: str) -> None:
    information = copy.deepcopy(LAYOUTS[layout])
    for key in ("Format/Datatype", "Datatype"):
        if key in information["Layers"][5]["Inputs"][1]:
            information["Layers"][5]["Inputs"][1][key] = "Half"
    assert precisions(report(information))["_gemm_mha_v2_myl0_2"] == "unknown"


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ("sm80_xmma_gemm_i8i8_i8i32_f32_tn_n_tilesize128x128x64_stage3", "i8"),
        ("sm75_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs", "i8"),
        ("turing_int8_i8816cudnn_int8_128x128_ldg16_relu_singleBuffer_medium_nt_v1", "i8"),
        ("cutlass_tensorop_s8_i16832gemm_s8_128x64_64x3_tn_align16", "i8"),
        ("ampere_first_layer_filter3x3_imma_fwd_swish_execute_filter3x3_swish_kernel_trt", "i8"),
        ("sm80_xmma_gemm_f16f16_f16f16_f16_tn_n_tilesize128x128x32_stage8_warpsize2x2x1_tensor16x8x16", "f16"),
        ("ampere_h16816gemm_128x64_ldg8_stages_64x3_nn_v1", "f16"),
        ("sm80_xmma_gemm_f32f32_tf32f32_f32_nn_n_tilesize32x32x64_stages8", "f32"),
        ("ampere_sgemm_128x64_nn", "f32"),
    ],
)
def test_kernels_are_read_by_name(kernel: str, expected: str) -> None:
    information = changed("10", "dense/MatMul_myl0_4", TacticName=kernel)
    assert precisions(report(information))["dense/MatMul_myl0_4"] == expected


@both
def test_each_profile_has_its_own_layers(layout: str) -> None:
    found = report(LAYOUTS[layout], profile=1)
    assert precisions(found) == {"patch/Conv [profile 1]": "f16"}
    with pytest.raises(EngineRefused, match="profile 2"):
        report(LAYOUTS[layout], profile=2)
    alone = {**LAYOUTS[layout], "Layers": LAYOUTS[layout]["Layers"][2:4]}
    assert len(report(alone, profile=1)["layers"]) == 2


@both
def test_a_node_in_two_layers_counts_once(layout: str) -> None:
    twice = changed(layout, "dwconv/Conv", Metadata="[ONNX Layer: dwconv/Conv]\u001f[ONNX Layer: patch/Conv]")
    assert report(twice)["flops"] == sum(FLOPS.values())
    assert report(twice)["modules"]["patch"] == "i8+f16"


@both
def test_without_the_graph_the_sizes_of_the_engine_count(layout: str) -> None:
    flops = {layer["name"]: layer["flops"] for layer in report(LAYOUTS[layout], flops={})["layers"]}
    assert flops["patch/Conv"] == 2 * (8 * 256) * (4 * 9)
    assert flops["dwconv/Conv"] == 2 * (8 * 256) * 9
    assert flops["query/MatMul+key/MatMul_myl0_1"] == 2 * (256 * 8) * 8


@both
def test_times_are_the_layers_own(layout: str) -> None:
    found = report(LAYOUTS[layout], times={"patch/Conv": 0.125})
    assert [layer.get("ms") for layer in found["layers"] if "ms" in layer] == [0.125]


def test_a_plan_without_detail_proves_nothing() -> None:
    names = {"Layers": ["patch/Conv", "head/MatMul"], "Bindings": []}
    found = report(names)
    assert (found["int8_ops"], found["float_ops"], found["unknown_ops"]) == (0, 0, 2)


def test_metadata_of_functions_and_long_names() -> None:
    metadata = "[ONNX Layer: dense/MatMul | f (fn)]\u001f[ONNX Layer: x"
    information = changed("10", "dense/MatMul_myl0_4", Metadata=metadata)
    (layer,) = [x for x in report(information)["layers"] if x["name"] == "dense/MatMul_myl0_4"]
    assert layer["nodes"] == ["dense/MatMul", "x"]


def test_names_of_nodes() -> None:
    assert module_of("bert.encoder.layer.0.output.dense/MatMul_1") == "bert.encoder.layer.0.output.dense"
    assert is_pair_operator("dense._input_quantizer/QuantizeLinear") and is_pair_operator("w/DequantizeLinear_2")
    assert not is_pair_operator("dense/MatMul") and is_product("dense/MatMul_1") and not is_product("dense/Add")


SIZES = {  # the flops of qdq_models' graphs at batch 1 and 12 tokens
    "linear": 2 * (32 * 64 + 64 * 4),
    "attention": 2 * 12 * 32 * (32 + 12),
    "convolution": 2 * 256 * (16 * 8 * 9 + 16 * 9 + 16 * 16),
    "projection": 2 * 64 * 16 * 32,  # behind a Reshape to [-1, 8, 8, 32]
}


@pytest.mark.parametrize("qdq", [True, False])
@pytest.mark.parametrize("graph", sorted(SIZES))
def test_the_arithmetic_of_a_graph(graph: str, qdq: bool, tmp_path: Path) -> None:
    path = models.MAKERS[graph](tmp_path / "m.onnx", qdq=qdq)
    found = flops(path.read_bytes(), Shapes(sequence_length=12))
    assert sum(found.values()) == SIZES[graph]


def test_shapes_that_inference_cannot_find_are_those_of_the_file() -> None:
    """BERT's positions are sliced to the length of the input: from there on only the file knows the axes."""
    body = """
    sliced (int64[batch, sequence] ids, float[512, 8] table, float[8, 4] w) => (float[batch, sequence, 4] y)
    <float[batch, sequence, 8] x> {
        length = Shape <start = 1> (ids)
        zero = Constant <value = int64[1] {0}> ()
        rows = Slice (table, zero, length)
        first = Constant <value = int64[1] {0}> ()
        x = Unsqueeze (rows, first)
        y = MatMul (x, w)
    }
    """
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> {body}')
    model.graph.node[-1].name = "head/MatMul"
    assert flops(model.SerializeToString(), Shapes(sequence_length=16)) == {"head/MatMul": 2 * 16 * 8 * 4}
    del model.graph.value_info[:]
    assert flops(model.SerializeToString(), Shapes(sequence_length=16)) == {}

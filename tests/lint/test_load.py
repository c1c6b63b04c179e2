"""The linter and its files: what is no model, external data, what is printed, exit codes, what is imported."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from helpers.command_line import Cli, python
from helpers.lint_graphs import attention, linear, pair, write
from pipeline.errors import InputError
from pipeline.lint import lint, text

CLEAN = {"opset": 17}  # for TensorRT 8.6


def whole() -> bytes:
    graph = linear("", "", "h = Exp(x)")
    return bytes(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> {graph}').SerializeToString())


def without_operator_set() -> bytes:
    model = onnx.load_model_from_string(whole())
    del model.opset_import[:]
    return bytes(model.SerializeToString())


def with_nodes(*nodes: onnx.NodeProto) -> bytes:
    model = onnx.load_model_from_string(whole())
    model.graph.node.extend(nodes)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no ONNX graph: 0 bytes"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is no ONNX model, or only a part of one"),
        (b"just a note to myself\n" * 9, "is no ONNX model, or only a part of one"),
        (whole()[:-20], "is no ONNX model, or only a part of one"),
        (onnx.numpy_helper.from_array(np.zeros(4)).SerializeToString(), "no ONNX"),
        (without_operator_set(), "names no operator set"),
        (with_nodes(onnx.helper.make_node("Relu", ["nowhere"], ["r"])), "Relu r reads 'nowhere', which nothing makes"),
        (with_nodes(onnx.helper.make_node("Relu", ["x"], ["h"])), "Output 'h' is redeclared"),
        (with_nodes(*(onnx.helper.make_node("Relu", list(a), list(b)) for a, b in ("rs", "sr"))), "cycle"),
    ],
    ids=[
        "empty",
        "a picture",
        "text",
        "cut off",
        "a tensor",
        "no operator set",
        "undefined input",
        "made twice",
        "a cycle",
    ],
)
def test_what_is_no_model_is_refused(content: bytes, message: str, cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    answer = cli("lint", file)
    assert answer.code == 2 and answer.out == ""
    assert answer.err.startswith(f"error: {file}") and message in answer.err and answer.err.count("\n") == 1


def test_an_unsorted_graph_is_read(tmp_path: Path) -> None:
    """TensorRT sorts it as well."""
    path = write(tmp_path / "model.onnx", linear(), **CLEAN)
    model = onnx.load(path)
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, path)
    assert lint(path, "8.6").findings == ()


def test_attributes_of_a_wrong_type_count_as_left_out(tmp_path: Path) -> None:
    graph = linear(w=pair("w", "s32", "z32", axis=1).replace("axis = 1", "axis = [1]"))
    assert "Q10" in {finding.rule for finding in lint(write(tmp_path / "model.onnx", graph)).findings}


def test_paths_without_a_file_are_refused(cli: Cli, tmp_path: Path) -> None:
    assert "is not there; expected an ONNX model" in cli("lint", tmp_path / "no.onnx").err
    assert "is no file" in cli("lint", tmp_path).err
    answer = cli("lint", tmp_path / "no.onnx", "--json")
    assert answer.code == 2 and json.loads(answer.out)["error"] == "InputError"
    path = write(tmp_path / "model.onnx", linear())
    assert "unknown target '9'. Available: 10, 8.6, all, cpu." in cli("lint", path, "--target", "9").err


def test_the_name_of_a_file_says_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", linear(), **CLEAN).rename(tmp_path / "model.json")
    assert lint(path, "8.6").findings == ()


# --- external data ---


def external(folder: Path, size: int | None = None) -> Path:
    """Returns a model whose weights are in `weights.bin`, cut to `size` bytes."""
    path = write(folder / "model.onnx", linear(), **CLEAN)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=1024)
    if size is not None:
        os.truncate(folder / "weights.bin", size)
    return path


def test_weights_in_another_file_are_said_and_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = external(tmp_path)
    monkeypatch.setattr(ir.ExternalTensor, "numpy", lambda _: pytest.fail("weights were read"))
    (finding,) = lint(path, "8.6").findings
    assert (finding.rule, finding.places[0].detail) == ("Q40", "weights in 1 other files: weights.bin")


def test_missing_and_short_data_files_are_refused(tmp_path: Path) -> None:
    path = external(tmp_path, size=100)
    with pytest.raises(InputError, match=r"weights in weights.bin, which is cut off: 100 bytes, needed \d{4}"):
        lint(path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(InputError, match=r"weights.bin, which is not there; put it beside the model"):
        lint(path)


def test_a_model_above_2_gib_is_said(tmp_path: Path) -> None:
    path = external(tmp_path)
    os.truncate(tmp_path / "weights.bin", 2**31 + 2**20)  # a hole: takes no room on the disk
    details = [place.detail for f in lint(path, "8.6").findings for place in f.places]
    assert details[1] == "2.0 GiB with its weights: more than one protobuf message holds"


def test_the_file_is_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", attention())
    before = path.read_bytes()
    lint(path)
    assert path.read_bytes() == before and [*tmp_path.iterdir()] == [path]


# --- shapes ---


def test_a_failing_shape_inference_is_said_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no shapes today")

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", fail)
    report = lint(write(tmp_path / "model.onnx", linear(pair("x", "s_zero")), **CLEAN), "8.6")
    found = {finding.rule: finding for finding in report.findings}
    assert "no shapes today" in found["Q00"].places[0].detail and found["Q00"].severity == "I"
    assert found["Q05"].nodes == ("x_q",), "what needs no shapes is still found"
    assert report.coverage.uncounted == ("h",)


def test_nothing_but_the_report_is_printed(cli: Cli, tmp_path: Path) -> None:
    """Other packages' warnings about odd graphs stay off stderr."""
    answer = cli("lint", write(tmp_path / "model.onnx", linear(product="t = com.example.Mix(x_d) h = MatMul(t, w_d)")))
    assert answer.err == "" and answer.code == 0


# --- the command ---


@pytest.mark.parametrize(
    ("graph", "target", "code"),
    [
        (linear(), "8.6", 0),
        (linear(pair("x", zero="z5")), "8.6", 1),
        (linear(pair("x", "s_tiny")), "8.6", 0),  # a warning
        (linear(pair("x", "s_half")), "8.6", 1),
        (linear(pair("x", "s_half")), "10", 0),
        (linear(pair("x", "s_half")), "all", 1),
    ],
)
def test_the_exit_code_is_1_on_errors_alone(graph: str, target: str, code: int, cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", graph, opset=19)
    assert cli("lint", path, "--target", target).code == code
    assert cli("lint", path, "--target", target, "--json").code == code


def test_the_json_holds_everything(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", attention(("query",), queries="S"))
    document = json.loads(cli("lint", path, "--json").out)
    report = lint(path)
    assert document == json.loads(json.dumps(report.to_json()))
    assert document["file"] == str(path) and document["targets"] == ["8.6", "10", "cpu"]
    by_rule = {entry["rule"]: entry for entry in document["findings"]}
    assert by_rule["Q20"]["nodes"] == ["p"] and by_rule["Q20"]["severity"] == "W"
    assert by_rule["Q20"]["places"][0]["detail"] == "has query; lacks key, softmax, value, output"
    assert document["coverage"]["int8_share"] == 0 and document["coverage"]["assumed"] == {"S": 128}
    assert {entry["node"] for entry in document["unfused"]} == {"q_q", "q_d"}
    (row,) = document["attention"]
    assert (row["verdict"], row["queries"], row["quantized"]) == ("broken", "S", ["query"])


def test_the_text_is_short_and_has_the_worst_first(cli: Cli, tmp_path: Path) -> None:
    layers = " ".join(f"{pair('x', zero='z5', into=f'p{i}')} h{i} = MatMul(p{i}_d, w_d)" for i in range(9))
    path = write(tmp_path / "model.onnx", linear(product=f"h = Exp(x) {layers}"))
    lines = cli("lint", path).out.splitlines()
    assert lines[0] == f"{path}: opset 20, 33 operators, 11 Q, 11 DQ"
    assert lines[1].split(maxsplit=2)[:2] == ["TensorRT", "8.6"] and "1 error, " in lines[1]
    heads = [line.split()[:2] for line in lines if line.split(" ")[0] in ("error", "warning", "info")]
    assert heads[0] == ["error", "Q02"]
    order = [["error", "warning", "info"].index(severity) for severity, _ in heads]
    assert order == sorted(order)
    at = lines.index("        9×   p0_q (zero point 5)")
    assert lines[at + 3].strip() == "and 6 more"
    assert sum("Q02" in line for line in lines) == 1
    shares = [line for line in lines if line.startswith("int8 ")]
    assert shares == ["int8      100.0% of 0.00 G multiply-accumulates"]


def test_findings_for_one_target_say_so(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", linear())
    assert any(line.endswith("[TensorRT 10 and 11 only]") for line in text.lines(lint(path)))
    assert not any("only]" in line for line in text.lines(lint(path, "10")))


def test_attention_blocks_that_differ_in_name_alone_are_one_line(tmp_path: Path) -> None:
    one, two = attention(()), attention(()).partition("{")[2].rpartition("}")[0]
    for name in ("r", "p", "c", "y", "q_d", "k_d", "p_d", "v_d", "c_d"):
        two = (
            two.replace(f"{name} =", f"{name}2 =").replace(f"({name},", f"({name}2,").replace(f"({name})", f"({name}2)")
        )
        two = two.replace(f", {name})", f", {name}2)")
    report = lint(write(tmp_path / "model.onnx", one.rpartition("}")[0] + two + "}"))
    assert len(report.attention) == 2
    header, row = text.attention_table(report.attention)
    assert header.split()[:2] == ["attention", "blocks"] and row.split()[:3] == ["p,", "…", "2"]


BLOCKED = ("torch", "transformers", "tensorrt", "onnxruntime", "openvino", "onnxscript", "modelopt", "nncf")


def test_it_needs_onnx_and_numpy_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", attention())
    body = f"from pipeline.lint import lint\nassert lint({str(path)!r}).attention\nprint('pydantic' in sys.modules)"
    done = python(body, absent=(*BLOCKED, "typer", "rich", "yaml", "PIL"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "False\n"


def test_importing_it_loads_no_onnx() -> None:
    done = python("import pipeline.lint, pipeline.cli.show, pipeline.cli.main", absent=("onnx", "onnx_ir"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("absent", "package"), [("onnx", "onnx"), ("onnx_ir", "onnx-ir"), ("ml_dtypes", "ml_dtypes")])
def test_without_onnx_it_says_what_to_install(absent: str, package: str, tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", linear())
    code = f"sys.argv = ['x', 'lint', {str(path)!r}]\nfrom pipeline.cli.main import main\nmain()"
    done = python(code, absent=[absent])
    assert done.returncode == 3 and f"run `pip install {package}`" in done.stderr
    assert sys.executable not in done.stderr and "Traceback" not in done.stderr

"""The scaling benchmark: which points, every output checked, nothing wrong or too large timed, picture and table."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from helpers.command_line import Cli
from pipeline.artifacts import Workspace
from pipeline.bench import methods, published, scaling, tables
from pipeline.bench.scaling import lineup, plots, points, process, worker
from pipeline.bench.scaling.points import Point
from pipeline.bench.tables import scaling as text
from pipeline.files import sha256
from pipeline.judge import parity
from pipeline.recipe import Recipe

Exported = Callable[[str], Recipe]
MIB = 2**20


# --- points ---


def test_one_axis_varies_and_the_other_keeps_its_base() -> None:
    axes = points.plan("bert-base")
    assert axes["batch"] == {n: Point(extent=128, batch=n) for n in (1, 2, 4, 8)}
    assert axes["length"] == {n: Point(extent=n, batch=1) for n in (32, 64, 128, 256, 384, 512)}
    assert axes["batch"][1] == axes["length"][128], "measured once, shown on both axes"
    for shape in published.SHAPES:
        assert points.plan(shape).keys() == points.PLANS[shape].keys() == {"batch", points.EXTENT[family(shape)]}


def family(shape: str) -> str:
    return published.get(shape).family


def test_values_replace_an_axiss_own() -> None:
    assert points.plan("segformer-b0", "size", [64, 32, 64]) == {"size": {32: Point(32, 1), 64: Point(64, 1)}}


def test_one_engine_serves_every_length_and_each_image_size_has_its_own() -> None:
    assert {scaling.fixed_size("bert", Point(n, 1)) for n in (32, 512)} == {128}
    assert [scaling.fixed_size("segformer", Point(n, 4)) for n in (256, 1024)] == [256, 1024]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--shape", "bert-bass"], "unknown shape 'bert-bass'. Did you mean bert-base? Available: bert-base"),
        (["--shape", "bert-base", "--axis", "size"], "unknown axis 'size' of the shape bert-base. Available: batch"),
        (["--shape", "bert-base", "--methods", "ours_openvin"], "unknown method 'ours_openvin'. Did you mean ours_"),
        (["--shape", "bert-base", "--values", "32"], "--values 32 needs the --axis"),
        (["--shape", "bert-base", "--axis", "length", "--values", "32,x"], "--values 32,x: expected whole numbers"),
        (["--shape", "bert-base", "--axis", "length", "--values", "0"], "values begin at 1"),
    ],
)
def test_faults_of_the_command_line_build_nothing(options: list[str], said: str, cli: Cli, tmp_path: Path) -> None:
    answer = cli("scaling", *options, "--output", tmp_path / "x", "--record", tmp_path / "x.json")
    assert answer.code == 2 and said in answer.err and answer.out == ""
    assert list(tmp_path.iterdir()) == []


# --- measuring ---


@pytest.fixture(scope="module")
def workspace(built: Exported) -> Workspace:
    """Returns a tiny BERT's folder with both CPU engines."""
    return Workspace(built("bert").folder)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineup, "SECONDS", 0.0)


OURS = ["float_onnxruntime", "float_openvino", "ours_onnxruntime", "ours_openvino"]


def measured(workspace: Workspace, names: list[str], scratch: Path, *at: Point) -> list[dict[str, dict[str, Any]]]:
    """Returns the rows by method of every point."""
    scratch.mkdir(exist_ok=True)
    bench = lineup.Lineup(workspace, methods.with_base(names), scratch, threads=1)
    return [{row["method"]: row for row in bench.rows(point)} for point in at]


def test_every_method_is_checked_timed_and_weighed_at_every_point(
    workspace: Workspace, tmp_path: Path, quick: None
) -> None:
    found = measured(workspace, OURS, tmp_path, Point(extent=16, batch=1), Point(extent=48, batch=3))
    for rows, shape in zip(found, ([1, 16], [3, 48]), strict=True):
        assert [*rows] == OURS
        for row in rows.values():
            assert row["skipped"] is None and not row["wrong"]
            assert row["inputs"]["input_ids"] == shape
            assert row["rounds"] == lineup.LEAST
            ms = row["latency"]
            assert 0 < ms["low"] <= ms["p50"] <= ms["high"] and ms["p50"] <= ms["p90"]
            assert 0 < row["speedup"]["low"] <= row["speedup"]["median"] <= row["speedup"]["high"]
            assert 20 * MIB < row["peak_rss_bytes"] < 2000 * MIB
        assert rows[methods.BASE]["cosine"] == 1.0 and rows[methods.BASE]["speedup"]["median"] == 1.0
        assert rows["float_openvino"]["cosine"] == pytest.approx(1, abs=1e-6)
        assert lineup.COSINE < rows["ours_openvino"]["cosine"] < 0.999999, "int8, so not the float model itself"


def test_the_number_of_rounds_follows_from_the_calls(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineup, "SECONDS", 1e6)
    monkeypatch.setattr(lineup, "MOST", 11)
    (rows,) = measured(workspace, [methods.BASE], tmp_path, Point(8, 1))
    assert rows[methods.BASE]["rounds"] == 11


def corrupt(workspace: Workspace) -> None:
    """Makes the ONNX Runtime engine another function with an intact digest: the rows of every int8 weight are moved."""
    file = workspace.folder / "onnxruntime" / "model.ort.onnx"
    model = onnx.load(file)
    changed = 0
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 2:
            value = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.roll(value, 7, axis=0), tensor.name))
            changed += 1
    assert changed
    onnx.save(model, file)
    manifest = workspace.manifest
    manifest.files["onnxruntime/model.ort.onnx"].update(sha256=sha256(file), bytes=file.stat().st_size)
    (workspace.folder / "manifest.json").write_text(manifest.to_json())


def test_an_engine_with_wrong_outputs_is_marked_and_never_timed(
    workspace: Workspace, tmp_path: Path, quick: None
) -> None:
    workspace = Workspace(Path(shutil.copytree(workspace.folder, tmp_path / "bert")))
    corrupt(workspace)
    names = [methods.BASE, "ours_onnxruntime", "ours_openvino"]
    (rows,) = measured(workspace, names, tmp_path / "scratch", Point(32, 2))
    row = rows["ours_onnxruntime"]
    assert row["wrong"] and row["cosine"] < lineup.COSINE
    assert row["skipped"] == f"wrong outputs, cosine {row['cosine']:.4f} to the float model's"
    assert row["latency"] is row["speedup"] is row["peak_rss_bytes"] is row["rounds"] is None
    assert rows["ours_openvino"]["skipped"] is None and rows["ours_openvino"]["latency"]["p50"] > 0


def test_a_point_that_does_not_fit_the_memory_is_a_reason_in_every_row(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    monkeypatch.setattr(process, "RESERVE", 2**60)
    (rows,) = measured(workspace, [methods.BASE, "ours_openvino"], tmp_path, Point(16, 1))
    assert "does not fit: it needs more than the 0.0 GiB" in rows[methods.BASE]["skipped"]
    assert rows["ours_openvino"]["skipped"] == f"float, ONNX Runtime: {rows[methods.BASE]['skipped']}"
    assert all(row["latency"] is None and not row["wrong"] for row in rows.values())
    monkeypatch.undo()


def test_memory_that_runs_out_for_one_method_leaves_the_others(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    started: list[str] = []
    monkeypatch.setattr(lineup.Lineup, "_start", starting(lineup.Lineup._start, started))
    monkeypatch.setattr(process, "free_bytes", lambda: 0 if started[-1:] == ["ours_openvino"] else 2**40)
    (rows,) = measured(workspace, [methods.BASE, "ours_onnxruntime", "ours_openvino"], tmp_path, Point(16, 1))
    assert "does not fit" in rows["ours_openvino"]["skipped"]
    assert rows["ours_onnxruntime"]["skipped"] is None and rows["ours_onnxruntime"]["speedup"]["median"] > 0


def starting(start: Any, started: list[str]) -> Any:
    """Returns `start`, noting which method is being started; once it is over, none is."""

    def noted(self: Any, name: str, stack: Any) -> Any:
        started.append(name)
        try:
            return start(self, name, stack)
        finally:
            started.append("")

    return noted


def test_a_killed_worker_is_too_little_memory_and_a_crash_is_its_last_line(
    workspace: Workspace, tmp_path: Path
) -> None:
    lineup.Lineup(workspace, methods.with_base([]), tmp_path, 1)
    np.savez(tmp_path / "feeds.npz", **lineup.feeds(workspace, Point(8, 1)))
    files = {"feeds": str(tmp_path / "feeds.npz"), "outputs": str(tmp_path / "out.npz"), "area": str(tmp_path)}
    job = worker.Job(method=methods.BASE, workspace=str(workspace.folder), threads=1, **files)
    with process.Worker(job, tmp_path / "log") as running:
        assert running.run() > 0
        running._process.kill()
        with pytest.raises(process.WorkerFault, match="does not fit") as killed:
            running.run()
        assert killed.value.memory
    missing = worker.Job(**{**vars(job), "feeds": "gone.npz"})
    with (
        pytest.raises(process.WorkerFault, match=r"gone\.npz cannot be read as arrays \(.*No such file") as fault,
        process.Worker(missing, tmp_path / "log"),
    ):
        pass
    assert not fault.value.memory


def test_a_fault_of_ours_raises_and_a_peers_is_its_row(workspace: Workspace, tmp_path: Path, quick: None) -> None:
    workspace = Workspace(Path(shutil.copytree(workspace.folder, tmp_path / "bert")))
    names = [methods.BASE, "onnxruntime_dynamic"]
    (tmp_path / "scratch").mkdir()
    bench = lineup.Lineup(workspace, methods.with_base(names), tmp_path / "scratch", threads=1)
    (tmp_path / "scratch" / "onnxruntime_dynamic" / "quantized.onnx").unlink()
    rows = {row["method"]: row for row in bench.rows(Point(16, 1))}
    assert "cannot be loaded by ONNX Runtime" in rows["onnxruntime_dynamic"]["skipped"]
    assert rows[methods.BASE]["latency"]["p50"] > 0
    bench = lineup.Lineup(workspace, methods.with_base(["ours_openvino"]), tmp_path / "scratch", threads=1)
    (workspace.folder / "openvino" / "model.bin").unlink()
    with pytest.raises(RuntimeError, match=r"ours int8, OpenVINO: .*is missing"):
        bench.rows(Point(16, 1))


@pytest.mark.parametrize("shape", [name for name, shape in published.SHAPES.items() if shape.family == "segformer"])
def test_random_weights_show_a_wrong_depthwise_convolution_in_the_outputs(shape: str, tmp_path: Path) -> None:
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    folder = published.write_checkpoint(shape, tmp_path)
    assert published.up_to_date(shape, folder)
    model = transformers.SegformerForSemanticSegmentation.from_pretrained(folder).eval()
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(pixels).logits.numpy()
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d) and module.groups > 1:
                module.weight.neg_()
        assert parity.cosine(before, model(pixels).logits.numpy()) < lineup.COSINE
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "weights": None}))
    assert not published.up_to_date(shape, folder), "weights of the library's own standard deviation are drawn again"


# --- a whole run ---

TINY = {
    "bert-base": published.Shape(
        "bert",
        "BertForQuestionAnswering",
        {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64},
    ),
    "segformer-b0": published.Shape(
        "segformer",
        "SegformerForSemanticSegmentation",
        {"hidden_sizes": [16, 16, 32, 32], "depths": [1, 1, 1, 1], "decoder_hidden_size": 16},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "axis", "values"), [("bert-base", "length", (16, 32)), ("segformer-b0", "size", (64,))]
)
def test_a_run_records_its_points_its_picture_and_its_table(
    shape: str,
    axis: str,
    values: tuple[int, ...],
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quick: None,
) -> None:
    monkeypatch.setattr(published, "SHAPES", TINY)
    monkeypatch.setattr(published, "SAMPLES", 4)
    record = tmp_path / "results" / "scaling.json"
    answer = cli(
        *("scaling", "--shape", shape, "--axis", axis, "--values", ",".join(map(str, values))),
        *("--methods", "ours_openvino", "--output", tmp_path / "engines", "--record", record),
        *("--set", "verification.threads=1"),
    )
    assert answer.code == 0, answer.err
    document = json.loads(record.read_text())
    assert document["axes"] == {axis: list(values)}
    listed = ",".join(map(str, values))
    options = f"--shape {shape} --axis {axis} --values {listed} --methods ours_openvino"
    assert document["command"].startswith(f"make scaling ARGS='{options} --output ")
    assert document["command"].endswith(" --set verification.threads=1'")
    assert [(row["axis"], row["value"], row["method"]) for row in document["rows"]] == [
        (axis, value, name) for value in values for name in (methods.BASE, "ours_openvino")
    ]
    assert all(row["latency"]["p50"] > 0 for row in document["rows"])
    assert sum(line.startswith(f"{axis} ") for line in answer.out.splitlines()) == len(document["rows"])
    assert record.with_suffix(".svg").read_bytes().startswith(b"<?xml")
    fixed = {"bert": ["engines"], "segformer": ["engines", "engines-64"]}[family(shape)]
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "results") == fixed
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- scaling results/scaling.json -->\nold\n<!-- /scaling -->\nz\n")
    assert tables.refresh(readme) == ["results/scaling.json"]
    assert f"![latency and memory of {shape} against {axis}](results/scaling.svg)\n\n`make" in readme.read_text()


@pytest.mark.slow
def test_a_run_that_stops_keeps_the_points_it_measured(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    monkeypatch.setattr(published, "SHAPES", TINY)
    monkeypatch.setattr(published, "SAMPLES", 4)
    original = lineup.Lineup.rows

    def stopped(self: lineup.Lineup, point: Point) -> list[dict[str, Any]]:
        if point.extent == 32:
            raise KeyboardInterrupt
        return original(self, point)

    monkeypatch.setattr(lineup.Lineup, "rows", stopped)
    record = tmp_path / "scaling.json"
    answer = cli(
        *("scaling", "--shape", "bert-base", "--axis", "length", "--values", "16,32"),
        *("--methods", "ours_openvino", "--output", tmp_path / "engines", "--record", record),
    )
    assert answer.code == 2 and "interrupted" in answer.err
    document = json.loads(record.read_text())
    assert document["axes"] == {"length": [16]}
    assert [(row["value"], row["method"]) for row in document["rows"]] == [(16, methods.BASE), (16, "ours_openvino")]
    assert text.section(document).markdown().splitlines()[-1].startswith("| 16 | ")
    assert record.with_suffix(".svg").exists()


def test_a_point_on_two_axes_has_its_rows_on_both_and_one_not_measured_on_none() -> None:
    axes = points.plan("segformer-b2")
    found = scaling.measured(axes, {Point(512, 1): [{"method": "a"}], Point(256, 1): [{"method": "b"}]})
    assert found["axes"] == {"batch": [1], "size": [256, 512]}
    assert found["rows"] == [
        {"axis": "batch", "value": 1, "method": "a"},
        {"axis": "size", "value": 256, "method": "b"},
        {"axis": "size", "value": 512, "method": "a"},
    ]


# --- what is shown ---


def a_row(axis: str, value: int, method: str, ms: float, **more: Any) -> dict[str, Any]:
    timed = {
        "cosine": 0.9994,
        "rounds": 7,
        "latency": {"p50": ms, "p90": ms, "p99": ms, "mean": ms, "low": 0.9 * ms, "high": 1.1 * ms},
        "speedup": {"median": 100 * value / ms, "low": 95 * value / ms, "high": 105 * value / ms},
        "peak_rss_bytes": 300 * MIB,
    }
    about = {"label": methods.get(method).label, "peer": methods.get(method).peer, "skipped": None, "wrong": False}
    return {"axis": axis, "value": value, "method": method, "inputs": {}, **about, **timed, **more}


NOT_TIMED: dict[str, Any] = {"latency": None, "speedup": None, "peak_rss_bytes": None, "rounds": None}


def wrong(cosine: float | None) -> dict[str, Any]:
    return {**NOT_TIMED, "skipped": "wrong outputs, cosine …", "wrong": True, "cosine": cosine}


@pytest.fixture
def document() -> dict[str, Any]:
    rows = []
    for axis, values in {"batch": (1, 2), "size": (512, 1024)}.items():
        for value in values:
            rows.append(a_row(axis, value, "float_onnxruntime", 100.0 * value))
            rows.append(a_row(axis, value, "nncf_openvino", 30.04 * value, **(wrong(0.41) if value > 2 else {})))
            rows.append(a_row(axis, value, "onnxruntime_dynamic", 50.0 * value))
            rows.append(a_row(axis, value, "ours_openvino", 9.996 * value))
    rows[-1].update(NOT_TIMED, skipped="does not fit: it needs more than the 20.0 GiB that were free")
    versions = {"onnxruntime": "1.31.1", "openvino": "2026.4.1-12-abc", "nncf": "3.4.0"}
    return {
        "command": "make scaling ARGS='--shape segformer-b0'",
        "shape": "segformer-b0",
        "base": {"batch": 1, "size": 512},
        "axes": {"batch": [1, 2], "size": [512, 1024]},
        "rows": rows,
        "environment": {
            "cpu": "A CPU",
            "processor": "avx2",
            "threads": 2,
            "date": "2026-11-22T01:02:03",
            "versions": versions,
        },
    }


def test_the_table_sets_ours_beside_the_best_peer_whose_outputs_are_right(document: dict[str, Any]) -> None:
    lines = text.section(document).markdown().splitlines()
    assert "| 1 | 100 | 10.0 | 10.00 (9.50–10.50) | NNCF int8, OpenVINO | 3.33 (3.16–3.50) | 300 | 300 |" in lines
    assert any(line.startswith("| 512 |") and "| ONNX Runtime dynamic int8 | 2.00 (" in line for line in lines)
    last = next(line for line in lines if line.startswith("| 1024 |"))
    assert last.split(" | ")[2:4] == ["–", "does not fit: it needs more than the 20.0 GiB that were free"]
    assert lines[-1] == (
        "NNCF int8, OpenVINO computes something else than the model at size 512, 1024 (cosine down to 0.41) and is not "
        "timed."
    )
    assert (
        "2026-11-22: random weights, batch 1 and size 512 where not varied, A CPU (avx2), 2 threads, 7 inter"
        in lines[0]
    )
    assert "openvino 2026.4.1, nncf" in lines[0] and "outputs to float's 0.9994;" in lines[0]


@pytest.mark.parametrize(("cosine", "said"), [(0.25, "cosine down to 0.25"), (None, "outputs that are not finite")])
def test_the_table_without_a_right_peer_says_why(document: dict[str, Any], cosine: float | None, said: str) -> None:
    document["rows"] = [row for row in document["rows"] if row["method"] != "onnxruntime_dynamic"]
    next(row for row in document["rows"] if row["wrong"])["cosine"] = cosine
    found = text.section(document).markdown()
    assert "| NNCF int8, OpenVINO | wrong outputs |" in found
    assert f"size 512, 1024 ({said}) and is not timed." in found


def test_the_picture_is_the_same_bytes_in_every_run_and_holds_no_date_or_path(
    document: dict[str, Any], tmp_path: Path
) -> None:
    for name in ("a.svg", "b.svg"):
        plots.draw(document, tmp_path / name)
    content = (tmp_path / "a.svg").read_text()
    assert content == (tmp_path / "b.svg").read_text()
    assert "dc:date" not in content and str(tmp_path) not in content and len(content) < 200_000
    slower = [{**row, "latency": row["latency"] and {**row["latency"], "p50": 77.0}} for row in document["rows"]]
    plots.draw({**document, "rows": slower}, tmp_path / "c.svg")
    assert (tmp_path / "c.svg").read_text() != content


def test_only_what_was_timed_is_drawn(document: dict[str, Any]) -> None:
    size = [row for row in document["rows"] if row["axis"] == "size"]
    drawn = plots.by_method(size)
    assert [row["value"] for row in drawn["float_onnxruntime"]] == [512, 1024]
    assert [row["value"] for row in drawn["ours_openvino"]] == [512]
    assert "nncf_openvino" not in drawn
    assert [*plots.left_out(size)] == ["NNCF int8, OpenVINO: wrong outputs"]
    assert plots.left_out(document["rows"]) == {}, "it is drawn on the other axis"


def test_every_method_has_a_look_of_its_own() -> None:
    assert set(plots.LOOKS) == set(methods.found())
    assert len(set(plots.LOOKS.values())) == len(plots.LOOKS)
    assert len({marker for _, marker, _ in plots.LOOKS.values()}) == len(plots.LOOKS), "told apart without colour"

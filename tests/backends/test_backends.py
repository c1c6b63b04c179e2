"""Backends: found by file name, honest about what is missing, and equal to the QDQ graph they were given."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers import qdq_models as models
from helpers.messages import all_of
from helpers.usable import USABLE
from pipeline import backends
from pipeline.errors import ArtifactError, BackendUnavailable, InputError
from pipeline.judge.reference import exact_session

# Per graph: the largest difference one flipped rounding can make, and the share of outputs that may see a
# flip.
FLIPS = {"linear": (0.02, 0.15), "attention": (0.02, 0.05), "convolution": (0.02, 0.02)}


def built(name: str, graph: Path, folder: Path) -> backends.Engine:
    backends.get(name).build(graph, folder, models.recipe(folder, name))
    return backends.get(name).load(folder, threads=1)


def test_every_file_is_a_backend() -> None:
    files = {p.stem for p in Path(backends.__file__).parent.glob("[!_]*.py")}
    assert files == set(backends.names())
    for name in files:
        module = backends.get(name)
        assert name == module.NAME
        assert module.FILES and all(not Path(f).is_absolute() for f in module.FILES)


def test_unknown_backend_names_the_near_one() -> None:
    with pytest.raises(InputError, match=r"'openvin'.*Did you mean openvino.*onnxruntime"):
        backends.choose("openvin")


def test_unavailable_backend_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendUnavailable, match=r"openvino.*pip install openvino") as caught:
        backends.choose("openvino")
    assert caught.value.exit_code == 3


def test_auto_takes_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in backends.names():
        reason = None if name == "onnxruntime" else "not today"
        monkeypatch.setattr(backends.get(name), "unavailable_reason", lambda reason=reason: reason)
    assert backends.choose("auto") == "onnxruntime"


def test_auto_without_any_lists_every_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in backends.names():
        monkeypatch.setattr(backends.get(name), "unavailable_reason", lambda name=name: f"{name} is away")
    with pytest.raises(BackendUnavailable, match=all_of(*(f"{name} is away" for name in backends.names()))):
        backends.choose("auto")


def test_tensorrt_does_not_pretend() -> None:
    backend = backends.get("tensorrt")
    reason = backend.unavailable_reason()
    assert reason
    with pytest.raises(BackendUnavailable, match=re.escape(reason)):
        backend.load(Path("nowhere"), None)


@pytest.mark.parametrize("name", USABLE)
@pytest.mark.parametrize("signed", [True, False], ids=["int8", "uint8"])
@pytest.mark.parametrize("graph", sorted(FLIPS))
def test_engine_equals_the_exact_graph(name: str, signed: bool, graph: str, tmp_path: Path) -> None:
    path = models.MAKERS[graph](tmp_path / "q.onnx", signed=signed)
    engine, exact = built(name, path, tmp_path / name), exact_session(path, 1)
    assert engine.output_names == exact.output_names
    for batch in (1, 3):  # one engine file serves every batch size
        feeds = models.feeds(path, batch)
        for output, expected in exact(feeds).items():
            difference = np.abs(engine(feeds)[output] - expected)
            assert difference.max() <= FLIPS[graph][0]
            assert (difference > 1e-5).mean() <= FLIPS[graph][1]


@pytest.mark.parametrize("name", USABLE)
def test_prepared_shapes_give_the_same(name: str, tmp_path: Path) -> None:
    path = models.attention(tmp_path / "q.onnx", signed=False)
    engine = built(name, path, tmp_path / name)
    feeds, others = models.feeds(path, 1), models.feeds(path, 2)
    before, other = engine(feeds), engine(others)
    engine.prepare({n: x.shape for n, x in feeds.items()})
    np.testing.assert_allclose(engine(feeds)["scores"], before["scores"], atol=1e-6)
    np.testing.assert_allclose(engine(others)["scores"], other["scores"], atol=1e-6)


@pytest.mark.skipif("openvino" not in USABLE, reason="needs openvino")
def test_openvino_keeps_only_the_last_shapes(tmp_path: Path) -> None:
    path = models.linear(tmp_path / "q.onnx")
    engine = built("openvino", path, tmp_path / "e")
    module = sys.modules["pipeline.backends.openvino"]
    for batch in range(1, module.MOST_COMPILED + 3):
        engine(models.feeds(path, batch))
    kept = [key[0][0] for key in engine._compiled]
    assert kept == list(range(3, module.MOST_COMPILED + 3))
    assert engine(models.feeds(path, 1))["logits"].shape == (1, models.CLASSES)


@pytest.mark.parametrize("name", USABLE)
def test_results_outlive_the_next_call(name: str, tmp_path: Path) -> None:
    path = models.linear(tmp_path / "q.onnx")
    engine = built(name, path, tmp_path / name)
    first = engine(models.feeds(path, 1, seed=1))["logits"]
    kept = first.copy()
    engine(models.feeds(path, 1, seed=2))
    np.testing.assert_array_equal(first, kept)


FLOPS = {
    "linear": 2 * (32 * 64 + 64 * 4),
    "attention": 2 * 12 * 32 * (32 + 12),
    "convolution": 2 * 256 * (16 * 8 * 9 + 16 * 9 + 16 * 16),
}
# The depthwise convolution has no Q/DQ; ONNX Runtime's QLinearConv also wants one behind the convolution.
FLOAT_FLOPS = {
    ("openvino", "convolution"): 2 * 256 * 16 * 9,
    ("onnxruntime", "convolution"): FLOPS["convolution"],
}


@pytest.mark.parametrize("name", USABLE)
@pytest.mark.parametrize("graph", sorted(FLOPS))
def test_precision_report_counts_the_arithmetic(name: str, graph: str, tmp_path: Path) -> None:
    path = models.MAKERS[graph](tmp_path / "q.onnx", signed=False)
    report = built(name, path, tmp_path / name).precision_report(models.feeds(path, 1))
    assert report["flops"] == FLOPS[graph]
    expected = 1 - FLOAT_FLOPS.get((name, graph), 0) / FLOPS[graph]
    assert report["int8_flop_share"] == pytest.approx(expected)
    assert report["int8_ops"] >= (expected > 0)
    assert all(layer["kernel"] and layer["ms"] >= 0 for layer in report["layers"])


@pytest.mark.parametrize("name", USABLE)
@pytest.mark.parametrize("graph", sorted(FLOPS))
def test_a_float_graph_has_no_int8(name: str, graph: str, tmp_path: Path) -> None:
    path = models.MAKERS[graph](tmp_path / "f.onnx", qdq=False)
    report = built(name, path, tmp_path / name).precision_report(models.feeds(path, 1))
    assert (report["int8_ops"], report["int8_flop_share"]) == (0, 0.0)
    assert (report["flops"], report["float_ops"] >= 1) == (FLOPS[graph], True)


def test_onnxruntime_file_needs_no_option(tmp_path: Path) -> None:
    """With its default session, the saved graph keeps the int8 kernels that the build asked for."""
    path = models.linear(tmp_path / "q.onnx", signed=False)
    engine = built("onnxruntime", path, tmp_path / "e")
    kinds = [layer["type"] for layer in engine.precision_report(models.feeds(path, 1))["layers"]]
    assert kinds.count("MatMulIntegerToFloat") == 2
    assert "DequantizeLinear" not in kinds and "Gemm" not in kinds


@pytest.mark.parametrize("name", USABLE)
def test_wrong_inputs_are_named(name: str, tmp_path: Path) -> None:
    path = models.linear(tmp_path / "q.onnx")
    engine = built(name, path, tmp_path / name)
    with pytest.raises(InputError, match="inputs are x; missing: x; unknown: y"):
        engine({"y": np.zeros((1, models.WIDTH), np.float32)})


@pytest.mark.parametrize("name", USABLE)
def test_damaged_engine_file_is_an_artifact_error(name: str, tmp_path: Path) -> None:
    built(name, models.linear(tmp_path / "q.onnx"), tmp_path / name)
    (tmp_path / name / backends.get(name).FILES[0]).write_bytes(b"not an engine")
    with pytest.raises(ArtifactError, match="cannot be"):
        backends.get(name).load(tmp_path / name, 1)


@pytest.mark.parametrize("name", USABLE)
def test_signed_concat_is_right_or_noticed(name: str, tmp_path: Path) -> None:
    """OpenVINO 2026.4 is wrong on int8 behind a Concat: parity must see what a runtime does not get right."""
    path = models.concat_head(tmp_path / "q.onnx")
    feeds = models.feeds(path, 2)
    exact, engine = exact_session(path, 1)(feeds), built(name, path, tmp_path / name)
    (parity,) = models.parities(path, models.concat_head(tmp_path / "f.onnx", qdq=False), engine, feeds)
    right = np.allclose(engine(feeds)["logits"], exact["logits"], atol=0.05 * np.abs(exact["logits"]).max())
    assert right == (parity.reason is None), parity


@pytest.mark.parametrize("name", USABLE)
@pytest.mark.parametrize("signed", [True, False], ids=["int8", "uint8"])
@pytest.mark.parametrize("batch", [1, 3])
def test_projection_is_right_at_every_batch(name: str, signed: bool, batch: int, tmp_path: Path) -> None:
    """Compiled for open shapes, OpenVINO 2026.4 has 11 dB here in signed int8."""
    path = models.projection(tmp_path / "q.onnx", signed=signed)
    feeds = models.feeds(path, batch)
    original = models.projection(tmp_path / "f.onnx", signed=signed, qdq=False)
    (parity,) = models.parities(path, original, built(name, path, tmp_path / name), feeds)
    assert parity.reason is None and parity.sqnr_db > 60, parity


@pytest.mark.parametrize("name", USABLE)
def test_unsigned_concat_is_right(name: str, tmp_path: Path) -> None:
    path = models.concat_head(tmp_path / "q.onnx", signed=False)
    feeds = models.feeds(path, 2)
    original = models.concat_head(tmp_path / "f.onnx", signed=False, qdq=False)
    (parity,) = models.parities(path, original, built(name, path, tmp_path / name), feeds)
    assert parity.reason is None, parity

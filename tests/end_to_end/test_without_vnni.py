"""What `make … CPU=avx2` changes: ONNX Runtime takes the kernels of AVX2, on any x86 machine."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
from types import ModuleType

import pytest

from helpers import ROOT
from helpers.usable import USABLE
from pipeline.measure import machine

FOLDER = ROOT / "tests" / "without_vnni"
PRODUCT = """
import numpy as np, onnxruntime
from onnx import helper, numpy_helper
weight = numpy_helper.from_array(np.full((64, 16), 127, np.int8), "w")
graph = helper.make_graph([helper.make_node("MatMulInteger", ["x", "w"], ["y"])], "g",
    [helper.make_tensor_value_info("x", 2, [8, 64])], [helper.make_tensor_value_info("y", 6, [8, 16])], [weight])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
session = onnxruntime.InferenceSession(model.SerializeToString())
print(*np.unique(session.run(None, {"x": np.full((8, 64), 255, np.uint8)})[0]))
"""
EXACT, SATURATED = 64 * 255 * 127, 32 * (2**15 - 1)
needs_x86 = pytest.mark.skipif(
    sys.platform != "linux" or machine.class_of(machine.cpu_flags()) == "x86" or "onnxruntime" not in USABLE,
    reason="needs Linux, AVX2 and ONNX Runtime",
)


def product(**environment: str) -> int:
    """Returns 64 products of 255 and 127, added by a new process's ONNX Runtime."""
    done = subprocess.run(
        [sys.executable, "-c", PRODUCT],
        env={name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", machine.CAP)}
        | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@needs_x86
def test_onnxruntime_adds_in_16_bits_when_asked_to() -> None:
    assert product(PYTHONPATH=str(FOLDER), ONEDNN_MAX_CPU_ISA="AVX2") == SATURATED
    alone = SATURATED if machine.class_of(machine.cpu_flags()) in ("avx512", "avx2") else EXACT
    assert product() == product(ONEDNN_MAX_CPU_ISA="AVX2") == product(PYTHONPATH=str(FOLDER)) == alone


@pytest.fixture
def hiding(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.delenv(machine.CAP, raising=False)
    spec = importlib.util.spec_from_file_location("hiding", FOLDER / "sitecustomize.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_x86
def test_a_library_that_asks_in_another_way_is_an_error_and_not_a_faster_processor(hiding: ModuleType) -> None:
    import _ctypes

    with pytest.raises(RuntimeError, match=r"_ctypes.*asks the processor in another way than it did"):
        hiding.hide(type(FOLDER)(_ctypes.__file__))


def test_a_mask_clears_the_bits_that_it_names_and_no_other(hiding: ModuleType) -> None:
    assert hiding.keep(hiding.EBX_AND, (0, 31)) == bytes.fromhex("81e3 feffff7f")  # and ebx, 0x7ffffffe
    assert hiding.jump(0x1000, 0x1005 + 0x20) == bytes.fromhex("e9 20000000")


def test_only_avx2_can_be_asked_for() -> None:
    call = ["make", "-n", "doctor", "CPU=sse2"]
    clean = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(call, cwd=ROOT, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "CPU=avx2 is all that can be tried on another processor" in done.stderr


def test_a_limited_processor_is_named_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: ["avx512_vnni", "avx512bw", "avx512f", "avx2"])
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.delenv(machine.CAP, raising=False)
    name = machine.cpu_name()
    monkeypatch.setenv(machine.CAP, "AVX2")
    assert machine.cpu_name() == f"{name} limited from vnni"

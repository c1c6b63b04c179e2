"""The process that exports the float model beside the quantized one: its faults are the stage's faults."""

from __future__ import annotations

import gc
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import InputError
from pipeline.model import loading, unrewritten
from pipeline.model.encoded import Encoded
from pipeline.recipe import Recipe


def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Returns the list that every process started by the module is added to."""
    found: list[Any] = []
    popen = subprocess.Popen

    def start(*args: Any, **settings: Any) -> Any:
        found.append(popen(*args, **settings))
        return found[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    return found


def exported(recipe: Recipe, folder: Path) -> AbstractContextManager[None]:
    return unrewritten.exported_beside(recipe, Encoded(folder), folder)


def test_an_input_error_of_the_process_is_raised_here(tmp_path: Path) -> None:
    recipe = Recipe.load("bert", overrides={"checkpoint": str(tmp_path / "nowhere"), "folder": tmp_path})
    with pytest.raises(InputError, match="nowhere"), exported(recipe, tmp_path):
        pass


def test_a_fault_here_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = started(monkeypatch)
    recipe = Recipe.load("bert", overrides={"folder": tmp_path})
    with pytest.raises(KeyboardInterrupt, match="by hand"), exported(recipe, tmp_path):
        raise KeyboardInterrupt("by hand")
    assert [process.returncode for process in found] == [-9]
    assert not list(tmp_path.glob("*.onnx"))


def test_a_killed_process_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = started(monkeypatch)
    recipe = Recipe.load("bert", overrides={"folder": tmp_path})
    with pytest.raises(RuntimeError, match="signal 9"), exported(recipe, tmp_path):
        found[0].kill()


def test_the_model_is_as_before_after_an_export(calibrated: dict[str, Recipe]) -> None:
    """Constant quantizers stand in for the calibrated ones while the model is traced, and no longer."""
    from pipeline.model.onnx_export import _constant_scales, _ConstantQuantizer, export_onnx
    from pipeline.quantization import TensorQuantizer, apply_amax, quantizers

    recipe = calibrated["bert"]
    source = loading.open_source(recipe)
    model = loading.quantized_model(source, recipe)
    some = dict(list(quantizers(model))[:4])  # the others are off and stay as they are
    apply_amax(model, {n: [2.0] if q.axis is None else [1.0] * len(_weight(model, n)) for n, q in some.items()})
    before = dict(model.named_modules())
    sample = loading.random_inputs(source, recipe)
    expected = loading.run_torch(model, sample, source.outputs)
    with _constant_scales(model):
        inside = loading.run_torch(model, sample, source.outputs)
        kinds = {type(model.get_submodule(name)) for name in some}
        off = {type(m) for n, m in model.named_modules() if n in dict(before) and isinstance(m, TensorQuantizer)}
    assert kinds == {_ConstantQuantizer} and off == {TensorQuantizer}
    for name, value in expected.items():
        assert (inside[name] == value).all(), "bit for bit"
    export_onnx(model, sample, source.outputs, source.family.dynamic_axes(sample))
    assert dict(model.named_modules()) == before and gc.isenabled()


def _weight(model: Any, quantizer: str) -> Any:
    return model.get_submodule(quantizer.rpartition(".")[0]).weight

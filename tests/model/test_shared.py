"""The float model that stages share: read once, changed by none of them, read again where the checkpoint changed."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.runs import recipe_for
from pipeline.model import loading, shared
from pipeline.run import Run


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns the list of the checkpoints that models are made of from now on."""
    found: list[str] = []
    load = loading.float_model
    monkeypatch.setattr(loading, "float_model", lambda source: (found.append(source.folder.name), load(source))[1])
    return found


@pytest.fixture
def run(copy_of: Callable[[str], Path], data: dict[str, Path], tmp_path: Path) -> Callable[[str], Run]:
    return lambda name: Run.of(recipe_for(name, tmp_path, copy_of(name), data[name]))


@pytest.mark.parametrize("name", ["bert", "segformer"])
def test_stages_get_models_of_their_own_with_the_same_weights(
    name: str, run: Callable[[str], Run], loaded: list[str]
) -> None:
    made = run(name)
    source = loading.open_source(made.recipe)
    first, second = (shared.quantized_model(made, source) for _ in range(2))
    kept = shared.rewritten_model(made, source)
    assert len(loaded) == 1
    assert first is not second and not set(map(id, first.modules())) & set(map(id, second.modules()))
    own = {n for n, _ in first.named_parameters()} - {n for n, _ in kept.named_parameters()}
    assert not own, "a quantizer has buffers alone"
    for n, parameter in kept.named_parameters():
        assert first.get_parameter(n) is second.get_parameter(n) is parameter
    alone = loading.quantized_model(source, made.recipe)
    sample = loading.random_inputs(source, made.recipe)
    expected = loading.run_torch(alone, sample, source.outputs)
    for model in (first, second):
        for output, value in loading.run_torch(model, sample, source.outputs).items():
            np.testing.assert_array_equal(value, expected[output])


def test_no_stage_changes_the_model_of_the_next(run: Callable[[str], Run], loaded: list[str]) -> None:
    from pipeline.model.collecting import collect
    from pipeline.model.onnx_export import export_onnx
    from pipeline.quantization import apply_amax, quantizers

    made = run("bert")
    source = loading.open_source(made.recipe)
    sample = loading.random_inputs(source, made.recipe)
    kept = shared.rewritten_model(made, source)
    weights = {name: value.clone() for name, value in kept.state_dict().items()}
    before = loading.run_torch(kept, sample, source.outputs)
    collect(shared.quantized_model(made, source), sample, 1)
    model = shared.quantized_model(made, source)
    apply_amax(model, {n: [1.0] for n, q in quantizers(model) if q.axis is None})
    export_onnx(model, sample, source.outputs, source.family.dynamic_axes(sample))
    assert shared.rewritten_model(made, source) is kept and len(loaded) == 1
    assert all(torch.equal(value, weights[name]) for name, value in kept.state_dict().items())
    for output, value in loading.run_torch(kept, sample, source.outputs).items():
        np.testing.assert_array_equal(value, before[output])
    assert all(
        q._calibrator.statistic.batches == 0
        for _, q in quantizers(shared.quantized_model(made, source))
        if q.axis is None
    )


def test_another_checkpoint_is_another_model(run: Callable[[str], Run], loaded: list[str]) -> None:
    from safetensors.torch import load_file, save_file

    made = run("bert")
    source = loading.open_source(made.recipe)
    path = source.folder / "model.safetensors"
    before = shared.rewritten_model(made, source).qa_outputs.bias.clone()
    weights = load_file(path)
    weights["qa_outputs.bias"] += 1
    save_file(weights, path, metadata={"format": "pt"})
    assert torch.equal(shared.rewritten_model(made, source).qa_outputs.bias, before + 1)
    as_it_is = made.with_recipe(made.recipe.model_copy(update={"rewrites": False}))
    assert shared.rewritten_model(as_it_is, source) is not shared.rewritten_model(made, source)
    assert len(loaded) == 4, "one at a time is kept"


def test_what_is_dropped_is_freed(run: Callable[[str], Run], loaded: list[str]) -> None:
    made = run("bert")
    source = loading.open_source(made.recipe)
    with made.kept:
        model = weakref.ref(shared.rewritten_model(made, source))
        gc.collect()
        assert model() is not None
        made.kept.drop(shared.NAME)
        gc.collect()
        assert model() is None
        model = weakref.ref(shared.rewritten_model(made, source))
    gc.collect()
    assert model() is None

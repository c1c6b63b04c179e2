"""Quantizers in Hugging Face's modules: where they are, what they compute, and that the model stays a module."""

from __future__ import annotations

import copy
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_quantization.nn import TensorQuantizer as LibraryQuantizer
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline import families, quantization
from pipeline.errors import InputError
from pipeline.quantization import QuantConv2d, QuantDescriptor, QuantEmbedding, QuantLinear, TensorQuantizer
from pipeline.quantization.fake_quantize import PER_TENSOR, fake_quantize

QDQBERT_LAYER = [
    *(f"attention.self.{x}.{y}_quantizer" for x in ("query", "key", "value") for y in ("_input", "_weight")),
    *(f"attention.self.matmul_{x}_input_quantizer" for x in "qkav"),
    *(
        f"{x}.dense.{y}_quantizer"
        for x in ("attention.output", "intermediate", "output")
        for y in ("_input", "_weight")
    ),
    *(f"{x}.add_{y}_input_quantizer" for x in ("attention.output", "output") for y in ("local", "residual")),
]
TABLES = [f"bert.embeddings.{x}_embeddings._weight_quantizer" for x in ("word", "position", "token_type")]


def load(name: str, checkpoints: dict[str, Path]) -> nn.Module:
    """Returns a tiny float model."""
    import json

    config = json.loads((checkpoints[name] / "config.json").read_text(encoding="utf-8"))
    return families.get(config["model_type"]).load(checkpoints[name], config["architectures"][0], config, ())


def quantized(name: str, checkpoints: dict[str, Path]) -> nn.Module:
    """Returns a tiny model with all quantizers, amax from its weights and (for activations) 3."""
    family = families.get("segformer" if name == "segformer" else "bert")
    model = family.insert_quantizers(load(name, checkpoints))
    for path, quantizer in quantization.quantizers(model):
        weight = getattr(model.get_submodule(path.rpartition(".")[0]), "weight", None)
        per_channel = quantizer.axis is not None
        quantizer.set_amax(weight.detach().abs().flatten(1).amax(1) if per_channel else torch.tensor(3.0))
    return model.eval()


def sample(name: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    if name == "segformer":
        return {"pixel_values": torch.randn(2, 3, 64, 64, generator=generator)}
    ids = torch.randint(5, 60, (2, 12), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


def outputs(model: nn.Module, name: str) -> torch.Tensor:
    with torch.no_grad():
        return model(**sample(name))[0]


# --- where quantizers are ---


def test_bert_has_the_quantizers_of_qdqbert_and_its_tables(checkpoints: dict[str, Path]) -> None:
    names = {name for name, _ in quantization.quantizers(quantized("bert", checkpoints))}
    expected = {f"bert.encoder.layer.{i}.{name}" for i in range(2) for name in QDQBERT_LAYER}
    assert names == expected | {*TABLES, "qa_outputs._input_quantizer", "qa_outputs._weight_quantizer"}


@pytest.mark.parametrize("name", ["bert", "classifier", "encoder", "segformer"])
def test_every_linear_convolution_product_and_residual_add_has_its_quantizers(
    name: str, checkpoints: dict[str, Path]
) -> None:
    before = load(name, checkpoints)
    weighted = {n: type(m) for n, m in before.named_modules() if type(m) in (nn.Linear, nn.Conv2d)}
    records = quantization.describe(quantized(name, checkpoints))
    sites: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        sites.setdefault(record["site"], []).append(record)
    for site in weighted:
        assert {r["role"] for r in sites[site]} == {"activation", "weight"}, site
        assert [r["axis"] for r in sites[site]] == [None, 0], "inputs per tensor, weights per output channel"
    layers = 4 if name == "segformer" else 2
    for kinds, count in ((("scores",), 2), (("context",), 2), (("local", "residual"), 4)):
        assert sum(r["kind"] in kinds for r in records) == count * layers, kinds
    tables = {n for n, m in before.named_modules() if type(m) is nn.Embedding}
    assert len(tables) == (0 if name == "segformer" else 3)
    for site in tables:
        assert [(r["kind"], r["role"], r["axis"]) for r in sites[site]] == [("embedding", "weight", 0)], site
    pairs = {s: r for s, r in sites.items() if s not in weighted and s not in tables}
    assert all(len(r) == 2 and {x["axis"] for x in r} == {None} for r in pairs.values())
    assert {r["num_bits"] for r in records} == {8}
    assert len({r["name"] for r in records}) == len(records)


@pytest.mark.parametrize("name", ["bert", "classifier", "encoder", "segformer"])
def test_every_quantizer_is_on_the_way_of_the_data_once(name: str, checkpoints: dict[str, Path]) -> None:
    model = quantized(name, checkpoints)
    seen: Counter[str] = Counter()
    for path, quantizer in quantization.quantizers(model):
        quantizer.register_forward_hook(lambda *_, path=path: seen.update([path]))
    outputs(model, name)
    assert seen == {path: 1 for path, _ in quantization.quantizers(model)}


def test_convolutions_of_segformer_are_told_apart(checkpoints: dict[str, Path]) -> None:
    model = quantized("segformer", checkpoints)
    kinds = {r["site"]: r["kind"] for r in quantization.describe(model) if r["role"] == "weight"}
    for site, kind in kinds.items():
        module = model.get_submodule(site)
        if isinstance(module, nn.Linear):
            expected = "linear"
        else:
            expected = "depthwise" if module.groups > 1 else "pointwise" if module.kernel_size == (1, 1) else "conv"
        assert kind == expected, site
    assert set(kinds.values()) == {"linear", "conv", "pointwise", "depthwise"}


# --- the model stays what it was ---


@pytest.mark.parametrize("name", ["bert", "classifier", "encoder", "segformer"])
def test_with_every_quantizer_off_the_model_computes_the_float_outputs(name: str, checkpoints: dict[str, Path]) -> None:
    expected = outputs(load(name, checkpoints), name)
    model = quantized(name, checkpoints)
    on = outputs(model, name)
    quantization.set_enabled(model, ["*"], False)
    torch.testing.assert_close(outputs(model, name), expected, rtol=1e-5, atol=1e-5)
    assert (on - expected).abs().max() > 1e-4, "with quantizers on it must differ"


@pytest.mark.parametrize("name", ["bert", "segformer"])
def test_float_parameters_keep_their_names(name: str, checkpoints: dict[str, Path]) -> None:
    before = load(name, checkpoints)
    after = quantized(name, checkpoints)
    assert dict(before.named_parameters()).keys() == dict(after.named_parameters()).keys()
    extra = after.state_dict().keys() - before.state_dict().keys()
    assert extra == {f"{n}._amax" for n, _ in quantization.quantizers(after)}
    assert all(isinstance(after.get_submodule(n), type(m)) for n, m in before.named_modules())


@pytest.mark.parametrize("name", ["bert", "segformer"])
def test_it_saves_and_loads_as_safetensors(name: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    model = quantized(name, checkpoints)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    fresh = families.get(name).insert_quantizers(load(name, checkpoints)).eval()
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.zero_()
    result = fresh.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert not result.missing_keys and not result.unexpected_keys
    assert torch.equal(outputs(fresh, name), outputs(model, name))
    assert all(q.amax.device.type == "cpu" for _, q in quantization.quantizers(fresh))


@pytest.mark.parametrize("name", ["bert", "segformer"])
def test_it_trains(name: str, checkpoints: dict[str, Path]) -> None:
    model = quantized(name, checkpoints).train()
    before = copy.deepcopy(dict(model.named_parameters()))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3 if name == "bert" else 1e-2)
    losses = []
    for _ in range(6):
        torch.manual_seed(0)  # the same dropout in every step
        loss = model(**sample(name))[0].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]
    still = [n for n, p in model.named_parameters() if torch.equal(p, before[n])]
    # softmax ignores a shift of all keys, batch norm one of the projections before it
    shifts = ("k_proj.bias", *(f"linear_projections.{i}.proj.bias" for i in range(4)), "key.bias")
    assert [n for n in still if not n.endswith(shifts)] == []


def test_an_odd_model_without_attention_takes_quantizers_too() -> None:
    model = quantization.insert_quantizers(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2)))
    assert isinstance(model[0], QuantConv2d) and isinstance(model[2], QuantLinear)
    assert model(torch.randn(1, 3, 4, 4)).shape == (1, 2)


# --- embeddings ---


def table(rows: int = 6, width: int = 5, **options: Any) -> QuantEmbedding:
    """Returns a quantized embedding of random rows of very different sizes, with its amax."""
    torch.manual_seed(4)
    model = nn.Sequential(nn.Embedding(rows, width, **options))
    with torch.no_grad():
        model[0].weight.mul_(torch.logspace(-3, 3, rows)[:, None])
    made: Any = quantization.insert_quantizers(model)[0]
    made._weight_quantizer.set_amax(made.weight.detach().abs().amax(1))
    return made  # type: ignore[no-any-return]


def test_an_embedding_gives_quantized_rows_each_with_its_own_scale() -> None:
    made, ids = table(), torch.tensor([[5, 0, 0], [2, 3, 1]])
    weight = made.weight.detach().numpy()
    scale = np.abs(weight).max(1) / np.float32(127)
    expected = numpy_fake_quantize(weight, scale[:, None])
    np.testing.assert_array_equal(made(ids).detach().numpy(), expected[ids.numpy()])
    error = np.abs(expected - weight).max(1)
    assert (error <= scale / 2 * 1.0001).all(), "a small row is as exact as a large one"


def test_a_row_of_zeros_stays_zeros_beside_others() -> None:
    made = table(padding_idx=2)
    with torch.no_grad():
        made.weight[2] = 0
    quantization.apply_amax(nn.Sequential(made), {"0._weight_quantizer": made.weight.detach().abs().amax(1).numpy()})
    rows = made(torch.arange(6))
    assert torch.equal(rows[2], torch.zeros(5)) and bool((rows[[0, 1, 3, 4, 5]] != 0).any(1).all())
    assert torch.isfinite(rows).all()


@pytest.mark.parametrize("padding", [None, 3])
def test_gradients_reach_the_rows_that_were_read(padding: int | None) -> None:
    made = table(padding_idx=padding)
    made(torch.tensor([1, 3, 3])).sum().backward()
    assert made.weight.grad is not None
    expected = torch.zeros(6, 5)
    expected[1] = 1
    expected[3] = 0 if padding == 3 else 2
    assert torch.equal(made.weight.grad, expected)


def test_an_embedding_with_its_quantizer_off_is_the_float_one() -> None:
    made, ids = table(max_norm=2.0, norm_type=1.0), torch.tensor([0, 5, 5])
    weight = made.weight.detach().clone()
    made._weight_quantizer.disable()
    expected = nn.functional.embedding(ids, weight, max_norm=2.0, norm_type=1.0)
    assert torch.equal(made(ids), expected) and expected.abs().sum(1).max() < 2.001


# --- switching by name ---


def test_patterns_switch_exactly_what_they_match(checkpoints: dict[str, Path]) -> None:
    model = quantized("bert", checkpoints)
    names = [n for n, _ in quantization.quantizers(model)]
    switched = quantization.set_enabled(model, ["*.add_*", "*layer.1.output.dense*"], False)
    off = {n for n, q in quantization.quantizers(model) if not q.is_enabled}
    assert off == set(switched) == {n for n in names if ".add_" in n or fnmatchcase(n, "*layer.1.output.dense*")}
    quantization.set_enabled(model, ["*residual*"], True)
    assert {n for n, q in quantization.quantizers(model) if not q.is_enabled} == {n for n in off if "residual" not in n}


def test_a_pattern_that_matches_nothing_is_an_error_with_near_names(checkpoints: dict[str, Path]) -> None:
    model = quantized("bert", checkpoints)
    said = r"'qa_outputs\._inputquantizer' matches no quantizer.* Did you mean qa_outputs\._input_quantizer"
    with pytest.raises(InputError, match=said):
        quantization.set_enabled(model, ["qa_outputs._inputquantizer"], False)
    assert all(q.is_enabled for _, q in quantization.quantizers(model))


def test_a_typo_switches_nothing_even_after_a_good_pattern(checkpoints: dict[str, Path]) -> None:
    model = quantized("bert", checkpoints)
    with pytest.raises(InputError, match=r"'nothing\.like\.this' matches no quantizer"):
        quantization.set_enabled(model, ["*add_local*", "nothing.like.this"], False)
    assert all(q.is_enabled for _, q in quantization.quantizers(model))


def test_default_descriptors_are_honoured(checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for attribute in ("default_quant_desc_input", "default_quant_desc_weight"):
        monkeypatch.setattr(QuantLinear, attribute, getattr(QuantLinear, attribute))  # put back afterwards
    QuantLinear.set_default_quant_desc_input(QuantDescriptor(num_bits=6, calib_method="max"))
    QuantLinear.set_default_quant_desc_weight(QuantDescriptor(num_bits=8, axis=None))
    records = quantization.describe(families.get("bert").insert_quantizers(load("bert", checkpoints)))
    weights = [r for r in records if r["role"] == "weight"]
    assert {(r["num_bits"], r["axis"]) for r in weights if r["kind"] == "linear"} == {(8, None)}
    assert {(r["num_bits"], r["axis"]) for r in weights if r["kind"] == "embedding"} == {(8, 0)}, "its own descriptor"
    # as in QDQBERT, attention products and residual adds take the input descriptor of linear layers
    assert {(r["num_bits"], r["axis"]) for r in records if r["role"] == "activation"} == {(6, None)}
    assert QuantConv2d.default_quant_desc_input.num_bits == 8, "convolutions have their own"


def test_histogram_descriptors_get_the_mergeable_calibrator_and_max_the_library_one() -> None:
    from pytorch_quantization.calib import MaxCalibrator

    from calibration.calibrator import HistogramCalibrator

    assert isinstance(TensorQuantizer(QuantDescriptor(calib_method="histogram"))._calibrator, HistogramCalibrator)
    assert isinstance(TensorQuantizer(QuantDescriptor(calib_method="max"))._calibrator, MaxCalibrator)


# --- what a quantizer computes ---


def numpy_fake_quantize(x: np.ndarray, scale: np.ndarray, low: int = -128, high: int = 127) -> np.ndarray:
    """Returns ONNX's QuantizeLinear → DequantizeLinear in numpy float32: rint is half to even."""
    return (np.clip(np.rint(x / scale), low, high) * scale).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=50),
    scale=st.floats(2.0**-20, 100, width=32),
)
def test_fake_quantize_is_numpy_bit_for_bit(values: list[float], scale: float) -> None:
    x, s = np.array(values, np.float32), np.float32(scale)
    found = fake_quantize(torch.from_numpy(x), torch.tensor(s), PER_TENSOR, -128, 127, "")
    np.testing.assert_array_equal(found.numpy(), numpy_fake_quantize(x, s))


@pytest.mark.parametrize("scale", [0.5, 0.1, 1 / 3, 0.0078125, 3.7e-3])
def test_rounding_boundaries_go_to_even(scale: float) -> None:
    s = np.float32(scale)
    x = ((np.arange(-140, 140) + np.float32(0.5)) * s).astype(np.float32)  # on or beside every boundary
    found = fake_quantize(torch.from_numpy(x), torch.tensor(s), PER_TENSOR, -128, 127, "").numpy()
    np.testing.assert_array_equal(found, numpy_fake_quantize(x, s))
    if scale in (0.5, 0.0078125):  # exact halves: 0.5 -> 0, 1.5 -> 2, -0.5 -> -0, 2.5 -> 2
        np.testing.assert_array_equal(np.rint(found / s) % 2, np.where(np.abs(x / s) < 127, 0, np.rint(found / s) % 2))
    assert found.min() == -128 * s and found.max() == 127 * s


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_per_channel_uses_one_scale_along_the_axis(axis: int) -> None:
    rng = np.random.default_rng(axis)
    x = rng.standard_normal((3, 4, 5)).astype(np.float32)
    scale = rng.uniform(0.005, 0.05, x.shape[axis]).astype(np.float32)
    found = fake_quantize(torch.from_numpy(x), torch.from_numpy(scale), axis, -128, 127, "").numpy()
    for i in range(x.shape[axis]):
        expected = numpy_fake_quantize(x.take(i, axis), scale[i])
        np.testing.assert_array_equal(found.take(i, axis), expected)


def test_gradients_pass_straight_through_inside_the_range_and_stop_outside() -> None:
    scale = torch.tensor(0.1)
    x = torch.tensor([-20.0, -12.9, -12.7, -0.04, 0.0, 0.05, 12.69, 12.8, 99.0], requires_grad=True)
    fake_quantize(x, scale, PER_TENSOR, -128, 127, "").backward(torch.arange(1.0, 10.0))
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0, 3, 4, 5, 6, 7, 0, 0]


def test_per_channel_gradients_use_each_channels_range() -> None:
    x = torch.full((2, 1), 5.0, requires_grad=True)
    fake_quantize(x, torch.tensor([0.01, 0.1]), 0, -128, 127, "").sum().backward()
    assert x.grad is not None and x.grad.tolist() == [[0.0], [1.0]]


@pytest.mark.parametrize(("narrow", "unsigned"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("bits", [8, 4])
def test_it_agrees_with_the_library_up_to_values_on_a_boundary(bits: int, narrow: bool, unsigned: bool) -> None:
    descriptor = QuantDescriptor(num_bits=bits, narrow_range=narrow, unsigned=unsigned, amax=2.5)
    ours, theirs = TensorQuantizer(descriptor), LibraryQuantizer(descriptor)
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    x = x.abs() if unsigned else x
    a, b = ours(x), theirs(x)
    step = 2.5 / ours.bound
    differing = (a - b).abs() > step / 2
    offset = (x / step) % 1
    assert ((offset[differing] - 0.5).abs() < 1e-4).all(), "only values on a rounding boundary may fall apart"
    torch.testing.assert_close(a[~differing], b[~differing], rtol=1e-6, atol=1e-6)


def test_per_channel_agrees_with_the_library() -> None:
    weight = torch.randn(6, 10, generator=torch.Generator().manual_seed(1))
    descriptor = QuantDescriptor(num_bits=8, axis=0)
    ours, theirs = TensorQuantizer(descriptor), LibraryQuantizer(descriptor)
    torch.testing.assert_close(ours(weight), theirs(weight), rtol=1e-6, atol=1e-6)
    ours.set_amax(weight.abs().amax(1))
    torch.testing.assert_close(ours(weight), theirs(weight), rtol=1e-6, atol=1e-6)


def test_a_channel_of_zeros_stays_zeros() -> None:
    quantizer = TensorQuantizer(QuantDescriptor(num_bits=8, axis=0))
    weight = torch.tensor([[0.0, 0.0], [1.0, -0.5]])
    quantizer.set_amax(weight.abs().amax(1))
    assert torch.equal(quantizer(weight)[0], torch.zeros(2)) and torch.isfinite(quantizer(weight)).all()


def test_disabled_is_the_identity() -> None:
    quantizer = TensorQuantizer(QuantDescriptor(amax=1.0))
    quantizer.disable()
    x = torch.randn(5)
    assert torch.equal(quantizer(x), x)


def test_apply_amax_turns_off_what_it_was_not_told() -> None:
    model = quantization.insert_quantizers(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)))
    quantization.apply_amax(model, {"0._input_quantizer": [1.5], "0._weight_quantizer": [1.0, 2.0]})
    assert model[0]._input_quantizer.amax.shape == () and model[0]._weight_quantizer.amax.tolist() == [1, 2]
    on = {n for n, q in quantization.quantizers(model) if q.is_enabled}
    assert on == {"0._input_quantizer", "0._weight_quantizer"}

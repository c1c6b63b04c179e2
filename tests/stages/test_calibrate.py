"""Batches without padding: every sample once, hardly a padding position left, and no answer changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.runs import recipe_for
from pipeline.model import loading

Arrays = dict[str, np.ndarray]


def padded(lengths: list[int], width: int, left: bool = False) -> Arrays:
    """Returns inputs whose token ids tell sample and position; padding is 0, at the end or in front."""
    mask = np.array([[position < length for position in range(width)] for length in lengths], np.int64)
    ids = np.arange(1, len(lengths) + 1)[:, None] * 1000 + np.cumsum(mask, 1)
    mask = mask[:, ::-1] if left else mask
    ids = np.ascontiguousarray(ids[:, ::-1] if left else ids)
    return {"input_ids": ids * mask, "attention_mask": np.ascontiguousarray(mask), "token_type_ids": 0 * ids}


def samples_of(batches: list[Arrays]) -> list[tuple[int, ...]]:
    """Returns the real token ids of every sample, sorted."""
    return sorted(
        tuple(ids[mask != 0].tolist())
        for batch in batches
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    )


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=40), st.integers(1, 9), st.booleans())
def test_every_sample_is_there_once_with_all_its_tokens(lengths: list[int], size: int, left: bool) -> None:
    inputs = padded(lengths, 20, left)
    found = loading.unpadded_batches(inputs, size)
    assert samples_of(found) == samples_of([inputs])
    assert [len(batch["input_ids"]) for batch in found[:-1]] == [size] * (len(found) - 1)
    for batch in found:
        assert batch.keys() == inputs.keys()
        assert len({value.shape for value in batch.values()}) == 1
        if not left:
            assert batch["attention_mask"][:, -1].any(), "cut to the longest"


def test_hardly_any_padding_is_left() -> None:
    lengths = np.random.default_rng(0).integers(8, 129, 256).tolist()
    inputs = padded(lengths, 128)
    share = 1 - inputs["attention_mask"].mean()
    found = loading.unpadded_batches(inputs, 8)
    positions = sum(batch["attention_mask"].size for batch in found)
    left = 1 - sum(lengths) / positions
    assert share > 0.4 and left < 0.03


def test_samples_of_one_length_keep_their_order() -> None:
    inputs = padded([5] * 7, 9)
    found = loading.unpadded_batches(inputs, 3)
    for name, value in inputs.items():
        np.testing.assert_array_equal(np.concatenate([batch[name] for batch in found]), value[:, :5])


def test_padding_in_front_is_left_whole() -> None:
    inputs = padded([3, 9, 5], 12, left=True)
    (found,) = loading.unpadded_batches(inputs, 3)
    assert found["attention_mask"].shape == (3, 12)
    assert samples_of([found]) == samples_of([inputs])


def test_a_gap_and_an_empty_mask_lose_nothing() -> None:
    inputs = padded([4, 6], 8)
    inputs["attention_mask"][0] = [1, 0, 0, 1, 0, 1, 0, 0]
    inputs["attention_mask"][1] = 0
    found = loading.unpadded_batches(inputs, 1)
    assert [batch["attention_mask"].tolist() for batch in found] == [[[1, 0, 0, 1, 0, 1]], [[0] * 8]]


def test_inputs_without_a_mask_come_whole_in_their_own_order() -> None:
    pixels = np.arange(5 * 3 * 4 * 4, dtype=np.float32).reshape(5, 3, 4, 4)
    found = loading.unpadded_batches({"pixel_values": pixels}, 2)
    assert [len(batch["pixel_values"]) for batch in found] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([batch["pixel_values"] for batch in found]), pixels)


@pytest.mark.parametrize("name", ["bert", "classifier", "encoder"])
def test_no_answer_changes(name: str, checkpoints: dict[str, Path], data: dict[str, Path], tmp_path: Path) -> None:
    recipe = recipe_for(name, tmp_path, checkpoints[name], data[name], shapes__sequence_length=64)
    source = loading.open_source(recipe)
    model = loading.float_model(source)
    raw = source.task.samples(recipe, source.config, "calibration", 8, folder=source.folder)
    inputs, _ = source.task.encode(source.folder, recipe, raw)
    assert (inputs["attention_mask"] == 0).any(1).all(), "every sample is padded"
    whole = {tuple(ids): i for i, ids in enumerate(inputs["input_ids"].tolist())}
    expected = loading.run_torch(model, inputs, source.outputs)
    seen = []
    for batch in loading.unpadded_batches(inputs, 3):
        found = loading.run_torch(model, batch, source.outputs)
        real = batch["attention_mask"] != 0
        width = inputs["input_ids"].shape[1] - real.shape[1]
        rows = [whole[tuple(ids)] for ids in np.pad(batch["input_ids"], ((0, 0), (0, width))).tolist()]
        seen += rows
        for output, value in found.items():
            true = expected[output][rows]
            if value.shape[1] == real.shape[1]:  # per token
                value, true = value[real], true[:, : real.shape[1]][real]
            np.testing.assert_allclose(value, true, rtol=0, atol=1e-5 * np.abs(true).max())
    assert sorted(seen) == list(range(len(inputs["input_ids"])))


def test_padding_decides_about_no_scale(checkpoints: dict[str, Path], data: dict[str, Path], tmp_path: Path) -> None:
    """With padding left in, calibration would count positions that no answer depends on."""
    from pipeline.model.collecting import collect

    recipe = recipe_for("bert", tmp_path, checkpoints["bert"], data["bert"])
    source = loading.open_source(recipe)
    inputs, _ = source.task.encode(
        source.folder, recipe, source.task.samples(recipe, source.config, "calibration", 8, folder=source.folder)
    )
    torch.manual_seed(0)
    statistics, channels = collect(loading.quantized_model(source, recipe), inputs, 1)
    real = int(inputs["attention_mask"].sum())
    name = "bert.encoder.layer.0.output.dense._input_quantizer"
    assert statistics[name].elements == channels[name].elements == real * channels[name].channels
    assert statistics[name].batches == len(inputs["input_ids"])
    assert float(channels[name].amax.max()) == statistics[name].amax

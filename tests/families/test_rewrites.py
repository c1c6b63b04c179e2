"""Every rewrite of every family computes the same function on random weights, and one that does not is caught."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers import tiny
from helpers.runs import recipe_for
from pipeline import families
from pipeline.model import loading
from pipeline.model.exactness import EXACT, LOSS
from pipeline.stages.quantize import prove_rewrites

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "bert": {
        "heads of 16": {},
        "heads of 20": {"hidden_size": 60, "num_attention_heads": 3},
        "relu": {"hidden_act": "relu"},
        "classifier": {"architecture": "BertForSequenceClassification"},
        "encoder": {"architecture": "BertModel"},
        "words": {"architecture": "BertForTokenClassification"},
        "masks": {"architecture": "BertForMaskedLM"},
        "decoder": {"architecture": "BertLMHeadModel", "is_decoder": True},
        "next sentence": {"architecture": "BertForNextSentencePrediction"},
        "choices": {"architecture": "BertForMultipleChoice"},
    },
    "segformer": {
        "plain": {},
        "deep": {"depths": [2, 1, 2, 1]},
        "wide head": {"decoder_hidden_size": 48, "mlp_ratios": [2, 4, 2, 4]},
        "heads of 8": {"num_attention_heads": [2, 2, 4, 4]},
        "no bias": {"qkv_bias": False},
        "last stage as a sequence": {"reshape_last_stage": False, "hidden_sizes": [16, 16, 32, 4]},
        "one class": {"id2label": {0: "all"}, "label2id": {"all": 0}},
        "classifier": {"architecture": "SegformerForImageClassification"},
        "classifier of a sequence": {"architecture": "SegformerForImageClassification", "reshape_last_stage": False},
    },
}
CASES = [(family, variant) for family in families.names() for variant in VARIANTS[family]]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], loading.Source]:
    """Returns a function: source(family, variant) -> an opened checkpoint with random weights."""
    made: dict[tuple[str, str], loading.Source] = {}

    def open_one(family: str, variant: str) -> loading.Source:
        if (family, variant) not in made:
            folder = tmp_path_factory.mktemp("rewrites") / "checkpoint"
            getattr(tiny, family)(folder, **VARIANTS[family][variant])
            made[family, variant] = loading.open_source(recipe_for(family, folder, folder, folder))
        return made[family, variant]

    return open_one


def inputs(source: loading.Source, folder: Path, batch: int, size: int | str = 64) -> dict[str, np.ndarray]:
    family = str(source.family.MODEL_TYPE)
    recipe = recipe_for(family, folder, source.folder, folder, shapes__image_size=size, seed=batch)
    return loading.random_inputs(source, recipe, batch)


def difference(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> float:
    assert before.keys() == after.keys()
    return max(float(np.abs(after[k] - v).max() / np.abs(v).max()) for k, v in before.items())


def test_every_family_has_variants_here() -> None:
    assert set(VARIANTS) == set(families.names())


@pytest.mark.parametrize(("family", "variant"), CASES)
def test_each_rewrite_alone_is_exact(
    family: str, variant: str, source: Callable[[str, str], loading.Source], tmp_path: Path
) -> None:
    opened = source(family, variant)
    sample = inputs(opened, tmp_path, 2)
    before = loading.run_torch(loading.float_model(opened), sample, opened.outputs)
    rewrites = opened.family.rewrites()
    assert rewrites
    for name, rewrite in rewrites.items():
        model = rewrite(loading.float_model(opened)).eval()
        assert difference(before, loading.run_torch(model, sample, opened.outputs)) < 1e-5, name


@pytest.mark.parametrize(("family", "variant"), CASES)
def test_all_rewrites_together_are_exact_at_other_sizes(
    family: str, variant: str, source: Callable[[str, str], loading.Source], tmp_path: Path
) -> None:
    opened = source(family, variant)
    recipe = recipe_for(family, tmp_path, opened.folder, tmp_path)
    before, after = loading.float_model(opened), loading.rewritten_model(opened, recipe)
    other = 64 if variant == "last stage as a sequence" else 128  # that one knows one size
    sizes = ((1, 64), (3, other)) if other == 64 else ((1, 64), (3, other), (2, "64x96"), (2, "160x32"))
    for batch, size in sizes:
        sample = inputs(opened, tmp_path, batch, size)
        expected = loading.run_torch(before, sample, opened.outputs)
        assert difference(expected, loading.run_torch(after, sample, opened.outputs)) < 1e-5
    off = recipe.model_copy(update={"rewrites": False})
    assert type(loading.rewritten_model(opened, off)) is type(before)
    unchanged = loading.run_torch(loading.rewritten_model(opened, off), sample, opened.outputs)
    assert difference(expected, unchanged) == 0


@pytest.mark.parametrize("family", families.names())
def test_a_rewrite_that_is_applied_twice_changes_nothing_more(
    family: str, source: Callable[[str, str], loading.Source], tmp_path: Path
) -> None:
    opened = source(family, next(iter(VARIANTS[family])))
    sample = inputs(opened, tmp_path, 2)
    rewrite = opened.family.rewrites()["folded_attention_scale"]
    once = rewrite(loading.float_model(opened))
    expected = loading.run_torch(once, sample, opened.outputs)
    assert difference(expected, loading.run_torch(rewrite(once), sample, opened.outputs)) == 0


@pytest.mark.parametrize(("variant", "tokens"), [("classifier", 1), ("heads of 16", 64)])
def test_the_last_layer_computes_the_tokens_that_the_head_reads(
    variant: str, tokens: int, source: Callable[[str, str], loading.Source], tmp_path: Path
) -> None:
    opened = source("bert", variant)
    model: Any = loading.rewritten_model(opened, recipe_for("bert", tmp_path, opened.folder, tmp_path))
    seen: list[int] = []
    for layer in model.bert.encoder.layer:
        layer.intermediate.register_forward_hook(lambda _, args, out: seen.append(out.shape[1]))
    sample = inputs(opened, tmp_path, 2)
    loading.run_torch(model, sample, opened.outputs)
    length = sample["input_ids"].shape[1]
    assert seen == [length] * (len(seen) - 1) + [min(tokens, length)]


def test_the_summed_head_carries_batch_norm_statistics(source: Callable[[str, str], loading.Source]) -> None:
    """Other statistics, other outputs: a rewrite that forgot them would still pass with fresh ones (0 and 1)."""
    opened = source("segformer", "plain")
    model = loading.float_model(opened)
    norm = model.decode_head.batch_norm
    assert (norm.running_mean.abs() > 0.01).any() and (norm.running_var - 1).abs().max() > 0.1
    head = opened.family.rewrites()["summed_decode_head"](model).decode_head
    names = {type(m).__name__ for m in head.modules()}
    assert "BatchNorm2d" not in names and "Linear" not in names


def test_a_head_of_another_form_is_kept(source: Callable[[str, str], loading.Source]) -> None:
    opened = source("segformer", "last stage as a sequence")
    model = loading.float_model(opened)
    head = model.decode_head
    assert opened.family.rewrites()["summed_decode_head"](model).decode_head is head


@pytest.mark.parametrize("family", families.names())
def test_the_stage_measures_and_writes_down_every_rewrite(
    family: str, source: Callable[[str, str], loading.Source], tmp_path: Path
) -> None:
    opened = source(family, next(iter(VARIANTS[family])))
    recipe = recipe_for(family, tmp_path, opened.folder, tmp_path)
    model, proofs = prove_rewrites(opened, recipe, loading.float_model(opened))
    assert [p["name"] for p in proofs] == list(opened.family.rewrites())
    assert all(0 <= p["relative"] <= 1e-5 < EXACT for p in proofs)
    json.dumps(proofs)
    sample = inputs(opened, tmp_path, 2)
    expected = loading.run_torch(loading.rewritten_model(opened, recipe), sample, opened.outputs)
    assert difference(expected, loading.run_torch(model, sample, opened.outputs)) == 0


@pytest.mark.parametrize("family", families.names())
@pytest.mark.parametrize("fault", ["weight", "nan"])
def test_a_rewrite_that_is_not_exact_is_caught(
    family: str,
    fault: str,
    source: Callable[[str, str], loading.Source],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = source(family, next(iter(VARIANTS[family])))

    def wrong(model: torch.nn.Module) -> torch.nn.Module:
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, torch.nn.Linear):
                    module.weight.mul_(1.01 if fault == "weight" else float("nan"))
        return model

    monkeypatch.setattr(opened.family, "rewrites", lambda: {"wrong": wrong})
    with pytest.raises(RuntimeError, match="the rewrite wrong changed the outputs"):
        prove_rewrites(opened, recipe_for(family, tmp_path, opened.folder, tmp_path), loading.float_model(opened))


@pytest.fixture(scope="module")
def ill_conditioned(tmp_path_factory: pytest.TempPathFactory) -> loading.Source:
    """A BERT whose logits are what is left of large sums: what LayerNorm returns sums to 0, and each of its channels is
    weighed a thousand times.
    """
    folder = tmp_path_factory.mktemp("rewrites") / "checkpoint"
    tiny.bert(folder, **VARIANTS["bert"]["heads of 20"])
    weights = load_file(folder / "model.safetensors")
    bias = "bert.encoder.layer.1.output.LayerNorm.bias"
    weights[bias] -= weights[bias].mean()
    weights["qa_outputs.weight"] += 1000
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return loading.open_source(recipe_for("bert", folder, folder, folder))


def test_a_rewrite_differs_as_much_as_float32_leaves_open(
    ill_conditioned: loading.Source, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = recipe_for("bert", tmp_path, ill_conditioned.folder, tmp_path)
    with caplog.at_level(logging.WARNING, "pipeline"):  # whatever level other tests leave the root logger at
        _, (unchanged, folded) = prove_rewrites(ill_conditioned, recipe, loading.float_model(ill_conditioned))
    assert unchanged == {"name": "last_layer_of_first_token", "max_abs_diff": 0, "relative": 0}
    assert folded["relative"] > EXACT and folded["float32"] > EXACT
    assert folded["rewritten"] <= LOSS * folded["float32"]
    assert "the rewrite folded_attention_scale changed the outputs by" in caplog.text


def test_float32_is_no_excuse_for_a_wrong_rewrite(
    ill_conditioned: loading.Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(model: torch.nn.Module) -> torch.nn.Module:
        """Multiplies the scale into the projection and leaves it where it was."""
        before = [(m, m.scaling) for m in model.modules() if hasattr(m, "scaling")]
        assert before
        for module, scaling in before:
            with torch.no_grad():
                module.query.weight.mul_(scaling)
                module.query.bias.mul_(scaling)
        return model

    monkeypatch.setattr(ill_conditioned.family, "rewrites", lambda: {"wrong": twice})
    recipe, model = recipe_for("bert", tmp_path, ill_conditioned.folder, tmp_path), loading.float_model(ill_conditioned)
    with pytest.raises(RuntimeError, match=r"the rewrite wrong changed the outputs by .* from float64 where the"):
        prove_rewrites(ill_conditioned, recipe, model)

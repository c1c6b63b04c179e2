"""The scores of language models against scikit-learn and torch, and what cannot be judged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.tasks import _tokens

NAMES = np.array([f"t{i}" for i in range(20)])


def made(seed: int = 0, right: float = 0.7) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns outputs and labels of 12 texts of 10 places, a third of them judged."""
    rng = np.random.default_rng(seed)
    label = np.where(rng.random((12, 10)) < 0.3, rng.integers(0, 20, (12, 10)), _tokens.IGNORED)
    label[:, 0] = rng.integers(0, 20, 12)
    logits = rng.standard_normal((12, 10, 20)).astype(np.float32)
    hit = np.eye(20, dtype=np.float32)[np.maximum(label, 0)] * (rng.random((12, 10, 1)) < right) * 9
    texts = np.array([f"text {i}" for i in range(12)])
    return {"logits": logits + hit}, {"label": label, "text": texts, "vocabulary": NAMES}


@pytest.mark.parametrize("seed", range(3))
def test_accuracy_is_that_of_scikit_learn(seed: int) -> None:
    from sklearn.metrics import accuracy_score

    outputs, labels = made(seed)
    at = labels["label"] != _tokens.IGNORED
    found = _tokens.predict(outputs, labels)
    assert [len(row) for row in found] == at.sum(1).tolist()
    expected = accuracy_score(labels["label"][at], outputs["logits"].argmax(-1)[at])
    assert _tokens.score(found, labels) == pytest.approx(expected)
    assert _tokens.judged(outputs, labels)["logits"].shape == (at.sum(), 20)


@pytest.mark.parametrize("scale", [1, 1e3], ids=["usual", "large logits"])
def test_perplexity_is_that_of_torchs_cross_entropy(scale: float) -> None:
    import torch

    outputs, labels = made()
    outputs["logits"] *= np.float32(scale)
    loss = torch.nn.functional.cross_entropy(
        torch.from_numpy(outputs["logits"]).double().reshape(-1, 20), torch.from_numpy(labels["label"]).reshape(-1)
    )
    if scale == 1:
        assert _tokens.further(outputs, labels)["perplexity"] == pytest.approx(float(loss.exp()))
    else:  # beyond what a float holds
        with np.errstate(over="ignore"):
            assert _tokens.further(outputs, labels)["perplexity"] == pytest.approx(float(loss.exp()), rel=1e-6)


def test_without_a_judged_place_there_is_no_perplexity() -> None:
    outputs, labels = made()
    labels["label"][:] = _tokens.IGNORED
    assert _tokens.further(outputs, labels) == {}
    assert _tokens.unjudgeable(labels) == "no text has a token to predict"


def test_chance_is_one_token_at_every_place() -> None:
    outputs, labels = made()
    labels["label"][labels["label"] != _tokens.IGNORED] = 3
    labels["label"][:4, 0] = 7
    found = _tokens.predict(outputs, labels)
    chance = _tokens.chance(found, labels, _tokens.tally(found, labels))
    (commonest, *_) = chance.items()
    truth = labels["label"][labels["label"] != _tokens.IGNORED]
    assert commonest[0] == "'t3' at every place"
    assert float(_tokens.metric(commonest[1].mean(0))) == pytest.approx((truth == 3).mean())


def test_one_token_alone_judges_nothing() -> None:
    _, labels = made()
    labels["label"][labels["label"] != _tokens.IGNORED] = 3
    assert _tokens.unjudgeable(labels) == "'t3' is right at every place"


def test_examples_show_tokens_by_their_names() -> None:
    outputs, labels = made()
    found = _tokens.predict(outputs, labels)
    other: list[Any] = [row.copy() for row in found]
    other[5][0] = (other[5][0] + 1) % 20
    rows = _tokens.examples({}, labels, found, other, 3)
    assert len(rows) == 3 and rows[0]["text"] == "text 5" and rows[0]["float"] != rows[0]["engine"]
    assert _tokens.agreement(found, other) == pytest.approx(1 - 1 / sum(map(len, found)))


def test_the_likeliest_tokens_have_the_probabilities_of_a_softmax() -> None:
    import torch

    outputs, labels = made()
    found = _tokens.likeliest(outputs["logits"][0, 0], labels)
    chances = torch.softmax(torch.from_numpy(outputs["logits"][0, 0]).double(), 0).numpy()
    assert [token["score"] for token in found] == pytest.approx(np.sort(chances)[::-1][: _tokens.SHOWN])
    assert [chances[NAMES.tolist().index(t["token"])] for t in found] == pytest.approx([t["score"] for t in found])

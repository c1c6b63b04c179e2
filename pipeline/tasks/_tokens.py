"""Language models: the token that each of some places should have, scored by accuracy and perplexity.

`label` [N, S] is a token's id at the places that are judged, IGNORED at all others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.checkpoint.reading import read_config
from pipeline.tasks import Arrays, _defaults, _files, _tables, _text, take

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

    from pipeline.recipe import Recipe

METRIC = "accuracy"
AGREEMENT = 0.9  # likeliest tokens: of a whole vocabulary, two are often almost equally likely
# few to judge by: the scores of every token of a vocabulary at every place are stored, 16 MB a text for BERT's at 128
SAMPLES = {"calibration": 64, "selection": 16, "evaluation": 32}
IGNORED = -100  # as in PyTorch's cross entropy
SHOWN = 5  # likeliest tokens of an answer


def samples(recipe: Recipe, config: dict[str, Any], split: str, count: int, *, folder: Path) -> list[str]:
    """Returns texts, from a file of lines, a table or JSON (labels are ignored), or from the generated passages."""
    if recipe.data is None:
        return _text.sentences(split, count)
    return take(list(dict.fromkeys(_tables.read_texts(_files.located(recipe.data)))), split, recipe, SAMPLES)


def judged(outputs: Arrays, labels: Arrays) -> Arrays:
    """Returns the logits at the judged places [places, V]."""
    return {name: value[labels["label"] != IGNORED] for name, value in outputs.items()}


def predict(outputs: Arrays, labels: Arrays) -> list[np.ndarray]:
    """Returns the likeliest token's id at every judged place of every text."""
    return [row[at].argmax(-1) for row, at in zip(outputs["logits"], labels["label"] != IGNORED, strict=True)]


def score(predictions: Sequence[np.ndarray], labels: Arrays) -> float:
    """Returns the share of judged places whose token is right."""
    return float(metric(tally(predictions, labels).mean(0)))


def tally(predictions: Sequence[np.ndarray], labels: Arrays) -> np.ndarray:
    """Returns of every text the places that are right, and all that are judged [N, 2]."""
    truth = _truth(labels)
    return np.array([[(p == t).sum(), len(t)] for p, t in zip(predictions, truth, strict=True)], dtype=np.float64)


def _truth(labels: Arrays) -> list[np.ndarray]:
    return [row[row != IGNORED] for row in labels["label"]]


def metric(means: np.ndarray) -> np.ndarray:
    """Returns the accuracy [...] of mean counts [..., 2]; 0 where no place is judged."""
    places = means[..., 1]
    return np.asarray(np.divide(means[..., 0], places, out=np.zeros_like(places), where=places > 0))


def further(outputs: Arrays, labels: Arrays) -> dict[str, float]:
    """Returns the perplexity: e to the mean negative log-likelihood, in nats, of the right tokens.

    Of masked tokens it is that of Devlin et al. (arXiv:1810.04805, table 6), each given all others that are not masked.
    """
    surprise: list[float] = []
    for logits, label in zip(outputs["logits"], labels["label"], strict=True):
        at = label != IGNORED
        scores = logits[at].astype(np.float64)
        top = scores.max(-1, keepdims=True)
        total = top[:, 0] + np.log(np.exp(scores - top).sum(-1))
        surprise += (total - np.take_along_axis(scores, label[at][:, None], 1)[:, 0]).tolist()
    return {"perplexity": float(np.exp(np.mean(surprise)))} if surprise else {}


def chance(predictions: Sequence[np.ndarray], labels: Arrays, own: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the tallies of one token at every place: the commonest of the texts, and of the model's own answers."""
    truth, names = _truth(labels), labels["vocabulary"]
    found = {}
    for what, rows in (("", truth), ("its own ", predictions)):
        token = int(np.bincount(np.concatenate(rows)).argmax())
        found[f"{what}{str(names[token])!r} at every place"] = tally(
            [np.full(len(row), token) for row in truth], labels
        )
    return found


def unjudgeable(labels: Arrays) -> str | None:
    """Returns that one token is right everywhere, None where there are several to tell apart."""
    found = np.unique(labels["label"][labels["label"] != IGNORED])
    if not len(found):
        return "no text has a token to predict"
    return None if len(found) > 1 else f"{str(labels['vocabulary'][found[0]])!r} is right at every place"


def agreement(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> float:
    """Returns the share of judged places with the same likeliest token."""
    return float(np.mean(np.concatenate([x == y for x, y in zip(a, b, strict=True)])))


def examples(
    inputs: Arrays, labels: Arrays, reference: Sequence[np.ndarray], engine: Sequence[np.ndarray], limit: int
) -> list[dict[str, Any]]:
    """Returns texts with the right tokens and both models', those that differ first."""
    names = labels["vocabulary"]
    rows = []
    for text, *tokens in zip(labels["text"], _truth(labels), reference, engine, strict=True):
        shown = [" ".join(str(name) for name in names[ids]) for ids in tokens]
        rows.append({"text": str(text), **dict(zip(("label", "float", "engine"), shown, strict=True))})
    return _defaults.differing_first(rows, limit)


def labels_of(tokenizer: Tokenizer, folder: Path, texts: Sequence[str], label: np.ndarray) -> Arrays:
    """Returns the labels of texts: `label`, `text` [N], and `vocabulary` [V] of as many ids as config.json says."""
    size = read_config(folder).get("vocab_size", 30522)
    return {"label": label, "text": np.array(texts), "vocabulary": vocabulary(tokenizer, size)}


def vocabulary(tokenizer: Tokenizer, size: int) -> np.ndarray:
    """Returns the token of every id [V]; `#7` where the tokenizer has none."""
    return np.array([tokenizer.id_to_token(i) or f"#{i}" for i in range(size)])


def likeliest(logits: np.ndarray, labels: Arrays) -> list[dict[str, Any]]:
    """Returns the SHOWN likeliest tokens of logits [V] as {token, score}; score: their probability."""
    chances = np.exp(logits.astype(np.float64) - logits.max())
    chances /= chances.sum()
    best = np.argsort(-chances, kind="stable")[:SHOWN]
    return [{"token": str(labels["vocabulary"][i]), "score": float(chances[i])} for i in best]

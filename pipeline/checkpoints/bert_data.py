"""The tokenizer of the embedded BERT and its training batches, drawn as training goes."""

import itertools
import random
import string
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import BertTokenizer, PreTrainedTokenizerBase

from calibration.samples.passages import Question, passages
from calibration.samples.seeds import TRAIN_SEED

VOCABULARY = 4096
MAX_LENGTH = 192
# Spans of a question that the auxiliary heads find; see `calibration.samples.passages.Question`.
MARKS = ("evidence", "about", "anchors", "rivals")


def prepare_tokenizer(output: Path) -> PreTrainedTokenizerBase:
    """Returns a lower-casing WordPiece tokenizer, saved in `output`, with the vocabulary found there or a new one.

    The trainer breaks ties between equally frequent pieces differently in every run: only a kept vocabulary repeats a
    training exactly.
    """
    output.mkdir(parents=True, exist_ok=True)
    if not (output / "vocab.txt").exists():
        _learn_vocabulary(output)
    tokenizer = BertTokenizer(vocab=str(output / "vocab.txt"), do_lower_case=True, model_max_length=512)
    tokenizer.save_pretrained(output)
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer


def _learn_vocabulary(output: Path, passages_read: int = 8000) -> None:
    """Writes vocab.txt, learnt from training passages."""
    from tokenizers import BertWordPieceTokenizer

    learner = BertWordPieceTokenizer(lowercase=True)
    drawn = itertools.islice(passages(TRAIN_SEED), passages_read)
    texts = (text for passage in drawn for text in (passage.text, *(q.text for q in passage.questions)))
    # With the characters that passages lack, other text is not full of unknown words.
    alphabet = [character for character in string.printable if not (character.isspace() or character.isupper())]
    learner.train_from_iterator(texts, vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    learner.save_model(str(output))


def batches(
    tokenizer: PreTrainedTokenizerBase, seed: int, facts: tuple[int, int], size: int
) -> Iterator[dict[str, Tensor]]:
    """Yields encoded batches without end, each of passages of about the same length."""
    shuffler = random.Random(f"batches/{seed}")
    stream = ((passage.text, question) for passage in passages(seed, facts) for question in passage.questions)
    while True:
        pool = list(itertools.islice(stream, 16 * size))
        pool.sort(key=lambda pair: len(pair[0]))
        groups = [pool[at : at + size] for at in range(0, len(pool), size)]
        shuffler.shuffle(groups)
        yield from (encode(tokenizer, group) for group in groups)


def encode(tokenizer: PreTrainedTokenizerBase, pairs: list[tuple[str, Question]]) -> dict[str, Tensor]:
    """Returns model inputs [B, S], the answer's first and last token [B], passage tokens [B, S], marks [B, S, M]."""
    encoded = tokenizer(
        [question.text for _, question in pairs], [text for text, _ in pairs], truncation="only_second",
        max_length=MAX_LENGTH, padding=True, return_offsets_mapping=True, return_tensors="pt",
    )  # fmt: skip
    offsets = encoded.pop("offset_mapping")
    inside = torch.tensor([[part == 1 for part in encoded.sequence_ids(row)] for row in range(len(pairs))])
    starts = torch.tensor([[question.start] for _, question in pairs])
    ends = torch.tensor([[question.start + len(question.answer)] for _, question in pairs])
    marks = torch.zeros(*inside.shape, len(MARKS))
    for row, (_, question) in enumerate(pairs):
        for column, name in enumerate(MARKS):
            for start, end in getattr(question, name):
                marks[row, (offsets[row, :, 0] >= start) & (offsets[row, :, 1] <= end), column] = 1
    return {
        **encoded,
        "start_positions": ((offsets[..., 0] == starts) & inside).int().argmax(1),
        "end_positions": ((offsets[..., 1] == ends) & inside).int().argmax(1),
        "inside": inside,
        "marks": marks,
    }

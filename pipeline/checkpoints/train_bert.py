"""Trains the embedded BERT for extractive question answering from scratch, on passages drawn as it goes.

    python -m pipeline.checkpoints.train_bert --output pipeline/checkpoints/bert

Three things make reading appear within minutes instead of hours: passages grow from a few facts to full size;
auxiliary losses ask every passage token of the upper layers whether it belongs to what the question names, to the
answering sentence and so on (their heads are thrown away); and some heads start out attending to equal tokens or
to neighbours (`bert_model.py`).
"""

import argparse
import itertools
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import tokenizers
import torch
import transformers
from torch import Tensor, nn
from transformers import BertForQuestionAnswering, PreTrainedTokenizerBase

from calibration.passages import EVALUATION_SEED, FULL_SIZE, TRAIN_SEED, generate_squad
from pipeline.checkpoints.bert_data import MARKS, MAX_LENGTH, batches, prepare_tokenizer
from pipeline.checkpoints.bert_model import build_model
from pipeline.checkpoints.bert_score import flatten, predict, score

logger = logging.getLogger(__name__)

EVALUATION_QUESTIONS = 1000
# (share of the steps, facts in a passage)
CURRICULUM = ((0.4, (2, 4)), (0.2, (4, 7)), (0.4, FULL_SIZE))
MARKED_LAYERS = (2, 3, 4)  # carry auxiliary heads


def train(arguments: argparse.Namespace) -> BertForQuestionAnswering:
    """The trained model; saves it every `--save-every` steps, too."""
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    tokenizer = prepare_tokenizer(arguments.output)
    model = build_model(len(tokenizer))
    mark_heads = nn.ModuleList(nn.Linear(model.config.hidden_size, len(MARKS)) for _ in MARKED_LAYERS)
    optimizer = torch.optim.AdamW(
        [*model.parameters(), *mark_heads.parameters()], lr=arguments.learning_rate, betas=(0.9, 0.98)
    )
    warmup = min(300, arguments.steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, (arguments.steps - step) / (arguments.steps - warmup)),
    )
    shown = torch.zeros(2)
    for step, batch in enumerate(_curriculum(tokenizer, arguments), start=1):
        span, marked = losses(model, mark_heads, batch)
        (span + 2 * marked).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        shown += torch.stack((span, marked)).detach()
        if step % 50 == 0:
            logger.info("step %d, span loss %.3f, mark loss %.3f", step, shown[0] / 50, shown[1] / 50)
            shown.zero_()
        if step % arguments.save_every == 0:
            save(model, arguments.output)
            logger.info("step %d, %s", step, evaluate(arguments.output, 200))
    return model


def _curriculum(
    tokenizer: PreTrainedTokenizerBase, arguments: argparse.Namespace
) -> Iterator[dict[str, Tensor]]:
    ends = list(itertools.accumulate(round(share * arguments.steps) for share, _ in CURRICULUM))
    ends[-1] = arguments.steps
    done = 0
    for number, (end, (_, facts)) in enumerate(zip(ends, CURRICULUM, strict=True)):
        source = batches(tokenizer, TRAIN_SEED + arguments.seed + number, facts, arguments.batch)
        yield from itertools.islice(source, end - done)
        done = end


def losses(
    model: BertForQuestionAnswering, mark_heads: nn.ModuleList, batch: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """The span loss, and the mean loss of the auxiliary heads."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.bert(**inputs, output_hidden_states=True).hidden_states  # layers + 1 of [B, S, H]
    inside = batch["inside"]
    logits = model.qa_outputs(hidden[-1].float()).masked_fill(~inside[..., None], -1e4)  # [B, S, 2]
    start = nn.functional.cross_entropy(logits[..., 0], batch["start_positions"])
    end = nn.functional.cross_entropy(logits[..., 1], batch["end_positions"])
    found = torch.stack([
        nn.functional.binary_cross_entropy_with_logits(
            head(hidden[layer].float()[inside]), batch["marks"][inside], pos_weight=torch.tensor(3.0)
        )
        for layer, head in zip(MARKED_LAYERS, mark_heads, strict=True)
    ])
    return (start + end) / 2, found.mean()


def save(model: BertForQuestionAnswering, output: Path) -> None:
    """Nothing; writes config.json and the weights in fp16, at half the bytes, without touching the model."""
    weights = {name: tensor.half() for name, tensor in model.state_dict().items()}
    copy = BertForQuestionAnswering(model.config).half()
    copy.load_state_dict(weights)
    copy.save_pretrained(output)


def evaluate(output: Path, questions: int) -> dict[str, float]:
    """F1 and exact match of the saved checkpoint on held-out questions, and F1 with blank questions."""
    examples = flatten(generate_squad(EVALUATION_SEED, questions))
    blank = [("", context, answers) for _, context, answers in examples]
    scores = score(predict(output, examples, MAX_LENGTH), examples)
    return {**scores, "f1_without_question": score(predict(output, blank, MAX_LENGTH), blank)["f1"]}


def main() -> None:
    """Nothing; trains, evaluates the saved file and writes score.json beside it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="directory of the checkpoint")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=7e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save-every", type=int, default=1000, help="steps between saved checkpoints")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    began = time.monotonic()
    save(train(arguments), arguments.output)
    seconds = time.monotonic() - began
    write_score(arguments, round(seconds))


def write_score(arguments: argparse.Namespace, seconds: int) -> None:
    """Nothing; evaluates the saved checkpoint and writes score.json."""
    scores = evaluate(arguments.output, EVALUATION_QUESTIONS)
    record = {
        "metric": "f1",
        "value": scores["f1"],
        "em": scores["em"],
        "f1_without_question": scores["f1_without_question"],
        "samples": EVALUATION_QUESTIONS,
        "max_length": MAX_LENGTH,
        "seeds": {"training": arguments.seed, "train_data": TRAIN_SEED, "evaluation_data": EVALUATION_SEED},
        "steps": arguments.steps,
        "batch": arguments.batch,
        "seconds": seconds,
        "command": " ".join(["python -m pipeline.checkpoints.train_bert --output DIRECTORY", *_options(arguments)]),
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, tokenizers)},
    }
    (arguments.output / "score.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    logger.info("%s", record)


def _options(arguments: argparse.Namespace) -> list[str]:
    """The options that decide the result, as they are typed."""
    names = ("steps", "batch", "learning_rate", "seed", "threads")
    return [f"--{name.replace('_', '-')} {getattr(arguments, name)}" for name in names]


if __name__ == "__main__":
    main()

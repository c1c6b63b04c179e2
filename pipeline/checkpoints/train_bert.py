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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import tokenizers
import torch
import transformers
from torch import Tensor, nn
from transformers import BertForQuestionAnswering, PreTrainedTokenizerBase

from calibration.samples.passages import FULL_SIZE, generate_squad
from calibration.samples.seeds import EVALUATION_SEED, TRAIN_SEED
from pipeline.checkpoints.bert_data import MARKS, MAX_LENGTH, batches, prepare_tokenizer
from pipeline.checkpoints.bert_model import build_model
from pipeline.checkpoints.bert_score import flatten, predict, score

logger = logging.getLogger(__name__)

BATCH = 16
EVALUATION_QUESTIONS = 1000
MARKED_LAYERS = (2, 3, 4)  # carry auxiliary heads


@dataclass(frozen=True)
class Stage:
    """A part of the training; the first starts from `build_model`, a later one from the saved checkpoint."""

    phases: tuple[tuple[tuple[int, int], int], ...]  # (facts in a passage, steps)
    learning_rate: float  # after the warm-up
    warmup: int  # steps
    horizon: int  # the step at which the falling learning rate would be zero
    seed: int

    @property
    def steps(self) -> int:
        """Returns the steps of all phases."""
        return sum(steps for _, steps in self.phases)


STAGES = (
    Stage(phases=(((2, 4), 1500),), learning_rate=7e-4, warmup=300, horizon=5000, seed=0),
    Stage(phases=(((4, 7), 500), (FULL_SIZE, 1700)), learning_rate=5e-4, warmup=100, horizon=2200, seed=1),
)


def train(model: BertForQuestionAnswering, tokenizer: PreTrainedTokenizerBase, stage: Stage, output: Path) -> None:
    """Trains the model in place through one stage, and saves it every 500 steps."""
    mark_heads = nn.ModuleList(nn.Linear(model.config.hidden_size, len(MARKS)) for _ in MARKED_LAYERS)
    parameters = [*model.parameters(), *mark_heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=stage.learning_rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / stage.warmup, (stage.horizon - step) / (stage.horizon - stage.warmup)),
    )
    model.train()
    shown = torch.zeros(2)
    for step, batch in enumerate(stage_batches(tokenizer, stage), start=1):
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
        if step % 500 == 0:
            save(model, output)
            logger.info("step %d, %s", step, evaluate(output, 200))


def stage_batches(tokenizer: PreTrainedTokenizerBase, stage: Stage) -> Iterator[dict[str, Tensor]]:
    """Yields the batches of the stage's phases, one phase after the other."""
    for number, (facts, steps) in enumerate(stage.phases):
        source = batches(tokenizer, TRAIN_SEED + stage.seed + number, facts, BATCH)
        yield from itertools.islice(source, steps)


def losses(
    model: BertForQuestionAnswering, mark_heads: nn.ModuleList, batch: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Returns the span loss and the mean loss of the auxiliary heads."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.bert(**inputs, output_hidden_states=True).hidden_states  # layers + 1 of [B, S, H]
    inside = batch["inside"]
    logits = model.qa_outputs(hidden[-1].float()).masked_fill(~inside[..., None], -1e4)  # [B, S, 2]
    start = nn.functional.cross_entropy(logits[..., 0], batch["start_positions"])
    end = nn.functional.cross_entropy(logits[..., 1], batch["end_positions"])
    marked = torch.stack(
        [
            nn.functional.binary_cross_entropy_with_logits(
                head(hidden[layer].float()[inside]), batch["marks"][inside], pos_weight=torch.tensor(3.0)
            )
            for layer, head in zip(MARKED_LAYERS, mark_heads, strict=True)
        ]
    )
    return (start + end) / 2, marked.mean()


def save(model: BertForQuestionAnswering, output: Path) -> None:
    """Writes config.json and the weights in fp16, at half the bytes, without touching the model."""
    weights = {name: tensor.half() for name, tensor in model.state_dict().items()}
    copy = BertForQuestionAnswering(model.config).half()
    copy.load_state_dict(weights)
    copy.save_pretrained(output)


def evaluate(output: Path, questions: int) -> dict[str, float]:
    """Returns F1 and exact match of the saved checkpoint on held-out questions, and F1 with blank questions."""
    examples = flatten(generate_squad(EVALUATION_SEED, questions))
    blank = [("", context, answers) for _, context, answers in examples]
    scores = score(predict(output, examples, MAX_LENGTH), examples)
    return {**scores, "f1_without_question": score(predict(output, blank, MAX_LENGTH), blank)["f1"]}


def main() -> None:
    """Trains, evaluates the saved file after every stage and writes score.json beside it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="directory of the checkpoint")
    parser.add_argument(
        "--from-stage", type=int, default=0, choices=range(len(STAGES)), help="resume from the checkpoint in --output"
    )
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(arguments.threads)
    tokenizer = prepare_tokenizer(arguments.output)
    for number, stage in list(enumerate(STAGES))[arguments.from_stage :]:
        began = time.monotonic()
        torch.manual_seed(stage.seed)
        # A later stage starts from the saved file, so that resuming is the same as one run through all stages.
        model = load(arguments.output) if number else build_model(len(tokenizer))
        train(model, tokenizer, stage, arguments.output)
        save(model, arguments.output)
        write_score(arguments.output, number, round(time.monotonic() - began))


def load(output: Path) -> BertForQuestionAnswering:
    """Returns the saved checkpoint in float32."""
    model = BertForQuestionAnswering.from_pretrained(output, dtype=torch.float32)
    assert isinstance(model, BertForQuestionAnswering)
    return model


def write_score(output: Path, number: int, seconds: int) -> None:
    """Evaluates the checkpoint after stage `number`, which took `seconds`, and writes score.json."""
    path = output / "score.json"
    earlier: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["stages"] if number else []
    scores = evaluate(output, EVALUATION_QUESTIONS)
    record = {
        "metric": "f1",
        "value": scores["f1"],
        "em": scores["em"],
        "f1_without_question": scores["f1_without_question"],
        "samples": EVALUATION_QUESTIONS,
        "max_length": MAX_LENGTH,
        "seeds": {"train_data": TRAIN_SEED, "evaluation_data": EVALUATION_SEED},
        "steps": sum(stage.steps for stage in STAGES[: number + 1]),
        "batch": BATCH,
        "stages": [*earlier, {"seed": STAGES[number].seed, "steps": STAGES[number].steps, "seconds": seconds}],
        "seconds": sum(stage["seconds"] for stage in earlier) + seconds,
        "command": "python -m pipeline.checkpoints.train_bert --output DIRECTORY",
        "versions": {module.__name__: module.__version__ for module in (torch, transformers, tokenizers)},
    }
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    logger.info("%s", record)


if __name__ == "__main__":
    main()

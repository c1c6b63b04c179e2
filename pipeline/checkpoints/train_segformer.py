"""Trains the embedded SegFormer-B0 on drawn scenes and writes its checkpoint and score.

    python -m pipeline.checkpoints.train_segformer --cache CACHE

The seed fixes the initial weights, the scenes, the crops and their order. The score is that of the file: the
fp16 weights are read back and evaluated in float32 at 512 x 512 on scenes that training never saw.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

from calibration.samples.scenes import CLASSES
from pipeline.checkpoints.segformer_data import MEAN, SIZE, STD, Pool, batches, scene_pool
from pipeline.checkpoints.segformer_score import FOLDER, score

# (crop side, batch, steps): cheap small crops first, whole scenes last, as evaluation sees them
PHASES = ((128, 16, 800), (256, 4, 2300), (512, 2, 500))
PEAK_RATE, WARM_UP, DECAY = 8e-4, 20, 0.99

log = logging.getLogger(__name__)


def new_model() -> SegformerForSemanticSegmentation:
    """Returns SegFormer-B0 with random weights (Xie et al., "SegFormer", 2021, table 6)."""
    config = SegformerConfig(
        num_encoder_blocks=4,
        depths=[2, 2, 2, 2],
        sr_ratios=[8, 4, 2, 1],
        hidden_sizes=[32, 64, 160, 256],
        num_attention_heads=[1, 2, 5, 8],
        mlp_ratios=[4, 4, 4, 4],
        decoder_hidden_size=256,
        drop_path_rate=0.0,
        classifier_dropout_prob=0.0,
        id2label=dict(enumerate(CLASSES)),
        label2id={name: index for index, name in enumerate(CLASSES)},
    )
    model = SegformerForSemanticSegmentation(config)
    for module in model.modules():
        # transformers draws convolutions with deviation 0.02, which all but mutes the depthwise ones; the
        # paper's code scales by fan-out (He et al., 2015).
        if isinstance(module, torch.nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            torch.nn.init.normal_(module.weight, 0, (2 / fan_out) ** 0.5)
    return model


def logits_of(model: SegformerForSemanticSegmentation, pixels: torch.Tensor) -> torch.Tensor:
    """Returns logits [B, C, H/4, W/4], computed as the model does but cheaper.

    A 1x1 convolution commutes with bilinear upsampling, so each stage is projected and fused at its own
    resolution instead of after upsampling 1024 channels: the same function and gradients at half the cost.
    """
    stages = model.segformer(pixels, output_hidden_states=True).hidden_states
    head: Any = model.decode_head
    width = head.config.decoder_hidden_size
    fused = None
    for index, (stage, projection) in enumerate(zip(stages, head.linear_projections, strict=True)):
        at = (len(stages) - 1 - index) * width  # the head concatenates the deepest stage first
        mix = head.linear_fuse.weight[:, at : at + width, 0, 0]
        proj = projection.proj
        part = F.conv2d(stage, (mix @ proj.weight)[:, :, None, None], mix @ proj.bias)
        if index > 0:
            part = F.interpolate(part, size=stages[0].shape[2:], mode="bilinear", align_corners=False)
        fused = part if fused is None else fused + part
    result: torch.Tensor = head.classifier(head.activation(head.batch_norm(fused)))
    return result


def loss_of(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Returns cross-entropy at full resolution plus a soft Dice term that counts every class alike."""
    logits = F.interpolate(logits.float(), size=target.shape[1:], mode="bilinear", align_corners=False)
    cross = F.cross_entropy(logits, target)
    truth = F.one_hot(target, len(CLASSES)).permute(0, 3, 1, 2).float()
    share = logits.softmax(1)
    both, total = (share * truth).sum((0, 2, 3)), (share + truth).sum((0, 2, 3))
    present = truth.sum((0, 2, 3)) > 0
    return cross + 0.5 * (1 - (2 * both + 1) / (total + 1))[present].mean()


def rate_at(progress: float, step: int, peak: float = PEAK_RATE) -> float:
    """Returns the learning rate: linear warm-up, then a half cosine to zero at progress 1."""
    return peak * min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + float(np.cos(np.pi * min(progress, 1.0))))


def train(pool: Pool, seed: int, minutes: float, keep: Path, skip: int = 0, peak: float = PEAK_RATE) -> dict[str, Any]:
    """Returns the steps, phases and seconds of the run, after saving the averaged weights in the folder `keep`.

    A run ends after PHASES; `minutes` guards against a slow machine: a phase that exceeds its share of them is cut.
    With `skip`, the first phases count as done and their weights are read from `keep`.
    """
    torch.manual_seed(seed)
    model = new_model().train()
    if skip:
        model.load_state_dict(load_file(keep / "model.safetensors"))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY), use_buffers=True)  # type: ignore[no-untyped-call]
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.02)
    costs = [crop**2 * batch * steps for crop, batch, steps in PHASES]  # in pixels
    total, seen = sum(costs), sum(costs[:skip])
    started, step, before = time.monotonic(), 0, seen / total
    done: list[dict[str, int]] = []
    for number, (crop, batch, steps) in list(enumerate(PHASES))[skip:]:
        stream = batches(pool, batch, crop, seed * 100 + number)
        taken = 0
        while taken < steps:
            spent = before + (1 - before) * (time.monotonic() - started) / (60 * minutes)
            if spent >= sum(costs[: number + 1]) / total:
                break
            progress = max(seen / total, spent)
            for group in optimizer.param_groups:
                group["lr"] = rate_at(progress, step, peak)
            pixels, target = next(stream)
            with torch.autocast("cpu", torch.bfloat16):
                logits = logits_of(model, pixels)
            loss = loss_of(logits, target)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            average.update_parameters(model)
            step, taken, seen = step + 1, taken + 1, seen + crop**2 * batch
            if step % 20 == 0:
                log.info("step %d (%.0f%%) crop %d loss %.3f", step, 100 * progress, crop, loss.item())
            if step % 50 == 0:
                save(average.module, keep)
        done.append({"crop": crop, "batch": batch, "steps": taken})
    save(average.module, keep)
    return {"steps": step, "phases": done, "seconds": round(time.monotonic() - started)}


def save(model: SegformerForSemanticSegmentation, folder: Path) -> None:
    """Writes config.json, preprocessor_config.json and fp16 weights, as `save_pretrained` lays them out."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    SegformerImageProcessor(
        size={"height": SIZE, "width": SIZE},
        image_mean=list(MEAN),
        image_std=list(STD),
        do_reduce_labels=False,
    ).save_pretrained(folder)
    tensors = model.state_dict().items()
    state = {name: value.half() if value.is_floating_point() else value for name, value in tensors}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)8d ms  %(message)s", stream=sys.stderr)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="folder for drawn scenes, 1 MB each")
    parser.add_argument("--output", type=Path, default=FOLDER)
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=200, help="held-out scenes to score")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--minutes", type=float, default=240, help="cut training short after this long")
    parser.add_argument("--skip", type=int, default=0, help="phases already done, their weights in --output")
    parser.add_argument("--rate", type=float, default=PEAK_RATE, help="peak learning rate")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    took = train(
        scene_pool(options.cache, options.scenes),
        options.seed,
        options.minutes,
        options.output,
        options.skip,
        options.rate,
    )
    given = {name: value for name, value in vars(options).items() if name not in ("cache", "output")}
    took["command"] = "python -m pipeline.checkpoints.train_segformer --cache FOLDER " + " ".join(
        f"--{name} {value}" for name, value in given.items()
    )
    record = options.output / "score.json"
    earlier = json.loads(record.read_text(encoding="utf-8"))["training"]["runs"] if options.skip else []
    report = score(options.output, options.samples)
    runs = [*earlier, took]
    report["training"] = {
        "scenes": options.scenes,
        "seed": options.seed,
        "steps": sum(run["steps"] for run in runs),
        "seconds": sum(run["seconds"] for run in runs),
        "runs": runs,
    }
    report["versions"] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
    }
    record.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    log.info("%s %.4f, written to %s", report["metric"], report["value"], options.output)


if __name__ == "__main__":
    main()

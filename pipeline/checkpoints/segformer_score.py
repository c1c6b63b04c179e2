"""Scores a SegFormer checkpoint on drawn scenes.

python -m pipeline.checkpoints.segformer_score [FOLDER] [--samples 200] [--write]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from sklearn.metrics import confusion_matrix
from torch.nn import functional as F
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from calibration.samples.scenes import CLASSES, draw_scene
from calibration.samples.seeds import EVALUATION_SEED
from pipeline.checkpoints.segformer_data import SIZE, normalized

FOLDER = Path(__file__).parent / "segformer"


@torch.no_grad()
def score(folder: Path, samples: int, seed: int = EVALUATION_SEED) -> dict[str, Any]:
    """Returns mean IoU, per-class IoU and pixel accuracy of a checkpoint on `samples` scenes.

    The scenes are those of `seed` and the seeds after it. `first_scenes` is the pixel accuracy of the first
    eight alone: a few seconds tell whether a file is the one that was scored.
    """
    model = SegformerForSemanticSegmentation(SegformerConfig.from_pretrained(folder)).eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))  # fp16 values in float32 parameters
    counts = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    scenes: list[float] = []
    for index in range(samples):
        image, labels = draw_scene(seed + index, SIZE)
        pixels = normalized(torch.from_numpy(image).permute(2, 0, 1).float())[None]
        logits = F.interpolate(model(pixels).logits, (SIZE, SIZE), mode="bilinear", align_corners=False)
        predicted = logits.argmax(1).numpy()
        scenes.append(round(float((predicted == labels).mean()), 4))
        counts += confusion_matrix(labels.ravel(), predicted.ravel(), labels=range(len(CLASSES)))
    hits = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - hits
    each = {name: round(float(hits[i] / union[i]), 4) for i, name in enumerate(CLASSES)}
    return {
        "metric": "mIoU",
        "value": round(float(np.mean(hits / union)), 4),
        "per_class_iou": each,
        "pixel_accuracy": round(float(hits.sum() / counts.sum()), 4),
        "first_scenes": scenes[:8],
        "samples": samples,
        "seeds": [seed, seed + samples - 1],
        "size": SIZE,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    parser.add_argument("--samples", type=int, default=200, help="held-out scenes, from the first evaluation seed on")
    parser.add_argument("--write", action="store_true", help="put the result into score.json")
    options = parser.parse_args()
    report = score(options.folder, options.samples)
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    if options.write:
        path = options.folder / "score.json"
        before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        path.write_text(json.dumps(before | report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Crops of drawn scenes as SegFormer sees them in training."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from calibration.samples.scenes import draw_scene
from calibration.samples.seeds import TRAIN_SEED

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as every SegFormer checkpoint expects
SIZE = 512
Pool = tuple[NDArray[np.uint8], NDArray[np.uint8]]  # images [N, 512, 512, 3], labels [N, 512, 512]

log = logging.getLogger(__name__)


def scene_pool(cache: Path, count: int) -> Pool:
    """Returns memory-mapped scenes of the training seeds, drawn into `cache` once."""
    cache.mkdir(parents=True, exist_ok=True)
    paths = [cache / f"{name}-{count}.npy" for name in ("images", "labels", "drawn")]
    if not paths[2].exists():
        np.lib.format.open_memmap(paths[0], "w+", np.uint8, (count, SIZE, SIZE, 3))
        np.lib.format.open_memmap(paths[1], "w+", np.uint8, (count, SIZE, SIZE))
        np.save(paths[2], np.zeros((), np.int64))
    images, labels = np.load(paths[0], mmap_mode="r+"), np.load(paths[1], mmap_mode="r+")
    for index in range(int(np.load(paths[2])), count):
        images[index], labels[index] = draw_scene(TRAIN_SEED + index, SIZE)
        if index % 100 == 99 or index == count - 1:
            np.save(paths[2], np.int64(index + 1))
            log.info("drawn %d/%d", index + 1, count)
    return images, labels


def normalized(image: torch.Tensor) -> torch.Tensor:
    """Returns an image [3, H, W] of values 0 to 255 as the network expects it."""
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
    return (image / 255 - mean) / std


def batches(pool: Pool, batch: int, crop: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields crops [B, 3, crop, crop] and labels [B, crop, crop] without end: scaled, flipped, re-coloured."""
    images, labels = pool
    rng = np.random.Generator(np.random.PCG64(seed))
    order: list[int] = []
    while True:
        pixels, classes = [], []
        for _ in range(batch):
            order = order or list(rng.permutation(len(images)))
            index = order.pop()
            window = int(crop * rng.uniform(1, min(2.5, SIZE / crop)))
            y, x = rng.integers(SIZE - window + 1, size=2)
            part = np.s_[index, y : y + window, x : x + window]
            image = torch.from_numpy(np.array(images[part])).permute(2, 0, 1).float()
            target = torch.from_numpy(np.array(labels[part]))
            if window != crop:
                image = F.interpolate(image[None], (crop, crop), mode="bilinear", antialias=True)[0]
                target = F.interpolate(target[None, None], (crop, crop), mode="nearest-exact")[0, 0]
            if rng.random() < 0.5:
                image, target = image.flip(-1), target.flip(-1)
            gain = torch.from_numpy(rng.uniform(0.85, 1.15) * rng.uniform(0.94, 1.06, (3, 1, 1))).float()
            pixels.append(normalized((image * gain).clamp(0, 255)))
            classes.append(target.long())
        yield torch.stack(pixels), torch.stack(classes)

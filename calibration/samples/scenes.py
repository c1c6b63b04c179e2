"""Drawn street, country and coast scenes with the class of every pixel, to train and judge segmentation.

A seed decides everything: weather, camera, landscape, what stands where, the sensor. Far things are painted
before near ones, so occlusion is right by construction; palettes overlap between classes, so colour alone
does not tell them apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from calibration.samples import scene_cars, scene_figures, scene_objects
from calibration.samples import scene_ground as ground
from calibration.samples.scene_canvas import Canvas, Light, hsv

# class: its colour in overlays; a label is the position in this table
COLOURS: dict[str, tuple[int, int, int]] = {
    "sky": (110, 175, 230),
    "mountain": (140, 125, 150),
    "terrain": (150, 185, 90),
    "road": (95, 95, 105),
    "water": (40, 95, 185),
    "building": (205, 140, 90),
    "tree": (35, 120, 60),
    "fence": (190, 170, 60),
    "car": (220, 45, 60),
    "person": (250, 130, 190),
    "sign": (255, 220, 40),
    "boat": (130, 60, 190),
}
CLASSES: tuple[str, ...] = tuple(COLOURS)
PALETTE: tuple[tuple[int, int, int], ...] = tuple(COLOURS.values())

ID = {name: index for index, name in enumerate(CLASSES)}
Drawer = Callable[[Canvas, float, float, float, int], None]

# class: (drawer, smallest and largest pixels per metre at 512 x 512, the ground it stands on)
STANDING: dict[str, tuple[Drawer, float, float, tuple[str, ...]]] = {
    "building": (scene_objects.building, 7, 26, ("terrain",)),
    "tree": (scene_objects.tree, 9, 55, ("terrain",)),
    "fence": (scene_objects.fence, 20, 80, ("terrain",)),
    "car": (scene_cars.car, 15, 75, ("road", "road", "terrain")),
    "person": (scene_figures.person, 28, 170, ("road", "terrain")),
    "sign": (scene_figures.sign, 26, 110, ("terrain",)),
    "boat": (scene_figures.boat, 13, 48, ("water",)),
}
# theme: class → the most objects of it
CROWD: dict[str, dict[str, int]] = {
    "street": {"building": 9, "tree": 5, "fence": 1, "car": 7, "person": 7, "sign": 6},
    "country": {"building": 3, "tree": 10, "fence": 3, "car": 4, "person": 5, "sign": 4, "boat": 4},
    "coast": {"building": 4, "tree": 4, "fence": 2, "car": 4, "person": 5, "sign": 4, "boat": 9},
}


def draw_scene(seed: int, size: int = 512) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Returns the picture [size, size, 3] of a seed and its labels [size, size], indices into CLASSES."""
    rng = np.random.Generator(np.random.PCG64(seed))
    theme = str(rng.choice(list(CROWD), p=[0.37, 0.27, 0.36]))
    canvas = Canvas(rng, size, _weather(rng), horizon=rng.uniform(0.26, 0.56))
    ground.sky(canvas, ID["sky"])
    ground.mountains(canvas, ID["mountain"], int(rng.integers(0, 3 if theme == "street" else 4)))
    ground.plane(canvas, ID["terrain"])
    ground.water_and_roads(canvas, theme, ID["water"], ID["road"])
    _populate(canvas, theme, camera_height=rng.uniform(1.8, 6.5))
    return _expose(canvas), canvas.labels


def _weather(rng: np.random.Generator) -> Light:
    """Returns the light of a clear, overcast, hazy or low-sun day."""
    mood = str(rng.choice(["clear", "overcast", "haze", "low sun"], p=[0.45, 0.2, 0.12, 0.23]))
    sun = float(rng.choice([-1, 1]) * rng.uniform(0.2, 1))
    if mood == "clear":
        zenith = hsv(rng.uniform(0.55, 0.63), rng.uniform(0.4, 0.8), rng.uniform(0.55, 0.9))
        horizon = hsv(rng.uniform(0.52, 0.6), rng.uniform(0.05, 0.3), rng.uniform(0.82, 0.98))
        return Light(sun, rng.uniform(0.55, 1), rng.uniform(0.2, 0.8), rng.uniform(0.1, 0.35), horizon, zenith)
    if mood == "overcast":
        value = rng.uniform(0.5, 0.85)
        zenith, horizon = hsv(0.6, rng.uniform(0, 0.15), value), hsv(0.6, rng.uniform(0, 0.1), value + 0.12)
        return Light(sun, rng.uniform(0, 0.2), 0.1, rng.uniform(0.15, 0.45), horizon, zenith)
    if mood == "haze":
        horizon = hsv(rng.uniform(0.08, 0.6), rng.uniform(0, 0.15), rng.uniform(0.75, 0.95))
        return Light(
            sun,
            rng.uniform(0.1, 0.4),
            0.3,
            rng.uniform(0.5, 0.75),
            horizon,
            hsv(0.58, 0.2, rng.uniform(0.6, 0.85)),
        )
    horizon = hsv(rng.uniform(0.01, 0.12), rng.uniform(0.3, 0.65), rng.uniform(0.8, 0.98))
    zenith = hsv(rng.uniform(0.58, 0.78), rng.uniform(0.25, 0.6), rng.uniform(0.35, 0.65))
    return Light(sun, rng.uniform(0.3, 0.7), rng.uniform(0.6, 1.4), rng.uniform(0.15, 0.5), horizon, zenith)


def _populate(canvas: Canvas, theme: str, camera_height: float) -> None:
    """Stand objects on the ground that suits them and paint them from far to near."""
    rng, size, horizon = canvas.rng, canvas.size, canvas.horizon_px
    floor, unit = canvas.labels.copy(), canvas.size / 512
    standing: list[tuple[float, float, str]] = []
    for name, most in CROWD[theme].items():
        _, low, high, kinds = STANDING[name]
        nearest = min(horizon + high * unit * camera_height, size * 1.06)
        farthest = horizon + low * unit * camera_height
        for _ in range(int(rng.integers(0, most + 1)) if farthest < nearest else 0):
            for _attempt in range(8):  # a crowded or missing ground simply gets fewer objects
                y = farthest + (nearest - farthest) * rng.random() ** 1.6
                x = rng.uniform(-0.05, 1.05) * size
                metre = (y - horizon) / camera_height
                reach = metre * {"building": 6.0, "boat": 3.0, "fence": 1.0}.get(name, 0.3)
                if _stands_on(floor, x, y, reach, {ID[kind] for kind in kinds}):
                    standing.append((y, x, name))
                    break
    for y, x, name in sorted(standing):
        STANDING[name][0](canvas, x, y, (y - horizon) / camera_height, ID[name])


def _stands_on(floor: NDArray[np.uint8], x: float, y: float, reach: float, allowed: set[int]) -> bool:
    """Returns whether the ground from x - reach to x + reach is of an allowed class."""
    last = floor.shape[0] - 1
    row = min(int(y), last)
    return all(int(floor[row, min(max(int(u), 0), last)]) in allowed for u in (x - reach, x, x + reach))


def _expose(canvas: Canvas) -> NDArray[np.uint8]:
    """Returns the canvas as a sensor records it: white balance, exposure, vignette, blur and noise."""
    rng, size = canvas.rng, canvas.size
    warmth = rng.normal(0, 0.05)
    balance = np.array([1 + warmth, 1 + rng.normal(0, 0.015), 1 - warmth], np.float32) * np.float32(
        rng.uniform(0.72, 1.18)
    )
    offset = np.linspace(-1, 1, size, dtype=np.float32) ** 2
    vignette = 1 - np.float32(rng.uniform(0, 0.18)) * (offset[:, None] + offset[None, :]) / 2
    contrast = np.float32(rng.uniform(0.85, 1.15))
    image = canvas.image
    image *= vignette[..., None]
    image *= balance * contrast
    image += 118 * (1 - contrast)
    np.clip(image, 0, 255, out=image)
    blurred = Image.fromarray(image.astype(np.uint8)).filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.9) * size / 512))
    image = np.asarray(blurred, np.float32)
    read, shot = rng.uniform(0.5, 3.5), rng.uniform(0.02, 0.25)
    sigma = np.sqrt(image * np.float32(shot) + np.float32(read**2))
    sigma *= rng.standard_normal(image.shape, dtype=np.float32)
    sigma += image + np.float32(0.5)
    return np.asarray(np.clip(sigma, 0, 255, out=sigma), np.uint8)


def write_scenes(folder: str | Path, seeds: Iterable[int], size: int = 512) -> Path:
    """Returns the folder after writing images/*.png, masks/*.png (labels) and classes.json (names)."""
    folder = Path(folder)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        image, labels = draw_scene(seed, size)
        Image.fromarray(image).save(folder / "images" / f"{seed:07d}.png")
        Image.fromarray(labels).save(folder / "masks" / f"{seed:07d}.png")
    (folder / "classes.json").write_text(json.dumps(list(CLASSES), indent=1) + "\n", encoding="utf-8")
    return folder

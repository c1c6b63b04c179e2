"""What a drawn scene holds before anything stands in it: sky, mountains, ground, water and roads."""

from __future__ import annotations

import numpy as np
from PIL import Image

from calibration.samples.scene_canvas import FIELD, Array, Canvas, Colour, hsv

# ground cover: hue, saturation, value
SOILS = {
    "meadow": (0.27, 0.55, 0.5),
    "dry": (0.14, 0.5, 0.65),
    "soil": (0.07, 0.45, 0.42),
    "sand": (0.11, 0.3, 0.8),
    "gravel": (0.1, 0.07, 0.55),
    "snow": (0.58, 0.05, 0.92),
}
# road surface: hue, saturation, lowest and highest value
SURFACES = {
    "asphalt": (0.62, 0.05, 0.22, 0.5),
    "concrete": (0.1, 0.05, 0.55, 0.75),
    "dirt": (0.08, 0.35, 0.4, 0.65),
    "paving": (0.02, 0.3, 0.4, 0.6),
}


def _rgb(colour: Colour) -> Array:
    return np.array(colour, np.float32)


def _stretch(field: Array, height: int, width: int) -> Array:
    """Returns a window of a field resized smoothly to [height, width]."""
    return np.asarray(Image.fromarray(field).resize((width, height), Image.Resampling.BICUBIC), np.float32)


def _profile(canvas: Canvas, zoom: float) -> Array:
    """Returns a 1-D wobble [size] with unit variance: a row of the smooth field, `zoom` samples wide."""
    row = canvas.smooth[canvas.rng.integers(FIELD)]
    at = (canvas.rng.integers(FIELD) + np.linspace(0, zoom, canvas.size)) % FIELD
    wobble = np.interp(at, np.arange(FIELD + 1), np.append(row, row[0])).astype(np.float32)
    return np.asarray((wobble - wobble.mean()) / (wobble.std() + 1e-6), np.float32)


def _slope(field: Array, step: int) -> Array:
    """Returns how much a field [H, W] rises over `step` columns; the border continues outside."""
    cols = np.clip(np.arange(field.shape[1]) - step, 0, field.shape[1] - 1)
    return np.asarray(field - field[:, cols], np.float32)


def sky(canvas: Canvas, label: int) -> None:
    """Fill the picture above the horizon with a gradient, a glow around the sun and clouds."""
    rng, size, light = canvas.rng, canvas.size, canvas.light
    tall = int(canvas.horizon_px) + 2
    rows, cols = np.arange(tall, dtype=np.float32)[:, None], np.arange(size, dtype=np.float32)[None, :]
    down = (np.clip(rows / canvas.horizon_px, 0, 1) ** np.float32(0.8))[..., None]
    picture = canvas.image[:tall]
    picture[:] = _rgb(light.zenith) * (1 - down) + _rgb(light.horizon) * down
    if light.strength > 0.25:
        sun_x, sun_y = size * (0.5 + 0.5 * light.sun_x), canvas.horizon_px * rng.uniform(0.1, 0.7)
        far = np.hypot(cols - sun_x, rows - sun_y) / size
        glow = 0.75 * np.exp(far / -0.16) * light.strength
        picture += (255 - picture) * glow[..., None].astype(np.float32)
    height, width = int(rng.integers(60, 200)), int(rng.integers(60, 200))
    y0, x0 = rng.integers(FIELD - height), rng.integers(FIELD - width)
    billow = _stretch(canvas.smooth[y0 : y0 + height, x0 : x0 + width], tall, size)
    billow = billow + 0.15 * canvas.crop(canvas.middle, tall, size, zoom=256 / size)
    cover = np.clip((billow - rng.uniform(-0.6, 1.8)) * rng.uniform(0.5, 1.2), 0, 1) * rng.uniform(0.5, 1)
    tone = np.clip(1.0 - 0.16 * _slope(billow, int(-9 * light.sun_x * size / 512)), 0.6, 1.15)
    white = _rgb(light.horizon) * 0.35 + 255 * 0.62 * (0.75 + 0.25 * light.strength)
    canvas.blend(cover, np.clip(white * tone[..., None], 0, 255), label)
    canvas.labels[:] = label


def mountains(canvas: Canvas, label: int, layers: int) -> None:
    """Raise ranges above the horizon, the far ones paler, lit along their slopes."""
    rng, size, light = canvas.rng, canvas.size, canvas.light
    base = hsv(rng.uniform(0.05, 0.65), rng.uniform(0.08, 0.5), rng.uniform(0.3, 0.65))
    snow = rng.random() < 0.3
    for layer in range(layers):
        share = (layer + 1) / max(layers, 1)
        rise = canvas.horizon_px * rng.uniform(0.14, 0.42) * (1.35 - 0.6 * share)
        ridge = _profile(canvas, rng.uniform(50, 150)) * 0.38 + 0.7
        jag = _profile(canvas, 256) * 0.05
        line = canvas.horizon_px - np.clip(ridge + jag, 0.1, 2.0) * rise  # [size]
        top = int(line.min())
        rows = np.arange(top, int(canvas.horizon_px) + 2, dtype=np.float32)[:, None]
        tall = len(rows)
        mask = np.clip(rows - line[None, :] + 0.5, 0, 1)
        relief = canvas.crop(canvas.smooth, tall, size, zoom=1.2 * 256 / size)
        slope = _slope(relief, 3 if light.sun_x > 0 else -3)
        tone = 1 + slope * (0.25 + 0.55 * light.strength) + 0.1 * canvas.crop(canvas.rough, tall, size)
        colour = _rgb(base) * np.clip(tone, 0.45, 1.7)[..., None]
        if snow:
            cap = np.clip((line[None, :] + rise * (0.35 + 0.1 * relief) - rows) / 3, 0, 1)[..., None]
            colour = colour * (1 - cap) + 238 * np.clip(tone, 0.7, 1.05)[..., None] * cap
        mist = min(0.9, (0.75 - 0.5 * share) * (0.5 + light.fog) + 0.35 * light.fog)
        canvas.blend(mask, np.clip(colour * (1 - mist) + _rgb(light.horizon) * mist, 0, 255), label, top=top)


class Plane:
    """The rows below the horizon and where each of their pixels lies on the ground."""

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas
        self.top = int(canvas.horizon_px)
        self.rows = np.arange(self.top, canvas.size, dtype=np.float32)[:, None]  # [R, 1]
        self.cols = np.arange(canvas.size, dtype=np.float32)[None, :]  # [1, W]
        self.t = np.maximum((self.rows + 0.5 - canvas.horizon_px) / (canvas.size - canvas.horizon_px), 0.004)
        self.across = (self.cols / canvas.size - 0.5) / self.t  # [R, W], metres up to a factor
        self.away = 1 / self.t  # [R, 1]
        self.mist = np.asarray(canvas.light.fog * np.exp(-self.t / 0.18), np.float32)[..., None]

    def texture(self, field: Array, scale: float, stretch: float = 1.0) -> Array:
        """Returns a field laid on the ground in perspective, faded where a pixel spans many samples."""
        u = (self.across * np.float32(scale * stretch) + 8192).astype(np.int32) % FIELD
        v = (self.away * np.float32(scale * 0.6)).astype(np.int32) % FIELD
        return np.asarray(field[v, u] * np.clip(self.t * 300 / scale, 0.12, 1), np.float32)

    def cover(self, mask: Array, colour: Array, label: int) -> None:
        """Lay a hazed colour over the ground where mask says so."""
        hazed = colour * (1 - self.mist) + _rgb(self.canvas.light.horizon) * self.mist
        self.canvas.blend(mask.astype(np.float32), np.clip(hazed, 0, 255).astype(np.float32), label, self.top)


def plane(canvas: Canvas, label: int) -> None:
    """Cover the ground with meadow, soil, sand, gravel or snow in patches of two tones."""
    rng = canvas.rng
    kind = str(rng.choice(list(SOILS), p=[0.45, 0.15, 0.12, 0.12, 0.1, 0.06]))
    hue, saturation, value = SOILS[kind]
    first = hsv(hue + rng.normal(0, 0.025), saturation + rng.normal(0, 0.08), value + rng.normal(0, 0.07))
    second = hsv(hue + rng.normal(0, 0.05), saturation + rng.normal(0, 0.1), value + rng.normal(0, 0.1))
    ground = Plane(canvas)
    patches = np.clip(0.5 + 0.6 * ground.texture(canvas.smooth, 24), 0, 1)[..., None]
    rough = 0.5 if kind in ("snow", "sand") else 1.0
    fine, coarse = ground.texture(canvas.rough, 210, stretch=1.6), ground.texture(canvas.middle, 110)
    tufts = 1 + rough * (0.12 * fine + 0.1 * coarse)
    mixed = _rgb(second) + (_rgb(first) - _rgb(second)) * patches
    ground.cover(np.ones(tufts.shape, np.float32), mixed * tufts[..., None], label)


def water_and_roads(canvas: Canvas, theme: str, water_label: int, road_label: int) -> None:
    """Lay a lake or a sea and the roads that the theme calls for."""
    rng, ground = canvas.rng, Plane(canvas)
    chance = {"street": 0.04, "country": 0.35, "coast": 1.0}[theme]
    shore = "none"
    if rng.random() < chance:
        shore = str(rng.choice(["far", "side"], p=[0.65, 0.35]))
    side = int(rng.choice([-1, 1]))
    limit = rng.uniform(0.12, 0.62)
    if shore == "far":
        reach = canvas.size - canvas.horizon_px
        edge = canvas.horizon_px + reach * limit * (1 + 0.12 * _profile(canvas, 60))
        _water(ground, np.clip(edge[None, :] - ground.rows, 0, 1), water_label)
    elif shore == "side":
        wobble = 0.03 * np.interp(ground.t, np.linspace(0, 1, canvas.size), _profile(canvas, 70))
        start, spread = rng.uniform(0.0, 0.12), rng.uniform(0.05, 0.4)
        edge = canvas.size * (0.5 + side * (start + spread * ground.t + wobble * ground.t**0.5))
        _water(ground, np.clip(side * (ground.cols - edge), 0, 1), water_label)
    if theme == "street" or rng.random() < 0.45:
        if shore == "far":
            _road_across(ground, road_label, nearest=min(limit + 0.15, 0.85))
        else:
            lane = -side * rng.uniform(0.2, 0.5) if shore == "side" else rng.uniform(-0.45, 0.45)
            _road_ahead(ground, road_label, lane, 0.22 if shore == "side" else rng.uniform(0.22, 0.75))
            if shore == "none" and rng.random() < 0.3:
                _road_across(ground, road_label, nearest=0.12)


def _water(ground: Plane, mask: Array, label: int) -> None:
    """Mirror what stands behind the horizon in rippled water."""
    canvas = ground.canvas
    rng, size = canvas.rng, canvas.size
    body = hsv(rng.uniform(0.4, 0.62), rng.uniform(0.1, 0.6), rng.uniform(0.2, 0.55))
    waves = ground.texture(canvas.middle, 240, stretch=0.22)
    offset = (ground.rows - canvas.horizon_px) * rng.uniform(0.7, 1.1) + 14 * waves * ground.t * size / 512
    source = np.clip(canvas.horizon_px - 2 - offset, 0, size - 1).astype(np.int64)
    mirrored = canvas.image[source, np.broadcast_to(ground.cols.astype(np.int64), source.shape)]
    share = np.clip(rng.uniform(0.35, 0.75) - 0.35 * ground.t, 0.1, 1)[..., None]
    colour = (_rgb(body) * (1 - share) + mirrored * share) * (1 + rng.uniform(0.05, 0.16) * waves)[..., None]
    colour += 70 * canvas.light.strength * np.clip(waves - 1.3, 0, 1)[..., None]
    ground.cover(mask, colour, label)


def _surface(ground: Plane, kinds: int) -> Array:
    """Returns a road surface [R, W, 3], one of the first `kinds` of SURFACES."""
    canvas = ground.canvas
    rng = canvas.rng
    likely = np.array([0.55, 0.2, 0.15, 0.1][:kinds])
    chosen = int(rng.choice(kinds, p=likely / likely.sum()))
    hue, saturation, low, high = list(SURFACES.values())[chosen]
    colour = hsv(hue, saturation, rng.uniform(low, high))
    tone = 1 + 0.05 * ground.texture(canvas.rough, 260) + 0.05 * ground.texture(canvas.smooth, 60)
    return np.asarray(_rgb(colour) * tone[..., None], np.float32)


def _road_ahead(ground: Plane, label: int, lane: float, width: float) -> None:
    """Lead a road, straight or bent, to the horizon, with kerbs or edge lines and a dashed middle."""
    canvas = ground.canvas
    rng, size, t = canvas.rng, canvas.size, ground.t
    centre = size * (0.5 + lane * t + rng.uniform(-0.35, 0.35) * t * (1 - t))
    half = size * width / 2 * t
    away = np.abs(ground.cols - centre)
    colour = _surface(ground, kinds=4)
    if rng.random() < 0.8:
        paint = np.where(rng.random() < 0.75, _rgb((225, 225, 220)), _rgb((215, 175, 60)))
        thick = half * 0.025 + 0.4
        dash = (np.sin(ground.away * rng.uniform(6, 14)) > -0.1) | (rng.random() < 0.25)
        lines = np.clip(thick - away + 0.5, 0, 1) * dash
        lines = lines + np.clip(thick - np.abs(away - half * 0.9) + 0.5, 0, 1)
        colour += (paint - colour) * np.clip(lines, 0, 1)[..., None] * 0.85
    kerb = half * rng.uniform(0, 0.22) * (rng.random() < 0.5)
    walk = np.clip(away - half + 0.5, 0, 1)[..., None]
    slabs = _rgb(hsv(0.1, 0.06, rng.uniform(0.5, 0.8)))
    colour = colour * (1 - walk) + slabs * walk * (1 + 0.06 * ground.texture(canvas.rough, 200))[..., None]
    ground.cover(np.clip(half + kerb - away + 0.5, 0, 1), colour, label)


def _road_across(ground: Plane, label: int, nearest: float) -> None:
    """Lead a road from left to right, at a slight angle."""
    canvas = ground.canvas
    rng = canvas.rng
    near = min(nearest + rng.uniform(0.05, 0.4), 1.0)
    far = near * rng.uniform(0.55, 0.75)
    reach = canvas.size - canvas.horizon_px
    tilt = rng.uniform(-0.05, 0.05) * (ground.cols - canvas.size / 2)
    top, bottom = canvas.horizon_px + far * reach + tilt, canvas.horizon_px + near * reach + tilt * 1.3
    colour = _surface(ground, kinds=2)
    middle, thick = top * 0.55 + bottom * 0.45, 0.01 * (bottom - top) + 0.6
    lines = np.clip(thick - np.abs(ground.rows - middle), 0, 1) * (np.sin(ground.cols / 11 + 1) > 0)
    for edge in (top + 3 * thick, bottom - 4 * thick):
        lines = lines + np.clip(thick - np.abs(ground.rows - edge), 0, 1)
    colour += (_rgb((225, 225, 220)) - colour) * (np.clip(lines, 0, 1)[..., None] * 0.8)
    ground.cover(np.clip(np.minimum(ground.rows - top, bottom - ground.rows) + 0.5, 0, 1), colour, label)

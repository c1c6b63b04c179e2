"""The light, the textures and the compositing that drawn scenes share; `scenes` puts the scene in order.

Lengths are in units of the picture's side unless a name ends in `_px`. `t` is nearness on the ground plane:
0 at the horizon, 1 at the bottom edge. Depth is proportional to 1 / t, the pinhole camera's relation.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Array = NDArray[np.floating[Any]]
Colour = tuple[float, float, float]
Point = tuple[float, float]

FIELD = 256  # side of a tileable noise field
SUPERSAMPLE = 2  # objects are drawn this much larger, then box-filtered: one soft pixel along an edge


@dataclass(frozen=True)
class Light:
    """One scene's illumination: sun position, haze and the colours they take on."""

    sun_x: float  # -1 from the left .. 1 from the right
    strength: float  # 0 overcast .. 1 hard sun
    shadow_length: float  # in object heights
    fog: float  # share of haze at the horizon
    horizon: Colour
    zenith: Colour


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Returns an RGB colour in 0..255; hue wraps, the other two are clipped to 0..1."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0), 1), min(max(value, 0), 1))
    return red * 255, green * 255, blue * 255


def shade(colour: Colour, factor: float) -> Colour:
    """Returns the colour made darker or lighter by a factor."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def ink(colour: Colour) -> tuple[int, int, int, int]:
    """Returns the colour as opaque 8-bit RGBA."""
    red, green, blue = (min(max(int(c), 0), 255) for c in colour)
    return red, green, blue, 255


def paint_colour(rng: np.random.Generator) -> Colour:
    """Returns a paint colour: a grey one or any hue."""
    if rng.random() < 0.4:
        return hsv(0.6, rng.uniform(0, 0.1), rng.uniform(0.15, 0.95))
    return hsv(rng.random(), rng.uniform(0.4, 0.9), rng.uniform(0.35, 0.9))


def corners(a: Point, b: Point) -> tuple[float, float, float, float]:
    """Returns left, top, right and bottom of the box that two points span."""
    return min(a[0], b[0]), min(a[1], b[1]), max(a[0], b[0]), max(a[1], b[1])


def spectral_noise(rng: np.random.Generator, beta: float) -> Array:
    """Returns tileable 1/f^beta noise [FIELD, FIELD] of zero mean and unit variance.

    Spectral synthesis (Saupe, "Algorithms for random fractals", 1988): white noise shaped by frequency.
    """
    fy = np.fft.fftfreq(FIELD)[:, None]
    fx = np.fft.rfftfreq(FIELD)[None, :]
    radius = np.maximum(np.hypot(fx, fy), 1.5 / FIELD)
    spectrum = np.fft.rfft2(rng.standard_normal((FIELD, FIELD))) * radius**-beta
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, s=(FIELD, FIELD))
    return np.asarray(field / field.std(), np.float32)


class Canvas:
    """A picture being painted from far to near, with the class of every pixel."""

    def __init__(self, rng: np.random.Generator, size: int, light: Light, horizon: float) -> None:
        self.rng, self.size, self.light = rng, size, light
        self.horizon_px = horizon * size
        self.image: Array = np.zeros((size, size, 3), np.float32)
        self.labels: NDArray[np.uint8] = np.zeros((size, size), np.uint8)
        self.smooth, self.middle, self.rough = (spectral_noise(rng, beta) for beta in (1.7, 1.1, 0.5))

    def nearness(self, y_px: float) -> float:
        """Returns t of a ground point in row y_px."""
        return max((y_px - self.horizon_px) / (self.size - self.horizon_px), 1e-3)

    def haze(self, t: float) -> float:
        """Returns the share of horizon colour over something at nearness t (Koschmieder's exponential)."""
        return float(self.light.fog * np.exp(-t / 0.18))

    def crop(self, field: Array, height: int, width: int, zoom: float = 1.0) -> Array:
        """Returns a random window [height, width] of a tileable field, `zoom` field samples per pixel."""
        y0, x0 = self.rng.integers(FIELD, size=2)
        rows = (y0 + np.arange(height) * zoom).astype(np.int64) % FIELD
        cols = (x0 + np.arange(width) * zoom).astype(np.int64) % FIELD
        return np.asarray(field[np.ix_(rows, cols)])

    def blend(self, mask: Array, colour: Array, label: int, top: int = 0, left: int = 0) -> None:
        """Lay colour [H, W, 3] over the picture with coverage mask [H, W].

        Pixels that are at least half covered take the label.
        """
        height, width = mask.shape
        window = np.s_[top : top + height, left : left + width]
        self.image[window] += (colour - self.image[window]) * mask[..., None]
        self.labels[window][mask >= 0.5] = label

    def sprite(self, x0: float, y0: float, x1: float, y1: float) -> Sprite:
        """Returns a drawing surface for the part of a box (pixels) that lies inside the picture."""
        return Sprite(self, x0, y0, x1, y1)

    def cast_shadow(self, x: float, y: float, width: float, height: float) -> None:
        """Darken the ground beside an object that stands on (x, y), all in pixels.

        Under an overcast sky that is a soft spot beneath it.
        """
        light = self.light
        run = -light.sun_x * height * light.shadow_length
        depth = max(width * 0.13, 2.0)
        left, right = x - width / 2 + min(run, 0) - 4, x + width / 2 + max(run, 0) + 4
        lean = min(height * light.shadow_length * 0.12, self.size * 0.06)
        surface = Sprite(self, left, y - depth - lean - 4, right, y + depth + 4, scale=1)
        if surface.empty:
            return
        tip = (x + run, y - lean)
        if light.strength > 0.25:
            half = width * 0.38
            far_left, far_right = (tip[0] - half * 0.8, tip[1]), (tip[0] + half * 0.8, tip[1])
            surface.polygon([(x - half, y), (x + half, y), far_right, far_left], (255, 255, 255))
        surface.ellipse(x - width / 2, y - depth, x + width / 2, y + depth * 0.8, (255, 255, 255))
        spot = surface.picture.getchannel("A").filter(ImageFilter.GaussianBlur(max(depth * 0.25, 1)))
        cover = np.asarray(spot, np.float32) / 255 * (0.28 + 0.3 * light.strength)
        cover *= 1 - self.haze(self.nearness(y))
        below = np.arange(cover.shape[0])[:, None] + surface.top > self.horizon_px
        self.image[surface.window] *= (1 - cover * below)[..., None]


class Sprite:
    """One object: flat colours drawn at twice the size, then lit, textured, hazed and laid over a canvas."""

    def __init__(self, canvas: Canvas, x0: float, y0: float, x1: float, y1: float, scale: int = SUPERSAMPLE) -> None:
        self.canvas, self.scale = canvas, scale
        self.left, self.top = max(int(x0) - 1, 0), max(int(y0) - 1, 0)
        right, bottom = min(int(x1) + 2, canvas.size), min(int(y1) + 2, canvas.size)
        self.width, self.height = right - self.left, bottom - self.top
        self.empty = self.width < 3 or self.height < 3
        self.span = (x0, max(x1 - x0, 1.0), y0, max(y1 - y0, 1.0))
        self.window = np.s_[self.top : bottom, self.left : right]
        shape = (max(self.width, 1) * scale, max(self.height, 1) * scale)
        self.picture = Image.new("RGBA", shape, (0, 0, 0, 0))
        self.pen = ImageDraw.Draw(self.picture)

    def _at(self, point: Point) -> Point:
        return (point[0] - self.left) * self.scale, (point[1] - self.top) * self.scale

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a polygon given in canvas pixels."""
        self.pen.polygon([self._at(p) for p in points], fill=ink(colour))

    def ellipse(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        """Fill the ellipse inside a box given in canvas pixels."""
        if x1 > x0 and y1 > y0:
            self.pen.ellipse([*self._at((x0, y0)), *self._at((x1, y1))], fill=ink(colour))

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, radius: float = 0) -> None:
        """Fill a box given in canvas pixels, with rounded corners when radius (pixels) is above 0."""
        if x1 <= x0 or y1 <= y0:
            return
        corners = [*self._at((x0, y0)), *self._at((x1, y1))]
        if radius > 0:
            self.pen.rounded_rectangle(corners, radius=radius * self.scale, fill=ink(colour))
        else:
            self.pen.rectangle(corners, fill=ink(colour))

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        """Draw a thick line through points given in canvas pixels."""
        self.pen.line(
            [self._at(p) for p in points],
            fill=ink(colour),
            joint="curve",
            width=max(round(width * self.scale), 1),
        )

    def paint(self, label: int, t: float, grain: float = 0.06, mottle: float = 0.06, round_: float = 0.0) -> None:
        """Lay the object over the canvas.

        `grain` and `mottle` are amplitudes of fine and coarse texture; `round_` shades it like a cylinder.
        """
        if self.empty:
            return
        canvas, light = self.canvas, self.canvas.light
        rgba = np.asarray(self.picture.reduce(self.scale), np.float32)
        colour, cover = rgba[..., :3], rgba[..., 3] / 255
        tall, wide = cover.shape
        zoom = 256 / canvas.size
        gain = 1 + grain * canvas.crop(canvas.rough, tall, wide, 2 * zoom)
        gain = gain + mottle * canvas.crop(canvas.middle, tall, wide, zoom)
        x0, width, y0, height = self.span
        across = ((np.arange(wide) + self.left - x0) / width * 2 - 1).astype(np.float32)
        down = ((np.arange(tall) + self.top - y0) / height).astype(np.float32)
        gain *= 1 + across * np.float32(light.sun_x * light.strength * (0.1 + round_))
        gain *= (1.05 - 0.14 * down**3)[:, None]
        haze = np.float32(canvas.haze(t))
        lit = colour * gain[..., None] * (1 - haze) + np.array(light.horizon, np.float32) * haze
        canvas.blend(cover, np.clip(lit, 0, 255), label, self.top, self.left)

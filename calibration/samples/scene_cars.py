"""Cars in drawn scenes, seen from the side or from an end, standing on (x, y) in pixels."""

from __future__ import annotations

from calibration.samples.scene_canvas import Canvas, Colour, Point, Sprite, corners, paint_colour, shade

TYRE: Colour = (28, 28, 30)


def car(canvas: Canvas, x: float, y: float, metre: float, label: int) -> None:
    """Draw a car from the side (saloon, hatchback or van) or from the front or back."""
    if canvas.rng.random() < 0.62:
        _car_side(canvas, x, y, metre, label)
    else:
        _car_end(canvas, x, y, metre, label)


def _car_side(canvas: Canvas, x: float, y: float, metre: float, label: int) -> None:
    rng = canvas.rng
    length, height = metre * rng.uniform(3.9, 4.9), metre * rng.uniform(1.4, 1.65)
    facing = rng.choice([-1, 1])
    paint, glass = paint_colour(canvas.rng), shade(canvas.light.zenith, rng.uniform(0.2, 0.45))
    roof = {
        "saloon": [(-0.27, 1), (0.1, 1), (0.27, 0.6)],
        "hatch": [(-0.42, 0.95), (0.12, 1), (0.28, 0.6)],
        "van": [(-0.48, 1.25), (0.22, 1.25), (0.37, 0.66)],
    }
    style = str(rng.choice(list(roof)))
    rear = {"saloon": (-0.4, 0.6), "hatch": (-0.48, 0.55), "van": (-0.49, 0.5)}[style]
    cabin = [rear, *roof[style]]
    canvas.cast_shadow(x, y, length * 1.05, height)
    sprite = canvas.sprite(x - length / 2, y - height * 1.3, x + length / 2, y + 1)
    if sprite.empty:
        return

    def at(u: float, v: float) -> Point:
        return x + facing * u * length, y - v * height

    hull = [(-0.5, 0.2), (-0.495, 0.55), rear, *roof[style], (0.46, 0.52), (0.5, 0.42), (0.5, 0.2)]
    sprite.polygon([at(*p) for p in hull], paint)
    sprite.polygon([at(-0.5, 0.2), at(0.5, 0.2), at(0.5, 0.33), at(-0.5, 0.33)], shade(paint, 0.75))
    middle = (sum(p[0] for p in cabin) / 4, 0.78 if style != "van" else 0.95)
    panes = [at(middle[0] + (u - middle[0]) * 0.84, max(0.62, middle[1] + (v - middle[1]) * 0.72)) for u, v in cabin]
    sprite.polygon(panes, glass)
    sprite.polygon([at(-0.09, 0.6), at(-0.06, 0.6), at(-0.06, roof[style][1][1]), at(-0.09, roof[style][1][1])], paint)
    sprite.line([at(-0.08, 0.25), at(-0.08, 0.6)], shade(paint, 0.6), max(metre * 0.02, 0.6))
    for u in (-0.31, 0.31):
        _wheel(sprite, at(u, 0.19), height * 0.23)
    sprite.box(*corners(at(0.46, 0.36), at(0.5, 0.47)), (250, 245, 210))
    sprite.box(*corners(at(-0.5, 0.4), at(-0.47, 0.5)), (190, 25, 25))
    sprite.paint(label, canvas.nearness(y), grain=0.03, mottle=0.04)


def _car_end(canvas: Canvas, x: float, y: float, metre: float, label: int) -> None:
    rng = canvas.rng
    width, height = metre * rng.uniform(1.75, 2.0), metre * rng.uniform(1.4, 1.9)
    paint, front = paint_colour(canvas.rng), rng.random() < 0.5
    canvas.cast_shadow(x, y, width * 1.15, height)
    sprite = canvas.sprite(x - width / 2, y - height, x + width / 2, y + 1)
    if sprite.empty:
        return

    def at(u: float, v: float) -> Point:
        return x + u * width, y - v * height

    for u in (-0.45, 0.27):
        sprite.box(*corners(at(u, 0), at(u + 0.18, 0.3)), TYRE, metre * 0.05)
    sprite.polygon(
        [
            at(-0.5, 0.14),
            at(-0.5, 0.52),
            at(-0.44, 0.6),
            at(-0.34, 0.97),
            at(-0.26, 1),
            at(0.26, 1),
            at(0.34, 0.97),
            at(0.44, 0.6),
            at(0.5, 0.52),
            at(0.5, 0.14),
        ],
        paint,
    )
    sprite.polygon([at(-0.38, 0.6), at(-0.29, 0.92), at(0.29, 0.92), at(0.38, 0.6)], shade(canvas.light.zenith, 0.4))
    sprite.box(*corners(at(-0.48, 0.14), at(0.48, 0.27)), shade(paint, 0.6))
    sprite.box(*corners(at(-0.2, 0.3), at(0.2, 0.4)), (40, 40, 44) if front else shade(paint, 0.8))
    for u in (-0.47, 0.31):
        sprite.box(
            *corners(at(u, 0.38), at(u + 0.16, 0.5)),
            (250, 245, 215) if front else (185, 20, 25),
            metre * 0.05,
        )
    sprite.box(*corners(at(-0.14, 0.19), at(0.14, 0.27)), (235, 235, 225))
    sprite.paint(label, canvas.nearness(y), grain=0.03, mottle=0.04, round_=0.08)


def _wheel(sprite: Sprite, centre: Point, radius: float) -> None:
    for share, colour in ((1.0, TYRE), (0.58, (150.0, 150.0, 155.0)), (0.2, (70.0, 70.0, 75.0))):
        r = radius * share
        sprite.ellipse(centre[0] - r, centre[1] - r, centre[0] + r, centre[1] + r, colour)

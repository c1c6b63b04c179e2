"""People, signs and boats in drawn scenes, each standing on (x, y) in pixels."""

from __future__ import annotations

import math

from calibration.samples.scene_canvas import Canvas, Point, corners, hsv, paint_colour, shade


def person(canvas: Canvas, x: float, y: float, metre: float, label: int) -> None:
    """Draw somebody who stands or walks, in clothes of any colour."""
    rng = canvas.rng
    tall = metre * rng.uniform(1.55, 1.95)
    stride, swing = rng.uniform(0.02, 0.16) * tall, rng.uniform(-0.12, 0.12) * tall
    top, legs = (
        paint_colour(canvas.rng),
        hsv(rng.choice([0.6, 0.1, rng.random()]), rng.uniform(0, 0.6), rng.uniform(0.12, 0.7)),
    )
    skin = hsv(rng.uniform(0.04, 0.08), rng.uniform(0.3, 0.6), rng.uniform(0.35, 0.95))
    hair = hsv(rng.uniform(0.03, 0.12), rng.uniform(0.1, 0.7), rng.uniform(0.08, 0.7))
    skirt = rng.random() < 0.25
    canvas.cast_shadow(x, y, tall * 0.4, tall)
    sprite = canvas.sprite(x - tall * 0.32, y - tall, x + tall * 0.32, y + 1)
    if sprite.empty:
        return
    hip, shoulder, limb = y - tall * 0.48, y - tall * 0.82, tall * 0.085
    for side in (-1, 1):
        foot = x + side * (stride + tall * 0.045)
        sprite.line([(x + side * tall * 0.045, hip), (foot, y - tall * 0.03)], skin if skirt else legs, limb * 1.1)
        sprite.box(foot - limb * 0.6, y - tall * 0.04, foot + limb * 0.8, y, shade(legs, 0.4), limb * 0.2)
    if skirt:
        sprite.polygon(
            [
                (x - tall * 0.09, hip - tall * 0.04),
                (x + tall * 0.09, hip - tall * 0.04),
                (x + tall * 0.15, y - tall * 0.26),
                (x - tall * 0.15, y - tall * 0.26),
            ],
            legs,
        )
    for side in (-1, 1):
        hand = (x + side * tall * 0.15 + swing, y - tall * 0.45)
        sprite.line([(x + side * tall * 0.115, shoulder + limb * 0.5), hand], shade(top, 0.85), limb * 0.85)
        sprite.ellipse(hand[0] - limb * 0.42, hand[1] - limb * 0.42, hand[0] + limb * 0.42, hand[1] + limb * 0.42, skin)
    sprite.polygon(
        [
            (x - tall * 0.095, hip + tall * 0.02),
            (x - tall * 0.135, shoulder + tall * 0.02),
            (x - tall * 0.07, shoulder - tall * 0.02),
            (x + tall * 0.07, shoulder - tall * 0.02),
            (x + tall * 0.135, shoulder + tall * 0.02),
            (x + tall * 0.095, hip + tall * 0.02),
        ],
        top,
    )
    if rng.random() < 0.3:
        for k in range(3):
            sprite.box(
                x - tall * 0.1,
                hip - tall * (0.05 + 0.1 * k),
                x + tall * 0.1,
                hip - tall * (0.01 + 0.1 * k),
                shade(top, 0.6),
            )
    sprite.box(x - limb * 0.35, shoulder - tall * 0.05, x + limb * 0.35, shoulder, shade(skin, 0.85))
    sprite.ellipse(x - tall * 0.065, y - tall * 0.995, x + tall * 0.065, y - tall * 0.85, hair)
    sprite.ellipse(x - tall * 0.052, y - tall * 0.965, x + tall * 0.052, y - tall * 0.84, skin)
    sprite.paint(label, canvas.nearness(y), grain=0.05, mottle=0.05, round_=0.15)


def sign(canvas: Canvas, x: float, y: float, metre: float, label: int) -> None:
    """Draw a traffic sign, a name board or a traffic light on its pole."""
    rng = canvas.rng
    tall, half = metre * rng.uniform(2.3, 3.4), metre * rng.uniform(0.42, 0.62)
    kind = str(rng.choice(["disc", "triangle", "diamond", "board", "light"]))
    face = hsv(rng.choice([0.0, 0.6, 0.14, 0.38, 0.07]), rng.uniform(0.5, 0.95), rng.uniform(0.5, 0.95))
    white = (238.0, 238.0, 234.0)
    pole = max(metre * 0.085, 2.2)
    canvas.cast_shadow(x, y, half * 0.9, tall)
    wide = half * (2.0 if kind == "board" else 1.1)
    sprite = canvas.sprite(x - wide, y - tall - half * 0.3, x + wide, y)
    if sprite.empty:
        return
    middle = y - tall + half
    sprite.box(x - pole, y - tall + half, x + pole, y, hsv(0.6, 0.05, rng.uniform(0.3, 0.75)))
    if kind == "disc":
        sprite.ellipse(x - half, middle - half, x + half, middle + half, face)
        inner = half * 0.74
        sprite.ellipse(
            x - inner,
            middle - inner,
            x + inner,
            middle + inner,
            white if rng.random() < 0.6 else shade(face, 0.8),
        )
        sprite.box(x - half * 0.5, middle - half * 0.15, x + half * 0.5, middle + half * 0.15, (25, 25, 30))
    elif kind in ("triangle", "diamond"):
        corners = 3 if kind == "triangle" else 4
        for share, colour in ((1.1, face), (0.7, white if corners == 3 else shade(face, 0.85))):
            ring = [
                (
                    x + math.sin(2 * math.pi * k / corners) * half * share,
                    middle - math.cos(2 * math.pi * k / corners) * half * share,
                )
                for k in range(corners)
            ]
            sprite.polygon(ring, colour)
        sprite.box(x - half * 0.07, middle - half * 0.3, x + half * 0.07, middle + half * 0.3, (20, 20, 20))
    elif kind == "board":
        sprite.box(x - wide, middle - half * 0.75, x + wide, middle + half * 0.75, white, half * 0.1)
        sprite.box(x - wide * 0.95, middle - half * 0.67, x + wide * 0.95, middle + half * 0.67, face, half * 0.1)
        for row in (-0.3, 0.2):
            sprite.box(
                x - wide * 0.75,
                middle + half * row,
                x + wide * rng.uniform(0.1, 0.8),
                middle + half * (row + 0.2),
                white,
            )
    else:
        sprite.box(
            x - half * 0.55,
            middle - half * 1.1,
            x + half * 0.55,
            middle + half * 1.3,
            (38, 40, 42),
            half * 0.15,
        )
        lit = int(rng.integers(3))
        for k, colour in enumerate(((235.0, 40.0, 30.0), (245.0, 180.0, 40.0), (60.0, 220.0, 110.0))):
            cy, r = middle + half * (-0.65 + 0.75 * k), half * 0.3
            sprite.ellipse(x - r, cy - r, x + r, cy + r, colour if k == lit else shade(colour, 0.3))
    sprite.paint(label, canvas.nearness(y), grain=0.03, mottle=0.03)


def boat(canvas: Canvas, x: float, y: float, metre: float, label: int) -> None:
    """Draw a sailing boat, a motor boat or a barge on the water."""
    rng = canvas.rng
    length = metre * rng.uniform(4.5, 8)
    depth = length * rng.uniform(0.13, 0.18)
    hull, trim = paint_colour(canvas.rng), shade(paint_colour(canvas.rng), 0.9)
    kind, facing = str(rng.choice(["sail", "motor", "barge"], p=[0.45, 0.4, 0.15])), rng.choice([-1, 1])
    tall = {"sail": length * rng.uniform(0.95, 1.3), "motor": length * 0.36, "barge": length * 0.32}[kind]
    canvas.cast_shadow(x, y + depth * 0.15, length * 0.85, depth)
    sprite = canvas.sprite(x - length / 2, y - tall - depth, x + length / 2, y + 1)
    if sprite.empty:
        return

    def at(u: float, v: float) -> Point:
        return x + facing * u * length, y - v * depth

    if kind == "sail":
        mast, boom, peak = x + facing * 0.04 * length, y - depth * 1.35, y - tall - depth * 0.8
        cloth = hsv(rng.random(), rng.choice([0.04, rng.uniform(0.3, 0.8)]), rng.uniform(0.75, 0.97))
        sprite.polygon([(mast, peak), (mast, boom), (mast - facing * length * 0.4, boom)], cloth)
        sprite.polygon(
            [
                (mast + facing * 2, peak + tall * 0.12),
                (mast + facing * 2, boom),
                (mast + facing * length * 0.38, boom),
            ],
            shade(cloth, 0.88),
        )
        sprite.line([(mast, y - depth), (mast, peak)], (90, 80, 70), max(length * 0.02, 2))
    elif kind == "motor":
        sprite.polygon([at(-0.28, 0.9), at(-0.24, 2.1), at(0.1, 2.1), at(0.22, 0.9)], trim)
        sprite.polygon([at(-0.2, 1.3), at(-0.19, 1.85), at(0.07, 1.85), at(0.14, 1.3)], shade(canvas.light.zenith, 0.4))
    else:
        for k in range(4):
            sprite.box(
                *corners(at(-0.4 + 0.19 * k, 0.9), at(-0.23 + 0.19 * k, 1.9)),
                shade(paint_colour(canvas.rng), 0.85),
            )
    sprite.polygon([at(-0.5, 1.0), at(0.5, 1.15), at(0.4, 0.25), at(0.34, 0), at(-0.44, 0)], hull)
    sprite.polygon([at(-0.5, 1.0), at(0.5, 1.15), at(0.48, 0.92), at(-0.49, 0.8)], shade(trim, 1.1))
    sprite.polygon([at(-0.46, 0.22), at(0.4, 0.25), at(0.34, 0), at(-0.44, 0)], shade(hull, 0.55))
    sprite.paint(label, canvas.nearness(y), grain=0.03, mottle=0.05)

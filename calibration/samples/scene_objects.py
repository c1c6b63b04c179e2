"""The large things of drawn scenes, each drawn on a canvas where it stands on (x, y) in pixels.

`metre` is the number of pixels per metre at that place.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from calibration.samples.scene_canvas import Canvas, Colour, Point, Sprite, hsv, shade


def tree(canvas: Canvas, x: float, y: float, metre: float, label: int) -> None:
    """Draw a broad-leaved tree, a conifer, a poplar or a bush."""
    rng = canvas.rng
    height = metre * rng.uniform(3.5, 9)
    kind = rng.choice(["broad", "conifer", "poplar", "bush"], p=[0.45, 0.25, 0.15, 0.15])
    season = rng.choice(["summer", "autumn", "snow"], p=[0.75, 0.17, 0.08])
    hue = rng.uniform(0.2, 0.42) if season == "summer" else rng.uniform(0.01, 0.14)
    leaf = hsv(hue, rng.uniform(0.35, 0.8), rng.uniform(0.28, 0.6))
    if season == "snow":
        leaf = hsv(0.55, 0.08, rng.uniform(0.55, 0.85))
    bark = hsv(rng.uniform(0.04, 0.1), rng.uniform(0.1, 0.5), rng.uniform(0.2, 0.5))
    spread = {"broad": 0.36, "conifer": 0.26, "poplar": 0.15, "bush": 0.6}[str(kind)] * height * rng.uniform(0.85, 1.2)
    if kind == "bush":
        height *= 0.4
        spread *= 0.5
    canvas.cast_shadow(x, y, spread * 1.6, height)
    sprite = canvas.sprite(x - spread * 1.25, y - height * 1.1, x + spread * 1.25, y)
    if sprite.empty:
        return
    trunk = max(height * rng.uniform(0.03, 0.05), 1.6)
    lean = rng.uniform(-0.06, 0.06) * height
    sprite.polygon(
        [
            (x - trunk, y),
            (x + trunk, y),
            (x + lean + trunk * 0.5, y - height * 0.7),
            (x + lean - trunk * 0.5, y - height * 0.7),
        ],
        bark,
    )
    if kind == "conifer":
        _needles(canvas, sprite, x, y, height, spread, leaf)
    else:
        base = 0.05 if kind == "bush" else rng.uniform(0.22, 0.38)
        _crown(canvas, sprite, (x + lean, y - height * (0.5 + base / 2)), spread, height * (1 - base) / 2, leaf)
    sprite.paint(label, canvas.nearness(y), grain=0.17, mottle=0.14, round_=0.12)


def _crown(canvas: Canvas, sprite: Sprite, centre: Point, rx: float, ry: float, leaf: Colour) -> None:
    """Cover an ellipse with clumps of leaves, dark ones first and those that face the sun last."""
    rng, light = canvas.rng, canvas.light
    clumps = []
    for _ in range(46):
        angle, reach = rng.uniform(0, 2 * math.pi), math.sqrt(rng.uniform(0, 1)) * 0.82
        dx, dy = math.cos(angle) * reach, math.sin(angle) * reach
        facing = dx * light.sun_x * 0.6 - dy * 0.8
        clumps.append((facing + rng.uniform(-0.25, 0.25), dx, dy, rng.uniform(0.2, 0.36)))
    for facing, dx, dy, radius in sorted(clumps):
        x, y, r = centre[0] + dx * rx, centre[1] + dy * ry, radius * min(rx, ry * 1.2)
        sprite.ellipse(
            x - r * 1.1, y - r, x + r * 1.1, y + r, shade(leaf, 0.85 + facing * (0.2 + 0.3 * light.strength))
        )


def _needles(canvas: Canvas, sprite: Sprite, x: float, y: float, height: float, spread: float, leaf: Colour) -> None:
    """Stack jagged triangles, each with a lit and a shaded half."""
    rng, light = canvas.rng, canvas.light
    layers = int(rng.integers(4, 7))
    for i in range(layers):
        low = y - height * (0.12 + 0.72 * i / layers)
        top, half = low - height * 1.5 / layers, spread * (1 - 0.8 * i / layers)
        top = max(top, y - height * 1.05)
        teeth = [(x + half * (2 * k / 8 - 1), low + (height * 0.025 if k % 2 else -height * 0.02)) for k in range(9)]
        sprite.polygon([(x, top), *teeth[::-1]], shade(leaf, 0.72 + 0.1 * i / layers))
        lit = teeth[:5] if light.sun_x < 0 else teeth[4:]
        sprite.polygon([(x, top), *lit[::-1]], shade(leaf, 0.95 + 0.3 * light.strength))


def building(canvas: Canvas, x: float, y: float, metre: float, label: int) -> None:
    """Draw a house or a block with a front, a receding side, a roof and windows."""
    rng, light = canvas.rng, canvas.light
    floors = int(rng.choice([1, 2, 3, 4, 6, 9], p=[0.2, 0.28, 0.2, 0.14, 0.1, 0.08]))
    floor = metre * rng.uniform(2.7, 3.3)
    width = metre * rng.uniform(6, 13)
    hue = rng.choice([rng.uniform(0.02, 0.14), rng.uniform(0, 1)])
    wall = hsv(hue, rng.uniform(0, 0.5 if hue < 0.15 else 0.3), rng.uniform(0.4, 0.95))
    gable = floors <= 3 and rng.random() < 0.75
    x0, x1, top = x - width / 2, x + width / 2, y - floors * floor
    vanish = (canvas.size * 0.5, canvas.horizon_px)
    edge = x1 if x < vanish[0] else x0
    depth = rng.uniform(0.12, 0.3)
    canvas.cast_shadow(x, y, width, floors * floor * 0.6)

    def away(point: Point, share: float = 1.0) -> Point:
        pull = depth * share
        return point[0] + (vanish[0] - point[0]) * pull, point[1] + (vanish[1] - point[1]) * pull

    far = away((edge, y))
    sprite = canvas.sprite(min(x0, far[0]), top - width * 0.55, max(x1, far[0]), y)
    if sprite.empty:
        return
    side_lit = 0.75 + 0.3 * light.strength * (light.sun_x if edge == x1 else -light.sun_x)
    sprite.polygon([(edge, y), (edge, top), away((edge, top)), far], shade(wall, side_lit))
    _side_windows(sprite, edge, y, top, floors, away, shade(wall, side_lit * 0.45))
    if gable:
        roof = hsv(rng.choice([rng.uniform(0, 0.08), 0.6]), rng.uniform(0.1, 0.65), rng.uniform(0.25, 0.6))
        ridge, over = (x, top - width * rng.uniform(0.22, 0.42)), width * 0.04
        eave = (edge + math.copysign(over, edge - x), top + over)
        sprite.polygon([(x0, top + 1), ridge, (x1, top + 1)], shade(wall, 0.97))
        sprite.polygon([eave, ridge, away(ridge), away(eave)], shade(roof, 0.95))
        for corner in ((x0 - over, top + over), (x1 + over, top + over)):
            sprite.line([corner, ridge], shade(roof, 0.8), max(over * 0.9, 1.5))
    sprite.box(x0, top, x1, y, wall)
    if not gable:
        sprite.box(x0 - metre * 0.2, top - metre * 0.25, x1 + metre * 0.2, top + metre * 0.2, shade(wall, 0.7))
    _facade(canvas, sprite, (x0, top, x1, y), floors, wall, metre)
    sprite.paint(label, canvas.nearness(y), grain=0.05, mottle=0.06)


def _side_windows(
    sprite: Sprite,
    edge: float,
    y: float,
    top: float,
    floors: int,
    away: Callable[[Point, float], Point],
    colour: Colour,
) -> None:
    """Darken two windows per floor on the receding wall."""
    step = (y - top) / floors
    for i in range(floors):
        high, low = top + step * (i + 0.25), top + step * (i + 0.72)
        for a, b in ((0.16, 0.4), (0.6, 0.84)):
            sprite.polygon(
                [away((edge, high), a), away((edge, high), b), away((edge, low), b), away((edge, low), a)],
                colour,
            )


def _facade(
    canvas: Canvas,
    sprite: Sprite,
    box: tuple[float, float, float, float],
    floors: int,
    wall: Colour,
    metre: float,
) -> None:
    """Draw brick courses, windows that reflect the sky, and a door."""
    rng = canvas.rng
    x0, top, x1, y = box
    if rng.random() < 0.4:
        course = max(metre * 0.35, 3)
        for i in range(int((y - top) / course)):
            sprite.line([(x0, top + i * course), (x1, top + i * course)], shade(wall, 0.88), 0.7)
    columns = max(int((x1 - x0) / (metre * rng.uniform(2.2, 3.4))), 2)
    glass = tuple(0.25 * z + 20 for z in canvas.light.zenith)
    step_x, step_y = (x1 - x0) / columns, (y - top) / floors
    share = rng.uniform(0.38, 0.62)
    frame = shade(wall, 1.2) if rng.random() < 0.5 else shade(wall, 0.6)
    for row in range(floors):
        for column in range(columns):
            cx, cy = x0 + (column + 0.5) * step_x, top + (row + 0.48) * step_y
            half_x, half_y = step_x * share / 2, step_y * 0.27
            sprite.box(cx - half_x - 1, cy - half_y - 1, cx + half_x + 1, cy + half_y + 1, frame)
            pane = hsv(0.13, 0.45, 0.9) if rng.random() < 0.08 else shade(glass, rng.uniform(0.6, 1.7))  # type: ignore[arg-type]
            sprite.box(cx - half_x, cy - half_y, cx + half_x, cy + half_y, pane)
            sprite.line([(cx, cy - half_y), (cx, cy + half_y)], frame, 0.8)
    door = x0 + (rng.integers(columns) + 0.5) * step_x
    sprite.box(
        door - metre * 0.55,
        y - metre * 2.1,
        door + metre * 0.55,
        y,
        hsv(rng.random(), 0.5, rng.uniform(0.15, 0.5)),
    )


def fence(canvas: Canvas, x: float, y: float, metre: float, label: int) -> None:
    """Draw a board fence or a stone wall that runs along the ground, level or towards the vanishing point."""
    rng = canvas.rng
    height = metre * rng.uniform(0.9, 1.5)
    run = metre * rng.uniform(5, 13) * rng.choice([-1, 1])
    shrink = rng.choice([1.0, rng.uniform(0.5, 0.85)])
    horizon = canvas.horizon_px
    end = (x + run, horizon + (y - horizon) * shrink)
    base = hsv(rng.choice([0.08, 0.1, rng.random()]), rng.uniform(0, 0.38), rng.uniform(0.3, 0.92))
    sprite = canvas.sprite(
        min(x, end[0]), min(y - height, end[1] - height * shrink) - 3, max(x, end[0]), max(y, end[1])
    )
    if sprite.empty:
        return
    stone = rng.random() < 0.4
    boards = int(rng.integers(14, 30)) if not stone else 12

    def at(along: float, up: float) -> Point:
        return x + run * along, y + (end[1] - y) * along - up * height * (1 + (shrink - 1) * along)

    if stone:
        sprite.polygon([at(0, 0), at(1, 0), at(1, 1), at(0, 1)], shade(base, 0.7))
        for row in range(5):
            for i in range(boards):
                a = (i + 0.5 * (row % 2)) / boards
                b = min(a + 0.92 / boards, 1)
                low, high = row / 5 + 0.02, row / 5 + 0.18
                sprite.polygon([at(a, low), at(b, low), at(b, high), at(a, high)], shade(base, rng.uniform(0.8, 1.15)))
    else:
        for i in range(boards):
            a, b, tall = i / boards, (i + 1) / boards, rng.uniform(0.95, 1.0)
            tone = rng.uniform(0.85, 1.1)
            sprite.polygon(
                [at(a, 0), at(b, 0), at(b, tall - 0.05), at((a + b) / 2, tall), at(a, tall - 0.05)],
                shade(base, tone),
            )
            sprite.line([at(a, 0), at(a, tall - 0.06)], shade(base, 0.55), max(metre * 0.03, 0.6))
        sprite.line([at(0, 0.75), at(1, 0.75)], shade(base, 0.7), max(metre * 0.07, 1))
    sprite.paint(label, canvas.nearness(max(y, end[1])), grain=0.08, mottle=0.08)

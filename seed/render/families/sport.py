"""Dumbbells, balls and skateboards."""

from __future__ import annotations

import math

from ..geometry import Point2, ball, box, lathe, prism, ring
from ..look import Look
from ..materials import surface
from .tableware import body


def dumbbell(look: Look) -> None:
    """A dumbbell with round or many-sided (`sides`) heads: head size and length vary."""
    r, wide, gap = look.get("head", 0.6), look.get("thick", 0.55), look.get("grip", 0.65)
    cover = body(look)
    steel = surface("steel", "metal")
    sides = int(look.get("sides", 6))
    low = r * math.cos(math.pi / sides) if sides else r
    grip = [(0, -gap - 0.1), (0.15, -gap - 0.1), (0.2, 0), (0.15, gap + 0.1), (0, gap + 0.1)]
    lathe(grip, steel, radius=0.2, at=(0, 0, low), turn=(0, 90, 0))
    for side in (-1, 1):
        start = gap if side > 0 else -gap - wide
        if sides:
            # A flat side faces the floor.
            turn = math.pi / sides - math.pi / 2
            outline: list[Point2] = [
                (r * math.cos(turn + 2 * math.pi * k / sides),
                 r * math.sin(turn + 2 * math.pi * k / sides)) for k in range(sides)
            ]  # fmt: skip
            prism([(-y, x) for x, y in outline], wide, cover, bevel=0.08, at=(start, 0, low),
                  turn=(0, 90, 0))  # fmt: skip
        else:
            plate = [(0, 0), (r * 0.9, 0), (r, 0.12), (r, wide - 0.12), (r * 0.9, wide), (0, wide)]
            lathe(plate, cover, radius=0.06, at=(start, 0, low), turn=(0, 90, 0), segments=96)
        end = start + wide if side > 0 else start
        badge = [(0, -0.02), (r * 0.5, -0.02), (r * 0.5, 0.02), (0, 0.02)]
        lathe(badge, surface(look.accent, "plastic"), radius=0.01, at=(end, 0, low),
              turn=(0, 90, 0))  # fmt: skip


def ball_toy(look: Look) -> None:
    """A ball, plain, patterned or with seams (`seams` 1: basketball, 2: volleyball bands)."""
    r = 1.0
    cover = body(look)
    ball(r, cover, (0, 0, r), (28, 18, 20))
    seams = int(look.get("seams", 0))
    ink = surface(look.accent, "rubber")
    if seams == 1:
        for turn in ((28, 18, 20), (118, 18, 20), (28, 108, 20)):
            ring(r, 0.02, ink, (0, 0, r), turn)
    elif seams == 2:
        for tilt in (-0.5, 0.0, 0.5):
            wide = math.sqrt(r * r - tilt * tilt)
            for turn, dx, dz in (((0, 25, 0), 0.4226, 0.9063), ((0, 115, 0), 0.9063, -0.4226)):
                ring(wide, 0.022, ink, (tilt * dx, 0, r + tilt * dz), turn)
    if look.get("caps", 0):
        cap = surface(look.accent, look.finish)
        for a in (0.0, math.pi):
            arc = [(r * 1.004 * math.sin(t), r * 1.004 * math.cos(t)) for t in
                   [0.45 * k / 8 for k in range(9)]]  # fmt: skip
            arc = [(x, z if a == 0 else -z) for x, z in arc]
            lathe(arc if a else arc[::-1], cap, radius=0, at=(0, 0, r), turn=(28, 18, 20))


def skateboard(look: Look) -> None:
    """A skateboard on wheels: length, width and kicked ends set its shape."""
    long, wide = look.get("length", 3.4), look.get("width", 0.95)
    x, y = long / 2, wide / 2
    nose = look.get("nose", 0.5)
    outline: list[Point2] = []
    for k in range(25):
        a = -math.pi / 2 + math.pi * k / 24
        outline.append((x - nose + nose * math.cos(a), y * math.sin(a)))
    for k in range(25):
        a = math.pi / 2 + math.pi * k / 24
        outline.append((-x + nose + nose * math.cos(a), y * math.sin(a)))
    deck = body(look)
    prism(outline, 0.09, deck, surface("beech", "wood"), bevel=0.03, at=(0, 0, 0.52))
    wheel = surface(look.accent, "plastic")
    metal = surface("steel", "metal")
    for end in (-1, 1):
        at = end * (x - nose - 0.18)
        box((0.3, 0.34, 0.2), metal, 0.04, (at, 0, 0.44))
        lathe([(0, -y), (0.05, -y), (0.05, y), (0, y)], metal, radius=0, at=(at, 0, 0.25),
              turn=(90, 0, 0))  # fmt: skip
        for side in (-1, 1):
            tyre = [(0, -0.13), (0.25, -0.13), (0.25, 0.13), (0, 0.13)]
            lathe(tyre, wheel, radius=0.06, at=(at, side * (y - 0.04), 0.25), turn=(90, 0, 0))
            hub = [(0, -0.14), (0.1, -0.14), (0.1, 0.14), (0, 0.14)]
            lathe(hub, metal, radius=0.01, at=(at, side * (y - 0.04), 0.25), turn=(90, 0, 0))
        for sx in (-0.1, 0.1):
            for sy in (-0.1, 0.1):
                ball(0.03, metal, (at + sx, sy, 0.605))

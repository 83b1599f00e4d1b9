"""Desk lamps, plant pots, stools and candle holders."""

from __future__ import annotations

import math

from ..geometry import ball, lathe, ring, through, tube
from ..look import Look, seeded
from ..materials import glow, surface
from .tableware import body, curve2


def desk_lamp(look: Look) -> None:
    """A lamp: arm height, reach and shade width set its shape."""
    h, reach = look.get("height", 2.2), look.get("reach", 0.9)
    wide = look.get("shade", 0.6)
    paint = surface(look.colour, look.finish)
    metal = surface(look.accent, "polished" if look.accent in ("brass", "copper", "steel")
                    else look.finish)  # fmt: skip
    foot = look.get("foot", 0.62)
    lathe([(0, 0), (foot, 0), (foot, 0.1), (0.12, 0.16), (0, 0.16)], paint, radius=0.06)
    if look.get("curved", 0):
        bend = [(0, 0, 0.1), (-0.02, 0, 0.6 * h), (0.15 * reach, 0, 0.93 * h)]
        tube([*bend, (0.6 * reach, 0, 1.06 * h), (reach, 0, 0.95 * h)], 0.055, metal)
    else:
        elbow = (-0.5 * reach, 0, 0.58 * h)
        tube([(0, 0, 0.1), elbow], 0.05, metal, smooth=0)
        tube([elbow, (0.9 * reach, 0, 1.0 * h)], 0.05, metal, smooth=0)
        lathe([(0, -0.11), (0.12, -0.11), (0.12, 0.11), (0, 0.11)], paint, radius=0.03,
              at=elbow, turn=(90, 0, 0))  # fmt: skip
    tilt = look.get("tilt", 28)
    tip = (0.95 * reach, 0.0, 0.99 * h)
    cone = [(0, 0.12), (0.13, 0.12), (0.17, -0.06), (wide, -0.62)]
    white = surface("white", "matte")
    shade = [*cone, (wide - 0.04, -0.62), (0.13, -0.1), (0, -0.1)]
    cover = surface(look.colour, look.finish, look.pattern, look.accent, look.repeats)
    lathe(shade, cover, white, radius=0.03, split=4, at=tip, turn=(0, -tilt, 0))
    a = math.radians(tilt)
    ball(0.17, glow("fff1d0", 4.0), (tip[0] + 0.42 * math.sin(a), 0, tip[2] - 0.42 * math.cos(a)))


def plant_pot(look: Look) -> None:
    """A planted pot: height and taper vary, as does `plant` (0 succulent, 1 leaves, 2 cactus)."""
    h, r = look.get("height", 1.2), look.get("width", 0.85)
    foot = r * look.get("taper", 0.72)
    soil = surface("3a281c", "clay")
    lip = r + 0.09
    profile = [(0, 0), (foot, 0), (r, h * 0.8), (lip, h * 0.8), (lip, h), (lip - 0.12, h)]
    lathe([*profile, (lip - 0.14, h - 0.14), (0, h - 0.1)], body(look), soil, radius=0.04, split=6,
          segments=96)  # fmt: skip
    kind = int(look.get("plant", 0))
    rng = seeded("plant", kind)
    if kind == 2:
        skin = surface("3f7d45", "leaf", "stripes", "2b5c36", 14)
        stem = curve2([(0.3, h - 0.1), (0.4, h + 0.4), (0.36, h + 1.0), (0.0, h + 1.3)])
        lathe(stem, skin, radius=0)
        for side in (-1, 1):
            tall = h + (0.55 if side > 0 else 0.35)
            arm = [(side * 0.3, 0, tall), (side * 0.66, 0, tall + 0.05)]
            tube([*arm, (side * 0.72, 0, tall + 0.45)], [0.16, 0.17, 0.15, 0.06], skin)
        return
    greens = [surface(c, "leaf") for c in ("3c7a3a", "4f8f48", "2e6436")]
    count = 26 if kind == 0 else 16
    for i in range(count):
        angle = i * 2.39996
        outward = (i + 1) / count
        length = (0.45 + 0.3 * outward) if kind == 0 else rng.uniform(1.0, 1.5)
        lean = (0.25 + 1.0 * outward) if kind == 0 else rng.uniform(0.2, 0.75)
        dx, dy = math.cos(angle), math.sin(angle)
        flat = math.sin(lean) * length
        rise = math.cos(lean) * length
        path = [
            (dx * 0.1, dy * 0.1, h - 0.1), (dx * flat * 0.5, dy * flat * 0.5, h + rise * 0.65),
            (dx * flat, dy * flat, h + rise * (1.0 if kind == 0 else 0.9)),
        ]  # fmt: skip
        widths = [0.07, 0.15, 0.13, 0.01] if kind == 0 else [0.03, 0.08, 0.16, 0.14, 0.01]
        tube(path, widths, greens[i % 3], flat=0.5 if kind == 0 else 0.18)


def stool(look: Look) -> None:
    """A round stool: height, seat width and the number of legs set its shape."""
    h, r = look.get("height", 2.0), look.get("seat", 0.8)
    legs = int(look.get("legs", 4))
    frame = surface(look.accent, "wood" if look.accent in ("oak", "walnut", "beech") else "painted")
    thick = look.get("cushion", 0.2)
    lathe([(0, h - thick), (r, h - thick), (r, h), (0, h)], body(look), radius=0.09, segments=96)
    lathe([(0, h - thick - 0.06), (r * 0.86, h - thick - 0.06), (r * 0.86, h - thick + 0.02)],
          frame, radius=0.02)  # fmt: skip
    for i in range(legs):
        a = 2 * math.pi * (i + 0.5) / legs
        x, y = math.cos(a), math.sin(a)
        top, low = 0.62 * r, 0.98 * r
        tube([(top * x, top * y, h - thick), (low * x, low * y, 0)], [0.1, 0.07], frame, smooth=0)
    height = 0.34
    ring(r * (0.98 - 0.36 * height), 0.045, frame, (0, 0, h * height))


def candle_holder(look: Look) -> None:
    """A candle on a stem or in a dish: stem height and candle height set its shape."""
    stem, tall = look.get("stem", 1.0), look.get("candle", 1.0)
    foot = [(0, 0), (0.62, 0), (0.6, 0.08)]
    up = through([(0.6, 0.08), (0.2, 0.2), (0.13, 0.3 + 0.3 * stem), (0.2, 0.2 + 0.7 * stem)], 6)
    column = [(float(r), float(z)) for r, z in up[1:]]
    z = 0.25 + stem
    cup = [(0.4, z), (0.44, z + 0.12), (0.36, z + 0.12), (0.34, z + 0.05), (0, z + 0.05)]
    lathe([*foot, *column, *cup], body(look), radius=0.02)
    wax = surface(look.accent, "wax")
    lathe([(0, z), (0.22, z), (0.22, z + tall), (0.16, z + tall), (0, z + tall - 0.03)], wax,
          radius=0.04)  # fmt: skip
    tube([(0, 0, z + tall - 0.04), (0.01, 0, z + tall + 0.1)], 0.018, surface("black", "matte"),
         smooth=0)  # fmt: skip
    flame = curve2([(0.0, 0), (0.06, 0.08), (0.055, 0.16), (0.0, 0.34)])
    lathe([(r, z + tall + 0.05 + y) for r, y in flame], glow("ffc25a", 6.0), radius=0)

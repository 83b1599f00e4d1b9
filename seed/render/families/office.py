"""Alarm clocks, notebooks, tape dispensers and pencil cups."""

from __future__ import annotations

import math

from ..geometry import Point2, Point3, ball, box, fillet, lathe, prism, ring, tube
from ..look import Look, seeded
from ..materials import surface
from .tableware import body


def rounded(width: float, height: float, corner: float) -> list[Point2]:
    """A rectangle with round corners, counter-clockwise about the origin."""
    x, y = width / 2, height / 2
    return fillet([(-x, -y), (x, -y), (x, y), (-x, y)], corner, closed=True, steps=8)[0]


def _clock_face(r: float, z: float, y: float, face: str, hands: str) -> None:
    """Dial, hour marks and hands, facing -y."""
    at = (0.0, y, z)
    lathe([(0, 0), (r, 0), (r, 0.03), (0, 0.03)], surface(face, "matte"), radius=0.01, at=at,
          turn=(90, 0, 0))  # fmt: skip
    ink = surface(hands, "matte")
    for hour in range(12):
        a = math.radians(30 * hour)
        size = (0.06, 0.02, 0.17) if hour % 3 == 0 else (0.035, 0.02, 0.09)
        mid = r * 0.83
        spot = (mid * math.sin(a), y - 0.04, z + mid * math.cos(a))
        box(size, ink, 0.005, spot, (0, math.degrees(a), 0))
    for angle, length, wide in ((-55, 0.5, 0.075), (60, 0.72, 0.05)):
        a = math.radians(angle)
        mid = r * length / 2
        spot = (mid * math.sin(a), y - 0.055, z + mid * math.cos(a))
        box((wide, 0.02, r * length), ink, 0.008, spot, (0, angle, 0))
    ball(0.06, ink, (0, y - 0.06, z))


def alarm_clock(look: Look) -> None:
    """A clock: round with bells, or square (`square`); radius and depth set its shape."""
    r, deep = look.get("radius", 1.0), look.get("depth", 0.6)
    case = body(look)
    metal = surface(look.accent, "polished")
    face = "1f2226" if look.get("dark_face", 0) else "f7f4ec"
    hands = "f3f0e8" if look.get("dark_face", 0) else "26282c"
    if look.get("square", 0):
        z = r + 0.12
        prism(rounded(2.1 * r, 2.1 * r, 0.35 * r), deep, case, bevel=0.09, at=(0, deep / 2, z),
              turn=(90, 0, 0))  # fmt: skip
        for x in (-0.6 * r, 0.6 * r):
            box((0.3, deep * 0.8, 0.14), metal, 0.05, (x, 0, 0.07))
        box((0.6, 0.22, 0.1), metal, 0.04, (0, 0, z + 1.09 * r))
    else:
        z = r + 0.22
        shell = [(0, 0), (r * 0.98, 0), (r * 1.05, deep / 2), (r, deep), (0, deep)]
        lathe(shell, case, radius=0.1, at=(0, deep / 2, z), turn=(90, 0, 0), segments=96)
        ring(r * 0.97, 0.11, surface(look.colour, look.finish), (0, -deep / 2, z), (90, 0, 0))
        for side in (-1, 1):
            a = math.radians(38 * side)
            legs = [(side * 0.45 * r, 0, z - 0.85 * r), (side * 0.72 * r, 0, 0.06)]
            tube(legs, [0.07, 0.09], metal, smooth=0)
            spot = (1.13 * r * math.sin(a), 0, z + 1.13 * r * math.cos(a))
            dome = [
                (0.4 * math.cos(t), 0.36 * math.sin(t)) for t in [i * 0.19635 for i in range(9)]
            ]
            lathe([(0, 0), *dome], metal, radius=0, at=spot, turn=(0, 38 * side, 0))
        tube([(-0.62, 0, z + 1.2 * r), (-0.3, 0, z + 1.66 * r), (0.3, 0, z + 1.66 * r),
              (0.62, 0, z + 1.2 * r)], 0.05, metal)  # fmt: skip
    _clock_face(r * (0.9 if look.get("square", 0) else 0.88), z, -deep / 2 - 0.01, face, hands)


def notebook(look: Look) -> None:
    """A notebook standing a little open: height, width and thickness set its shape."""
    h, w, thick = look.get("height", 2.1), look.get("width", 1.5), look.get("thick", 0.26)
    cover = body(look)
    band = surface(look.accent, "fabric")
    spread = look.get("open", 16)
    for side in (-1, 1):
        a = math.radians(side * spread / 2)
        mid = (w / 2 * math.cos(a), side * thick / 2 + w / 2 * math.sin(a), h / 2)
        turn = (90.0, 0.0, math.degrees(a))
        offset = 0.03
        prism(rounded(w, h, 0.12), 0.05, cover, bevel=0.02, turn=turn,
              at=(mid[0], mid[1] + offset, mid[2]))  # fmt: skip
    for i in range(4):
        a = math.radians((i - 1.5) * spread / 5)
        y = (i - 1.5) * thick / 4.6
        mid = ((w - 0.1) / 2 * math.cos(a), y + (w - 0.1) / 2 * math.sin(a), h / 2)
        box((w - 0.12, thick / 5, h - 0.14), surface("f6f0e0", "paper"), 0.01, mid,
            (0, 0, math.degrees(a)))  # fmt: skip
    if look.get("spiral", 0):
        wire = surface("steel", "polished")
        for i in range(13):
            z = 0.16 + (h - 0.32) * i / 12
            ring(thick / 2 + 0.06, 0.025, wire, (0, 0, z), (4, 0, 0))
    else:
        spine = [(0.02, 0), (thick / 2 + 0.03, 0), (thick / 2 + 0.03, h), (0.02, h)]
        lathe(spine, surface(look.colour, look.finish), radius=0.03)
    if look.get("band", 1):
        a = math.radians(-spread / 2)
        x = w * 0.84
        spot = (x * math.cos(a), -thick / 2 + x * math.sin(a) - 0.02, h / 2)
        box((0.09, 0.03, h + 0.03), band, 0.01, spot, (0, 0, math.degrees(a)))
    if look.get("label", 0):
        a = math.radians(-spread / 2)
        x = w * 0.45
        spot = (x * math.cos(a), -thick / 2 + x * math.sin(a) - 0.02, h * 0.66)
        box((0.62 * w, 0.02, 0.36), surface("f8f4ea", "paper"), 0.008, spot,
            (0, 0, math.degrees(a)))  # fmt: skip


def tape_dispenser(look: Look) -> None:
    """A desk tape dispenser: length and width set its shape."""
    long, wide = look.get("length", 2.2), look.get("width", 0.75)
    x = long / 2
    outline = [(-x, 0), (x, 0), (x, 0.34), (x * 0.62, 0.5), (x * 0.2, 0.42), (-x * 0.1, 0.55)]
    outline += [(-x * 0.55, 0.95), (-x * 0.9, 0.7)]
    soft = fillet(outline, 0.16, closed=True, steps=5)[0]
    prism(soft, wide, body(look), bevel=0.05, at=(0, wide / 2, 0), turn=(90, 0, 0))
    hub = (-x * 0.42, 0.0, 0.92)
    roll = surface("f0d79a", "plastic")
    tape = surface(look.accent, "plastic")
    lathe([(0.34, -0.17), (0.62, -0.17), (0.62, 0.17), (0.34, 0.17)], roll, radius=0.02, at=hub,
          turn=(90, 0, 0), closed=True)  # fmt: skip
    lathe([(0, -0.22), (0.35, -0.22), (0.35, 0.22), (0, 0.22)], tape, radius=0.05, at=hub,
          turn=(90, 0, 0))  # fmt: skip
    box((0.06, wide * 0.62, 0.26), surface("steel", "metal"), 0.015, (x - 0.04, 0, 0.42))
    start = (hub[0] + 0.18, 0.0, hub[2] + 0.59)
    end = (x - 0.05, 0.0, 0.52)
    length = math.dist(start, end)
    slope = math.degrees(math.atan2(start[2] - end[2], end[0] - start[0]))
    mid = ((start[0] + end[0]) / 2, 0.0, (start[2] + end[2]) / 2)
    box((length, 0.32, 0.012), roll, 0.004, mid, (0, slope, 0))


def _beyond(start: Point3, end: Point3, distance: float) -> Point3:
    """The point on the line from `start` through `end`, `distance` past its end."""
    part = 1 + distance / math.dist(start, end)
    x, y, z = (s + part * (e - s) for s, e in zip(start, end, strict=True))
    return x, y, z


def pencil_cup(look: Look) -> None:
    """A cup of pencils, round or square (`square`): height and width set its shape."""
    h, r = look.get("height", 1.3), look.get("width", 0.58)
    inside = surface("graphite", "matte")
    if look.get("square", 0):
        prism(rounded(2 * r, 2 * r, 0.14), h, body(look), bevel=0.03)
        prism(rounded(1.8 * r, 1.8 * r, 0.1), 0.02, inside, bevel=0.005, at=(0, 0, h - 0.005))
    else:
        profile = [(0, 0), (r, 0), (r, h), (r - 0.06, h), (r - 0.06, 0.1), (0, 0.1)]
        lathe(profile, body(look), inside, radius=0.05, split=4, segments=96)
    rng = seeded("pencils", look.accent)
    colours = [look.accent, "f4bd12", look.accent, "24803c", "c01a1c", "1a4fb4"]
    count = int(look.get("pencils", 5))
    for i in range(count):
        a = 2 * math.pi * i / count + rng.uniform(-0.3, 0.3)
        rise = h + rng.uniform(0.5, 0.95)
        low, high = 0.2 * r, 0.68 * r
        foot = (-low * math.cos(a), -low * math.sin(a), 0.3)
        tip = (high * math.cos(a), high * math.sin(a), rise)
        paint = surface(colours[i % len(colours)], "painted")
        tube([foot, tip], 0.075, paint, smooth=0)
        mid, end = _beyond(foot, tip, 0.17), _beyond(foot, tip, 0.23)
        tube([tip, mid], [0.075, 0.025], surface("beech", "wood"), smooth=0)
        tube([mid, end], [0.025, 0.004], surface(colours[i % len(colours)], "matte"), smooth=0)

"""Toy cars, stacking rings and robots."""

from __future__ import annotations

from ..geometry import ball, box, fillet, lathe, prism, ring, tube
from ..look import Look
from ..materials import glow, surface
from .tableware import body

RAINBOWS: tuple[tuple[str, ...], ...] = (
    ("red", "orange", "yellow", "green", "blue", "purple"),
    ("coral", "sand", "mint", "sky", "lilac", "pink"),
    ("walnut", "oak", "beech", "oak", "beech", "walnut"),
    ("navy", "blue", "teal", "sky", "mint", "white"),
    ("brown", "terracotta", "orange", "yellow", "cream", "white"),
)


def toy_car(look: Look) -> None:
    """A toy car: length, cabin size and place, and roof load set its shape."""
    long, wide = look.get("length", 2.4), look.get("width", 1.15)
    tall, cab = look.get("height", 0.5), look.get("cabin", 0.5)
    place = look.get("cabin_at", -0.08) * long
    x = long / 2
    base = 0.24
    side = [(-x, base), (x, base), (x, base + tall * 0.75), (x - 0.25, base + tall)]
    side += [(-x + 0.12, base + tall), (-x, base + tall * 0.8)]
    paint = body(look)
    prism(fillet(side, 0.14, closed=True)[0], wide, paint, bevel=0.1, at=(0, wide / 2, 0),
          turn=(90, 0, 0))  # fmt: skip
    room = look.get("room", 0.5) * long / 2
    top = base + tall
    cabin = [(place - room, top - 0.1), (place + room + 0.18, top - 0.1)]
    cabin += [(place + room - 0.12, top + cab), (place - room + 0.1, top + cab)]
    soft = fillet(cabin, 0.12, closed=True)[0]
    glass = surface("2b3a44", "polished" if look.get("shiny_glass", 0) else "enamel")
    inner = wide * 0.86
    prism(soft, inner, glass, bevel=0.06, at=(0, inner / 2, 0), turn=(90, 0, 0))
    roof_colour = surface(look.accent if look.get("accent_roof", 0) else look.colour, look.finish)
    box((2 * room - 0.1, inner + 0.03, 0.12), roof_colour, 0.05, (place, 0, top + cab - 0.01))
    for px in (place - room + 0.06, place + 0.02):
        box((0.1, inner + 0.03, cab), roof_colour, 0.03, (px, 0, top + cab / 2 - 0.05))
    tyre = surface("black", "rubber")
    hub = surface(look.accent, "plastic")
    r = look.get("wheel", 0.33)
    for fx in (-x * 0.6, x * 0.6):
        for sy in (-1, 1):
            at = (fx, sy * (wide / 2 - 0.02), r)
            lathe([(0, -0.14), (r, -0.14), (r, 0.14), (0, 0.14)], tyre, radius=0.07, at=at,
                  turn=(90, 0, 0))  # fmt: skip
            lathe([(0, -0.16), (r * 0.55, -0.16), (r * 0.55, 0.16), (0, 0.16)], hub, radius=0.04,
                  at=at, turn=(90, 0, 0))  # fmt: skip
    for at_y in (-0.34 * wide, 0.34 * wide):
        ball(0.12, glow("fff3cf", 0.6), (x - 0.05, at_y, base + tall * 0.55))
        ball(0.09, surface("red", "plastic"), (-x + 0.04, at_y, base + tall * 0.6))
    box((0.12, wide * 0.92, 0.13), surface("grey", "plastic"), 0.05, (x, 0, base + 0.08))
    box((0.12, wide * 0.92, 0.13), surface("grey", "plastic"), 0.05, (-x, 0, base + 0.08))
    if look.get("rack", 0):
        load = surface("oak", "wood")
        for i in range(3):
            box((2 * room - 0.2, 0.2, 0.16), load, 0.04,
                (place, (i - 1) * 0.25, top + cab + 0.12))  # fmt: skip


def stacking_rings(look: Look) -> None:
    """A stack of rings on a base: the palette, the number of rings and their fatness vary."""
    palette = RAINBOWS[int(look.get("palette", 0))]
    count, fat = int(look.get("rings", 5)), look.get("fat", 0.23)
    wood = look.finish == "wood"
    base = surface(look.colour, look.finish)
    lathe([(0, 0), (1.0, 0), (1.0, 0.16), (0, 0.16)], base, radius=0.07)
    z = 0.16
    for i in range(count):
        major = (0.72 - (0.42 * i / max(1, count - 1))) * look.get("spread", 1.0)
        colour = palette[i % len(palette)]
        ring(major, fat, surface(colour, look.finish if wood else "plastic"), (0, 0, z + fat))
        lathe([(0, z), (major, z), (major, z + 2 * fat), (0, z + 2 * fat)],
              surface(colour, "plastic"), radius=0.02)  # fmt: skip
        z += 2 * fat * 0.96
    ball(0.27, surface(look.accent, look.finish), (0, 0, z + 0.18))


def robot(look: Look) -> None:
    """A toy robot: body height and width, head shape and feet (legs or wheels) vary."""
    h, w = look.get("body", 1.0), look.get("width", 1.0)
    paint = body(look)
    trim = surface(look.accent, look.finish)
    dark = surface("graphite", "plastic")
    metal = surface("steel", "metal")
    leg = look.get("leg", 0.5)
    if look.get("wheels", 0):
        leg = 0.3
        for sx in (-1, 1):
            lathe([(0, -0.14), (0.34, -0.14), (0.34, 0.14), (0, 0.14)], dark, radius=0.07,
                  at=(sx * (w / 2 - 0.02), 0, 0.34), turn=(0, 90, 0))  # fmt: skip
            lathe([(0, -0.16), (0.18, -0.16), (0.18, 0.16), (0, 0.16)], trim, radius=0.04,
                  at=(sx * (w / 2 - 0.02), 0, 0.34), turn=(0, 90, 0))  # fmt: skip
    else:
        for sx in (-1, 1):
            box((0.26, 0.28, leg), dark, 0.05, (sx * 0.25 * w, 0, leg / 2 + 0.1))
            box((0.36, 0.52, 0.2), trim, 0.07, (sx * 0.25 * w, -0.08, 0.1))
    z = leg + 0.08
    box((w, 0.66, h), paint, 0.12, (0, 0, z + h / 2))
    box((0.56 * w, 0.06, 0.4 * h), surface("white", "plastic"), 0.03, (0, -0.335, z + 0.6 * h))
    for i, colour in enumerate(("red", "yellow", "green")):
        ball(0.06, surface(colour, "plastic"), ((i - 1) * 0.17 * w, -0.37, z + 0.66 * h))
    box((0.4 * w, 0.04, 0.06), dark, 0.01, (0, -0.36, z + 0.5 * h))
    neck = z + h
    lathe([(0, 0), (0.14, 0), (0.14, 0.14), (0, 0.14)], metal, radius=0.02, at=(0, 0, neck))
    top = neck + 0.12
    head = look.get("head", 0.62)
    if look.get("round_head", 0):
        ball(head * 0.62, paint, (0, 0, top + head * 0.55))
        front, eye_z = -head * 0.58, top + head * 0.6
    else:
        box((head * 1.3, 0.6, head), paint, 0.11, (0, 0, top + head / 2))
        front, eye_z = -0.3, top + head * 0.58
    for sx in (-1, 1):
        ring(0.11, 0.03, dark, (sx * 0.19, front, eye_z), (90, 0, 0))
        ball(0.1, glow("9fe8ff", 1.2), (sx * 0.19, front, eye_z))
    box((0.3, 0.05, 0.06), dark, 0.01, (0, front + 0.0, top + head * 0.24))
    crown = top + head * (1.15 if look.get("round_head", 0) else 1.0)
    tube([(0, 0, crown - 0.05), (0, 0, crown + 0.26)], 0.03, metal, smooth=0)
    ball(0.09, trim, (0, 0, crown + 0.3))
    for sx in (-1, 1):
        shoulder = sx * (w / 2 + 0.05)
        ball(0.15, metal, (shoulder, 0, neck - 0.22))
        path = [(shoulder, 0, neck - 0.22), (shoulder + sx * 0.2, -0.02, neck - 0.5)]
        hand = (shoulder + sx * 0.18, -0.22, neck - 0.78)
        tube([*path, hand], 0.085, dark)
        ball(0.15, trim, hand)

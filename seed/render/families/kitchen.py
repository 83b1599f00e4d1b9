"""Frying pans, water bottles and storage jars."""

from __future__ import annotations

from ..geometry import ball, lathe, ring, tube, wrap
from ..look import Look
from ..materials import surface
from .tableware import body


def frying_pan(look: Look) -> None:
    """A pan with a long handle: depth and handle length set its shape."""
    h, w = look.get("depth", 0.5), look.get("width", 1.2)
    inside = surface("cream" if look.get("light_inside", 0) else "graphite", "enamel")
    outer = [(0, 0), (0.8 * w, 0), (w, h), (w + 0.03, h + 0.04), (w - 0.08, h + 0.04)]
    profile = [*outer, (w - 0.1, h - 0.06), (0.78 * w, 0.08), (0, 0.08)]
    lathe(profile, body(look), inside, radius=0.05, split=5, segments=96)
    length = look.get("handle", 1.0)
    grip = surface(look.accent, "wood" if look.accent in ("oak", "walnut", "beech") else "rubber")
    start = w - 0.1
    tube([(start, 0, h - 0.1), (start + 0.3, 0, h + 0.02), (start + 0.55, 0, h + 0.12)],
         0.09, surface("steel", "metal"), flat=0.5)  # fmt: skip
    tail = [(start + 0.45, 0, h + 0.08), (start + 0.55 + 0.5 * length, 0, h + 0.3)]
    tube([*tail, (start + 0.5 + length, 0, h + 0.34)], [0.11, 0.15, 0.17, 0.14], grip, flat=0.6)
    for y in (-0.12, 0.12):
        ball(0.05, surface("steel", "polished"), (start - 0.02, y, h - 0.1))
    if look.get("helper", 0):
        loop = [(-w + 0.05, -0.3, h - 0.08), (-w - 0.28, -0.2, h), (-w - 0.28, 0.2, h)]
        tube([*loop, (-w + 0.05, 0.3, h - 0.08)], 0.08, surface(look.colour, look.finish))


def water_bottle(look: Look) -> None:
    """A drinking bottle: height, width and cap style set its shape."""
    h, r = look.get("height", 2.6), look.get("width", 0.5)
    neck = look.get("neck", 0.6) * r
    profile = [(0, 0), (r, 0), (r, h * 0.78), (neck, h * 0.92), (neck, h), (0, h)]
    lathe(profile, body(look), radius=0.16, segments=96)
    lathe([(0, 0), (r + 0.015, 0), (r + 0.015, 0.14), (0, 0.14)], surface(look.accent, "rubber"),
          radius=0.04)  # fmt: skip
    cap_finish = "wood" if look.accent in ("oak", "walnut", "beech") else "plastic"
    cap = surface(look.accent, cap_finish)
    top = h * 0.93
    lathe([(0, top), (neck + 0.07, top), (neck + 0.07, top + 0.36), (0, top + 0.36)], cap,
          radius=0.06)  # fmt: skip
    if look.get("loop", 1):
        z = top + 0.34
        tube([(-0.2, 0, z), (-0.2, 0, z + 0.24), (0, 0, z + 0.33), (0.2, 0, z + 0.24),
              (0.2, 0, z)], 0.06, cap, flat=1.3)  # fmt: skip
    else:
        lathe([(0, top + 0.3), (0.15, top + 0.3), (0.11, top + 0.62), (0, top + 0.62)],
              surface("white", "plastic"), radius=0.05)  # fmt: skip


def storage_jar(look: Look) -> None:
    """A lidded jar: height and width set its shape; the lid is wood or in the accent colour."""
    h, r = look.get("height", 1.5), look.get("width", 0.8)
    lathe([(0, 0), (r, 0), (r, h), (r * 0.9, h + 0.04), (0, h + 0.04)], body(look), radius=0.12,
          segments=96)  # fmt: skip
    wood = look.accent in ("oak", "walnut", "beech")
    lid = surface(look.accent, "wood" if wood else look.finish)
    rim = 0.96 * r
    lathe([(0, h + 0.03), (rim, h + 0.03), (rim, h + 0.2), (0, h + 0.2)], lid, radius=0.06)
    ring(rim * 0.985, 0.035, surface("white", "rubber"), (0, 0, h + 0.035))
    if look.get("knob", 1):
        lathe([(0, h + 0.18), (0.1, h + 0.18), (0.1, h + 0.26), (0.2, h + 0.36), (0.2, h + 0.44),
               (0, h + 0.44)], lid, radius=0.05)  # fmt: skip
    if look.get("label", 0):
        wrap(r + 0.012, 0.34 * h, 0.68 * h, 64, surface("cream", "paper"))

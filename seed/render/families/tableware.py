"""Mugs, teapots, bowls and vases."""

from __future__ import annotations

import bpy

from ..geometry import Point2, ball, lathe, ring, through, tube
from ..look import Look
from ..materials import surface


def body(look: Look) -> bpy.types.Material:
    """The patterned main surface of a product."""
    return surface(look.colour, look.finish, look.pattern, look.accent, look.repeats)


def curve2(points: list[Point2]) -> list[Point2]:
    """A smooth profile."""
    return [(float(r), float(z)) for r, z in through(points, 8)]


def mug(look: Look) -> None:
    """A mug: height, taper (foot against rim width) and width set its shape."""
    h, r = look.get("height", 1.9), look.get("width", 0.85)
    foot = r * look.get("taper", 0.92)
    inside = surface("white" if look.get("white_inside", 1) else look.colour, look.finish)
    profile = [(0, 0), (foot, 0), (r, h), (r - 0.08, h), (foot - 0.1, 0.12), (0, 0.12)]
    lathe(profile, body(look), inside, radius=0.07, split=3, segments=96)
    wall = (foot + r) / 2 - 0.03
    reach = look.get("handle", 0.55)
    loop = [
        (wall, 0, 0.8 * h), (wall + 0.6 * reach, 0, 0.82 * h), (wall + reach, 0, 0.6 * h),
        (wall + 0.85 * reach, 0, 0.34 * h), (wall + 0.4 * reach, 0, 0.22 * h), (wall, 0, 0.2 * h),
    ]  # fmt: skip
    handle = look.accent if look.get("accent_handle", 0) else look.colour
    tube(loop, [0.13, 0.11, 0.11, 0.11, 0.13], surface(handle, look.finish), flat=0.7)


def teapot(look: Look) -> None:
    """A teapot with lid, spout and handle: belly and height set its shape."""
    h, w = look.get("height", 1.5), look.get("belly", 1.05)
    profile = curve2(
        [
            (0, 0),
            (0.55 * w, 0),
            (0.92 * w, 0.2 * h),
            (w, 0.45 * h),
            (0.82 * w, 0.8 * h),
            (0.5 * w, h),
        ]
    )
    lathe([*profile, (0.4 * w, h), (0, h * 0.97)], body(look), radius=0, segments=96)
    lid_colour = look.accent if look.get("accent_lid", 0) else look.colour
    lid = surface(lid_colour, look.finish)
    top = h - 0.02
    dome = [(0.53 * w, top), (0.53 * w, top + 0.05), (0.42 * w, top + 0.16), (0.16, top + 0.26)]
    lathe([(0, top), *dome, (0, top + 0.28)], lid, radius=0.08)
    wooden = look.accent in ("oak", "walnut", "beech")
    trim = surface(look.accent, "wood" if wooden else look.finish)
    ball(0.15, trim, (0, 0, top + 0.38))
    spout = [(-0.8 * w, 0, 0.32 * h), (-1.2 * w, 0, 0.42 * h), (-1.4 * w, 0, 0.75 * h)]
    plain = surface(look.colour, look.finish)
    tube([*spout, (-1.68 * w, 0, 1.0 * h)], [0.3, 0.21, 0.15, 0.11], plain)
    loop = [
        (0.78 * w, 0, 0.84 * h), (1.2 * w, 0, 0.98 * h), (1.55 * w, 0, 0.75 * h),
        (1.45 * w, 0, 0.42 * h), (0.9 * w, 0, 0.24 * h),
    ]  # fmt: skip
    tube(loop, [0.11, 0.1, 0.1, 0.11], trim, flat=0.8)


def bowl(look: Look) -> None:
    """A footed bowl: depth and width set its shape; the inside is plain."""
    h, w = look.get("depth", 0.95), look.get("width", 1.3)
    outer = curve2([(0.45 * w, 0.1), (0.76 * w, 0.28 * h), (0.94 * w, 0.62 * h), (w, h)])
    inner = curve2([(w - 0.07, h), (0.88 * w, 0.62 * h), (0.7 * w, 0.34 * h), (0.0, 0.17)])
    foot = [(0, 0.02), (0.4 * w, 0.02), (0.41 * w, 0), (0.45 * w, 0)]
    inside = surface(look.accent if look.get("accent_inside", 0) else look.colour, look.finish)
    profile = [*foot, *outer, *inner]
    lathe(profile, body(look), inside, radius=0.02, split=len(foot) + len(outer), segments=96)
    # A plain rim, so that a pattern does not fray against the inside.
    ring(w - 0.035, 0.042, surface(look.colour, look.finish), (0, 0, h))


def vase(look: Look) -> None:
    """A vase: height, belly, where the belly sits, neck and lip set its shape."""
    h, w = look.get("height", 2.4), look.get("belly", 0.8)
    neck, lip = look.get("neck", 0.36), look.get("lip", 0.46)
    at = look.get("belly_at", 0.4)
    outer = curve2(
        [
            (0.5 * w, 0),
            (0.86 * w, at * 0.45 * h),
            (w, at * h),
            (0.8 * w, (at + 0.24) * h),
            (neck, 0.86 * h),
            (lip, h),
        ]
    )
    inner = curve2([(lip - 0.06, h), (neck - 0.06, 0.86 * h), (neck - 0.06, 0.6 * h)])
    inside = surface(look.colour, look.finish)
    lathe([(0, 0), *outer, *inner, (0, 0.6 * h)], body(look), inside, radius=0.01,
          split=len(outer) + 1, segments=96)  # fmt: skip

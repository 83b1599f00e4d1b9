"""Colour profiles, made from what defines a colour space."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

Primaries = tuple[tuple[float, float], ...]

# x, y of red, green, blue and white.
SRGB: Primaries = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), (0.3127, 0.3290))
DISPLAY_P3: Primaries = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.3127, 0.3290))
ADOBE_RGB: Primaries = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), (0.3127, 0.3290))
PROPHOTO: Primaries = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), (0.3457, 0.3585))
D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)

Matrix = npt.NDArray[np.float64]


def to_xyz(primaries: Primaries) -> Matrix:
    """From linear RGB to XYZ under D50, (3, 3)."""
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    colours, white = columns[:, :3], columns[:, 3]
    matrix = colours * np.linalg.solve(colours, white)
    cones = BRADFORD @ white
    adapted = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D50) / cones) @ BRADFORD
    return adapted @ matrix


def icc_profile(primaries: Primaries, gamma: float) -> bytes:
    """A matrix profile of version 2."""

    def fixed(*numbers: float) -> bytes:
        return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))

    text = b"made by a test"
    matrix = to_xyz(primaries)
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text) + 1) + text + bytes(79),
        b"cprt": b"text" + bytes(4) + text + bytes(2),
        b"wtpt": b"XYZ " + bytes(4) + fixed(*D50),
        **{
            name: b"XYZ " + bytes(4) + fixed(*matrix[:, at])
            for at, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))
        },
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    place = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", place + len(body), len(content))
        body += content
    header = struct.pack(">I4sI4s4s4s", place + len(body), b"none", 0x02400000, b"mntr", b"RGB ",
        b"XYZ ")  # fmt: skip
    header += bytes(12) + b"acsp" + bytes(28) + fixed(*D50)
    return header + bytes(128 - len(header)) + table + body


def in_space(pixels: npt.NDArray[np.uint8], primaries: Primaries, gamma: float) -> Matrix:
    """sRGB pixels (..., 3) in another space, rounded to 0 to 255."""
    share = pixels / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = linear @ to_xyz(SRGB).T
    other = xyz @ np.linalg.inv(to_xyz(primaries)).T
    return np.round(255 * np.clip(other, 0, 1) ** (1 / gamma))

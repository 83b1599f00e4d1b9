"""What stands around a product: studio sweeps, and the tables, cloths and walls of home photos."""

from __future__ import annotations

import random

import bpy

from .geometry import box, lathe, mesh_object, through
from .materials import Nodes, surface
from .palette import Rgb, linear, shade

STAGE = "stage"


def _plain(rgb: Rgb, roughness: float = 0.7) -> bpy.types.Material:
    """A matte single colour."""
    nodes = Nodes("backdrop")
    nodes.feed(nodes.shader.inputs["Base Color"], rgb)
    nodes.shader.inputs["Roughness"].default_value = roughness
    return nodes.material


def _planks(rng: random.Random) -> bpy.types.Material:
    """A table of wooden boards."""
    base = linear(rng.choice(["oak", "walnut", "beech", "8a5a36"]))
    nodes = Nodes("planks")
    where = nodes.stretched((1.0, 1.0, 1.0))
    boards = nodes.new(
        "TexBrick", Vector=where, Color1=shade(base, 0.8), Color2=shade(base, 1.1),
        Mortar=shade(base, 0.3), Scale=1.0, Mortar_Size=0.008, Brick_Width=6.0, Row_Height=0.85,
    )  # fmt: skip
    grain = nodes.new(
        "TexNoise", Vector=nodes.stretched((0.7, 9.0, 1.0)), Scale=1.4, Detail=6.0, Roughness=0.65
    )
    ramp = nodes.new("MapRange", Value=grain.outputs[0], From_Min=0.35, From_Max=0.7)
    darker = nodes.mix(ramp.outputs[0], shade(base, 0.45), boards.outputs[0])
    nodes.feed(nodes.shader.inputs["Base Color"], nodes.mix(0.65, boards.outputs[0], darker))
    nodes.shader.inputs["Roughness"].default_value = 0.45
    nodes.bump(grain.outputs[0], 0.15)
    return nodes.material


def _cloth(rng: random.Random) -> bpy.types.Material:
    """A coloured cloth, plain woven or softly striped."""
    base = linear(rng.choice(["7d93a8", "a8b79a", "c9a48f", "8e8aa8", "b8b0a0", "5f7f86"]))
    nodes = Nodes("cloth")
    colour: object = base
    if rng.random() < 0.4:
        uv = nodes.new("SeparateXYZ", Vector=nodes.coordinates("Object"))
        wave = nodes.math("FRACT", nodes.math("MULTIPLY", uv.outputs[0], 1.3))
        colour = nodes.mix(nodes.math("LESS_THAN", wave, 0.18), base, shade(base, 1.7))
    weave = nodes.new("TexNoise", Vector=nodes.stretched((90, 90, 1)), Scale=1.0, Detail=2.0)
    folds = nodes.new("TexNoise", Vector=nodes.coordinates("Object"), Scale=0.8, Detail=1.0)
    nodes.feed(nodes.shader.inputs["Base Color"], colour)
    nodes.shader.inputs["Roughness"].default_value = 0.95
    nodes.shader.inputs["Sheen Weight"].default_value = 0.3
    height = nodes.math("ADD", nodes.math("MULTIPLY", weave.outputs[0], 0.12), folds.outputs[0])
    nodes.bump(height, 0.5, 0.15)
    return nodes.material


def _tiles(rng: random.Random) -> bpy.types.Material:
    """Floor tiles with grout lines."""
    base = linear(rng.choice(["9aa4a8", "b89f86", "6f7f80", "a5847a", "c2bfb6"]))
    nodes = Nodes("tiles")
    boards = nodes.new(
        "TexBrick", Vector=nodes.stretched((1, 1, 1)), Color1=shade(base, 0.86),
        Color2=shade(base, 1.08), Mortar=shade(base, 0.45), Scale=1.0, Mortar_Size=0.02,
        Brick_Width=1.5, Row_Height=1.5,
    )  # fmt: skip
    boards.offset = 0.0
    stain = nodes.new("TexNoise", Vector=nodes.coordinates("Object"), Scale=2.5, Detail=5.0)
    mixed = nodes.mix(
        nodes.math("MULTIPLY", stain.outputs[0], 0.35), boards.outputs[0], shade(base, 0.7)
    )
    nodes.feed(nodes.shader.inputs["Base Color"], mixed)
    nodes.shader.inputs["Roughness"].default_value = 0.3
    nodes.bump(nodes.math("SUBTRACT", 1.0, boards.outputs["Fac"]), 0.4)
    return nodes.material


def _stone(rng: random.Random) -> bpy.types.Material:
    """A speckled worktop."""
    base = linear(rng.choice(["b5b0a6", "6b6f72", "8f877c"]))
    nodes = Nodes("stone")
    cells = nodes.new("TexVoronoi", Vector=nodes.coordinates("Object"), Scale=22.0)
    cells.feature = "F1"
    chips = nodes.math("LESS_THAN", cells.outputs["Distance"], 0.25)
    nodes.feed(
        nodes.shader.inputs["Base Color"],
        nodes.mix(nodes.math("MULTIPLY", chips, 0.7), base, shade(base, 0.45)),
    )
    nodes.shader.inputs["Roughness"].default_value = 0.25
    return nodes.material


FLOORS = {"planks": _planks, "cloth": _cloth, "tiles": _tiles, "stone": _stone}
WALLS = ("9fb3b8", "c7b299", "8f9f86", "b98f7f", "8a90a8", "d2c9b8", "6f868c")


def studio(rgb: Rgb, azimuth: float) -> None:
    """A seamless sweep: floor, rounded rise and back wall, turned to face the camera."""
    profile = [(-14.0, 0.0), (5.0, 0.0)]
    curve = through([(5, 0), (6.4, 0.35), (7.5, 1.5), (8, 3.2)], 6)[1:]
    profile += [(float(y), float(z)) for y, z in curve] + [(8.0, 16.0)]
    verts = [(x, y, z) for y, z in profile for x in (-20.0, 20.0)]
    faces = [(2 * i, 2 * i + 1, 2 * i + 3, 2 * i + 2) for i in range(len(profile) - 1)]
    mesh_object(
        verts, faces, [(0, 0)] * (4 * len(faces)), [_plain(rgb)], turn=(0, 0, azimuth), into=STAGE
    )


def room(rng: random.Random, azimuth: float, behind: float) -> None:
    """A table or floor with a textured surface, and a coloured wall `behind` the product."""
    corners = [(-20, -20, 0), (20, -20, 0), (20, 20, 0), (-20, 20, 0)]
    floor = FLOORS[rng.choice(list(FLOORS))](rng)
    turn = azimuth + rng.uniform(-25, 25)
    mesh_object(corners, [(0, 1, 2, 3)], [(0, 0)] * 4, [floor], turn=(0, 0, turn), into=STAGE)
    wall = [(-20, behind, 0), (20, behind, 0), (20, behind, 12), (-20, behind, 12)]
    paint = _plain(linear(rng.choice(WALLS)), 0.85)
    lean = azimuth + rng.uniform(-12, 12)
    mesh_object(wall, [(0, 1, 2, 3)], [(0, 0)] * 4, [paint], turn=(0, 0, lean), into=STAGE)


def clutter(rng: random.Random, spot: tuple[float, float]) -> None:
    """A small coloured block, cylinder or ball that stands at the picture's edge."""
    colour = rng.choice(["teal", "coral", "sand", "sage", "navy", "cream", "brown", "grey"])
    paint = surface("8fa58a" if colour == "sage" else colour, "matte")
    x, y = spot
    size = rng.uniform(0.35, 0.5)
    if rng.random() < 0.5:
        turn = (0.0, 0.0, rng.uniform(0, 90))
        box((size, size, size), paint, 0.04, (x, y, size / 2), turn, into=STAGE)
    else:
        can = [(0, 0), (size * 0.45, 0), (size * 0.45, size * 1.2), (0, size * 1.2)]
        lathe(can, paint, radius=0.05, at=(x, y, 0), into=STAGE)

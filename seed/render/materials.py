"""Surface materials: finishes (ceramic, metal, wood...) and patterns laid out in UV space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import bpy

from .palette import Rgb, linear, shade

Socket: TypeAlias = bpy.types.NodeSocket


@dataclass(frozen=True)
class Finish:
    """How a surface reflects light, apart from its colour."""

    roughness: float
    metallic: float = 0.0
    coat: float = 0.0
    sheen: float = 0.0
    bump: float = 0.0
    bump_scale: float = 60.0
    grain: bool = False


FINISHES: dict[str, Finish] = {
    "glazed": Finish(0.16, coat=0.6),
    "matte": Finish(0.62, bump=0.04, bump_scale=40),
    "stoneware": Finish(0.42, coat=0.15, bump=0.05, bump_scale=18),
    "enamel": Finish(0.2, coat=0.8),
    "plastic": Finish(0.34),
    "rubber": Finish(0.72, bump=0.06, bump_scale=120),
    "metal": Finish(0.28, metallic=1.0, bump=0.03, bump_scale=90),
    "polished": Finish(0.13, metallic=1.0),
    "painted": Finish(0.3, coat=0.4),
    "wood": Finish(0.48, grain=True),
    "fabric": Finish(0.9, sheen=0.5, bump=0.35, bump_scale=90),
    "leather": Finish(0.5, bump=0.18, bump_scale=45),
    "paper": Finish(0.85),
    "clay": Finish(0.8, bump=0.05, bump_scale=45),
    "leaf": Finish(0.45, sheen=0.1),
    "wax": Finish(0.5),
}


class Nodes:
    """A small writer for a material's node tree."""

    def __init__(self, name: str) -> None:
        """Make a material whose tree holds a Principled shader only."""
        self.material = bpy.data.materials.new(name)
        self.material.use_nodes = True
        self.tree = self.material.node_tree
        self.tree.nodes.clear()
        self.shader = self.tree.nodes.new("ShaderNodeBsdfPrincipled")
        out = self.tree.nodes.new("ShaderNodeOutputMaterial")
        self.tree.links.new(self.shader.outputs[0], out.inputs[0])

    def new(self, kind: str, **inputs: object) -> bpy.types.Node:
        """Add a node; inputs are given by name, underscores for spaces, sockets are linked."""
        node = self.tree.nodes.new(f"ShaderNode{kind}")
        for name, value in inputs.items():
            self.feed(node.inputs[name.replace("_", " ")], value)
        return node

    def feed(self, socket: Socket, value: object) -> None:
        """Link or set one input."""
        if isinstance(value, bpy.types.NodeSocket):
            self.tree.links.new(value, socket)
        elif isinstance(value, tuple) and len(value) == 3 and socket.type == "RGBA":
            socket.default_value = (*value, 1.0)
        else:
            socket.default_value = value

    def math(self, operation: str, a: object, b: object = 0.0) -> Socket:
        """One arithmetic node."""
        node = self.tree.nodes.new("ShaderNodeMath")
        node.operation = operation
        self.feed(node.inputs[0], a)
        self.feed(node.inputs[1], b)
        return node.outputs[0]

    def mix(self, factor: object, a: object, b: object) -> Socket:
        """Mix two colours."""
        node = self.tree.nodes.new("ShaderNodeMix")
        node.data_type = "RGBA"
        self.feed(node.inputs[0], factor)
        self.feed(node.inputs[6], a)
        self.feed(node.inputs[7], b)
        return node.outputs[2]

    def coordinates(self, output: str) -> Socket:
        """A texture coordinate: UV, Object or Generated."""
        return self.new("TexCoord").outputs[output]

    def stretched(self, scale: tuple[float, float, float], output: str = "Object") -> Socket:
        """Texture coordinates scaled by axis."""
        node = self.new("Mapping", Vector=self.coordinates(output), Scale=scale)
        return node.outputs[0]

    def bump(self, height: Socket, strength: float, distance: float = 0.02) -> None:
        """Send a height to the shader's normal."""
        node = self.new("Bump", Height=height, Strength=strength, Distance=distance)
        self.feed(self.shader.inputs["Normal"], node.outputs[0])


def pattern_mask(nodes: Nodes, kind: str, repeats: float) -> Socket:
    """A 0/1 mask of the pattern; whole `repeats` close seamlessly around a lathe."""
    if kind == "speckle":
        cells = nodes.new("TexVoronoi", Vector=nodes.coordinates("Object"), Scale=repeats * 2.2)
        return nodes.math("LESS_THAN", cells.outputs["Distance"], 0.24)
    uv = nodes.new("SeparateXYZ", Vector=nodes.coordinates("UV"))
    u = nodes.math("MULTIPLY", uv.outputs[0], repeats)
    v = nodes.math("MULTIPLY", uv.outputs[1], repeats)
    if kind == "stripes":
        return nodes.math("LESS_THAN", nodes.math("FRACT", u), 0.5)
    if kind == "bands":
        return nodes.math("LESS_THAN", nodes.math("FRACT", v), 0.5)
    if kind == "checks":
        both = nodes.math("ADD", nodes.math("FLOOR", u), nodes.math("FLOOR", v))
        return nodes.math("FLOORED_MODULO", both, 2.0)
    if kind == "zigzag":
        tooth = nodes.math("ABSOLUTE", nodes.math("SUBTRACT", nodes.math("FRACT", u), 0.5))
        wave = nodes.math("FRACT", nodes.math("ADD", v, nodes.math("MULTIPLY", tooth, 1.4)))
        return nodes.math("LESS_THAN", wave, 0.5)
    # Dots: every other row is shifted by half a cell.
    row = nodes.math("MULTIPLY", nodes.math("FLOORED_MODULO", nodes.math("FLOOR", v), 2.0), 0.5)
    x = nodes.math("SUBTRACT", nodes.math("FRACT", nodes.math("ADD", u, row)), 0.5)
    y = nodes.math("SUBTRACT", nodes.math("FRACT", v), 0.5)
    squared = nodes.math("ADD", nodes.math("MULTIPLY", x, x), nodes.math("MULTIPLY", y, y))
    return nodes.math("LESS_THAN", squared, 0.085)


def wood_colour(nodes: Nodes, base: Rgb, scale: float = 1.0) -> Socket:
    """Long, slightly wavy grain along the object's x axis."""
    where = nodes.stretched((1.2 * scale, 9 * scale, 9 * scale))
    rings = nodes.new("TexNoise", Vector=where, Scale=1.6, Detail=5.0, Roughness=0.6)
    fibre = nodes.new(
        "TexNoise", Vector=nodes.stretched((3 * scale, 60 * scale, 60 * scale)), Scale=1.5
    )
    both = nodes.math("ADD", rings.outputs[0], nodes.math("MULTIPLY", fibre.outputs[0], 0.35))
    ramp = nodes.new("MapRange", Value=both, From_Min=0.45, From_Max=0.9)
    return nodes.mix(ramp.outputs[0], shade(base, 0.5), shade(base, 1.15))


def surface(
    colour: str,
    finish: str,
    pattern: str = "plain",
    accent: str = "white",
    repeats: float = 8,
) -> bpy.types.Material:
    """A product material from a named colour, a finish and a pattern in an accent colour."""
    spec = FINISHES[finish]
    nodes = Nodes(f"{colour}-{finish}")
    shader = nodes.shader
    base: object = linear(colour)
    if spec.grain:
        base = wood_colour(nodes, linear(colour))
    if pattern != "plain":
        base = nodes.mix(pattern_mask(nodes, pattern, repeats), base, linear(accent))
    nodes.feed(shader.inputs["Base Color"], base)
    shader.inputs["Roughness"].default_value = spec.roughness
    shader.inputs["Metallic"].default_value = spec.metallic
    shader.inputs["Coat Weight"].default_value = spec.coat
    shader.inputs["Coat Roughness"].default_value = 0.08
    shader.inputs["Sheen Weight"].default_value = spec.sheen
    if spec.bump:
        noise = nodes.new(
            "TexNoise", Vector=nodes.coordinates("Object"), Scale=spec.bump_scale, Detail=3.0
        )
        nodes.bump(noise.outputs[0], spec.bump * 2)
    return nodes.material


def glow(colour: str, strength: float) -> bpy.types.Material:
    """A self-lit material, for bulbs and flames."""
    nodes = Nodes(f"glow-{colour}")
    nodes.feed(nodes.shader.inputs["Base Color"], linear(colour))
    nodes.feed(nodes.shader.inputs["Emission Color"], linear(colour))
    nodes.shader.inputs["Emission Strength"].default_value = strength
    return nodes.material

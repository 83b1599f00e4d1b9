"""Cameras, lights and views: one product, built once, seen from several set-ups."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import bpy
import numpy as np
import numpy.typing as npt
from mathutils import Matrix, Vector

from . import backgrounds
from .geometry import COLLECTION, collection
from .look import seeded
from .palette import linear

Spots: TypeAlias = npt.NDArray[np.float64]
Triangles: TypeAlias = npt.NDArray[np.int32]

SIZE = 320
SPAN = 2.0  # every product is scaled to this greatest dimension, so that lights fit all


@dataclass(frozen=True)
class View:
    """One picture's set-up; `backdrop` is a studio colour, or None for a home photo."""

    name: str
    azimuth: float
    elevation: float
    lens: float
    light: str
    backdrop: str | None = None
    fill: float = 0.83


CATALOGUE = (
    View("1", -30, 14, 70, "soft", "ebeae7"),
    View("2", 26, 27, 60, "side", "e2e5e8"),
    View("3", 66, 47, 80, "top", "cfc8bd"),
)
QUERY = View("1", 44, 36, 50, "home", None, 0.81)

# Flat or one-sided goods are photographed from nearer their front.
FACING = {
    "alarm-clock": ((-28, 9), (18, 20), (42, 34), (4, 27)),
    "notebook": ((-34, 12), (16, 24), (-14, 40), (-4, 31)),
    "robot": ((-26, 8), (20, 20), (44, 36), (2, 27)),
    "desk-lamp": ((-30, 8), (24, 20), (56, 34), (6, 26)),
    "skateboard": ((-28, 18), (24, 32), (58, 48), (6, 41)),
    "dumbbell": ((-32, 14), (26, 26), (60, 44), (4, 36)),
    "frying-pan": ((-52, 18), (-34, 30), (52, 44), (-68, 37)),
    "bowl": ((-30, 14), (26, 26), (66, 44), (44, 35)),
}


def views(family: str) -> tuple[tuple[View, ...], View]:
    """A family's catalogue views and its held-out query view."""
    angles = FACING.get(family)
    if angles is None:
        return CATALOGUE, QUERY
    moved = [
        View(v.name, az, el, v.lens, v.light, v.backdrop, v.fill)
        for v, (az, el) in zip((*CATALOGUE, QUERY), angles, strict=True)
    ]
    return tuple(moved[:3]), moved[3]


def setup(samples: int, threads: int = 0) -> None:
    """Start an empty file with the render settings."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.render.resolution_x = scene.render.resolution_y = SIZE
    scene.render.resolution_percentage = 100
    scene.render.use_persistent_data = True
    if threads:
        scene.render.threads_mode, scene.render.threads = "FIXED", threads
    cycles = scene.cycles
    cycles.device = "CPU"
    cycles.samples = samples
    cycles.use_adaptive_sampling = False
    cycles.use_denoising = True
    cycles.denoiser = "OPENIMAGEDENOISE"
    cycles.max_bounces = 5
    cycles.diffuse_bounces = 3
    cycles.glossy_bounces = 3
    cycles.transmission_bounces = 2
    cycles.caustics_reflective = cycles.caustics_refractive = False
    cycles.sample_clamp_indirect = 4.0
    cycles.seed = 1
    scene.view_settings.view_transform = "Khronos PBR Neutral"
    scene.render.image_settings.file_format = "WEBP"
    scene.render.image_settings.color_mode = "RGB"
    scene.render.image_settings.quality = 85
    scene.world = bpy.data.worlds.new("world")
    scene.world.use_nodes = True
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    scene.collection.objects.link(camera)
    scene.camera = camera


def clear(name: str) -> None:
    """Remove everything in one collection, and the data nothing else uses."""
    for obj in list(collection(name).objects):
        bpy.data.objects.remove(obj, do_unlink=True)
    for store in (bpy.data.meshes, bpy.data.lights, bpy.data.materials):
        for block in [b for b in store if b.users == 0]:
            store.remove(block)


def parts() -> list[tuple[Spots, Triangles]]:
    """Vertices (n, 3) of each of the product's parts in the world, and triangles (m, 3) of them.

    Modifiers are applied.
    """
    graph = bpy.context.evaluated_depsgraph_get()
    found = []
    for obj in collection(COLLECTION).objects:
        if obj.type != "MESH":
            continue
        ready = obj.evaluated_get(graph)
        mesh = ready.to_mesh()
        flat = np.empty(len(mesh.vertices) * 3, dtype=np.float32)
        mesh.vertices.foreach_get("co", flat)
        spots = np.c_[flat.reshape(-1, 3), np.ones(len(mesh.vertices))]
        mesh.calc_loop_triangles()
        corners = np.empty(len(mesh.loop_triangles) * 3, dtype=np.int32)
        mesh.loop_triangles.foreach_get("vertices", corners)
        world = (spots @ np.array(ready.matrix_world).T)[:, :3]
        found.append((world, corners.reshape(-1, 3)))
        ready.to_mesh_clear()
    return found


def vertices() -> Spots:
    """World positions of the product's vertices, modifiers applied."""
    return np.concatenate([spots for spots, _ in parts()])


def settle() -> Spots:
    """Scale the product to SPAN, centre it and stand it on the floor; return its vertices."""
    bpy.context.view_layer.update()
    spots = vertices()
    low, high = spots.min(0), spots.max(0)
    scale = SPAN / float((high - low).max())
    middle = (low + high) / 2
    move = Matrix.Scale(scale, 4) @ Matrix.Translation((-middle[0], -middle[1], -low[2]))
    for obj in collection(COLLECTION).objects:
        obj.matrix_world = move @ obj.matrix_world
    bpy.context.view_layer.update()
    return vertices()


def frame(
    spots: Spots,
    azimuth: float,
    elevation: float,
    lens: float,
    fill: float,
    sides: tuple[float, float] = (1.0, 1.0),
) -> bpy.types.Object:
    """Aim the camera so that the product fills `fill` of the picture, centred.

    `sides` are the picture's width and height as shares of the longer one.
    """
    camera = bpy.context.scene.camera
    camera.data.lens = lens
    a, e = math.radians(azimuth), math.radians(elevation)
    back = np.array([math.sin(a) * math.cos(e), -math.cos(a) * math.cos(e), math.sin(e)])
    right = np.array([math.cos(a), math.sin(a), 0.0])
    up = np.cross(back, right)
    slope = camera.data.sensor_width / 2 / lens
    aim = (spots.min(0) + spots.max(0)) / 2
    distance = 0.0
    for _ in range(4):
        local = (spots - aim) @ np.array([right, up, back]).T
        reach = np.abs(local[:, :2] / sides).max(1) / (fill * slope) + local[:, 2]
        distance = float(reach.max())
        seen = local[:, :2] / (distance - local[:, 2:])
        offset = (seen.max(0) + seen.min(0)) / 2 * distance
        aim = aim + offset[0] * right + offset[1] * up
    camera.location = Vector(aim + back * distance)
    rotation = Matrix(np.array([right, up, back]).T.tolist())
    camera.rotation_euler = rotation.to_euler()
    bpy.context.view_layer.update()
    return camera


def area(azimuth: float, elevation: float, size: float, watts: float, tint: str) -> None:
    """An area light five units away, aimed at the product."""
    lamp = bpy.data.lights.new("area", "AREA")
    lamp.size, lamp.energy, lamp.color = size, watts, linear(tint)
    obj = bpy.data.objects.new("area", lamp)
    a, e = math.radians(azimuth), math.radians(elevation)
    spot = Vector((math.sin(a) * math.cos(e), -math.cos(a) * math.cos(e), math.sin(e)))
    obj.location = spot * 5.0 + Vector((0, 0, 0.8))
    obj.rotation_euler = spot.to_track_quat("Z", "Y").to_euler()
    collection(backgrounds.STAGE).objects.link(obj)


def sky(rgb_hex: str, strength: float) -> None:
    """Even light from all round."""
    node = bpy.context.scene.world.node_tree.nodes["Background"]
    node.inputs[0].default_value = (*linear(rgb_hex), 1.0)
    node.inputs[1].default_value = strength


def light(kind: str, azimuth: float, rng: random.Random) -> None:
    """One of the light set-ups, turned with the camera."""
    if kind == "soft":
        area(azimuth - 62, 48, 2.4, 250, "fffaf4")
        area(azimuth + 75, 30, 3.0, 60, "f4f8ff")
        sky("ffffff", 0.34)
    elif kind == "side":
        area(azimuth + 75, 38, 2.4, 360, "ffffff")
        area(azimuth - 60, 40, 4.0, 90, "f2f6ff")
        sky("ffffff", 0.36)
    elif kind == "top":
        area(azimuth - 40, 62, 2.6, 320, "fff8ee")
        area(azimuth + 160, 30, 2.0, 90, "ffffff")
        sky("fbfaf8", 0.33)
    elif rng.random() < 0.5:  # a window at one side
        side = rng.choice([-1, 1])
        area(azimuth + side * rng.uniform(65, 100), rng.uniform(25, 40), 2.2, 480, "eef4ff")
        sky("f4f0ea", 0.5)
    else:  # a lamp overhead
        area(azimuth + rng.uniform(-60, 60), rng.uniform(55, 75), 1.0, 430, "fff3e4")
        sky("f0f2f6", 0.48)


def ground(camera: bpy.types.Object, x: float, y: float) -> Vector:
    """Where the picture point (x, y), each -1..1, meets the floor."""
    slope = camera.data.sensor_width / 2 / camera.data.lens
    ray = camera.matrix_world.to_3x3() @ Vector((x * slope, y * slope, -1.0))
    start = camera.matrix_world.translation
    return start + ray * (start.z / max(1e-6, -ray.z))


def shoot(spots: Spots, view: View, key: str, path: Path) -> None:
    """Light, frame and render one view of the product that stands in the scene."""
    rng = seeded(key, view.name, "home" if view.backdrop is None else "studio")
    clear(backgrounds.STAGE)
    azimuth = view.azimuth + rng.uniform(-3, 3)
    elevation = view.elevation + rng.uniform(-2, 2)
    camera = frame(spots, azimuth, elevation, view.lens, view.fill + rng.uniform(-0.03, 0.03))
    camera.data.shift_x = camera.data.shift_y = 0.0
    if view.backdrop is not None:
        backgrounds.studio(linear(view.backdrop), azimuth)
    else:
        camera.data.shift_x = rng.uniform(-0.05, 0.05)
        camera.data.shift_y = rng.uniform(-0.04, 0.04)
        camera.rotation_euler.rotate_axis("Z", math.radians(rng.uniform(-3, 3)))
        bpy.context.view_layer.update()
        backgrounds.room(rng, azimuth, rng.uniform(1.9, 3.2))
        if rng.random() < 0.5:
            spot = ground(camera, rng.choice([-1.0, 1.0]), rng.uniform(-0.75, 0.2))
            gap = np.abs(spots[:, :2] - np.array(spot[:2])).max(1).min()
            if gap > 0.45:
                backgrounds.clutter(rng, (spot.x, spot.y))
    light(view.light, azimuth, rng)
    path.parent.mkdir(parents=True, exist_ok=True)
    bpy.context.scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)

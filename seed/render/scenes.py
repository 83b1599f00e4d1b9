"""Home photos of several products, and where in them each product is.

A box is that of what can be seen: of the product's silhouette without what others hide of it or
the picture's edge cuts off.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import bpy
import numpy as np
import numpy.typing as npt
from mathutils import Matrix, Vector
from mathutils.bvhtree import BVHTree
from mathutils.geometry import convex_hull_2d

from . import backgrounds, scene
from .families import build
from .geometry import COLLECTION, collection
from .look import Product, seeded
from .palette import linear
from .scene import Spots

LISTING = "scenes.jsonl"
STANDING = "standing"
COUNTS = (1, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6)
LEAST_SEEN = 0.6  # of every product's silhouette
DRAWS = 40  # of cameras, until one sees that much
STEP = 2  # pixels between the rays that find what hides what
LIGHTS = ("home", "home", "home", "soft", "side", "top")
STUDIO = 0.1  # share of pictures on a plain sweep
SHAPES = ((1.0, 0.75), (0.75, 1.0), (1.0, 1.0))

Cells: TypeAlias = npt.NDArray[np.int64]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Standing:
    """A product in its place: its vertices in the world, and what rays meet of it."""

    product_id: str
    spots: Spots
    tree: BVHTree


def render_scenes(
    products: list[Product], count: int, views: int, size: int, seed: int, out: Path
) -> int:
    """Render the pictures that ``scenes.jsonl`` does not have yet; return how many were made.

    Every `views` pictures show one arrangement. A line is written when its picture is there, so
    the listing can be read while it grows.
    """
    out.mkdir(parents=True, exist_ok=True)
    listing = out / LISTING
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.exists() else []
    there = {json.loads(line)["file"] for line in lines}
    done, start = 0, time.monotonic()
    hands = deal(products, seed)
    for first in range(1, count + 1, views):
        hand = next(hands)
        names = [f"{n:04d}.webp" for n in range(first, min(first + views, count + 1))]
        if there.issuperset(names):
            continue
        rng = seeded("arrangement", seed, first)
        group = arrange(hand, rng)
        sides = rng.choice(SHAPES)
        for name in names:
            if name in there:
                continue
            boxes = shoot(group, sides, size, seeded("picture", seed, name), out / name)
            if boxes is None:
                print(f"{name} left out: no camera sees enough of every product", flush=True)
                continue
            found = zip(group, boxes, strict=True)
            objects = [{"product_id": item.product_id, "box": box} for item, box in found]
            with listing.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"file": name, "objects": objects}) + "\n")
            done += 1
            print(f"{name}  {(time.monotonic() - start) / done:.1f} s a picture", flush=True)
    return done


def deal(products: list[Product], seed: int) -> Iterator[list[Product]]:
    """Products of one arrangement after the other; none twice until each had its turn."""
    rng = seeded("deal", seed)
    deck: list[Product] = []
    while True:
        count = min(rng.choice(COUNTS), len(products))
        if len(deck) < count:
            deck = rng.sample(products, len(products))
        yield [deck.pop() for _ in range(count)]


def arrange(products: list[Product], rng: random.Random) -> list[Standing]:
    """Build the products and stand them near each other, none in another."""
    scene.clear(STANDING)
    gap, spread = rng.uniform(0.02, 0.35), rng.uniform(0.5, 1.0)
    group: list[Standing] = []
    hulls: list[Spots] = []
    for product in products:
        scene.clear(COLLECTION)
        build(product.look)
        scene.settle()
        found = scene.parts()
        turn = math.radians(rng.uniform(-40, 40))
        move = Matrix.Rotation(turn, 4, "Z") @ Matrix.Scale(rng.uniform(0.42, 0.75), 4)
        spots = np.concatenate([part for part, _ in found]) @ np.array(move.to_3x3()).T
        flat = [Vector(spot) for spot in spots[:, :2].tolist()]
        hull = spots[convex_hull_2d(flat), :2]
        place = free_place(hull, hulls, gap, spread, rng)
        hulls.append(hull + place)
        spots += (*place, 0.0)
        for obj in list(collection(COLLECTION).objects):
            obj.matrix_world = Matrix.Translation((*place, 0.0)) @ move @ obj.matrix_world
            collection(STANDING).objects.link(obj)
            collection(COLLECTION).objects.unlink(obj)
        starts = np.cumsum([0, *(len(part) for part, _ in found)])
        faces = np.concatenate([c + s for (_, c), s in zip(found, starts, strict=False)])
        tree = BVHTree.FromPolygons(spots.tolist(), faces.tolist(), all_triangles=True)
        group.append(Standing(product.product_id, spots, tree))
    bpy.context.view_layer.update()
    return group


def free_place(
    hull: Spots, taken: list[Spots], gap: float, spread: float, rng: random.Random
) -> tuple[float, float]:
    """Where a convex outline is `gap` away from all others, as near to the middle as is free."""
    reach = 0.0
    while True:
        place = (rng.uniform(-1.5, 1.5) * reach, rng.uniform(-1.0, 1.0) * reach)
        if all(distance(hull + place, other) >= gap for other in taken):
            return place
        reach += 0.03 * spread


def distance(a: Spots, b: Spots) -> float:
    """The widest gap between two convex outlines along a normal of their sides.

    It is negative where they overlap.
    """
    edges = np.concatenate([np.roll(ring, -1, axis=0) - ring for ring in (a, b)])
    normals = np.c_[edges[:, 1], -edges[:, 0]] / (np.linalg.norm(edges, axis=1)[:, None] + 1e-12)
    along_a, along_b = a @ normals.T, b @ normals.T
    gaps = np.maximum(along_a.min(0) - along_b.max(0), along_b.min(0) - along_a.max(0))
    return float(gaps.max())


def shoot(
    group: list[Standing],
    sides: tuple[float, float],
    size: int,
    rng: random.Random,
    path: Path,
) -> list[Box] | None:
    """Render one picture of the group; return each product's box, or None if there is no view.

    `sides` are the picture's width and height as shares of `size`, in pixels.
    """
    scene.clear(backgrounds.STAGE)
    settings = bpy.context.scene.render
    settings.resolution_x, settings.resolution_y = (round(size * side) for side in sides)
    every = np.concatenate([item.spots for item in group])
    for _ in range(DRAWS):
        azimuth, elevation = rng.uniform(-25, 25), rng.uniform(15, 60)
        fill = rng.uniform(0.7, 1.02) if len(group) > 1 else rng.uniform(0.35, 0.8)
        camera = scene.frame(every, azimuth, elevation, rng.uniform(28, 70), fill, sides)
        camera.rotation_euler.rotate_axis("Z", math.radians(rng.uniform(-4, 4)))
        camera.data.shift_x = camera.data.shift_y = 0.0
        bpy.context.view_layer.update()
        seen = look_through(camera, group, sides)
        if min(share for _, share in seen) >= LEAST_SEEN:
            break
    else:
        return None
    if rng.random() < STUDIO:
        backgrounds.studio(linear(rng.choice(["ebeae7", "e2e5e8", "cfc8bd"])), azimuth)
    else:
        a = math.radians(azimuth)
        depth = float((every[:, :2] @ np.array([-math.sin(a), math.cos(a)])).max())
        # A wall that leans by up to 12 degrees must stay behind what stands at the sides.
        aside = 0.22 * float(np.abs(every[:, 0]).max())
        backgrounds.room(rng, azimuth, depth + aside + rng.uniform(0.2, 2.0))
    scene.light(rng.choice(LIGHTS), azimuth, rng)
    bpy.context.scene.view_settings.exposure = rng.uniform(-0.4, 0.4)
    settings.filepath = str(path)
    bpy.ops.render.render(write_still=True)
    return [box for box, _ in seen]


def look_through(
    camera: bpy.types.Object, group: list[Standing], sides: tuple[float, float]
) -> list[tuple[Box, float]]:
    """Each product's box, as shares of the picture, and how much of its silhouette is seen."""
    settings = bpy.context.scene.render
    width, height = settings.resolution_x, settings.resolution_y
    slope = camera.data.sensor_width / 2 / camera.data.lens
    scale = slope * np.array([*sides, 1.0]) * (2.0 / width, -2.0 / height, 1.0)
    turn = np.array(camera.matrix_world.to_3x3())
    eye = camera.matrix_world.translation
    ends: list[tuple[Spots, Spots]] = []
    met: list[Cells] = []
    nearest: dict[tuple[int, int], tuple[float, int]] = {}
    for number, item in enumerate(group):
        local = (item.spots - np.array(eye)) @ turn
        flat = local[:, :2] / -local[:, 2:] / scale[:2] + (width / 2, height / 2)
        low, high = flat.min(0), flat.max(0)
        ends.append((low, high))
        first, last = (low // STEP).astype(int), (high // STEP).astype(int)
        cells = np.stack(np.meshgrid(*map(np.arange, first, last + 1)), axis=-1).reshape(-1, 2)
        middles = (cells + 0.5) * STEP - (width / 2, height / 2)
        rays = np.c_[middles * scale[:2], -np.ones(len(cells))] @ turn.T
        distances = [item.tree.ray_cast(eye, Vector(ray))[3] for ray in rays.tolist()]
        met.append(cells[[far is not None for far in distances]])
        for cell, far in zip(map(tuple, cells.tolist()), distances, strict=True):
            if far is not None:
                nearest[cell] = min(nearest.get(cell, (math.inf, -1)), (far, number))
    found = []
    for number, (whole, (low, high)) in enumerate(zip(met, ends, strict=True)):
        inside = ((whole >= 0) & (whole < (width / STEP, height / STEP))).all(1)
        front = [nearest[x, y][1] == number for x, y in whole.tolist()]
        seen = whole[inside & front]
        if not len(seen):
            found.append(((0.0, 0.0, 0.0, 0.0), 0.0))
            continue
        # Vertices are exact; rays are for the sides where something hides or cuts them off.
        low = np.where(seen.min(0) > whole.min(0), seen.min(0) * STEP, low)
        high = np.where(seen.max(0) < whole.max(0), (seen.max(0) + 1) * STEP, high)
        shares = np.clip(np.concatenate([low, high]) / (width, height, width, height), 0.0, 1.0)
        x0, y0, x1, y1 = (round(float(share), 4) for share in shares)
        found.append(((x0, y0, x1, y1), len(seen) / len(whole)))
    return found

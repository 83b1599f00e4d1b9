"""Mesh helpers: lathes, rounded boxes, prisms and swept tubes, all with usable UVs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import bpy
import numpy as np
from mathutils import Euler, Vector

Point2 = tuple[float, float]
Point3 = tuple[float, float, float]
Material: TypeAlias = bpy.types.Material
Object: TypeAlias = bpy.types.Object

COLLECTION = "product"


def collection(name: str = COLLECTION) -> bpy.types.Collection:
    """The named collection, made and linked on first use."""
    found = bpy.data.collections.get(name)
    if found is None:
        found = bpy.data.collections.new(name)
        bpy.context.scene.collection.children.link(found)
    return found


def mesh_object(
    verts: Sequence[Sequence[float]],
    faces: Sequence[Sequence[int]],
    uvs: Sequence[Point2],
    mats: Sequence[Material],
    slots: Sequence[int] | None = None,
    at: Point3 = (0, 0, 0),
    turn: Point3 = (0, 0, 0),
    into: str = COLLECTION,
) -> Object:
    """Make a smooth-shaded mesh object; `turn` is in degrees, `uvs` run face corner by corner."""
    mesh = bpy.data.meshes.new("part")
    mesh.from_pydata([tuple(v) for v in verts], [], [tuple(f) for f in faces])
    layer = mesh.uv_layers.new(name="UVMap")
    layer.data.foreach_set("uv", np.asarray(uvs, dtype=np.float32).ravel())
    for material in mats:
        mesh.materials.append(material)
    if slots is not None:
        mesh.polygons.foreach_set("material_index", list(slots))
    mesh.polygons.foreach_set("use_smooth", [True] * len(mesh.polygons))
    mesh.update()
    obj = bpy.data.objects.new("part", mesh)
    obj.location = Vector(at)
    obj.rotation_euler = Euler([math.radians(a) for a in turn])
    collection(into).objects.link(obj)
    return obj


def _soften(obj: Object, bevel: float, segments: int = 4) -> Object:
    """Round the hard edges and weight normals by area, so that flat faces stay flat."""
    if bevel > 0:
        mod = obj.modifiers.new("bevel", "BEVEL")
        mod.width, mod.segments, mod.limit_method = bevel, segments, "ANGLE"
        mod.angle_limit = math.radians(30)
    normals = obj.modifiers.new("normals", "WEIGHTED_NORMAL")
    normals.weight = 90
    return obj


def fillet(
    points: Sequence[Point2], radius: float, closed: bool = False, steps: int = 5
) -> tuple[list[Point2], list[int]]:
    """Round a polyline's corners; also return where each old point starts in the new list."""
    out: list[Point2] = []
    starts: list[int] = []
    count = len(points)
    for i, point in enumerate(points):
        starts.append(len(out))
        here = np.array(point, dtype=float)
        if not closed and i in (0, count - 1):
            out.append(point)
            continue
        before = np.array(points[i - 1]) - here
        after = np.array(points[(i + 1) % count]) - here
        len_a, len_b = np.linalg.norm(before), np.linalg.norm(after)
        reach = min(radius, 0.45 * len_a, 0.45 * len_b)
        start, end = here + before / len_a * reach, here + after / len_b * reach
        for k in range(steps + 1):
            t = k / steps
            spot = (1 - t) ** 2 * start + 2 * t * (1 - t) * here + t * t * end
            out.append((float(spot[0]), float(spot[1])))
    return out, starts


def through(points: Sequence[Sequence[float]], steps: int = 8, closed: bool = False) -> list[Any]:
    """A Catmull-Rom curve through 2-D or 3-D points."""
    pts = [np.array(p, dtype=float) for p in points]
    pts = [pts[-1], *pts, pts[0], pts[1]] if closed else [pts[0], *pts, pts[-1]]
    out = []
    for a, b, c, d in zip(pts, pts[1:], pts[2:], pts[3:], strict=False):
        for k in range(steps):
            t = k / steps
            spot = 2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2
            out.append(tuple(0.5 * (spot + (3 * b - a - 3 * c + d) * t**3)))
    return out if closed else [*out, tuple(pts[-2])]


def lathe(
    profile: Sequence[Point2],
    *mats: Material,
    radius: float = 0.03,
    split: int | None = None,
    segments: int = 72,
    at: Point3 = (0, 0, 0),
    turn: Point3 = (0, 0, 0),
    closed: bool = False,
    into: str = COLLECTION,
) -> Object:
    """Revolve (radius, z) points about z; faces past point `split` take the second material.

    U runs 0..1 around, V along the profile in the same unit, so pattern cells stay square.
    """
    pts, starts = fillet(profile, radius, closed) if radius > 0 else (list(profile), [])
    change = len(pts) if split is None else (starts[split] if starts else split)
    if closed:
        pts = [*pts, pts[0]]
    rim = max(r for r, _ in pts)
    run = np.concatenate([[0], np.cumsum([math.dist(a, b) for a, b in pairwise(pts)])])
    run = run / (2 * math.pi * rim)
    verts = [
        (max(r, 1e-4) * math.cos(a), max(r, 1e-4) * math.sin(a), z)
        for r, z in pts
        for a in (2 * math.pi * s / segments for s in range(segments))
    ]
    faces, uvs, slots = [], [], []
    for i in range(len(pts) - 1):
        for s in range(segments):
            t = (s + 1) % segments
            low, high = i * segments, (i + 1) * segments
            faces.append((low + s, low + t, high + t, high + s))
            u, w = s / segments, (s + 1) / segments
            uvs += [(u, run[i]), (w, run[i]), (w, run[i + 1]), (u, run[i + 1])]
            slots.append(1 if i >= change and len(mats) > 1 else 0)
    return _soften(mesh_object(verts, faces, uvs, mats, slots, at, turn, into), 0)


def ball(radius: float, mat: Material, at: Point3 = (0, 0, 0), turn: Point3 = (0, 0, 0)) -> Object:
    """A smooth sphere about `at`."""
    arc = [
        (radius * math.sin(a), -radius * math.cos(a)) for a in np.linspace(0, math.pi, 40).tolist()
    ]
    return lathe(arc, mat, radius=0, at=at, turn=turn)


def ring(
    major: float, minor: float, mat: Material, at: Point3 = (0, 0, 0), turn: Point3 = (0, 0, 0)
) -> Object:
    """A torus about z."""
    angles = np.linspace(0, 2 * math.pi, 24, endpoint=False).tolist()
    loop = [(major + minor * math.cos(a), minor * math.sin(a)) for a in angles]
    return lathe(loop, mat, radius=0, at=at, turn=turn, closed=True)


def prism(
    outline: Sequence[Point2],
    depth: float,
    *mats: Material,
    bevel: float = 0.03,
    at: Point3 = (0, 0, 0),
    turn: Point3 = (0, 0, 0),
    into: str = COLLECTION,
) -> Object:
    """Extrude a counter-clockwise outline from z = 0 up; a second material covers the sides."""
    n = len(outline)
    verts = [(x, y, z) for z in (0.0, depth) for x, y in outline]
    faces: list[tuple[int, ...]] = [tuple(reversed(range(n))), tuple(range(n, 2 * n))]
    uvs = [outline[i] for i in reversed(range(n))] + list(outline)
    run = 0.0
    for i in range(n):
        j = (i + 1) % n
        step = math.dist(outline[i], outline[j])
        faces.append((i, j, n + j, n + i))
        uvs += [(run, 0), (run + step, 0), (run + step, depth), (run, depth)]
        run += step
    slots = [0, 0] + [1 if len(mats) > 1 else 0] * n
    return _soften(mesh_object(verts, faces, uvs, mats, slots, at, turn, into), bevel)


def box(
    size: Point3,
    mat: Material,
    bevel: float = 0.04,
    at: Point3 = (0, 0, 0),
    turn: Point3 = (0, 0, 0),
    into: str = COLLECTION,
) -> Object:
    """A rounded box centred on `at`."""
    half = np.array(size) / 2
    corners = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
    verts = [tuple(np.array(c) * half) for c in corners]
    faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    axes = [(1, 2), (1, 2), (0, 2), (0, 2), (0, 1), (0, 1)]
    uvs = [(verts[v][a], verts[v][b]) for f, (a, b) in zip(faces, axes, strict=True) for v in f]
    made = mesh_object(verts, faces, uvs, [mat], None, at, turn, into)
    return _soften(made, min(bevel, 0.49 * min(size)))


def tube(
    points: Sequence[Point3],
    radius: float | Sequence[float],
    mat: Material,
    flat: float = 1.0,
    closed: bool = False,
    smooth: int = 8,
) -> Object:
    """Sweep a circle (or an ellipse `flat` times as thick) along a curve through `points`."""
    path = [np.array(p) for p in (through(points, smooth, closed) if smooth else points)]
    radii = [radius] * len(points) if isinstance(radius, (int, float)) else list(radius)
    radii = np.interp(np.linspace(0, 1, len(path)), np.linspace(0, 1, len(radii)), radii).tolist()
    sides, n = 20, len(path)
    verts: list[list[float]] = []
    first = path[1] - path[0]
    sideways = abs(first[1]) >= 0.9 * np.linalg.norm(first)
    across = np.array([1.0, 0.0, 0.0] if sideways else [0.0, 1.0, 0.0])
    for i, spot in enumerate(path):
        ahead = path[(i + 1) % n] if closed or i < n - 1 else spot
        behind = path[i - 1] if closed or i > 0 else spot
        along = (ahead - behind) / (np.linalg.norm(ahead - behind) + 1e-9)
        across = across - along * np.dot(across, along)
        across = across / np.linalg.norm(across)
        up = np.cross(along, across)
        for s in range(sides):
            a = 2 * math.pi * s / sides
            out = math.cos(a) * across + flat * math.sin(a) * up
            verts.append((spot + radii[i] * out).tolist())
    faces: list[tuple[int, ...]] = []
    uvs: list[Point2] = []
    for i in range(n if closed else n - 1):
        j = (i + 1) % n
        for s in range(sides):
            t = (s + 1) % sides
            faces.append((i * sides + s, i * sides + t, j * sides + t, j * sides + s))
            uvs += [(s / sides, i / n), ((s + 1) / sides, i / n)]
            uvs += [((s + 1) / sides, (i + 1) / n), (s / sides, (i + 1) / n)]
    if not closed:
        faces += [tuple(reversed(range(sides))), tuple(range((n - 1) * sides, n * sides))]
        uvs += [(0, 0)] * (2 * sides)
    return _soften(mesh_object(verts, faces, uvs, [mat]), 0)


def wrap(radius: float, low: float, high: float, degrees: float, mat: Material) -> Object:
    """A label: a slice of a cylinder about z that faces -y."""
    steps = 24
    verts, faces = [], []
    for i in range(steps + 1):
        a = math.radians(-90 + degrees * (i / steps - 0.5))
        verts += [(radius * math.cos(a), radius * math.sin(a), z) for z in (low, high)]
    for i in range(steps):
        faces.append((2 * i, 2 * i + 2, 2 * i + 3, 2 * i + 1))
    return mesh_object(verts, faces, [(0.0, 0.0)] * (4 * steps), [mat])

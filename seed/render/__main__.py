"""Renders the sample catalogue, or random variants of it.

    python -m seed.render --out seed/sample [--only ID ...] [--samples N] [--seed N]
    python -m seed.render --variants N --out DIR
    python -m seed.render --scenes N [--variants N] --out DIR

Pictures that are already there are kept, so a stopped run can be started again. Scenes show
several products each; their boxes are in scenes.jsonl beside them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import bpy

from . import scene
from .families import build
from .geometry import COLLECTION
from .look import Product
from .products import sample_products
from .scenes import render_scenes
from .variants import variants

Job = tuple[scene.View, str]


def jobs(product: Product) -> tuple[list[Job], list[Job]]:
    """A product's catalogue and query pictures, with their paths below the output folder."""
    catalogue, query = scene.views(product.look.family)
    name = product.product_id
    return (
        [(view, f"images/{name}/{view.name}.webp") for view in catalogue],
        [(query, f"queries/{name}/{query.name}.webp")],
    )


def write_records(products: list[Product], path: Path, pictures: bool = True) -> None:
    """Write products.jsonl, one product a line, with or without pictures of each."""
    lines = []
    for product in products:
        images, queries = ([n for _, n in part] if pictures else [] for part in jobs(product))
        lines.append(json.dumps(product.record(images, queries), ensure_ascii=False))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def render(products: list[Product], out: Path, samples: int, seed: int, threads: int) -> int:
    """Render every picture that is missing; return how many were made."""
    todo = []
    for product in products:
        catalogue, queries = jobs(product)
        missing = [(v, out / n) for v, n in catalogue + queries if not (out / n).exists()]
        if missing:
            todo.append((product, missing))
    total = sum(len(missing) for _, missing in todo)
    done, start = 0, time.monotonic()
    scene.setup(samples, threads)
    for product, missing in todo:
        scene.clear(COLLECTION)
        build(product.look)
        spots = scene.settle()
        for view, path in missing:
            scene.shoot(spots, view, f"{seed}/{product.product_id}", path)
            done += 1
            left = (time.monotonic() - start) / done * (total - done)
            print(f"{done} of {total}  {path.relative_to(out)}  {left:.0f} s left", flush=True)
    return done


def main(argv: list[str] | None = None) -> int:
    """Read the command line and render."""
    parser = argparse.ArgumentParser(prog="python -m seed.render", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, required=True, help="folder for pictures and records")
    parser.add_argument("--only", nargs="+", metavar="ID", help="render these products only")
    parser.add_argument("--samples", type=int, default=16, help="light samples a pixel")
    parser.add_argument("--seed", type=int, default=0, help="changes lights, angles and variants")
    parser.add_argument("--threads", type=int, default=0, help="0 takes every core")
    parser.add_argument("--variants", type=int, metavar="N", help="N random products a family")
    parser.add_argument("--scenes", type=int, metavar="N", help="N pictures of several products")
    parser.add_argument("--views", type=int, default=1, help="pictures of one arrangement")
    parser.add_argument("--size", type=int, default=512, help="longer side of a scene, in pixels")
    args = parser.parse_args(argv)
    products = variants(args.variants, args.seed) if args.variants else sample_products()
    unknown = set(args.only or ()) - {p.product_id for p in products}
    if unknown:
        parser.error(f"no such product: {', '.join(sorted(unknown))}")
    if args.scenes:
        if args.variants:
            write_records(products, args.out / "products.jsonl", pictures=False)
        scene.setup(args.samples, args.threads)
        bpy.context.scene.cycles.denoising_prefilter = "FAST"  # halves the time, looks the same
        made = render_scenes(products, args.scenes, args.views, args.size, args.seed, args.out)
        print(f"{made} scenes rendered")
        return 0
    write_records(products, args.out / "products.jsonl")
    chosen = [p for p in products if not args.only or p.product_id in args.only]
    made = render(chosen, args.out, args.samples, args.seed, args.threads)
    print(f"{made} pictures rendered, {len(products)} products listed")
    return 0


if __name__ == "__main__":
    sys.exit(main())

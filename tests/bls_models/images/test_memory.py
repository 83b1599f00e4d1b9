"""Decoding takes no more memory than was said, and all threads together no more than allowed."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_support import DISPLAY_P3, icc_profile
from PIL import Image
from pillow_heif import register_heif_opener
from serving_support import ROOT, wait_for

from bls_models.errors import ImageError
from bls_models.images.decoding import ImageLimits, open_image
from bls_models.images.memory import MemoryBudget
from bls_models.images.part_limits import keeps_coefficients
from bls_models.settings import CPU
from local_server.triton import Installation, triton_environment

register_heif_opener()
LIMITS = ImageLimits(2**24, 10**8)
SIZE = (2000, 1600)
TURNED = Image.Exif()
TURNED[0x112] = 6

# Decodes the files that it is given, each to an engine's pixels, and says what that took.
MEASURE = """
import json, sys, threading
from pathlib import Path
from bls_models.images.decoding import ImageLimits, open_image
from bls_models.images.preprocessing import Preprocess, prepare_pixels

PREPROCESS = Preprocess(64, "pad", 0.95)

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

def peak(data):
    done, most = threading.Event(), [resident()]
    begin = most[0]
    def watch():
        while not done.wait(0.0005):
            most.append(max(most.pop(), resident()))
    thread = threading.Thread(target=watch)
    thread.start()
    opened = open_image(data, "image", ImageLimits(2**24, 10**8))
    prepare_pixels(opened.decode(), PREPROCESS, (0.0, 0.0, 1.0, 0.98))
    done.set()
    thread.join()
    return most[0] - begin, opened.memory

for name in sys.argv[1:]:
    peak(Path(name).with_suffix(".small").read_bytes())
    print(json.dumps(peak(Path(name).read_bytes())), flush=True)
"""
# Decodes a file again and again in four threads, of which the budget lets two decode.
TOGETHER = """
import json, sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from bls_models.images.decoding import ImageLimits, open_image
from bls_models.images.memory import MemoryBudget
from bls_models.images.preprocessing import Preprocess, prepare_pixels

data, done, most = Path(sys.argv[1]).read_bytes(), threading.Event(), [0]
budget = MemoryBudget(int(sys.argv[2]))

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

def watch():
    while not done.wait(0.0005):
        most.append(max(most.pop(), resident()))

def work(_):
    opened = open_image(data, "image", ImageLimits(2**24, 10**8))
    with budget.hold(opened.memory):
        picture = opened.decode()
        prepare_pixels(picture, Preprocess(64, "pad"))
        del picture

thread = threading.Thread(target=watch)
thread.start()
begin = resident()
with ThreadPoolExecutor(4) as pool:
    list(pool.map(work, range(24)))
done.set()
thread.join()
print(json.dumps([most[0] - begin, resident() - begin]))
"""
# What a thread's stack, decoders' tables and Python's own objects take.
SLACK = 3 * 2**20


def pictures() -> dict[str, tuple[Image.Image, str, dict[str, Any]]]:
    """A picture of each mode that the formats have."""
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 3), np.uint8)
    rgb = Image.fromarray(noise).resize(SIZE)
    grey, cmyk, palette = rgb.convert("L"), rgb.convert("CMYK"), rgb.quantize(16)
    rgba = rgb.convert("RGBA")
    rgba.putalpha(128)
    grey16 = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    fast: dict[str, Any] = {"compress_level": 1}
    turned = fast | {"exif": TURNED}
    return {
        "jpeg": (rgb, "JPEG", {}),
        "jpeg turned": (rgb, "JPEG", {"exif": TURNED}),
        "jpeg grey": (grey, "JPEG", {}),
        "jpeg cmyk": (cmyk, "JPEG", {}),
        "jpeg progressive": (rgb, "JPEG", {"progressive": True}),
        "jpeg progressive, all colours": (rgb, "JPEG", {"progressive": True, "subsampling": 0}),
        "jpeg progressive cmyk": (cmyk, "JPEG", {"progressive": True}),
        "png": (rgb, "PNG", fast),
        "png alpha, turned": (rgba, "PNG", turned),
        "png grey alpha": (grey.convert("LA"), "PNG", fast),
        "png palette": (palette, "PNG", fast | {"transparency": 0}),
        "png clear colour": (rgb, "PNG", fast | {"transparency": (0, 0, 0)}),
        "png 16 bits": (grey16, "PNG", turned),
        "png 16 bits, clear grey": (grey16, "PNG", fast | {"transparency": 500}),
        "png black and white": (rgb.convert("1"), "PNG", fast),
        "heic": (rgb, "HEIF", {}),
        "heic alpha": (rgba, "HEIF", {}),
        "avif": (rgb, "AVIF", {"speed": 10}),
        "avif alpha, turned": (rgba, "AVIF", {"speed": 10, "exif": TURNED}),
        "avif all colours": (rgb, "AVIF", {"speed": 10, "subsampling": "4:4:4"}),
        "gif": (palette, "GIF", {}),
        "gif clear colour": (palette, "GIF", {"transparency": 0}),
        "bmp": (rgb, "BMP", {}),
        "jpeg profile": (rgb, "JPEG", {"icc_profile": icc_profile(DISPLAY_P3, 2.2)}),
        "webp": (rgb, "WEBP", {"method": 0}),
        "webp alpha, turned": (rgba, "WEBP", {"method": 0, "exif": TURNED}),
        "webp lossless": (rgb, "WEBP", {"method": 0, "lossless": True, "quality": 0}),
    }


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_no_mode_takes_more_memory_than_was_said(tmp_path: Path) -> None:
    names = []
    for name, (picture, kind, options) in pictures().items():
        path = tmp_path / f"{name}.large"
        path.write_bytes(encode(picture, kind, **options))
        # So that what a format takes once is not counted.
        path.with_suffix(".small").write_bytes(encode(picture.resize((96, 80)), kind, **options))
        names.append(str(path))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *names], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    taken = dict(zip(names, map(json.loads, done.stdout.splitlines()), strict=True))
    pixels = SIZE[0] * SIZE[1]
    shown = {
        Path(name).stem: [round(part / pixels, 1) for part in both] for name, both in taken.items()
    }
    assert all(took <= said + SLACK for took, said in taken.values()), json.dumps(shown)
    assert max(took for took, _ in taken.values()) > 4 * pixels, "it was measured"


def test_memory_goes_back_to_the_system_in_a_servers_process(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(encode(Image.new("RGBA", SIZE), "PNG"))
    budget = 2 * open_image(path.read_bytes(), "image", LIMITS).memory
    nowhere = Installation(Path("tritonserver"), Path("backends"))
    done = subprocess.run(
        [sys.executable, "-c", TOGETHER, str(path), str(budget)],
        cwd=ROOT,
        env=triton_environment(nowhere, {}, tmp_path, CPU),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    most, kept = json.loads(done.stdout)
    assert most <= budget + 4 * SLACK
    assert kept <= 4 * SLACK


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, False),
        ({"progressive": True}, True),
        ({"exif": TURNED, "icc_profile": b"\xff\xc2" * 400}, False),
        ({"progressive": True, "icc_profile": b"x" * 70_000}, True),
    ],
)
def test_jpegs_in_several_scans_are_known(options: dict[str, Any], kept: bool) -> None:
    assert keeps_coefficients(encode(Image.new("RGB", (64, 64)), "JPEG", **options)) is kept


def test_a_scan_without_all_components_is_one_of_several() -> None:
    data = encode(Image.new("RGB", (64, 64)), "JPEG")
    scan = data.index(b"\xff\xda")
    assert data[scan + 4] == 3
    assert keeps_coefficients(data[: scan + 4] + b"\x01" + data[scan + 5 :])
    assert not keeps_coefficients(data[:scan])


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_picture_that_would_take_too_much_is_refused_before_it_is_decoded(kind: str) -> None:
    data = encode(Image.new("RGB", (300, 100)), kind)
    memory = open_image(data, "image[0]", LIMITS).memory
    assert open_image(data, "image[0]", ImageLimits(2**20, 10**6, memory)).memory == memory
    with pytest.raises(ImageError, match=r"300 x 100 pixels.*at most 29\d\d\d pixels") as caught:
        open_image(data, "image[0]", ImageLimits(2**20, 10**6, memory - 1))
    assert caught.value.tensor == "image[0]"


# --- the budget -----------------------------------------------------------------------------------


class Holder:
    """A thread that holds some of a budget until it is told to let go."""

    def __init__(self, budget: MemoryBudget, amount: int) -> None:
        self.holds, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(budget, amount))
        self._thread.start()

    def _run(self, budget: MemoryBudget, amount: int) -> None:
        with budget.hold(amount):
            self.holds.set()
            self._end.wait()

    def end(self) -> None:
        self._end.set()
        self._thread.join()


def waiting(budget: MemoryBudget, count: int) -> None:
    wait_for(lambda: len(budget._waiting) == count, f"{count} wait")


def test_what_does_not_fit_waits_and_a_large_one_is_not_passed_by() -> None:
    budget = MemoryBudget(10)
    first, second = Holder(budget, 4), Holder(budget, 4)
    wait_for(lambda: first.holds.is_set() and second.holds.is_set(), "both fit")
    large = Holder(budget, 10)
    waiting(budget, 1)
    small = Holder(budget, 1)
    waiting(budget, 2)
    first.end()
    waiting(budget, 2)
    assert not large.holds.is_set()
    assert not small.holds.is_set(), "it came later, though it would fit"
    second.end()
    wait_for(large.holds.is_set, "the large one has all of it")
    assert not small.holds.is_set()
    large.end()
    wait_for(small.holds.is_set, "the small one comes last")
    small.end()


def test_all_together_never_hold_more_than_the_budget() -> None:
    budget, lock, held, most = MemoryBudget(10), threading.Lock(), [0], [0]

    def work(amount: int) -> None:
        with budget.hold(amount):
            with lock:
                held[0] += amount
                most[0] = max(most[0], held[0])
            threading.Event().wait(0.0005)
            with lock:
                held[0] -= amount

    amounts = np.random.default_rng(1).integers(1, 11, 400).tolist()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, amounts))
    assert held == [0]
    assert most[0] <= 10


def test_an_error_gives_back_what_was_held() -> None:
    budget = MemoryBudget(10)
    for _ in range(3):
        with pytest.raises(ValueError, match="damaged"), budget.hold(10):
            raise ValueError("damaged")

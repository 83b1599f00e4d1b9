"""Images of every accepted kind decode to the right colours; all others are refused in words."""

from __future__ import annotations

import base64
import contextlib
import io
import re
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
from colour_support import (
    ADOBE_RGB,
    DISPLAY_P3,
    PROPHOTO,
    SRGB,
    Primaries,
    icc_profile,
    in_space,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from PIL.JpegImagePlugin import JpegImageFile
from pillow_heif import register_heif_opener

from bls_models.errors import BundleError, ImageError
from bls_models.images.decoding import (
    MAX_SIDE,
    READERS,
    ImageLimits,
    decode_image,
    decode_pixels,
    encoded_bytes,
)
from bls_models.images.part_limits import (
    JPEG_MARKER,
    MAX_JPEG_SCANS,
    MAX_JPEG_SEGMENTS,
    MAX_PNG_CHUNKS,
    MAX_PNG_TEXTS,
)
from bls_models.images.preprocessing import Preprocess, check_crop, prepare_pixels

register_heif_opener()
LIMITS = ImageLimits(max_bytes=2**20, max_pixels=10**6)
RED, GREEN, BLUE, GREY, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (128,) * 3, (255,) * 3
# Top left, top right, bottom left, bottom right: no two turns of it are alike.
QUARTERS = (RED, GREEN, BLUE, GREY)


def quarters(width: int = 48, height: int = 32) -> Image.Image:
    image = Image.new("RGB", (width, height))
    for index, colour in enumerate(QUARTERS):
        left, top = index % 2 * width // 2, index // 2 * height // 2
        image.paste(colour, (left, top, left + width // 2, top + height // 2))
    return image


def plain(size: tuple[int, int], colour: tuple[int, int, int] = RED) -> npt.NDArray[np.uint8]:
    """A picture of this width and height in one colour."""
    return np.full((size[1], size[0], 3), colour, np.uint8)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decode(data: bytes) -> Image.Image:
    pixels = decode_image(data, "image[0]", LIMITS)
    assert pixels.dtype == np.uint8
    return Image.fromarray(pixels, "RGB")


class CountedMarkers:
    """The pattern of a JPEG's markers, which counts how often it is looked for."""

    def __init__(self) -> None:
        self.searches = 0

    def search(self, data: bytes, place: int) -> re.Match[bytes] | None:
        self.searches += 1
        return JPEG_MARKER.search(data, place)


def refuse_to_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no decoder see a file from now on."""

    def refuse(_: object) -> None:
        pytest.fail("a decoder was given the file")

    monkeypatch.setattr("bls_models.images.decoding.READERS", dict.fromkeys(READERS, refuse))


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """The colours in the middle of the four quarters."""
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    return [
        tuple(pixels[y, x].tolist())
        for y in (height // 4, height * 3 // 4)
        for x in (width // 4, width * 3 // 4)
    ]


def assert_close(got: object, expected: object, tolerance: int = 3) -> None:
    difference = np.abs(np.asarray(got, int) - np.asarray(expected, int))
    assert difference.max() <= tolerance, f"{got} is not {expected}"


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: bytes) -> bytes:
    """A PNG file put together by hand, with correct checksums."""
    return png_of(width, height, depth, colour, zlib.compress(rows), *chunks)


def png_of(
    width: int, height: int, depth: int, colour: int, stream: bytes, *chunks: bytes
) -> bytes:
    """The same of pixels that are compressed already."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    extra = b"".join(chunk(part[:4], part[4:]) for part in chunks)
    body = chunk(b"IDAT", stream) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + body


JPEG = encode(quarters(), "JPEG", quality=95, subsampling=0)
PNG = encode(quarters(), "PNG")
WEBP = encode(quarters(), "WEBP", lossless=True)
# A chunk of a kilobyte that a decoder makes a megabyte of.
MEGABYTE = b"zTXtnote\0\0" + zlib.compress(bytes(2**20 - 1))


class TestPhones:
    @pytest.mark.parametrize("kind", ["HEIF", "AVIF", "GIF", "BMP"])
    def test_formats_beside_the_usual_three_are_read(self, kind: str) -> None:
        options = {"quality": 95} if kind in ("HEIF", "AVIF") else {}
        data = encode(quarters(96, 64), kind, **options)
        assert encoded_bytes(data, "image[0]", LIMITS) is data
        assert encoded_bytes(base64.b64encode(data), "image[0]", LIMITS) == data
        assert_close(corners(decode(data)), QUARTERS, 6)

    @pytest.mark.parametrize("turn", range(1, 9))
    def test_turned_avif_stands_upright_and_heic_knows_no_turn_in_exif(self, turn: int) -> None:
        exif = Image.Exif()
        exif[0x112] = turn
        plain = quarters(96, 64)
        expected = decode(encode(plain, "PNG", exif=exif))
        shown = decode(encode(plain, "AVIF", quality=95, exif=exif))
        assert shown.size == expected.size
        assert_close(corners(shown), corners(expected), 6)
        # Its own boxes say how it stands, and its reader has done what they say.
        heic = decode(encode(plain, "HEIF", quality=95, exif=exif))
        assert_close(corners(heic), QUARTERS, 6)

    def test_of_a_gif_the_first_picture_is_taken_and_clear_colours_are_white(self) -> None:
        first = quarters().quantize(8)
        data = encode(first, "GIF", save_all=True, append_images=[Image.new("P", (48, 32))])
        assert_close(corners(decode(data)), QUARTERS)
        clear = first.getpixel((1, 1))
        shown = corners(decode(encode(first, "GIF", transparency=clear)))
        assert_close(shown, [WHITE, *QUARTERS[1:]])

    @pytest.mark.parametrize("kind", ["HEIF", "AVIF", "GIF", "BMP"])
    def test_limits_hold_for_them_before_anything_is_decoded(self, kind: str) -> None:
        data = encode(Image.new("RGB", (1200, 900)), kind)
        with pytest.raises(ImageError, match="1200 x 900 pixels; expected at most 1000000 pixels"):
            decode(data)

    @pytest.mark.parametrize("kind", ["HEIF", "AVIF", "GIF"])
    def test_damaged_ones_are_refused_or_shown_and_never_break(self, kind: str) -> None:
        data = encode(quarters(), kind)
        for at in range(0, len(data), 5):
            broken = data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
            with contextlib.suppress(ImageError):
                decode(broken)
            with contextlib.suppress(ImageError):
                decode(data[:at])


class TestOddButFine:
    def test_of_a_file_of_several_pictures_the_first_is_taken(self) -> None:
        data = encode(quarters(), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
        assert_close(corners(decode(data)), QUARTERS, 20)

    def test_inverted_cmyk_of_printing_programs_has_its_colours(self) -> None:
        # Adobe's mark says that the values are inverted, with transform 2 that they are YCCK.
        plain = encode(quarters().convert("CMYK"), "JPEG", quality=95)
        assert b"Adobe" in plain
        assert_close(corners(decode(plain)), QUARTERS, 30)

    def test_an_interlaced_png_is_read(self) -> None:
        pixels = np.asarray(quarters(8, 8))
        rows = b""
        # Start and step of Adam7's passes, down and across.
        for top, left, down, across in (
            *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)),
            *((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
        ):
            part = pixels[top::down, left::across]
            rows += b"".join(b"\0" + line.tobytes() for line in part)
        data = bytearray(png(8, 8, 8, 2, rows))
        data[28] = 1
        data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
        assert np.array_equal(np.asarray(decode(bytes(data))), pixels)

    @pytest.mark.parametrize("size", [(30_000, 10), (10, 30_000)])
    def test_a_very_long_picture_becomes_a_square(self, size: tuple[int, int]) -> None:
        data = encode(Image.new("RGB", size, RED), "PNG")
        pixels, _ = decode_pixels(data, "image[0]", LIMITS, Preprocess(64, "pad"))
        assert pixels.shape == (64, 64, 3)


class TestSideInformation:
    @pytest.mark.parametrize("kind", [b"pHYs", b"tEXt", b"iCCP", b"eXIf", b"gAMA", b"zTXt"])
    def test_a_png_with_a_wrong_checksum_beside_its_picture_is_shown(self, kind: bytes) -> None:
        content = {b"pHYs": struct.pack(">IIB", 2835, 2835, 1), b"gAMA": struct.pack(">I", 45455)}
        part = struct.pack(">I", 9) + kind + content.get(kind, b"note\0\0abc")[:9]
        part = struct.pack(">I", len(part) - 8) + part[4:]
        data = PNG[:33] + part + b"\0\0\0\0" + PNG[33:]
        assert_close(corners(decode(data)), QUARTERS)

    def test_a_png_with_more_text_than_its_reader_takes_is_shown(self) -> None:
        text = b"zTXtnote\0\0" + zlib.compress(bytes(2 * 2**20))
        rows = b"".join(b"\0" + bytes(QUARTERS[0]) * 4 for _ in range(4))
        assert_close(decode(png(4, 4, 8, 2, rows, text)).getpixel((1, 1)), RED)


class TestColours:
    @pytest.mark.parametrize(
        ("primaries", "gamma"),
        [(DISPLAY_P3, 2.2), (ADOBE_RGB, 2.2), (PROPHOTO, 1.8), (SRGB, 1.0)],
        ids=["Display P3", "Adobe RGB", "ProPhoto", "linear"],
    )
    @pytest.mark.parametrize("kind", ["PNG", "WEBP", "HEIF", "AVIF"])
    def test_a_picture_of_another_colour_space_looks_as_it_is_meant(
        self, kind: str, primaries: Primaries, gamma: float
    ) -> None:
        softer = Image.blend(quarters(96, 64), Image.new("RGB", (96, 64), GREY), 0.4)
        other = in_space(np.asarray(softer), primaries, gamma).astype(np.uint8)
        options: dict[str, Any] = {"quality": 95} if kind in ("HEIF", "AVIF") else {}
        options |= {"WEBP": {"lossless": True}, "AVIF": {"quality": 100}}.get(kind, {})
        data = encode(
            Image.fromarray(other), kind, icc_profile=icc_profile(primaries, gamma), **options
        )
        expected = corners(softer)
        # A small error of a lossy format is a larger one in a smaller space.
        assert_close(corners(decode(data)), expected, 18 if "quality" in options else 4)
        plain = corners(decode(encode(Image.fromarray(other), kind, **options)))
        assert np.abs(np.subtract(plain, expected)).max() > 10, "the profile matters"

    def test_a_profile_of_the_usual_colours_changes_nothing(self) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        data = encode(Image.fromarray(noise), "PNG", icc_profile=profile)
        assert np.array_equal(np.asarray(decode(data)), noise)

    @pytest.mark.parametrize("profile", [b"no profile", b"\0" * 500, icc_profile(SRGB, 2.2)[:200]])
    def test_a_damaged_profile_is_ignored(self, profile: bytes) -> None:
        assert_close(corners(decode(encode(quarters(), "JPEG", icc_profile=profile))), QUARTERS, 8)

    def test_clear_parts_stay_white_and_greys_grey(self) -> None:
        profile = icc_profile(DISPLAY_P3, 2.2)
        clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
        assert_close(decode(encode(clear, "PNG", icc_profile=profile)).getpixel((1, 1)), WHITE)
        grey = Image.new("L", (8, 8), 100)
        shown = decode(encode(grey, "PNG", icc_profile=profile)).getpixel((1, 1))
        assert_close(shown, (100,) * 3, 4)


class TestFormats:
    @pytest.mark.parametrize(
        "data",
        [
            JPEG,
            encode(quarters(), "JPEG", quality=95, subsampling=0, progressive=True),
            PNG,
            encode(quarters(), "PNG", compress_level=0),
            WEBP,
            encode(quarters(), "WEBP", quality=95),
            encode(quarters().convert("RGBA"), "PNG"),
            encode(quarters().quantize(8), "PNG"),
        ],
        ids=["jpeg", "progressive", "png", "stored", "lossless", "webp", "rgba", "palette"],
    )
    def test_colours_are_those_encoded(self, data: bytes) -> None:
        image = decode(data)
        assert image.size == (48, 32)
        # Lossy WebP halves the colour resolution.
        assert_close(corners(image), QUARTERS, 6)

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
    def test_grey_stays_grey(self, kind: str) -> None:
        image = decode(encode(Image.new("L", (8, 8), 77), kind))
        assert_close(image.getpixel((3, 3)), (77, 77, 77))

    def test_one_bit_is_black_and_white(self) -> None:
        source = Image.new("1", (8, 8), 0)
        source.paste(1, (4, 0, 8, 8))
        image = decode(encode(source, "PNG"))
        assert [image.getpixel((x, 1)) for x in (0, 7)] == [(0, 0, 0), WHITE]

    def test_sixteen_bit_grey_is_scaled_not_clipped(self) -> None:
        values = np.array([[0, 128, 129, 257, 32768, 65278, 65535]], np.uint16)
        rows = b"\0" + values.astype(">u2").tobytes()
        image = decode(png(7, 1, 16, 0, rows))
        assert np.asarray(image)[0, :, 0].tolist() == [0, 0, 1, 1, 128, 254, 255]

    def test_sixteen_bit_grey_with_a_transparent_value_shows_white_there(self) -> None:
        rows = b"\0" + struct.pack(">2H", 0x1234, 0x1235)
        image = decode(png(2, 1, 16, 0, rows, b"tRNS" + struct.pack(">H", 0x1234)))
        assert [image.getpixel((x, 0)) for x in (0, 1)] == [WHITE, (0x12,) * 3]

    @pytest.mark.parametrize(
        ("colour", "samples", "expected"),
        [
            (2, (65535, 32768, 0), (255, 128, 0)),
            (4, (32768, 65535), GREY),
            (4, (0, 0), WHITE),
            (6, (65535, 0, 0, 65535), RED),
        ],
        ids=["rgb", "grey and alpha", "clear", "rgba"],
    )
    def test_sixteen_bit_channels(
        self, colour: int, samples: tuple[int, ...], expected: tuple[int, ...]
    ) -> None:
        rows = b"\0" + struct.pack(f">{len(samples)}H", *samples)
        assert_close(decode(png(1, 1, 16, colour, rows)).getpixel((0, 0)), expected, 1)

    @pytest.mark.parametrize("kind", ["PNG", "WEBP"])
    @pytest.mark.parametrize(
        ("alpha", "expected"), [(255, RED), (128, (255, 127, 127)), (0, WHITE)]
    )
    def test_alpha_is_laid_on_white(self, kind: str, alpha: int, expected: tuple[int, ...]) -> None:
        source = Image.new("RGBA", (8, 8), (*RED, alpha))
        options = {"lossless": True} if kind == "WEBP" else {}
        assert_close(decode(encode(source, kind, **options)).getpixel((4, 4)), expected)

    def test_grey_with_alpha_is_laid_on_white(self) -> None:
        image = decode(encode(Image.new("LA", (4, 4), (0, 64)), "PNG"))
        assert_close(image.getpixel((1, 1)), (191, 191, 191), 1)

    def test_palette_transparency_is_laid_on_white(self) -> None:
        source = Image.new("P", (3, 1))
        source.putpalette([*RED, *GREEN, *BLUE])
        source.putdata([0, 1, 2])
        expected = [WHITE, (127, 255, 127), BLUE]
        image = decode(encode(source, "PNG", transparency=bytes([0, 128, 255])))
        assert_close([image.getpixel((x, 0)) for x in range(3)], expected, 1)
        image = decode(encode(source, "PNG", transparency=0))
        assert [image.getpixel((x, 0)) for x in range(3)] == [WHITE, GREEN, BLUE]

    @pytest.mark.parametrize(("mode", "clear", "solid"), [("RGB", RED, BLUE), ("L", 10, 20)])
    def test_transparent_colour_shows_white(self, mode: str, clear: Any, solid: Any) -> None:
        source = Image.new(mode, (2, 1), clear)
        source.putpixel((1, 0), solid)
        image = decode(encode(source, "PNG", transparency=clear))
        assert image.getpixel((0, 0)) == WHITE
        assert image.getpixel((1, 0)) == (solid if mode == "RGB" else (solid,) * 3)

    @pytest.mark.parametrize(
        ("cmyk", "rgb"),
        [
            ((0, 255, 255, 0), RED),
            ((255, 0, 255, 0), GREEN),
            ((0, 0, 0, 0), WHITE),
            ((0, 0, 0, 255), (0, 0, 0)),
        ],
    )
    def test_cmyk_jpeg(self, cmyk: tuple[int, ...], rgb: tuple[int, ...]) -> None:
        data = encode(Image.new("CMYK", (16, 16), cmyk), "JPEG", quality=95)
        assert_close(decode(data).getpixel((8, 8)), rgb)

    @pytest.mark.parametrize("rgb", [RED, GREEN, BLUE, GREY, WHITE])
    def test_ycck_jpeg(self, rgb: tuple[int, int, int]) -> None:
        # Adobe stores the YCbCr of the amounts of ink, and black inverted. Pillow inverts every
        # CMYK sample it writes, so what is to be stored is given to it inverted.
        red, green, blue = rgb
        inks = Image.new("RGB", (16, 16), (255 - red, 255 - green, 255 - blue))
        luma = inks.convert("YCbCr").getpixel((0, 0))
        assert isinstance(luma, tuple)
        samples = (*(255 - int(part) for part in luma), 0)
        data = bytearray(encode(Image.new("CMYK", (16, 16), samples), "JPEG", quality=95))
        transform = data.index(b"Adobe") + 11
        assert data[transform] == 0
        data[transform] = 2
        assert_close(decode(bytes(data)).getpixel((8, 8)), rgb, 4)

    @pytest.mark.parametrize("kind", ["PNG", "WEBP"])
    def test_first_frame_of_an_animation(self, kind: str) -> None:
        other = Image.new("RGB", (48, 32), "black")
        data = encode(quarters(), kind, save_all=True, append_images=[other, other])
        assert_close(corners(decode(data)), QUARTERS, 8)

    def test_a_plain_jpeg_never_becomes_an_image_of_pillow(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("load", "convert", "transpose", "copy", "paste", "crop"):
            monkeypatch.setattr(JpegImageFile, name, None)
        decode(JPEG)


class TestJpegWithoutPillow:
    """What libjpeg decodes alone is what Pillow would make of it."""

    NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 123, 3), np.uint8))

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"subsampling": 0},
            {"subsampling": 1},
            {"progressive": True},
            {"quality": 100, "optimize": True},
            {"keep_rgb": True},
            {"restart_marker_rows": 1},
        ],
    )
    @pytest.mark.parametrize("mode", ["RGB", "L"])
    @pytest.mark.parametrize("side", [8, 40, 123])
    def test_its_pixels_are_the_same(self, options: dict[str, Any], mode: str, side: int) -> None:
        data = encode(self.NOISE.resize((984, 720)).convert(mode), "JPEG", **options)
        straight = decode_image(data, "image", LIMITS, Preprocess(side, "pad"))
        opened = Image.open(io.BytesIO(data))
        opened.draft(None, straight.shape[1::-1])
        assert opened.size == straight.shape[1::-1]
        assert np.array_equal(straight, np.asarray(opened.convert("RGB")))

    @pytest.mark.parametrize("progressive", [False, True])
    def test_what_it_warns_of_is_left_to_pillow(self, progressive: bool) -> None:
        data = encode(self.NOISE, "JPEG", progressive=progressive)
        scan = data.index(b"\xff\xda")
        stray = data[:scan] + b"stray" + data[scan:]
        with pytest.raises(ValueError, match="extraneous bytes"):
            simplejpeg.decode_jpeg(stray)
        assert np.array_equal(np.asarray(decode(stray)), np.asarray(decode(data)))

    @pytest.mark.parametrize("mode", ["CMYK", "RGB"])
    def test_other_colours_go_through_pillow(
        self, mode: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        profile = {"icc_profile": icc_profile(ADOBE_RGB, 2.2)} if mode == "RGB" else {}
        data = encode(quarters().convert(mode), "JPEG", **profile)

        def fail(*_: object, **__: object) -> None:
            pytest.fail("it was decoded without Pillow")

        monkeypatch.setattr("simplejpeg.decode_jpeg", fail)
        assert decode(data).size == (48, 32)


class TestOrientation:
    # Where the quarters 0 1 / 2 3 of the stored picture belong, by the EXIF standard.
    UPRIGHT = {  # noqa: RUF012
        1: (0, 1, 2, 3),
        2: (1, 0, 3, 2),
        3: (3, 2, 1, 0),
        4: (2, 3, 0, 1),
        5: (0, 2, 1, 3),
        6: (2, 0, 3, 1),
        7: (3, 1, 2, 0),
        8: (1, 3, 0, 2),
    }

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
    @pytest.mark.parametrize("orientation", UPRIGHT)
    def test_picture_is_upright(self, kind: str, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = decode(encode(quarters(), kind, exif=exif.tobytes(), quality=95))
        assert image.size == ((48, 32) if orientation < 5 else (32, 48))
        expected = [QUARTERS[index] for index in self.UPRIGHT[orientation]]
        assert_close(corners(image), expected, 12)

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize(
        "block",
        [
            b"Exif\0\0",
            b"Exif\0\0garbage garbage garbage",
            b"Exif\0\0MM\0*\xff\xff\xff\xff",
            b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12" * 20,
            # An orientation out of range, and one that is text.
            b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0",
            b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x02\x36\0\0\0\0\0\0\0",
            # A resolution (tag 0x11A) with an empty value.
            b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x1a\0\x02\0\0\0\x01\0\0\0\0"
            b"\x01\x28\0\x03\0\0\0\x01\0\x02\0\0\0\0\0\0",
        ],
        ids=["empty", "garbage", "offset", "count", "range", "text", "resolution"],
    )
    def test_broken_exif_block_does_not_fail_the_image(self, block: bytes) -> None:
        assert_close(corners(decode(encode(quarters(), "JPEG", exif=block))), QUARTERS, 12)


class TestEncodedBytes:
    @pytest.mark.parametrize("data", [JPEG, PNG, WEBP], ids=["jpeg", "png", "webp"])
    def test_raw_and_base64_give_the_same_bytes(self, data: bytes) -> None:
        text = base64.b64encode(data)
        assert encoded_bytes(data, "image[0]", LIMITS) is data
        for value in (
            text,
            base64.urlsafe_b64encode(data),
            base64.encodebytes(data),
            b" \t\r\n" + text + b"\n",
            b"data:image/jpeg;base64," + text,
            b"DATA:image/svg+xml;BASE64,\n" + base64.encodebytes(data),
            b"data:;base64," + text,
            b"data:application/octet-stream;base64," + text,
            b"data:image/jpeg;charset=utf-8;base64," + text,
        ):
            assert encoded_bytes(value, "image[0]", LIMITS) == data

    @pytest.mark.parametrize(
        ("value", "found"),
        [
            (b"", "empty"),
            (b" \n ", "empty"),
            (b"data:image/png;base64,", "empty"),
            (b"https://shop.example/mug.jpg", ": a link, and the server fetches none; "),
            (b"%PDF-1.7", ": a PDF; "),
            (b"II*\0" + bytes(8), ": a TIFF file; "),
            (b"\xff\x0a" + bytes(8), ": a JPEG XL file; "),
            (b"\x00\x00\x00\x18ftypmp42\0\0\0\0isommp42", ": a video; "),
            (b"<svg xmlns=", ": an SVG drawing; "),
            (b"<!DOCTYPE html>", ": a web page; "),
            (
                b"BM" + bytes(12) + b"\x28" + bytes(15) + b"\x01" + bytes(9),
                "run-length encoded BMP",
            ),
            (b"RIFF\x00\x00\x00\x00WAVE", "52 49 46 46"),
            (bytes(range(256)), "00 01 02 03"),
            (base64.b64encode(b"GIF88a\x01\x00"), "base64 of 8 bytes that begin 47 49 46"),
            (base64.b64encode(b"%PDF-1.7"), "base64 of a PDF"),
            (base64.b64encode(JPEG)[:-1], "Incorrect padding"),
            (base64.b64encode(JPEG)[:-2] + b"=A", "neither an image nor base64"),
            (base64.b64encode(JPEG) + b"AAAA=", "neither an image nor base64"),
            (b"*" + base64.b64encode(JPEG), "neither an image nor base64"),
            (b"data:image/jpeg," + base64.b64encode(JPEG), "64 61 74 61"),
        ],
    )
    def test_anything_else_is_refused_in_words(self, value: bytes, found: str) -> None:
        with pytest.raises(ImageError) as caught:
            encoded_bytes(value, "image[3]", LIMITS)
        message = str(caught.value)
        assert caught.value.tensor == "image[3]"
        assert message.startswith("image[3]: ")
        assert found in message
        assert "JPEG, PNG, WebP, HEIC, AVIF, GIF or BMP" in message
        assert "Send" in message

    @pytest.mark.parametrize("extra", [0, 1, 2])
    def test_size_limit_holds_for_the_file_and_not_its_text(self, extra: int) -> None:
        data = JPEG + b"\0" * extra
        exact = ImageLimits(len(data), 10**6)
        below = ImageLimits(len(data) - 1, 10**6)
        for value in (data, base64.b64encode(data), base64.encodebytes(data)):
            assert encoded_bytes(value, "image[0]", exact) == data
            with pytest.raises(ImageError, match=rf"image\[0\].*at most {len(data) - 1} bytes"):
                encoded_bytes(value, "image[0]", below)

    def test_oversized_base64_is_refused_before_it_is_decoded(self) -> None:
        # Not valid at its end, which only decoding would find out.
        with pytest.raises(ImageError, match="at most 100 bytes"):
            encoded_bytes(b"A" * 1000 + b"*", "image[0]", ImageLimits(100, 10**6))


class TestDamage:
    @pytest.mark.parametrize(
        "data",
        [
            PNG,
            WEBP,
            encode(quarters(), "WEBP"),
            encode(quarters(), "WEBP", save_all=True, append_images=[Image.new("RGB", (48, 32))]),
        ],
        ids=["png", "lossless", "webp", "animated"],
    )
    def test_truncated_file_is_refused_at_every_length(self, data: bytes) -> None:
        # The last four bytes of a PNG are the checksum of an empty chunk: nothing is lost.
        for length in range(len(data) - 4):
            with pytest.raises(ImageError) as caught:
                decode(data[:length])
            assert caught.value.tensor == "image[0]"

    @pytest.mark.parametrize("progressive", [False, True])
    def test_a_jpeg_without_its_end_is_shown_and_one_without_more_refused(
        self, progressive: bool
    ) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
        picture = Image.fromarray(noise).resize((480, 360), Image.Resampling.BICUBIC)
        data = encode(picture, "JPEG", progressive=progressive)
        whole = np.asarray(decode(data), int)
        shown = np.asarray(decode(data[:-2]), int)
        assert np.abs(shown - whole).max(axis=(1, 2)).max() < 16
        assert decode(data[:-1]).size == whole.shape[1::-1]
        # What viewers show of the others lacks a part, or all that makes it sharp.
        for share in np.linspace(0.1, 0.55 if progressive else 0.95, 40):
            with pytest.raises(ImageError, match="whole, undamaged file"):
                decode(data[: int(len(data) * share)])

    def test_message_names_format_size_and_cause(self) -> None:
        with pytest.raises(
            ImageError, match=r"image\[0\]: a JPEG file of 500 bytes .*OSError: Trunc"
        ):
            decode(JPEG[:500])
        with pytest.raises(ImageError) as caught:
            decode(JPEG[:500])
        assert isinstance(caught.value.__cause__, OSError)

    def test_png_with_altered_pixels_is_refused(self) -> None:
        stored = bytearray(encode(quarters(), "PNG", compress_level=0))
        stored[len(stored) // 2] ^= 1
        with pytest.raises(ImageError, match="PNG file"):
            decode(bytes(stored))

    @pytest.mark.parametrize("damage", ["filter", "stream"])
    def test_png_with_damaged_pixels_under_sound_checksums_is_refused(self, damage: str) -> None:
        rows = (b"\0" + bytes(48)) * 32
        stream = bytearray(zlib.compress(b"\x09" + rows[1:] if damage == "filter" else rows))
        if damage == "stream":
            stream[len(stream) // 2] ^= 0xFF
        with pytest.raises(ImageError, match=r"PNG file of .* data stream"):
            decode(png_of(48, 32, 8, 0, bytes(stream)))

    @pytest.mark.parametrize("data", [b"", b"text", b"II*\0", b"BMW is a make of car, and no BMP"])
    def test_other_format_never_reaches_a_reader(
        self, data: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refuse_to_open(monkeypatch)
        with pytest.raises(ImageError, match="JPEG, PNG, WebP, HEIC, AVIF, GIF or BMP"):
            decode(data)

    @pytest.mark.parametrize(
        "error", [OSError, SyntaxError, ValueError, struct.error, EOFError, zlib.error, MemoryError]
    )
    def test_decoder_error_of_any_type_is_an_image_error(
        self, error: type[Exception], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_: object) -> None:
            raise error("odd")

        monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
        with pytest.raises(ImageError, match=f"{error.__name__}: odd"):
            decode(PNG)

    @pytest.mark.parametrize("side", [1001, 10_000, 100_000])
    def test_bomb_is_refused_by_its_header(self, side: int) -> None:
        with pytest.raises(ImageError, match=rf"image\[0\]: {side} x {side} pixels; .* 1000000 "):
            decode(png(side, side, 8, 2, b""))

    def test_webp_bomb_is_refused(self) -> None:
        chunk = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + b"\xff\xff\0" * 2
        data = b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk
        # By Pillow's decoder, or before that by Pillow itself: versions differ.
        with pytest.raises(ImageError, match=r"decoder object|DecompressionBombError"):
            decode(data)

    def test_a_jpeg_of_too_many_scans_is_refused(self) -> None:
        data = encode(quarters(), "JPEG", progressive=True)
        last = data.rindex(b"\xff\xda")
        scans = data.count(b"\xff\xda")
        assert decode(data[:last] + data[last:-2] * (MAX_JPEG_SCANS - scans + 1) + data[-2:])
        bomb = data[:last] + data[last:-2] * (MAX_JPEG_SCANS - scans + 2) + data[-2:]
        with pytest.raises(ImageError, match=rf"more than {MAX_JPEG_SCANS} scans; expected at"):
            decode(bomb)

    def test_a_jpeg_of_very_many_scans_is_neither_decoded_nor_gone_through_to_its_end(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = encode(quarters(), "JPEG", progressive=True)
        last = data.rindex(b"\xff\xda")
        markers = CountedMarkers()
        monkeypatch.setattr("bls_models.images.part_limits.JPEG_MARKER", markers)
        refuse_to_open(monkeypatch)
        with pytest.raises(ImageError, match="scans"):
            decode(data[:last] + data[last:-2] * 10_000 + data[-2:])
        assert 0 < markers.searches <= MAX_JPEG_SEGMENTS + 1

    def test_scans_of_a_preview_or_after_the_end_do_not_count(self) -> None:
        preview = encode(quarters(), "JPEG", exif=b"Exif\0\0" + b"\xff\xda\0\0" * 200)
        assert decode(preview + b"\xff\xda\0\0" * 200).size == (48, 32)

    @pytest.mark.parametrize(
        ("data", "found"),
        [
            (JPEG[:2] + b"\xff\xfe\0\2" * (MAX_JPEG_SEGMENTS + 1) + JPEG[2:], "segments"),
            # An end before the pixels is none.
            (JPEG[:2] + b"\xff\xd9" + b"\xff\xfe\0\2" * MAX_JPEG_SEGMENTS, "segments"),
            # What follows a reserved marker is the next one, and not the length of what to skip.
            (JPEG[:2] + (b"\xff\xf0\xff\xfa" + b"\xff\xfe\0\2" * 16_000) * 2, "segments"),
            (
                png(8, 8, 8, 2, b"\0" * 200, *[b"tEXta\0b"] * (MAX_PNG_CHUNKS + 1)),
                "chunks",
            ),
            (png(8, 8, 8, 2, b"\0" * 200, *[MEGABYTE] * (MAX_PNG_TEXTS + 1)), "compressed texts"),
        ],
    )
    def test_a_file_of_very_many_parts_is_refused_before_a_decoder_sees_it(
        self, data: bytes, found: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refuse_to_open(monkeypatch)
        with pytest.raises(ImageError, match=f"more than .* {found}; expected at most"):
            decode(data)

    def test_a_heic_whose_items_have_no_text_for_a_type_never_comes_to_its_decoder(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = bytearray(encode(quarters(), "HEIF", quality=90))
        assert decode(bytes(data)).size == quarters().size
        # After the box's name: version and flags, the item, its protection, its type.
        data[data.index(b"infe") + 13] = 0xF1
        refuse_to_open(monkeypatch)
        with pytest.raises(ImageError, match="an item whose type or name is no UTF-8"):
            decode(bytes(data))

    def test_as_many_texts_as_an_editor_writes_pass(self) -> None:
        data = png(8, 8, 8, 2, b"\0" * 200, *[MEGABYTE] * MAX_PNG_TEXTS)
        assert decode(data).size == (8, 8)

    def test_a_side_may_be_as_long_as_a_jpeg_can_have_it(self) -> None:
        limits = ImageLimits(2**20, 10**6)
        longest = encode(Image.new("L", (1, MAX_SIDE)), "PNG")
        assert decode_image(longest, "image[0]", limits).shape == (MAX_SIDE, 1, 3)
        with pytest.raises(ImageError, match=f"at most {MAX_SIDE} pixels on a side"):
            decode_image(encode(Image.new("L", (MAX_SIDE + 1, 1)), "PNG"), "image[0]", limits)

    def test_pixel_limit_is_inclusive(self) -> None:
        exact = ImageLimits(2**20, 48 * 32)
        assert decode_image(PNG, "image[0]", exact).shape == (32, 48, 3)
        with pytest.raises(ImageError, match="48 x 32 pixels"):
            decode_image(PNG, "image[0]", ImageLimits(2**20, 48 * 32 - 1))

    @pytest.mark.filterwarnings("ignore")
    @given(
        data=st.sampled_from(
            [JPEG, PNG, WEBP, encode(quarters(), "WEBP"), encode(quarters().quantize(8), "PNG")]
        ),
        changes=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8),
        cut=st.integers(0, 4000),
    )
    @settings(max_examples=400, deadline=None)
    def test_mutated_file_decodes_or_is_refused(
        self, data: bytes, changes: list[tuple[int, int]], cut: int
    ) -> None:
        mutated = bytearray(data)
        for place, value in changes:
            mutated[place % len(mutated)] = value
        del mutated[max(cut, 1) :]
        with contextlib.suppress(ImageError):
            pixels, _ = decode_pixels(bytes(mutated), "image[0]", LIMITS, Preprocess(8, "pad"))
            assert pixels.shape == (8, 8, 3)


class TestCrop:
    @pytest.mark.parametrize(
        ("crop", "expected"),
        [
            ([0, 0, 1, 1], (0, 0, 1, 1)),
            ((0.25, 0.5, 0.75, 1.0), (0.25, 0.5, 0.75, 1.0)),
            (np.array([0, 0, 0.5, 0.5], np.float32), (0, 0, 0.5, 0.5)),
            ([-1e-7, 0, 1 + 1e-7, 1], (0, 0, 1, 1)),
        ],
    )
    def test_valid_crop_is_returned_clamped(self, crop: Any, expected: tuple[float, ...]) -> None:
        assert check_crop(crop, "crop[0]") == expected

    @pytest.mark.parametrize(
        "crop",
        [
            [],
            [0, 0, 1],
            [0, 0, 1, 1, 1],
            [[0, 0, 1, 1]],
            [0.5, 0, 0.5, 1],
            [0.6, 0, 0.5, 1],
            [0, 1, 1, 0],
            [-0.1, 0, 1, 1],
            [0, 0, 1, 1.1],
            [0, 0, 640, 480],
            [1, 0, 1 + 1e-7, 1],
            [float("nan"), 0, 1, 1],
            [0, 0, float("inf"), 1],
            ["a", 0, 1, 1],
            None,
        ],
    )
    def test_other_crop_is_refused(self, crop: Any) -> None:
        with pytest.raises(ImageError, match=r"crop\[2\]: .*0 <= x0 < x1 <= 1.*fractions"):
            check_crop(crop, "crop[2]")

    @pytest.mark.parametrize(
        ("crop", "colour"),
        [
            ((0, 0, 0.5, 0.5), RED),
            ((0.5, 0, 1, 0.5), GREEN),
            ((0, 0.5, 0.5, 1), BLUE),
            ((0.5, 0.5, 1, 1), GREY),
        ],
    )
    @pytest.mark.parametrize("resize", ["stretch", "center_crop"])
    def test_crop_holds_nothing_from_outside(
        self, crop: tuple[float, ...], colour: tuple[int, ...], resize: str
    ) -> None:
        pixels = prepare_pixels(np.asarray(quarters()), Preprocess(8, resize), crop)
        assert (pixels == colour).all()

    @pytest.mark.parametrize("crop", [(0, 0, 1e-5, 1e-5), (0.99999, 0.99999, 1, 1)])
    def test_crop_is_at_least_one_pixel(self, crop: tuple[float, ...]) -> None:
        pixels = prepare_pixels(np.asarray(quarters()), Preprocess(4, "stretch"), crop)
        assert (pixels == (RED if crop[0] == 0 else GREY)).all()

    def test_crop_is_relative_to_the_upright_image(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 3
        data = encode(quarters(), "PNG", exif=exif.tobytes())
        image = decode_image(data, "i", LIMITS)
        pixels = prepare_pixels(image, Preprocess(4, "stretch"), (0, 0, 0.5, 0.5))
        assert (pixels == GREY).all()


class TestPreparePixels:
    @pytest.mark.parametrize("resize", ["stretch", "pad", "center_crop"])
    @pytest.mark.parametrize("size", [(48, 32), (32, 48), (64, 64), (1, 300), (300, 1), (1, 1)])
    def test_pixels_are_a_contiguous_square(self, resize: str, size: tuple[int, int]) -> None:
        pixels = prepare_pixels(plain(size), Preprocess(64, resize))
        assert pixels.shape == (64, 64, 3)
        assert pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous
        assert pixels.flags.writeable
        assert (pixels == RED).all(axis=-1).any()

    def test_stretch_shows_the_whole_picture(self) -> None:
        pixels = prepare_pixels(np.asarray(quarters()), Preprocess(16, "stretch"))
        assert_close(corners(Image.fromarray(pixels)), QUARTERS, 6)

    @pytest.mark.parametrize("size", [(64, 32), (32, 64)])
    def test_pad_centres_the_whole_picture_on_white(self, size: tuple[int, int]) -> None:
        pixels = prepare_pixels(plain(size), Preprocess(16, "pad"))
        upright = pixels if size[0] > size[1] else pixels.transpose(1, 0, 2)
        assert (upright[:4] == WHITE).all()
        assert (upright[4:12] == RED).all()
        assert (upright[12:] == WHITE).all()

    def test_the_border_is_left_out_as_far_as_the_bundle_says(self) -> None:
        image = plain((100, 50), GREEN)
        image[5:45, 10:90] = RED
        assert (prepare_pixels(image, Preprocess(16, "stretch", 0.8)) == RED).all()
        whole = prepare_pixels(image, Preprocess(16, "stretch"))
        assert_close(whole[0, 0], GREEN, 6)

    def test_a_crop_is_as_if_the_picture_had_been_cropped_before(self) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
        preprocess = Preprocess(16, "pad", 0.8)
        pixels = prepare_pixels(noise, preprocess, (0.25, 0.0, 0.75, 0.5))
        before = prepare_pixels(noise[:30, 20:60].copy(), preprocess)
        np.testing.assert_array_equal(pixels, before)
        np.testing.assert_array_equal(
            prepare_pixels(noise, preprocess, (0, 0, 1, 1)), prepare_pixels(noise, preprocess)
        )

    @pytest.mark.parametrize("keep", [0.0, -0.1, 1.01, float("nan")])
    def test_a_share_that_cannot_be_kept_is_refused(self, keep: float) -> None:
        with pytest.raises(BundleError, match="keep"):
            Preprocess(8, "pad", keep)

    @pytest.mark.parametrize("turned", [False, True])
    def test_center_crop_leaves_the_ends_out(self, turned: bool) -> None:
        image = plain((100, 20), GREEN)
        image[:, 30:70] = RED
        if turned:
            image = np.rot90(image)
        assert (prepare_pixels(image, Preprocess(10, "center_crop")) == RED).all()

    @pytest.mark.parametrize(
        ("size", "most"),
        [
            ((224, 224), 0.0),
            ((300, 260), 2.0),
            ((447, 447), 1.0),
            ((448, 449), 7.0),
            ((1601, 1203), 6.0),
            ((150, 100), 0.0),
            ((100, 900), 2.0),
        ],
    )
    def test_pixels_are_close_to_those_of_an_exact_filter(
        self, size: tuple[int, int], most: float
    ) -> None:
        # A pixel further to the side, the same is 25 to 28 apart.
        noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
        image = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
        exact = np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC), int)
        pixels = prepare_pixels(np.asarray(image), Preprocess(224, "stretch"))
        assert np.abs(pixels - exact).mean() <= most

    def test_a_fine_pattern_becomes_grey_and_no_coarse_one(self) -> None:
        stripes = np.zeros((900, 900, 3), np.uint8)
        stripes[:, ::2] = 255
        pixels = prepare_pixels(stripes, Preprocess(224, "stretch"))
        assert_close(pixels, np.full_like(pixels, 128), 3)

    @pytest.mark.parametrize("size", [(MAX_SIDE, 1), (1, MAX_SIDE), (40_000, 12)])
    @pytest.mark.parametrize("resize", ["stretch", "pad", "center_crop"])
    def test_the_longest_picture_becomes_a_square(self, size: tuple[int, int], resize: str) -> None:
        pixels = prepare_pixels(plain(size), Preprocess(64, resize))
        assert pixels.shape == (64, 64, 3)
        assert (pixels == RED).all(axis=-1).any()

    @pytest.mark.parametrize(("size", "resize"), [(0, "pad"), (-1, "pad"), (224, "fill"), (8, "")])
    def test_bad_preprocess_is_refused(self, size: int, resize: str) -> None:
        with pytest.raises(BundleError, match="build the bundle again"):
            Preprocess(size, resize)


class TestDecodePixels:
    def test_returns_pixels_and_the_encoded_file(self) -> None:
        pixels, data = decode_pixels(
            base64.b64encode(PNG), "image[0]", LIMITS, Preprocess(16, "stretch")
        )
        assert data == PNG
        expected: npt.NDArray[np.uint8] = prepare_pixels(
            np.asarray(quarters()), Preprocess(16, "stretch")
        )
        assert (pixels == expected).all()


class TestReducedDecoding:
    """A JPEG that is larger than needed is decoded at a part of its size."""

    @pytest.mark.parametrize(
        ("size", "resize", "expected"),
        [
            ((800, 600), "pad", (100, 75)),
            ((800, 600), "stretch", (200, 150)),
            ((800, 600), "center_crop", (200, 150)),
            ((199, 100), "pad", (199, 100)),
            ((200, 40), "pad", (100, 20)),
            ((3, 900), "pad", (2, 450)),
        ],
    )
    def test_keeps_the_pixels_that_resizing_needs(
        self, size: tuple[int, int], resize: str, expected: tuple[int, int]
    ) -> None:
        data = encode(quarters(*size), "JPEG")
        pixels = decode_image(data, "image", LIMITS, Preprocess(100, resize))
        assert pixels.shape[1::-1] == expected

    def test_looks_at_the_crop_and_not_at_the_whole(self) -> None:
        data = encode(quarters(800, 600), "JPEG")
        crop = (0.25, 0.0, 0.5, 0.25)
        image = decode_image(data, "image", LIMITS, Preprocess(100, "pad"), crop)
        assert image.shape == (300, 400, 3)

    def test_what_is_left_out_needs_no_pixels(self) -> None:
        data = encode(quarters(800, 600), "JPEG")
        image = decode_image(data, "image", LIMITS, Preprocess(100, "stretch", 0.5))
        assert image.shape == (300, 400, 3)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_a_crop_is_of_the_upright_picture(self, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encode(quarters(1600, 400), "JPEG", exif=exif, quality=95, subsampling=0)
        crop = (0.5, 0.0, 1.0, 0.5)
        preprocess = Preprocess(32, "stretch")
        needed = decode_image(data, "image", LIMITS, preprocess, crop)
        pixels = prepare_pixels(needed, preprocess, crop)
        whole = prepare_pixels(decode_image(data, "image", LIMITS), preprocess, crop)
        # The borders of what is cut may lie within a pixel of the smaller picture.
        assert_close(pixels[2:-2, 2:-2], whole[2:-2, 2:-2], tolerance=12)
        assert min(needed.shape[:2]) * 0.5 >= 32

    def test_other_formats_are_decoded_whole(self) -> None:
        data = encode(quarters(800, 600), "PNG")
        pixels = decode_image(data, "image", LIMITS, Preprocess(100, "pad"))
        assert pixels.shape == (600, 800, 3)

    def test_the_pixel_limit_is_that_of_the_file(self) -> None:
        data = encode(quarters(800, 600), "JPEG")
        with pytest.raises(ImageError, match="800 x 600 pixels"):
            decode_image(data, "image", ImageLimits(10**6, 1000), Preprocess(8, "pad"))

    def test_a_file_that_was_cut_off_is_still_refused(self) -> None:
        data = encode(quarters(800, 600), "JPEG")
        with pytest.raises(ImageError, match="does not decode"):
            decode_image(data[: len(data) // 2], "image", LIMITS, Preprocess(8, "pad"))

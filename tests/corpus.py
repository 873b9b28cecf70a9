"""Odd and broken image files, made when a test runs, each with what must come of it."""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from parfocal.reasons import FileReason

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Case:
    """One file: either `pixels` come out of it, or `reason` says why none do."""

    name: str
    data: bytes
    pixels: Array | None = None
    reason: FileReason | None = None
    um_per_px: float | None = None
    notes: tuple[str, ...] = ()


def gray(dtype: type[np.generic] = np.uint8, h: int = 37, w: int = 53) -> Array:
    rng = np.random.default_rng(5)
    top = 255 if dtype is np.uint8 else 4095
    return rng.integers(0, top + 1, (h, w)).astype(dtype)


def colour(dtype: type[np.generic] = np.uint8, h: int = 37, w: int = 53) -> Array:
    return np.stack([gray(dtype, h, w), gray(dtype, h, w)[::-1], gray(dtype, h, w)[:, ::-1]], 2)


def saved(image: Array | Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(out, form, **options)
    return out.getvalue()


def tiff(image: Array, **options: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, image, **options)
    return out.getvalue()


def cv(suffix: str, image: Array) -> bytes:
    rgb_last = image[..., ::-1] if image.ndim == 3 and image.shape[2] == 3 else image
    return bytes(cv2.imencode(suffix, np.ascontiguousarray(rgb_last))[1].tobytes())


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, bits: int, kind: int, raw: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def bmp(
    width: int, height: int, bits: int, packing: int, body: bytes, palette: bytes = b""
) -> bytes:
    offset = 54 + len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, packing, len(body), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + info + palette + body


def raw_tiff(tags: dict[int, tuple[int, int]], body: bytes = b"", following: int = 0) -> bytes:
    """A little-endian TIFF of single LONG or SHORT values: tag -> (type, value)."""
    entries = b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in sorted(tags.items())
    )
    table = struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)
    return b"II*\0" + struct.pack("<I", 8) + table + body


def plain_tags(width: int, height: int, offset: int, count: int) -> dict[int, tuple[int, int]]:
    return {
        256: (4, width),
        257: (4, height),
        258: (3, 8),
        259: (3, 1),
        262: (3, 1),
        273: (4, offset),
        277: (3, 1),
        278: (4, height),
        279: (4, count),
    }


def palette_image() -> tuple[Image.Image, Array]:
    index = gray() % 7
    table = np.arange(21, dtype=np.uint8).reshape(7, 3) * 11
    picture = Image.fromarray(index).convert("P")
    picture.putpalette(table.tobytes())
    return picture, table[np.array(picture)]


def good() -> list[Case]:
    """Files that must decode to exactly these pixels."""
    g8, g16, c8, c16 = gray(), gray(np.uint16), colour(), colour(np.uint16)
    alpha = np.dstack([c8, gray()])
    picture, painted = palette_image()
    cases = [
        Case("gray8.png", saved(g8, "PNG"), g8),
        Case("gray16.png", saved(g16, "PNG"), g16),
        Case("rgb8.png", saved(c8, "PNG"), c8),
        Case("rgb16.png", cv(".png", c16), c16),
        Case("rgba8.png", saved(alpha, "PNG"), c8),
        Case("la8.png", saved(Image.merge("LA", [Image.fromarray(g8)] * 2), "PNG"), g8),
        Case("palette.png", saved(picture, "PNG"), painted),
        Case("palette-alpha.png", saved(picture, "PNG", transparency=b"\0\x80"), painted),
        Case("trailing.png", saved(c8, "PNG") + b"garbage" * 9, c8),
        Case("rgb8.bmp", saved(c8, "BMP"), c8),
        Case("gray8.bmp", saved(g8, "BMP"), g8),
        Case("palette.bmp", saved(picture, "BMP"), painted),
        Case("rgbx32.bmp", bmp(53, -37, 32, 0, alpha[..., [2, 1, 0, 3]].tobytes()), c8),
        Case("top-down.bmp", bmp(52, -37, 24, 0, c8[:, :52, ::-1].tobytes()), c8[:, :52]),
        Case("trailing.bmp", saved(c8, "BMP") + b"garbage", c8),
        Case("opencv.bmp", cv(".bmp", c8), c8),
    ]
    return cases + good_tiffs(g8, g16, c8, c16, alpha)


def good_tiffs(g8: Array, g16: Array, c8: Array, c16: Array, alpha: Array) -> list[Case]:
    rgb: dict[str, Any] = {"photometric": "rgb"}
    big16 = gray(np.uint16, 64, 80)
    pages = np.stack([g8, 255 - g8, g8 // 2])
    zipped: dict[str, Any] = {"compression": "zlib"}
    ome = {"axes": "YX", "PhysicalSizeX": 0.44, "PhysicalSizeXUnit": "µm"}
    nano = {"axes": "YX", "PhysicalSizeX": 440.0, "PhysicalSizeXUnit": "nm"}
    imagej: dict[str, Any] = {"imagej": True, "resolution": (1 / 0.325, 1 / 0.325)}
    smooth = cv2.GaussianBlur(c16, (0, 0), 3)
    return [
        Case("gray8.tif", tiff(g8), g8),
        Case("gray16.tif", tiff(g16), g16),
        Case("rgb8.tif", tiff(c8, **rgb), c8),
        Case("rgb16.tif", tiff(c16, **rgb), c16),
        Case("rgba.tif", tiff(alpha, extrasamples=["unassalpha"], **rgb), c8),
        Case("big-endian.tif", tiff(g16, byteorder=">"), g16),
        Case("big-endian-rgb16.tif", tiff(c16, byteorder=">", **rgb), c16),
        Case("bigtiff.tif", tiff(g16, bigtiff=True), g16),
        Case("strips.tif", tiff(g16, rowsperstrip=5), g16),
        Case("tiled.tif", tiff(big16, tile=(16, 32)), big16),
        Case("tiled-odd.tif", tiff(c8, tile=(16, 16), **rgb), c8),
        Case("planar.tif", tiff(np.moveaxis(c8, 2, 0), planarconfig="separate", **rgb), c8),
        Case("zlib.tif", tiff(g16, **zipped), g16),
        Case("zlib-strips.tif", tiff(c8, rowsperstrip=7, **rgb, **zipped), c8),
        Case("zlib-tiles.tif", tiff(big16, tile=(32, 32), byteorder=">", **zipped), big16),
        Case("deflate-pillow.tif", saved(c8, "TIFF", compression="tiff_adobe_deflate"), c8),
        Case("lzw.tif", saved(c8, "TIFF", compression="tiff_lzw"), c8),
        Case("lzw16.tif", cv(".tif", smooth), smooth),
        Case("packbits.tif", saved(g8, "TIFF", compression="packbits"), g8),
        Case("white-is-zero.tif", tiff(g8, photometric="miniswhite"), 255 - g8),
        Case("pages.tif", tiff(pages, photometric="minisblack"), g8, notes=("first_page_of_3",)),
        Case("imagej.tif", tiff(g8, metadata={"unit": "um"}, **imagej), g8, um_per_px=0.325),
        Case("imagej-pixel.tif", tiff(g8, metadata={"unit": "pixel"}, **imagej), g8),
        Case(
            "imagej-stack.tif",
            tiff(
                pages,
                metadata={"axes": "TYX", "unit": "micron"},
                photometric="minisblack",
                **imagej,
            ),
            g8,
            um_per_px=0.325,
            notes=("first_page_of_3",),
        ),
        Case("ome.tif", tiff(g8, ome=True, metadata=ome), g8, um_per_px=0.44),
        Case("ome-nm.tif", tiff(g8, ome=True, metadata=nano), g8, um_per_px=0.44),
        Case("dpi72.tif", tiff(g8, resolution=(72, 72), resolutionunit="INCH"), g8),
        Case("dpi96.tif", tiff(g8, resolution=(96, 96), resolutionunit="INCH"), g8),
        Case(
            "per-cm.tif",
            tiff(g8, resolution=(20000, 20000), resolutionunit="CENTIMETER"),
            g8,
            um_per_px=0.5,
        ),
        Case(
            "oblong.tif",
            tiff(g8, resolution=(20000, 10000), resolutionunit="CENTIMETER"),
            g8,
            notes=("pixels_not_square",),
        ),
        Case("trailing.tif", tiff(g8) + b"garbage", g8),
        looped(g8),
    ]


def looped(g8: Array) -> Case:
    """A TIFF whose directory names itself as the next one."""
    offset = 8 + 2 + 9 * 12 + 4
    data = raw_tiff(plain_tags(53, 37, offset, g8.size), g8.tobytes(), following=8)
    return Case("loop.tif", data, g8, notes=("first_page_of_2",))


def bad() -> list[Case]:
    """Files that must be refused, each for this reason."""
    c8, g8 = colour(), gray()
    jpeg, bitmap = saved(c8, "JPEG", quality=95), saved(c8, "BMP")
    deflate_bomb = zlib.compress(bytes(2**24), 9)
    start = 8 + 2 + 9 * 12 + 4
    bomb = plain_tags(4, 4, start, len(deflate_bomb)) | {259: (3, 8)}
    short = plain_tags(53, 37, start, 40) | {259: (3, 8)}
    png8 = saved(c8, "PNG")
    flipped = bytearray(png8)
    flipped[len(png8) // 2] ^= 0x10
    wrong: dict[FileReason, dict[str, bytes]] = {
        FileReason.EMPTY: {"empty.tif": b""},
        FileReason.INCOMPLETE: {
            "half.jpg": jpeg[: len(jpeg) // 2],
            "no-end.jpg": jpeg[:-2],
            "zero-tail.jpg": jpeg[: len(jpeg) // 2] + bytes(len(jpeg) // 2),
            "half.png": png8[: len(png8) // 2],
            "no-end.png": png8[:-12],
            "half.bmp": bitmap[: len(bitmap) // 2],
            "almost.bmp": bitmap[:-1],
            "half.tif": tiff(g8)[:1200],
            "half-tiles.tif": tiff(gray(np.uint16, 64, 80), tile=(16, 16))[:-100],
            "header-only.tif": b"II*\0\x08\0\0\0",
            "no-directory-yet.tif": b"II*\0\0\0\0\0" + bytes(100),
            "strip-not-written.tif": raw_tiff(plain_tags(53, 37, 0, 37 * 53), g8.tobytes()),
            "lost-second-page.tif": raw_tiff(plain_tags(2, 2, 8, 4), following=10**6),
            "half.lzw.tif": saved(c8, "TIFF", compression="tiff_lzw")[:3000],
            "first-byte.png": b"\x89",
            "reserved.bmp": bytes(4096),
        },
        FileReason.NOT_AN_IMAGE: {
            "text.tif": b"Dear colleague, the image is attached.",
            "gif.png": saved(g8, "GIF"),
            "webp.jpg": b"RIFF\x24\0\0\0WEBPVP8 " + bytes(40),
            "html.jpg": b"<!doctype html><title>404</title>",
            "pdf.tif": b"%PDF-1.7\n%\xe2\xe3",
        },
        FileReason.UNSUPPORTED: {
            "cmyk.jpg": saved(Image.fromarray(c8).convert("CMYK"), "JPEG"),
            "one-bit.png": saved(Image.fromarray(g8).convert("1"), "PNG"),
            "one-bit.bmp": saved(Image.fromarray(g8).convert("1"), "BMP"),
            "one-bit.tif": saved(Image.fromarray(g8).convert("1"), "TIFF"),
            "four-bit.png": png(4, 1, 4, 0, b"\0\x12\x34"),
            "float.tif": tiff(g8.astype(np.float32)),
            "signed.tif": tiff(g8.astype(np.int16)),
            "uint32.tif": tiff(g8.astype(np.uint32)),
            "cmyk.tif": saved(Image.fromarray(c8).convert("CMYK"), "TIFF"),
            "five-channels.tif": tiff(np.dstack([c8, c8[..., :2]]), photometric="rgb"),
            "rle.bmp": bmp(8, 8, 8, 1, bytes(64), bytes(1024)),
            "rgb555.bmp": bmp(8, 8, 16, 0, bytes(128)),
            "webp.tif": raw_tiff(plain_tags(8, 8, start, 64) | {259: (3, 50001)}, bytes(64)),
        },
        FileReason.TOO_LARGE: {
            "huge.png": png(30000, 30000, 8, 0, bytes(30000)),
            "huge.tif": raw_tiff(plain_tags(100_000, 100_000, start, 10)),
            "huge-tile.tif": raw_tiff(
                {256: (4, 8), 257: (4, 8), 258: (3, 8), 259: (3, 1), 262: (3, 1)}
                | {277: (3, 1), 322: (4, 2**20), 323: (4, 2**20), 324: (4, start), 325: (4, 64)}
            ),
            "huge.bmp": bmp(60000, 60000, 24, 0, b""),
            "huge.jpg": b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03" + bytes(9) + b"\xff\xd9",
        },
        FileReason.CORRUPT: {
            "flipped.png": bytes(flipped),
            "zero-size.png": png(0, 7, 8, 0, b""),
            "zero-size.tif": raw_tiff(plain_tags(0, 7, start, 0)),
            "zero-size.bmp": bmp(0, 0, 24, 0, b""),
            "negative.bmp": bmp(-5, 5, 24, 0, bytes(100)),
            "too-few-strips.tif": raw_tiff(
                plain_tags(53, 37, start, 99) | {278: (4, 1)}, bytes(99)
            ),
            "short-strip.tif": raw_tiff(plain_tags(53, 37, start, 99), bytes(99)),
            "bad-deflate.tif": raw_tiff(short, b"this is no deflate stream " * 4),
            "short-png-data.png": png(53, 37, 8, 0, bytes(20)),
            "no-frame.jpg": b"\xff\xd8\xff\xda\0\x02" + bytes(50) + b"\xff\xd9",
            "noise.jpg": b"\xff\xd8\xff" + bytes(range(1, 200)),
        },
    }
    cases = [
        Case(name, data, reason=reason)
        for reason, files in wrong.items()
        for name, data in files.items()
    ]
    # only as much is inflated as the 4 x 4 pixels need: a bomb decodes to what it declares
    return [*cases, Case("bomb.tif", raw_tiff(bomb, deflate_bomb), np.zeros((4, 4), np.uint8))]

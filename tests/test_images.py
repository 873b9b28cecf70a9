"""The decoder: exact pixels from whole files, a stable reason from every other, nothing else."""

import io
import zlib

import corpus
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from parfocal.images import IMAGE_SUFFIXES, ImageError, Limits, decode
from parfocal.reasons import SENTENCES, FileReason

CASES = [*corpus.good(), *corpus.bad()]
WHOLE = [case for case in corpus.good() if len(case.data) < 12_000]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_file_gives_its_pixels_or_its_reason(case: corpus.Case) -> None:
    if case.reason is not None:
        with pytest.raises(ImageError) as caught:
            decode(case.data)
        assert caught.value.reason is case.reason, caught.value.detail
        assert caught.value.detail
        return
    frame = decode(case.data)
    assert case.pixels is not None
    assert frame.pixels.dtype == case.pixels.dtype
    np.testing.assert_array_equal(frame.pixels, case.pixels)
    assert (frame.um_per_px or 0) == pytest.approx(case.um_per_px or 0, rel=1e-4)
    assert frame.notes == case.notes


def test_pixels_are_contiguous_native_and_writable() -> None:
    for case in CASES:
        if case.pixels is not None:
            pixels = decode(case.data).pixels
            assert pixels.flags.c_contiguous and pixels.dtype.isnative
            pixels[0] = 0  # a view of the file's bytes would refuse


def test_a_jpeg_is_what_pillow_decodes() -> None:
    for image in (corpus.gray(), corpus.colour()):
        for options in ({}, {"progressive": True}, {"quality": 30}):
            data = corpus.saved(image, "JPEG", **options)
            with Image.open(io.BytesIO(data)) as opened:
                np.testing.assert_array_equal(decode(data).pixels, np.asarray(opened))


def test_a_jpeg_with_garbage_after_its_end_is_whole() -> None:
    data = corpus.saved(corpus.colour(), "JPEG")
    np.testing.assert_array_equal(decode(data + b"\0garbage").pixels, decode(data).pixels)


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.name)
def test_a_file_cut_anywhere_is_never_half_a_frame(case: corpus.Case) -> None:
    whole = decode(case.data)
    for size in np.linspace(0, len(case.data) - 1, 40).astype(int):
        try:
            frame = decode(case.data[:size])
        except ImageError as error:
            assert error.reason in (FileReason.INCOMPLETE, FileReason.EMPTY, FileReason.CORRUPT)
        else:  # only bytes after the last pixel were lost
            np.testing.assert_array_equal(frame.pixels, whole.pixels)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_files_raise_nothing_but_image_error(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(WHOLE))
    damaged = bytearray(case.data)
    hits = st.tuples(st.integers(0, len(damaged) - 1), st.integers(0, 255))
    for at, value in data.draw(st.lists(hits, min_size=1, max_size=6)):
        damaged[at] = value
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)))):
        damaged[min(at, len(damaged) - 1)] = value  # headers come first
    end = data.draw(st.integers(1, len(damaged)))
    try:
        frame = decode(bytes(damaged[: end if end % 3 == 0 else None]))
    except ImageError as error:
        assert error.reason in SENTENCES
    else:
        assert frame.pixels.dtype in (np.uint8, np.uint16)
        assert frame.pixels.ndim == 2 or frame.pixels.shape[2] == 3


@settings(max_examples=60, deadline=None)
@given(
    h=st.integers(1, 40),
    w=st.integers(1, 40),
    depth=st.sampled_from([1, 3]),
    bits=st.sampled_from([8, 16]),
    order=st.sampled_from(["<", ">"]),
    zipped=st.booleans(),
    rows=st.sampled_from([None, 1, 3]),
    tile=st.sampled_from([None, (16, 16), (32, 16)]),
)
def test_any_tiff_layout_reads_as_tifffile_wrote_it(
    h: int,
    w: int,
    depth: int,
    bits: int,
    order: str,
    zipped: bool,
    rows: int | None,
    tile: tuple[int, int] | None,
) -> None:
    image = np.random.default_rng(h * 41 + w).integers(0, 2**bits, (h, w, depth))
    image = image.astype(f"u{bits // 8}")[..., 0 if depth == 1 else slice(None)]
    data = corpus.tiff(
        image,
        byteorder=order,
        compression="zlib" if zipped else None,
        rowsperstrip=None if tile else rows,
        tile=tile,
        photometric="rgb" if depth == 3 else "minisblack",
    )
    np.testing.assert_array_equal(decode(data).pixels, image)


def test_horizontal_differences_are_undone() -> None:
    image = corpus.gray(np.uint16)
    differences = np.diff(image, axis=1, prepend=np.uint16(0))
    body = zlib.compress(differences.tobytes())
    start = 8 + 2 + 10 * 12 + 4
    tags = corpus.plain_tags(53, 37, start, len(body))
    tags |= {258: (3, 16), 259: (3, 8), 317: (3, 2)}
    np.testing.assert_array_equal(decode(corpus.raw_tiff(tags, body)).pixels, image)


def test_limits_are_of_samples_and_of_bytes() -> None:
    image = corpus.colour()
    for form in ("PNG", "BMP", "TIFF", "JPEG"):
        data = corpus.saved(image, form)
        decode(data, Limits(max_pixels=image.size))
        for limits in (Limits(max_pixels=image.size - 1), Limits(max_bytes=len(data) - 1)):
            with pytest.raises(ImageError) as caught:
                decode(data, limits)
            assert caught.value.reason is FileReason.TOO_LARGE


def test_pages_of_a_long_chain_are_counted_not_read() -> None:
    pages = np.zeros((300, 4, 4), np.uint8)
    data = corpus.tiff(pages, metadata=None, photometric="minisblack")
    assert decode(data).notes == ("first_page_of_300",)
    with tifffile.TiffFile(io.BytesIO(data)) as opened:
        assert len(opened.pages) == 300


def test_suffixes_are_lower_case_with_their_dot() -> None:
    assert all(suffix.startswith(".") and suffix.islower() for suffix in IMAGE_SUFFIXES)

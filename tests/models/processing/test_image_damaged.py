"""Damaged, hostile and unknown pictures are refused, in our words."""

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from micro.images import SAVED, chunk, encode, fault, picture, png_of
from PIL import Image

from edgevlm.compiler.errors import JobFault
from edgevlm.models.processing import image as image_module
from edgevlm.models.processing.image import FORMATS, load_image


@pytest.mark.parametrize("tenth", range(1, 10))
@pytest.mark.parametrize("saved", SAVED)
def test_a_truncated_file_is_refused(saved, tenth):
    data = encode(picture(), saved.split()[0], **SAVED[saved])
    assert fault(data[: len(data) * tenth // 10]).code == "EV112"


@pytest.mark.parametrize("saved", SAVED)
def test_a_file_lacking_its_last_byte_is_refused(saved):
    # A constant picture, so that the last compressed byte cannot look like a GIF trailer.
    data = encode(Image.new("RGB", (24, 31), "navy"), saved.split()[0], **SAVED[saved])
    assert load_image(data).shape == (31, 24, 3)
    assert fault(data[:-1]).code == "EV112"


def test_a_tiff_lacking_the_end_of_a_tag_is_refused():
    data = encode(picture(), "TIFF", compression="tiff_lzw", software="x" * 50)
    assert np.array_equal(load_image(data), picture())
    places = range(len(data) - 40, len(data))
    assert {fault(data[:cut]).code for cut in places} == {"EV112"}


@pytest.mark.parametrize("kept", range(1, 8))
def test_a_few_bytes_of_a_png_are_a_truncated_png(kept):
    assert fault(encode(picture())[:kept]).code == "EV112"


@settings(deadline=None)
@given(st.integers(60, 2000), st.integers(1, 255))
def test_a_damaged_png_is_never_shown(place, change):
    data = bytearray(encode(picture()))
    data[place] ^= change
    try:
        assert np.array_equal(load_image(bytes(data)), picture())
    except JobFault as error:
        assert error.code == "EV112"


@settings(deadline=None)
@given(
    st.binary(min_size=1, max_size=200),
    st.sampled_from(
        [
            b"",
            b"\x89PNG\r\n\x1a\n",
            b"\xff\xd8\xff",
            b"RIFF\0\0\0\0WEBP",
            b"BM",
            b"GIF89a",
            b"II*\0",
        ]
    ),
)
def test_random_bytes_are_refused_in_our_words(noise, start):
    assert fault(start + noise).code in ("EV112", "EV113", "EV114")


def test_a_decompression_bomb_is_stopped_by_its_header():
    bomb = png_of(60_000, 60_000, chunk(b"IDAT", zlib.compress(b"\0" * 1000)))
    assert fault(bomb).code == "EV113"
    below_the_ceiling_of_pillow = png_of(10_000, 10_000, chunk(b"IDAT", b""))
    error = fault(below_the_ceiling_of_pillow)
    assert error.code == "EV113" and "10000 x 10000" in error.why and "64000000" in error.why


@pytest.mark.filterwarnings("error")
def test_max_pixels_decides_without_a_warning():
    error = fault(png_of(10_000, 10_000, chunk(b"IDAT", b"")), max_pixels=100_000_000)
    assert error.code == "EV112"  # allowed by size, so the missing pixels are noticed next
    assert fault(encode(picture(10, 10)), max_pixels=99).code == "EV113"
    assert load_image(encode(picture(10, 10)), max_pixels=100).shape == (10, 10, 3)


def test_a_huge_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(image_module, "MAX_FILE_BYTES", 100)
    path = tmp_path / "big.png"
    path.write_bytes(encode(picture()))
    assert fault(path).code == fault(path.read_bytes()).code == "EV113"


def test_missing_folder_and_device(tmp_path):
    missing = fault(tmp_path / "cat.png")
    assert missing.code == "EV110" and "cat.png" in missing.what and "No such file" in missing.why
    assert fault(tmp_path).code == "EV110" and "a folder" in fault(tmp_path).why
    (tmp_path / "link.png").symlink_to("/dev/zero")
    assert fault(tmp_path / "link.png").code == "EV110"


def test_empty(tmp_path):
    (tmp_path / "empty.png").touch()
    error = fault(tmp_path / "empty.png")
    assert error.code == "EV111" and "empty.png" in error.what
    assert fault(b"").code == "EV111"


@pytest.mark.parametrize(
    "data",
    [
        b"hello world, not a picture",
        b"%PDF-1.7 ...",
        b"RIFF0000WAVEfmt ",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"P6 1 1 255\nabc",
    ],
)
def test_other_formats_are_named_unsupported(data):
    error = fault(data)
    assert error.code == "EV114"
    assert all(kind in error.fix for kind in FORMATS)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_without_a_known_range_are_unsupported(dtype):
    error = fault(encode(Image.fromarray(np.ones((2, 2), dtype)), "TIFF"))
    assert error.code == "EV114" and "range" in error.why


def test_a_wrong_extension_does_not_matter(tmp_path):
    (tmp_path / "cat.jpg").write_bytes(encode(picture()))
    assert np.array_equal(load_image(tmp_path / "cat.jpg"), picture())

"""Pictures of every kind come out as a person sees them."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from micro.images import LOSSLESS, chunk, encode, picture, png_of, smooth
from PIL import Image

from edgevlm.models.processing.image import load_image


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_are_exact(kind):
    loaded = load_image(encode(picture(), kind, **LOSSLESS[kind]))
    assert np.array_equal(loaded, picture())
    assert loaded.dtype == np.uint8 and loaded.flags.c_contiguous and loaded.flags.writeable


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_lossy_formats_are_near(kind):
    difference = load_image(encode(smooth(64, 64), kind)).astype(int) - smooth(64, 64)
    assert np.abs(difference).mean() < 8


def test_a_file_and_its_bytes_are_the_same(tmp_path):
    path = tmp_path / "with space.png"
    path.write_bytes(encode(picture()))
    assert np.array_equal(load_image(path), load_image(path.read_bytes()))


@settings(deadline=None)
@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_any_small_picture_survives_png(pixels):
    assert np.array_equal(load_image(encode(pixels)), pixels)


@settings(deadline=None)
@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(4))))
def test_any_alpha_is_laid_over_white(pixels):
    alpha = pixels[..., 3:].astype(float) / 255
    expected = pixels[..., :3] * alpha + 255 * (1 - alpha)
    loaded = load_image(encode(pixels))
    assert loaded.shape == expected.shape
    assert np.abs(loaded - expected).max() <= 1


@settings(deadline=None)
@given(st.integers(1, 8), st.sampled_from(["PNG", "TIFF", "WEBP"]))
def test_turned_pictures_keep_their_pixels(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    loaded = load_image(encode(picture(3, 5), kind, exif=exif, **LOSSLESS[kind]))
    assert loaded.shape == ((3, 5, 3) if orientation < 5 else (5, 3, 3))
    assert sorted(map(tuple, loaded.reshape(-1, 3))) == sorted(
        map(tuple, picture(3, 5).reshape(-1, 3))
    )


# Where the stored row 0 and the stored column 0 belong in the upright picture, as the EXIF standard
# words it. The picture has one red, one green and one blue corner: (0, 0), (0, -1), (-1, 0).
CORNERS = {
    1: ((0, 0), (0, -1), (-1, 0)),  # row 0 top, column 0 left
    2: ((0, -1), (0, 0), (-1, -1)),  # top, right
    3: ((-1, -1), (-1, 0), (0, -1)),  # bottom, right
    4: ((-1, 0), (-1, -1), (0, 0)),  # bottom, left
    5: ((0, 0), (-1, 0), (0, -1)),  # left, top
    6: ((0, -1), (-1, -1), (0, 0)),  # right, top
    7: ((-1, -1), (0, -1), (-1, 0)),  # right, bottom
    8: ((-1, 0), (0, 0), (-1, -1)),  # left, bottom
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", CORNERS)
def test_exif_orientation(orientation, kind):
    stored = np.full((32, 48, 3), 255, np.uint8)
    stored[:8, :8], stored[:8, -8:], stored[-8:, :8] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = load_image(encode(stored, kind, exif=exif, **LOSSLESS.get(kind, {"quality": 95})))
    for channel, corner in enumerate(CORNERS[orientation]):
        pixel = upright[corner].astype(int)
        assert pixel[channel] > 200 and pixel.sum() < 350, (corner, pixel)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_a_senseless_orientation_is_ignored(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(load_image(encode(picture(), exif=exif)), picture())


def test_16_bit_grey_is_scaled_not_clipped():
    grey = np.array([[0, 257, 32768, 65535]], np.uint16)
    assert load_image(encode(grey))[0].tolist() == [[v] * 3 for v in (0, 1, 128, 255)]
    big_endian = Image.frombytes("I;16B", (4, 1), grey.astype(">u2").tobytes())
    assert load_image(encode(big_endian, "TIFF"))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_16_bit_grey_with_one_transparent_value():
    grey = np.array([[0, 5000, 65535]], np.uint16)
    assert load_image(encode(grey, transparency=5000))[0, :, 0].tolist() == [0, 255, 255]


def test_16_bit_rgb_png():
    row = b"\0" + struct.pack(">6H", 0, 32768, 65535, 257, 514, 771)
    data = png_of(2, 1, chunk(b"IDAT", zlib.compress(row)), depth=16)
    assert load_image(data).tolist() == [[[0, 128, 255], [1, 2, 3]]]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "RGBX", "YCbCr"])
def test_every_mode_of_a_white_picture_is_white(mode):
    white = Image.new("RGB", (5, 4), "white").convert("RGBA" if mode == "RGBA" else mode)
    kind = "PNG" if mode in ("1", "L", "LA", "P", "RGBA") else "TIFF"
    loaded = load_image(encode(white, kind))
    assert loaded.shape == (4, 5, 3) and (loaded == 255).all()


def test_grey_repeats_in_three_channels():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    assert np.array_equal(load_image(encode(grey)), np.repeat(grey[..., None], 3, 2))


def test_cmyk_jpeg():
    loaded = load_image(encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    assert np.abs(loaded.astype(int) - (255, 0, 0)).max() <= 4


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_with_transparency_shows_white(kind):
    held = Image.new("P", (2, 1))
    held.putpalette([255, 0, 0, 0, 0, 255])
    held.putpixel((1, 0), 1)
    assert load_image(encode(held, kind, transparency=0)).tolist() == [
        [[255, 255, 255], [0, 0, 255]]
    ]


def test_palette_with_graded_transparency():
    held = Image.new("P", (2, 1))
    held.putpalette([255, 0, 0, 0, 0, 255])
    held.putpixel((1, 0), 1)
    loaded = load_image(encode(held, transparency=bytes([128, 255])))
    assert np.abs(loaded.astype(int) - [[[255, 127, 127], [0, 0, 255]]]).max() <= 1


def test_rgb_with_one_transparent_colour():
    pixels = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    loaded = load_image(encode(pixels, transparency=(1, 2, 3)))
    assert loaded.tolist() == [[[255, 255, 255], [4, 5, 6]]]


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_the_first_picture_of_many_counts(kind):
    first, second = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(first, kind, save_all=True, append_images=[second], **options)
    assert np.array_equal(load_image(data), np.broadcast_to((255, 0, 0), (4, 4, 3)))


def test_a_jpeg_of_several_pictures_is_a_jpeg():
    first, second = (Image.new("RGB", (16, 16), colour) for colour in ("red", "blue"))
    loaded = load_image(encode(first, "MPO", save_all=True, append_images=[second]))
    assert np.abs(loaded.astype(int) - (255, 0, 0)).max() <= 4

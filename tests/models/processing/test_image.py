"""Pictures of every kind come out as a person sees them; damaged ones are refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from edgevlm.compiler.errors import JobFault
from edgevlm.models.processing import image as image_module
from edgevlm.models.processing.image import FORMATS, load_image

LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "BMP": {}, "TIFF": {}}
SAVED = {
    "PNG": {},
    "JPEG": {},
    "JPEG progressive": {"progressive": True},
    "WEBP": {},
    "WEBP lossless": {"lossless": True},
    "BMP": {},
    "GIF": {},
    "TIFF": {},
    "TIFF lzw": {"compression": "tiff_lzw"},
}


def picture(height=24, width=31, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height=24, width=31):
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([y * 255 // height, x * 255 // width, (x + y) % 256], -1).astype(np.uint8)


def encode(pixels, kind="PNG", **options):
    held = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    held.save(buffer, kind, **options)
    return buffer.getvalue()


def fault(source, **options):
    with pytest.raises(JobFault) as caught:
        load_image(source, **options)
    return caught.value


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_of(width, height, *chunks, depth=8, colour=2):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


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

"""Read one picture, which may be hostile, into the RGB pixels that a person would see.

Cameras rotate by a tag, screenshots carry alpha, scanners write 16 bits: each is settled here,
because a picture read wrongly costs accuracy without a word. A file is read into memory, named by
its first bytes, and then only that one decoder of Pillow is let near it.
"""

from __future__ import annotations

import io
import stat
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from edgevlm.compiler.errors import EdgeError, JobFault

__all__ = ["FORMATS", "MAX_FILE_BYTES", "load_image"]

MAX_FILE_BYTES = 256 * 2**20
ORIENTATION_TAG = 0x0112  # of EXIF, values 1 to 8
SIGNATURES = {  # Pillow's name of a format -> how its files begin (RIFF: bytes 0-3 and 8-11)
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "WEBP": (b"RIFFWEBP",),
    "BMP": (b"BM",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*"),
}
FORMATS = tuple(SIGNATURES)
PNG_END = b"\0\0\0\0IEND\xae\x42\x60\x82"


def load_image(source: Path | bytes, *, max_pixels: int = 64_000_000) -> np.ndarray:
    """The picture as uint8 [H, W, 3] RGB, C-contiguous and writable, upright by its EXIF tag.

    Transparency is laid over white; 16-bit grey is scaled by 1/257; of an animation or a multi-page
    file the first picture counts. Above 178 million pixels Pillow's own ceiling holds.
    Raises JobFault: EV110 cannot be read, EV111 empty, EV112 corrupt or truncated, EV113 too large,
    EV114 not one of `FORMATS`, or pixels without a known range (32-bit integer, float).
    """
    name, data = _read(source)
    kind = _kind(data)
    if kind is None:
        raise _unsupported(name, "its first bytes are those of none of them")
    try:
        with warnings.catch_warnings():
            # Of what Pillow only warns about, one thing matters here: a TIFF tag that is cut off.
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", "Truncated File Read")
            return _decode(name, data, kind, max_pixels)
    except EdgeError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(name, str(error)) from error
    except Exception as error:
        # Decoders fed with damaged bytes raise a dozen unrelated types; all mean the same thing.
        raise _broken(name, f"the {kind} decoder says: {error or type(error).__name__}") from error


def _read(source: Path | bytes) -> tuple[str, bytes]:
    """What to call the picture, and its bytes."""
    if isinstance(source, bytes):
        name, data = f"image given as {len(source)} bytes", source
    else:
        name = f"image {source}"
        try:
            mode = Path(source).stat().st_mode
            if not stat.S_ISREG(mode):  # a pipe would block, a device would never end
                kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
                raise JobFault("EV110", name, f"it is {kind}", "name one picture file")
            with Path(source).open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            why = getattr(error, "strerror", None) or str(error)
            raise JobFault("EV110", name, why, f"check the path: ls -l {source}") from error
    if not data:
        raise JobFault("EV111", name, "it has zero bytes", "fetch or save the picture again")
    if len(data) > MAX_FILE_BYTES:
        raise _too_large(name, f"the file is bigger than {MAX_FILE_BYTES // 2**20} MB")
    return name, data


def _kind(data: bytes) -> str | None:
    """The format by its signature; a file cut within the signature still counts as that format."""
    head = data[:4] + data[8:12] if data.startswith(b"RIFF") else data[:8]
    for kind, signatures in SIGNATURES.items():
        if any(head.startswith(sign) or sign.startswith(head) for sign in signatures):
            return kind
    return None


def _decode(name: str, data: bytes, kind: str, max_pixels: int) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=(kind,)) as image:
        width, height = image.size
        if width * height > max_pixels:
            why = f"{width} x {height} pixels are more than the {max_pixels} allowed"
            raise _too_large(name, why)
        image.verify()  # PNG: every checksum, which decoding alone does not look at
    if not _has_its_end(data, kind):
        raise _broken(name, f"the end of the {kind} file is missing")
    with Image.open(io.BytesIO(data), formats=(kind,)) as image:
        image.load()
        if image.mode in ("I", "F"):
            raise _unsupported(name, f"pixels of mode {image.mode} have no known range")
        # Asked for after loading: a PNG may carry it behind the pixels, and of a TIFF Pillow has
        # already turned the picture and dropped the tag.
        return np.ascontiguousarray(_turn(_to_rgb(image), image.getexif().get(ORIENTATION_TAG)))


def _has_its_end(data: bytes, kind: str) -> bool:
    """Whether the file is whole, for the formats whose decoder stops at the last pixel."""
    if kind == "PNG":
        return PNG_END in data
    if kind == "GIF":
        return data.rstrip(b"\0").endswith(b";")
    if kind == "BMP":
        return len(data) >= int.from_bytes(data[2:6], "little")
    return True


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint32)
        scaled = ((grey + 128) // 257).astype(np.uint8)  # nearest: 65535 -> 255, where Pillow clips
        see_through = image.info.get("transparency")
        if isinstance(see_through, int):
            scaled[grey == see_through] = 255
        return np.repeat(scaled[..., None], 3, axis=2)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _turn(rgb: np.ndarray, orientation: object) -> np.ndarray:
    """Upright pixels; anything but 2 to 8 means that nothing is to be done."""
    match orientation:
        case 2:
            return rgb[:, ::-1]
        case 3:
            return rgb[::-1, ::-1]
        case 4:
            return rgb[::-1]
        case 5:
            return rgb.swapaxes(0, 1)
        case 6:
            return np.rot90(rgb, -1)
        case 7:
            return rgb[::-1, ::-1].swapaxes(0, 1)
        case 8:
            return np.rot90(rgb)
    return rgb


def _broken(name: str, why: str) -> JobFault:
    fix = "open it in a viewer; fetch or save the picture again"
    return JobFault("EV112", name, f"corrupt or truncated: {why}", fix)


def _too_large(name: str, why: str) -> JobFault:
    return JobFault("EV113", name, why, "scale it down: convert IN -resize 4096x4096 OUT")


def _unsupported(name: str, why: str) -> JobFault:
    fix = f"convert it to one of {', '.join(FORMATS)}"
    return JobFault("EV114", name, f"not a supported picture: {why}", fix)

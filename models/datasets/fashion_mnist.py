"""Read Fashion-MNIST (MIT, Zalando SE) from its four files, as the Debian package lays them out.

    <data>/train-images-idx3-ubyte.gz   60,000 pictures of 28 x 28 grey pixels
    <data>/train-labels-idx1-ubyte.gz   60,000 numbers of CLASSES; t10k-... likewise: 10,000

The last 5,000 of the training files are the split "validation"; "train" is what is left. Neither is
ever mixed with "test". Paper: 1708.07747.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from edgevlm.compiler.errors import JobFault
from edgevlm.models.datasets import Dataset, Row, check_split

__all__ = ["CLASSES", "INSTALL", "SIDE", "arrays", "load"]

NAME = "fashion-mnist"
INSTALL = "apt-get install dataset-fashion-mnist"
FOLDER = Path("/usr/share/datasets/fashion-mnist")
SIDE, HELD_OUT = 28, 5000
GREY = (SIDE, SIDE, 3)  # a channel three times over, without a copy
CLASSES = (
    "t-shirt", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle-boot",
)  # fmt: skip
FILES = {"train": ("train", 60_000), "validation": ("train", 60_000), "test": ("t10k", 10_000)}
UINT8 = 0x08  # of an IDX header: type, and how many dimensions


def load(split: str, data_dir: Path | None = None) -> Dataset:
    """The split "train", "validation" or "test" in the order of its file; no question is asked.

    Raises UsageFault EV132 unknown split; JobFault EV131 not there, EV133 malformed.
    """
    pictures, labels = arrays(split, data_dir)
    rows = (
        Row(np.broadcast_to(picture[..., None], GREY), "", CLASSES[label], CLASSES[label])
        for picture, label in zip(pictures, labels, strict=True)
    )
    return Dataset(NAME, split, tuple(rows), "MIT", CLASSES)


def arrays(split: str, data_dir: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [n,28,28], uint8 [n] numbers of CLASSES). Raises what `load` does."""
    check_split(NAME, split, tuple(FILES))
    prefix, count = FILES[split]
    folder = data_dir or FOLDER
    pictures = _read(folder / f"{prefix}-images-idx3-ubyte.gz", (count, SIDE, SIDE))
    labels = _read(folder / f"{prefix}-labels-idx1-ubyte.gz", (count,))
    if labels.max() >= len(CLASSES):
        raise _malformed(folder / f"{prefix}-labels-idx1-ubyte.gz", f"a label is {labels.max()}")
    cut = count - HELD_OUT
    part = {"train": slice(cut), "validation": slice(cut, None), "test": slice(None)}[split]
    return pictures[part], labels[part]


def _read(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """An IDX file of bytes of exactly this shape; nothing more is ever unpacked."""
    header = struct.pack(f">HBB{len(shape)}I", 0, UINT8, len(shape), *shape)
    size = len(header) + int(np.prod(shape))
    try:
        with gzip.open(file) as stream:
            found = stream.read(size + 1)
    except FileNotFoundError:
        raise JobFault("EV131", f"dataset {NAME}", f"{file} is not there", INSTALL) from None
    except (OSError, EOFError, zlib.error) as error:
        raise _malformed(file, f"it cannot be unpacked: {error}") from error
    if not found.startswith(header) or len(found) != size:
        raise _malformed(file, f"it is not an IDX file of {' x '.join(map(str, shape))} bytes")
    return np.frombuffer(found, np.uint8, offset=len(header)).reshape(shape)


def _malformed(file: Path, why: str) -> JobFault:
    return JobFault("EV133", f"dataset {NAME}, {file}", why, f"{INSTALL} --reinstall")

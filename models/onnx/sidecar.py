"""What no ONNX file says: `vit.toml` beside `vit.onnx`.

    labels = ["cat", "dog"]             # of a classifier
    output = "logits"                   # which one, where there are several
    [image]                             # how a picture becomes the input
    height = 224                        # pixels; needed where the graph leaves them open
    width = 224
    resample = "bicubic"                # nearest, bilinear, bicubic, lanczos
    shortest_edge = 256                 # keep the aspect and crop the middle; else it is stretched
    mean = [0.5, 0.5, 0.5]              # of x / 255
    std = [0.5, 0.5, 0.5]

All of it is optional. What is left out is what most image models were trained with: the picture
stretched to the input's size, x / 255, ImageNet's mean and standard deviation.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgevlm.compiler.errors import JobFault
from edgevlm.models.processing.preprocess import ImageProcessor

__all__ = ["DEFAULTS", "Sidecar", "broken", "read_sidecar", "sidecar_path"]

MAX_BYTES = 4 * 2**20
#: torchvision's and timm's, for models trained on ImageNet
DEFAULTS: dict[str, Any] = {
    "resample": "bilinear",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}

Label = Annotated[str, Field(max_length=200)]
Side = Annotated[int, Field(strict=True, ge=1, le=4096)]  # px


class Sidecar(BaseModel):
    """The file; everything may be missing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[Label, ...] = Field(default=(), max_length=100_000)
    output: str | None = Field(default=None, max_length=1000)
    image: dict[str, Any] = Field(default_factory=dict)  # fields of ImageProcessor

    @property
    def size(self) -> tuple[int | None, int | None]:
        """Height and width in pixels, as far as they are given."""
        return self.image.get("height"), self.image.get("width")

    def processor(self, height: int, width: int) -> dict[str, Any]:
        """All fields of an ImageProcessor. Raises ValidationError."""
        fields = {**DEFAULTS, **self.image, "height": height, "width": width}
        return ImageProcessor(**fields).model_dump(mode="json")


def sidecar_path(model: Path) -> Path:
    """Where the sidecar of an ONNX file would lie."""
    return model.with_suffix(".toml")


def read_sidecar(model: Path) -> Sidecar | None:
    """None where there is none. Raises EV141 for one that cannot be followed."""
    path = sidecar_path(model)
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES} bytes")
        sidecar = Sidecar(**tomllib.loads(path.read_text(encoding="utf-8")))
        given = (1 if side is None else side for side in sidecar.size)
        sidecar.processor(*given)  # every field is looked at here
    except (OSError, ValueError, TypeError, RecursionError) as error:  # of TOML and pydantic, too
        raise broken(path, _reason(error)) from error
    return sidecar


def broken(path: Path, why: str) -> JobFault:
    """EV141."""
    return JobFault(
        "EV141",
        f"{path.name} cannot be followed",
        why[:300],
        f"correct {path.name}; README.md, 'a bare ONNX file', shows one",
    )


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
    return f"{type(error).__name__}: {error}"

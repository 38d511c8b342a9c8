"""Turn RGB pixels into the tensor that a vision part takes, number for number as transformers does.

resize -> centre crop (zeros where the picture is too small) -> rescale -> normalise -> [1, 3, H, W]

A checkpoint was trained behind one exact resize filter; another one costs accuracy that nobody can
find later. So Pillow's filters are used, in the order and the precision of transformers' PIL
backend. The size of the result is fixed, because the graph is.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgevlm.compiler.errors import JobFault, UsageFault

__all__ = ["ImageProcessor"]

MAX_RESIZED_PIXELS = 64_000_000  # a strip of 1 x 1000000 px would grow without end
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)
SQUARE, SHORTEST = {"height": 224, "width": 224}, {"shortest_edge": 224}
# What a preprocessor_config.json of a kind leaves out; `int_size` is what a bare number means.
CLIP_LIKE = {
    "size": SHORTEST,
    "crop_size": SQUARE,
    "do_center_crop": True,
    "resample": 3,
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
    "int_size": "shortest_edge",
}
KINDS = {
    "CLIPImageProcessor": CLIP_LIKE,
    "BitImageProcessor": CLIP_LIKE,  # DINOv2
    "SiglipImageProcessor": {
        "size": SQUARE,
        "resample": 3,
        "image_mean": HALF,
        "image_std": HALF,
        "int_size": "shortest_edge",
    },
    "ViTImageProcessor": {
        "size": SQUARE,
        "resample": 2,
        "image_mean": HALF,
        "image_std": HALF,
        "int_size": "square",
    },
}
STEPS = {"do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"}

Side = Annotated[int, Field(strict=True, ge=1, le=4096)]  # px
Mean = Annotated[float, Field(ge=-1e6, le=1e6)]
Factor = Annotated[float, Field(ge=1e-6, le=1e6)]  # a smaller one would be 0 or infinite in float32


class ImageProcessor(BaseModel):
    """What one vision part expects. By default the picture is stretched to height x width."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    height: Side  # px, of the result
    width: Side  # px, of the result
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bicubic"
    do_resize: bool = True
    shortest_edge: Side | None = None  # px; keep the aspect, scale the shorter side to this, crop
    resize_to: tuple[Side, Side] | None = None  # px, (height, width) before the crop, if other
    do_rescale: bool = True
    rescale_factor: Factor = 1 / 255
    do_normalize: bool = True
    mean: tuple[Mean, Mean, Mean] = HALF  # of the rescaled channels R, G, B
    std: tuple[Factor, Factor, Factor] = HALF

    @model_validator(mode="after")
    def _one_way_to_resize(self) -> ImageProcessor:
        given = (self.shortest_edge is not None) + (self.resize_to is not None)
        if given > self.do_resize:
            raise ValueError("give shortest_edge or resize_to, not both, and only with do_resize")
        return self

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """uint8 [h, w, 3] RGB -> float32 [1, 3, height, width], C-contiguous.

        Raises UsageFault EV116 for an array of another kind; JobFault EV113 if the picture is so
        narrow that scaling its shorter side would give more than 64 million pixels.
        """
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
            raise UsageFault(
                "EV116",
                f"image array {rgb.dtype} {list(rgb.shape)}",
                "uint8 [H, W, 3] RGB is needed",
                "read it with edgevlm.models.processing.image.load_image",
            )
        pixels = _centre_crop(self.resized(rgb), self.height, self.width)
        # float64 first and float32 after: the rounding of transformers, step by step.
        scale = self.rescale_factor if self.do_rescale else 1.0
        values = (pixels.astype(np.float64) * scale).astype(np.float32)
        if self.do_normalize:
            values = (values - np.float32(self.mean)) / np.float32(self.std)
        return np.ascontiguousarray(values.transpose(2, 0, 1)[None])

    def resized(self, rgb: np.ndarray) -> np.ndarray:
        """uint8 [h, w, 3] as it is before the crop; done to its own result it changes nothing."""
        if not self.do_resize:
            return rgb
        height, width = self.resize_to or (self.height, self.width)
        if self.shortest_edge is not None:
            short, long = sorted(rgb.shape[:2])
            longer = int(self.shortest_edge * long / short)
            tall = rgb.shape[0] >= rgb.shape[1]
            height, width = (longer, self.shortest_edge)[:: 1 if tall else -1]
        if height * width > MAX_RESIZED_PIXELS:
            raise JobFault(
                "EV113",
                f"image of {rgb.shape[1]} x {rgb.shape[0]} pixels",
                f"so narrow that resizing makes it {width} x {height}",
                "crop the picture nearer to a square",
            )
        picture = Image.fromarray(np.ascontiguousarray(rgb))
        return np.asarray(picture.resize((width, height), FILTERS[self.resample]))

    @classmethod
    def from_hf(cls, config: dict) -> ImageProcessor:
        """Read the content of a preprocessor_config.json of one of `KINDS`.

        Raises JobFault EV103 for another kind, a step it does not know (padding, splitting), a
        filter it lacks, values out of range, or a result whose size depends on the picture.
        """
        if not isinstance(config, dict):
            raise _refused("the file", "it is not a JSON object")
        named = config.get("image_processor_type") or config.get("feature_extractor_type")
        kind = str(named).removesuffix("Fast").removesuffix("Pil")
        kind = kind.replace("FeatureExtractor", "ImageProcessor")
        if kind not in KINDS:
            raise _refused(f"kind {named}", f"known kinds are {', '.join(KINDS)}")
        given = {str(key): value for key, value in config.items() if value is not None}
        for key, value in given.items():
            if key in STEPS and not isinstance(value, bool):
                raise _refused(f"{key} {value}", "true or false is needed")
            if (key.startswith("do_") or key == "use_square_size") and key not in STEPS and value:
                raise _refused(key, "this step is not implemented")
        settings = {"do_resize": True, "do_center_crop": False} | KINDS[kind] | given
        try:
            return cls(**_fields(settings, KINDS[kind]["int_size"]))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "size"
            raise _refused(place, first["msg"]) from error


def _fields(hf: dict, number_means: str) -> dict:
    """Our field names and values for one complete Hugging Face configuration."""
    fields = {
        key: hf[key]
        for key in ("do_resize", "do_rescale", "do_normalize", "rescale_factor")
        if key in hf
    }
    names = {filter_.value: name for name, filter_ in FILTERS.items()}
    if not isinstance(hf["resample"], int) or hf["resample"] not in names:
        raise _refused(f"resample {hf['resample']}", f"known filters are {names}")
    fields |= {"resample": names[hf["resample"]], "mean": hf["image_mean"], "std": hf["image_std"]}
    size = _size("size", hf["size"], number_means)
    crop = _size("crop_size", hf["crop_size"], "square") if hf["do_center_crop"] else None
    if "shortest_edge" in (crop or {}) or (crop is None and "height" not in size):
        raise _refused("size", "the size of the result would depend on the picture")
    if crop is None and not hf["do_resize"]:
        raise _refused("do_resize", "without it the size of the result depends on the picture")
    if hf["do_resize"] and "shortest_edge" in size:
        fields["shortest_edge"] = size["shortest_edge"]
    elif hf["do_resize"] and crop not in (None, size):
        fields["resize_to"] = (size["height"], size["width"])
    return fields | (crop or size)


def _size(key: str, size: object, number_means: str) -> dict:
    """{"height", "width"} or {"shortest_edge"}, whichever way it was written."""
    if isinstance(size, int):
        square = number_means == "square"
        return {"height": size, "width": size} if square else {"shortest_edge": size}
    given = {k: v for k, v in size.items() if v is not None} if isinstance(size, dict) else {}
    if set(given) not in ({"height", "width"}, {"shortest_edge"}):
        raise _refused(f"{key} {size}", "only height with width, or shortest_edge, are known")
    return given


def _centre_crop(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of [h, w, 3] as [height, width, 3]; zeros around it where there is too little."""
    if pixels.shape[:2] == (height, width):
        return pixels
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    piece = pixels[max(top, 0) : max(top, 0) + height, max(left, 0) : max(left, 0) + width]
    result = np.zeros((height, width, 3), pixels.dtype)
    rows, columns = piece.shape[:2]
    result[max(-top, 0) : max(-top, 0) + rows, max(-left, 0) : max(-left, 0) + columns] = piece
    return result


def _refused(what: str, why: str) -> JobFault:
    return JobFault(
        "EV103",
        f"preprocessor_config.json: {what}"[:300],
        why,
        "use a checkpoint with a CLIP, SigLIP or ViT processor of one fixed size",
    )

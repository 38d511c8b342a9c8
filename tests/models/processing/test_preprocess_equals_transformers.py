"""Our tensor is the tensor of transformers' PIL image processors: the same bits, not just near."""

import importlib

import numpy as np
import pytest

from edgevlm.models.processing.preprocess import ImageProcessor

pytest.importorskip(
    "transformers",
    reason="transformers is what the result is compared with: pip install 'transformers>=5.10,<6'",
)

# (height, width) of pictures: square, odd, extreme, smaller than the crop, already right.
SIZES = [
    (224, 224),
    (225, 224),
    (64, 64),
    (97, 311),
    (311, 97),
    (480, 641),
    (1, 1),
    (7, 300),
    (30, 30),
    (31, 29),
]
FAMILIES = {
    "CLIPImageProcessor": "clip",
    "SiglipImageProcessor": "siglip",
    "ViTImageProcessor": "vit",
    "BitImageProcessor": "bit",
}
VARIANTS = {
    "defaults": {},
    "odd crop": {
        "size": {"shortest_edge": 33},
        "crop_size": {"height": 31, "width": 28},
        "do_center_crop": True,
    },
    "crop larger than the picture": {
        "size": {"shortest_edge": 20},
        "do_center_crop": True,
        "crop_size": {"height": 33, "width": 26},
    },
    "oblong, then crop": {
        "size": {"height": 40, "width": 51},
        "do_center_crop": True,
        "crop_size": {"height": 33, "width": 32},
    },
    "crop alone": {
        "do_resize": False,
        "do_center_crop": True,
        "crop_size": {"height": 32, "width": 45},
    },
    "bilinear": {"size": {"height": 30, "width": 30}, "resample": 2, "do_center_crop": False},
    "lanczos": {"size": {"height": 30, "width": 50}, "resample": 1, "do_center_crop": False},
    "nearest": {"size": {"height": 50, "width": 30}, "resample": 0, "do_center_crop": False},
    "no normalisation": {
        "size": {"height": 30, "width": 30},
        "do_normalize": False,
        "do_center_crop": False,
    },
    "no rescaling": {
        "size": {"height": 30, "width": 30},
        "do_rescale": False,
        "do_center_crop": False,
    },
    "a number for the size": {"size": 32, "crop_size": 30, "do_center_crop": True},
}


def reference(kind, config):
    """transformers' own processor; its default one needs torchvision, the *Pil one does not."""
    family = FAMILIES[kind]
    module = f"transformers.models.{family}.image_processing_pil_{family}"
    return getattr(importlib.import_module(module), f"{kind}Pil")(**config)


def picture(height, width):
    rng = np.random.default_rng(height * 10_000 + width)
    noise = rng.integers(0, 256, (height, width, 3))
    slope = np.linspace(0, 255, width)[None, :, None]
    return ((noise + slope) / 2).astype(np.uint8)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", FAMILIES)
def test_same_numbers(kind, variant):
    config = VARIANTS[variant]
    ours = ImageProcessor.from_hf({"image_processor_type": kind} | config)
    theirs = reference(kind, config)
    for height, width in SIZES:
        rgb = picture(height, width)
        # The layout is named, because transformers guesses wrongly for a picture 1 or 3 px high.
        expected = theirs(rgb, input_data_format="channels_last", return_tensors="np")
        tensor = ours(rgb)
        assert tensor.dtype == np.float32
        np.testing.assert_allclose(tensor, expected["pixel_values"], rtol=0, atol=1e-6)
        assert np.array_equal(tensor, expected["pixel_values"].astype(np.float32))


def test_what_transformers_saves_is_read(tmp_path):
    theirs = reference(
        "CLIPImageProcessor",
        {"size": {"shortest_edge": 48}, "crop_size": {"height": 40, "width": 44}},
    )
    ours = ImageProcessor.from_hf(theirs.to_dict())
    rgb = picture(97, 311)
    assert np.array_equal(ours(rgb), theirs(rgb, return_tensors="np")["pixel_values"])

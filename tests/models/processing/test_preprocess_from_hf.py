"""What transformers' image processors say is read, or refused with the setting named."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edgevlm.compiler.errors import EdgeError, JobFault
from edgevlm.models.processing.preprocess import ImageProcessor

CLIP = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 336},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 336, "width": 336},
    "do_rescale": True,
    "rescale_factor": 0.00392156862745098,
    "do_normalize": True,
    "do_convert_rgb": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
SIGLIP = {
    "image_processor_type": "SiglipImageProcessor",
    "do_resize": True,
    "size": {"height": 384, "width": 256},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def test_from_hf_clip():
    assert ImageProcessor.from_hf(CLIP) == ImageProcessor(
        height=336,
        width=336,
        shortest_edge=336,
        resample="bicubic",
        rescale_factor=0.00392156862745098,
        mean=CLIP["image_mean"],
        std=CLIP["image_std"],
    )


def test_from_hf_siglip():
    assert ImageProcessor.from_hf(SIGLIP) == ImageProcessor(
        height=384, width=256, resample="bilinear"
    )


def test_from_hf_first_configurations():
    old = {
        "feature_extractor_type": "CLIPFeatureExtractor",
        "size": 224,
        "crop_size": 224,
        "resample": 3,
    }
    new = {"image_processor_type": "CLIPImageProcessorFast"}
    assert ImageProcessor.from_hf(old) == ImageProcessor.from_hf(new)
    vit = ImageProcessor.from_hf({"feature_extractor_type": "ViTFeatureExtractor", "size": 32})
    assert vit == ImageProcessor(height=32, width=32, resample="bilinear")


def test_from_hf_resize_then_crop_and_crop_alone():
    both = CLIP | {"size": {"height": 400, "width": 300}}
    assert ImageProcessor.from_hf(both).resize_to == (400, 300)
    assert ImageProcessor.from_hf(both).height == 336
    crop = ImageProcessor.from_hf(CLIP | {"do_resize": False})
    assert not crop.do_resize and crop.shortest_edge is None and crop.width == 336


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"image_processor_type": "Idefics3ImageProcessor"}, "Idefics3ImageProcessor"),
        ({}, "None"),
        (CLIP | {"do_pad": True}, "do_pad"),
        (CLIP | {"do_image_splitting": True}, "do_image_splitting"),
        (CLIP | {"use_square_size": True}, "use_square_size"),
        (CLIP | {"do_center_crop": False}, "size"),
        (CLIP | {"do_center_crop": "no"}, "do_center_crop"),
        (SIGLIP | {"do_resize": False}, "do_resize"),
        (SIGLIP | {"size": {"shortest_edge": 224, "longest_edge": 448}}, "size"),
        (SIGLIP | {"size": {"height": 10**9, "width": 8}}, "height"),
        (SIGLIP | {"size": [8, 8]}, "size"),
        (CLIP | {"crop_size": {"shortest_edge": 8}}, "size"),
        (SIGLIP | {"resample": 5}, "resample"),
        (SIGLIP | {"resample": [3]}, "resample"),
        (SIGLIP | {"image_std": [0.5, 0.0, 0.5]}, "std"),
        (SIGLIP | {"image_mean": "grey"}, "mean"),
        (SIGLIP | {"image_processor_type": ["CLIPImageProcessor"]}, "CLIPImageProcessor"),
        ([1, 2], "file"),
    ],
)
def test_from_hf_refuses(config, named):
    with pytest.raises(JobFault) as caught:
        ImageProcessor.from_hf(config)
    assert caught.value.code == "EV103" and named in caught.value.what


WORDS = ["", "224", "no", "\x00"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["height", "width", "shortest_edge"]), inner)
    ),
    max_leaves=4,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(CLIP)), JSON, max_size=3))
def test_from_hf_of_nonsense_is_read_or_refused_in_our_words(changes):
    config = CLIP | changes | {"image_processor_type": "CLIPImageProcessor"}
    try:
        processor = ImageProcessor.from_hf(config)
    except EdgeError as error:
        assert error.code == "EV103" and len(error.what) < 400
    else:
        assert processor.height in range(1, 4097)


def test_frozen_and_round_trip():
    processor = ImageProcessor.from_hf(CLIP)
    assert ImageProcessor(**json.loads(processor.model_dump_json())) == processor
    with pytest.raises(ValidationError):
        processor.height = 3

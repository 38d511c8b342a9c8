"""The tensor has the promised shape and numbers; bad settings are refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import ValidationError

from edgevlm.compiler.errors import EdgeError, JobFault, UsageFault
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
PICTURES = arrays.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)))


def ramp(height, width):
    return np.arange(height * width * 3, dtype=np.uint32).reshape(height, width, 3).astype(np.uint8)


@settings(deadline=None)
@given(
    PICTURES,
    st.integers(1, 24),
    st.integers(1, 24),
    st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"]),
    st.booleans(),
)
def test_shape_type_and_range(rgb, height, width, resample, keep_aspect):
    processor = ImageProcessor(
        height=height,
        width=width,
        resample=resample,
        shortest_edge=max(height, width) if keep_aspect else None,
    )
    tensor = processor(rgb)
    assert tensor.shape == (1, 3, height, width) and tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    assert tensor.min() >= -1 and tensor.max() <= 1  # mean and std of a half


@settings(deadline=None)
@given(PICTURES)
def test_the_right_size_is_only_rescaled_and_normalised(rgb):
    mean, std = np.array([0.1, 0.2, 0.3]), np.array([0.4, 0.5, 0.6])
    processor = ImageProcessor(height=rgb.shape[0], width=rgb.shape[1], mean=mean, std=std)
    expected = ((rgb / 255 - mean) / std).transpose(2, 0, 1)[None]
    np.testing.assert_allclose(processor(rgb), expected, atol=1e-6)


@settings(deadline=None)
@given(PICTURES, st.integers(1, 50), st.integers(1, 50))
def test_crop_keeps_the_middle_and_pads_with_zeros(rgb, height, width):
    processor = ImageProcessor(
        height=height, width=width, do_resize=False, do_rescale=False, do_normalize=False
    )
    tensor = processor(rgb)[0].transpose(1, 2, 0)
    if height <= rgb.shape[0] and width <= rgb.shape[1]:
        top, left = (rgb.shape[0] - height) // 2, (rgb.shape[1] - width) // 2
        assert np.array_equal(tensor, rgb[top : top + height, left : left + width])
    elif height >= rgb.shape[0] and width >= rgb.shape[1]:
        assert tensor.sum() == rgb.sum()


def test_a_constant_picture_stays_constant():
    rgb = np.full((50, 31, 3), 200, np.uint8)
    tensor = ImageProcessor(height=8, width=8, do_normalize=False)(rgb)
    np.testing.assert_allclose(tensor, 200 / 255, rtol=1e-6)


def test_the_input_is_left_alone_and_may_be_a_view():
    rgb = ramp(20, 30)
    kept = rgb.copy()
    processor = ImageProcessor(height=8, width=8)
    assert np.array_equal(processor(rgb[:, ::-1]), processor(rgb[:, ::-1].copy()))
    assert np.array_equal(rgb, kept)


def test_shortest_edge_keeps_the_aspect():
    processor = ImageProcessor(
        height=10,
        width=10,
        shortest_edge=10,
        do_rescale=False,
        do_normalize=False,
        resample="nearest",
    )
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255  # exactly the middle third is what the crop keeps
    assert (processor(wide) == 255).all()
    assert (processor(wide.transpose(1, 0, 2)) == 255).all()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_other_arrays_are_a_wrong_call(array):
    with pytest.raises(UsageFault) as caught:
        ImageProcessor(height=4, width=4)(array)
    assert caught.value.code == "EV116" and "uint8" in caught.value.why


def test_a_thread_of_pixels_cannot_fill_the_memory():
    with pytest.raises(JobFault) as caught:
        ImageProcessor(height=224, width=224, shortest_edge=224)(np.zeros((1, 10**6, 3), np.uint8))
    assert caught.value.code == "EV113"


@pytest.mark.parametrize(
    "wrong",
    [
        {"height": 0},
        {"height": 4097},
        {"width": 2.0},
        {"width": True},
        {"width": "8"},
        {"resample": "box"},
        {"std": (0.0, 1.0, 1.0)},
        {"std": (1.0, 1.0)},
        {"std": (1e-50, 1.0, 1.0)},
        {"mean": (float("nan"), 0.0, 0.0)},
        {"rescale_factor": float("inf")},
        {"rescale_factor": -1.0},
        {"shortest_edge": 8, "resize_to": (8, 8)},
        {"shortest_edge": 8, "do_resize": False},
        {"resize_to": (8, 0)},
        {"surprise": 1},
    ],
)
def test_settings_out_of_range(wrong):
    with pytest.raises(ValidationError):
        ImageProcessor(**{"height": 8, "width": 8} | wrong)


def test_frozen_and_round_trip():
    processor = ImageProcessor.from_hf(CLIP)
    assert ImageProcessor(**json.loads(processor.model_dump_json())) == processor
    with pytest.raises(ValidationError):
        processor.height = 3


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

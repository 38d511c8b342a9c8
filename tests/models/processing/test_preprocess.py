"""The tensor has the promised shape and numbers; bad settings are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import ValidationError

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.models.processing.preprocess import ImageProcessor

RESIZES = ("square", "shortest", "to", "none")
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


@given(PICTURES, st.integers(1, 40), st.integers(1, 40), st.sampled_from(RESIZES), st.data())
def test_resizing_what_is_resized_changes_nothing(rgb, height, width, how, data):
    """So a picture may be kept as the model looks at it."""
    size = st.integers(1, 60)
    given_by = {
        "square": {},
        "shortest": {"shortest_edge": data.draw(size)},
        "to": {"resize_to": (data.draw(size), data.draw(size))},
        "none": {"do_resize": False},
    }[how]
    process = ImageProcessor(height=height, width=width, **given_by)
    once = process.resized(rgb)
    assert np.array_equal(process.resized(once), once)
    assert np.array_equal(process(once), process(rgb))


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

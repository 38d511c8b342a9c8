"""The TOML beside an ONNX file: what cannot be followed is told with its place."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgevlm.compiler.errors import EdgeError
from edgevlm.models.onnx import sidecar
from edgevlm.models.onnx.sidecar import Sidecar, read_sidecar, sidecar_path
from edgevlm.models.processing.preprocess import ImageProcessor

FIX = "correct vit.toml; README.md, 'a bare ONNX file', shows one"
README = Path(sidecar.__file__).parents[2] / "README.md"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("labels = [", "TOMLDecodeError"),
        ("[image", "TOMLDecodeError"),
        ("a = 1\na = 2", "TOMLDecodeError"),
        ("classes = ['a']", "classes: Extra inputs are not permitted"),
        ("self = 1", "self: Extra inputs are not permitted"),
        ("labels = 'cat'", "labels: "),
        ("labels = [1, 2]", "labels.0: "),
        (f"labels = ['{'x' * 201}']", "labels.0: String should have at most 200"),
        ("output = 3", "output: "),
        ("image = 3", "image: "),
        ("[image]\nsize = 224", "size: Extra inputs are not permitted"),
        ("[image]\nheight = 0", "height: "),
        ("[image]\nheight = 4097", "height: "),
        ("[image]\nheight = 16.0", "height: "),
        ("[image]\nheight = true", "height: "),
        ("[image]\nheight = '16'", "height: "),
        ("[image]\nheight = [16]", "height: "),
        ("[image]\nwidth = -1", "width: "),
        ("[image]\nmean = [0.5]", "mean.1: Field required"),
        ("[image]\nmean = [0.5, 0.5, 0.5, 0.5]", "mean: "),
        ("[image]\nmean = [nan, 0.5, 0.5]", "mean.0: "),
        ("[image]\nstd = [0, 1, 1]", "std.0: "),
        ("[image]\nstd = 0.5", "std: "),
        ("[image]\nresample = 'area'", "resample: Input should be 'nearest'"),
        ("[image]\nrescale_factor = inf", "rescale_factor: "),
        ("[image]\nshortest_edge = 20\nresize_to = [20, 20]", "not both"),
        ("x = " + "[" * 20000 + "]" * 20000, ""),
    ],
)
def test_what_cannot_be_followed_is_told_with_its_place(vit, refused, text, said):
    fault = refused(vit(text, picture="1,3,16,16"), "EV141", "vit.toml cannot be followed", FIX)
    assert fault.why.startswith(said) or said in fault.why, fault.why


@pytest.mark.parametrize("data", [b"\xff\xfe", b"\0", b"labels = ['\xe4']"])
def test_bytes_that_are_no_text_are_told(vit, refused, data):
    path = vit(picture="1,3,16,16")
    sidecar_path(path).write_bytes(data)
    refused(path, "EV141", "vit.toml cannot be followed", FIX)


def test_a_huge_file_is_never_read(vit, refused, monkeypatch):
    path = vit(picture="1,3,16,16")
    with sidecar_path(path).open("wb") as file:
        file.truncate(2**40)  # sparse: no disk has to hold it
    refused(path, "EV141", f"it is larger than {4 * 2**20} bytes", FIX)


def test_a_folder_of_that_name_is_no_sidecar(vit, same):
    path = vit(None, picture="1,3,16,16")
    sidecar_path(path).mkdir()
    assert "no vit.toml" in same(path).source.notes[0]


def test_nothing_beside_it_is_nothing(tmp_path):
    assert read_sidecar(tmp_path / "vit.onnx") is None
    assert sidecar_path(tmp_path / "my.vit.onnx").name == "my.vit.toml"


def test_an_empty_file_takes_everything_for_granted(vit, same):
    model = same(vit("", picture="1,3,16,16"))
    (note,) = model.source.notes
    assert all(word in note for word in ("resample bilinear", "mean", "std"))


def test_its_fields_are_those_of_the_image_processor(tmp_path):
    text = "labels = ['a', 'ü']\n[image]\nheight = 8\nshortest_edge = 9\nstd = [1, 2, 3]\n"
    (tmp_path / "m.toml").write_text(text, encoding="utf-8")
    found = read_sidecar(tmp_path / "m.onnx")
    assert (found.labels, found.output, found.size) == (("a", "ü"), None, (8, None))
    made = found.processor(8, 12)
    assert (made["height"], made["width"], made["shortest_edge"]) == (8, 12, 9)
    assert made["resample"] == "bilinear" and made["std"] == [1.0, 2.0, 3.0]


def test_the_one_that_readme_shows_can_be_followed(tmp_path):
    """EV141 points there."""
    (shown,) = re.findall(r"```toml\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    (tmp_path / "vit.toml").write_text(shown, encoding="utf-8")
    found = read_sidecar(tmp_path / "vit.onnx")
    assert found.labels and found.output and None not in found.size
    assert set(tomllib.loads(shown)) <= set(Sidecar.model_fields)
    ImageProcessor(**found.processor(*found.size))(np.zeros((9, 9, 3), np.uint8))
    assert "A bare ONNX file" in README.read_text(encoding="utf-8")


TOML = st.recursive(
    st.booleans() | st.integers(-9, 9999) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4), max_leaves=5,
)  # fmt: skip
KEYS = [
    "height",
    "width",
    "mean",
    "std",
    "resample",
    "shortest_edge",
    "resize_to",
    "do_resize",
    "x",
]


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(image=st.dictionaries(st.sampled_from(KEYS), TOML, max_size=3), labels=TOML, data=st.data())
def test_any_values_are_followed_or_told(tmp_path, image, labels, data):
    lines = [f"labels = {_toml(labels)}"] if data.draw(st.booleans()) else []
    lines += ["[image]", *(f"{key} = {_toml(value)}" for key, value in image.items())]
    (tmp_path / "vit.toml").write_text("\n".join(lines), encoding="utf-8")
    try:
        found = read_sidecar(tmp_path / "vit.onnx")
        assert ImageProcessor(**found.processor(*(s or 16 for s in found.size)))
    except EdgeError as fault:
        assert fault.code == "EV141" and fault.why


def _toml(value) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" for c in value) + '"'
    return str(value).lower()

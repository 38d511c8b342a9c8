"""The archive of tensors: read by part, and what of a stranger is refused."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.tensorrt.on_device import tensors as module
from edgevlm.runtimes.tensorrt.on_device.plan import read_plan
from edgevlm.runtimes.tensorrt.on_device.tensors import Tensors


def test_tensors_are_read_by_part(bundle):
    tensors = Tensors(read_plan(bundle).tensors)
    assert set(tensors.of_part("vision", "in")) == {"pixel_values"}
    assert set(tensors.of_part("connector", "out")) == {"image_embeds"}
    assert tensors.of_part("vision2", "in") == {}
    assert "0/pixel_values" in tensors and "9/pixel_values" not in tensors


@pytest.mark.parametrize("spoil", ["none", "text", "huge"])
def test_archives_that_cannot_be_read(spoil, tmp_path, monkeypatch):
    path = tmp_path / "goldens.npz"
    if spoil == "text":
        path.write_text("no archive")
    if spoil == "huge":
        monkeypatch.setattr(module, "MAX_BYTES", 10)
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr("x.npy", b"0" * 11)
    with pytest.raises(JobFault) as caught:
        Tensors(path)
    assert caught.value.code == "EV357"


def objects(path):
    np.savez(path, x=np.array([{}], object))


def truncated(path):
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("x.npy", b"\x93NUMPY\x01\x00")


def missing(path):
    np.savez(path, y=np.zeros(3))


def damaged(path):
    np.savez_compressed(path, x=np.random.default_rng(0).random(1000))
    data = bytearray(path.read_bytes())
    data[500:520] = bytes(20)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("spoil", [objects, truncated, missing, damaged])
def test_a_tensor_that_cannot_be_read(spoil, tmp_path):
    spoil(tmp_path / "goldens.npz")
    tensors = Tensors(tmp_path / "goldens.npz")
    with pytest.raises(JobFault) as caught:
        tensors["x"]
    assert caught.value.code == "EV357"


STRANGE = {
    "text": {"0/pixel_values": np.array(["a", "b"])},
    "a picture of another rank": {"0/pixel_values": np.zeros((3, 4), np.float32)},
    "a picture of whole numbers": {"0/pixel_values": np.zeros((1, 3, 4, 4), np.int64)},
    "words that are one number": {"0/before": np.array(3)},
    "words that are none": {"0/before": np.array([0.5])},
    "times": {"0/pixel_values": np.zeros((1, 3, 4, 4), "datetime64[s]")},
}


@pytest.mark.parametrize("what", STRANGE)
def test_a_request_of_another_kind_or_rank(what, tmp_path):
    good = {"0/pixel_values": np.zeros((1, 3, 4, 4), np.float32), "0/before": np.array([3, 4])}
    np.savez(tmp_path / "goldens.npz", **good)
    pixels, before, after = Tensors(tmp_path / "goldens.npz").request(0)
    assert (pixels.ndim, before, after) == (4, [3, 4], [])
    np.savez(tmp_path / "goldens.npz", **{**good, **STRANGE[what]})
    with pytest.raises(JobFault, match=next(iter(STRANGE[what]))) as caught:
        Tensors(tmp_path / "goldens.npz").request(0)
    assert caught.value.code == "EV357"


def test_what_the_host_said_of_a_golden(tmp_path):
    path = tmp_path / "goldens.npz"
    np.savez(path, **{"0/logits": np.eye(1, 4, dtype=np.float32), "0/choice/a/b": np.arange(3)})
    tensors = Tensors(path)
    assert tensors.first_logits(0).tolist() == [1, 0, 0, 0] and tensors.first_logits(1) is None
    assert tensors.choices(0)["a/b"].tolist() == [0, 1, 2] and tensors.choices(1) == {}
    np.savez(path, **{"0/logits": np.zeros(4), "0/choice/a/b": np.zeros(3)})
    for read in (Tensors(path).first_logits, Tensors(path).choices):
        with pytest.raises(JobFault, match="EV357"):
            read(0)

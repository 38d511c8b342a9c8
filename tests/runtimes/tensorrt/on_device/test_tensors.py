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

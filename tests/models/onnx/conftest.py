"""Bare ONNX files: written into a folder of their own, imported, compared with ONNX Runtime.

write(text or model, toml=None, opset=17, **arrays)    a file `vit.onnx`, with its sidecar
same(path)                                             imported, and proved to compute what it does
refused(path, code, said)                              the fault of an import, told in full
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from micro.bare import bare_model, bare_vit

from edgevlm.compiler.errors import EdgeError
from edgevlm.compiler.executor import open_session
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.models.onnx.frontend import import_onnx

SIZE = "[image]\nheight = 16\nwidth = 16\n"


@pytest.fixture
def write(tmp_path):
    def make(model, toml: str | None = None, opset: int = 17, **arrays: np.ndarray) -> Path:
        path = tmp_path / "vit.onnx"
        if isinstance(model, str):
            model = bare_model(model, opset, **arrays)
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        if toml is not None:
            path.with_suffix(".toml").write_text(toml, encoding="utf-8")
        return path

    return make


@pytest.fixture
def vit(write):
    """vit(kind=..., opset=...): the miniature ViT; its sizes are open but for `picture`."""

    def make(toml: str | None = SIZE, **options) -> Path:
        return write(bare_vit(**options), toml)

    return make


def outputs_of(path: Path, x: np.ndarray, name: str | None = None) -> np.ndarray:
    """What the file itself gives; its own size, batch and type."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    kind = {"tensor(float16)": np.float16, "tensor(double)": np.float64}.get(given.type, np.float32)
    return session.run([name] if name else None, {given.name: x.astype(kind)})[0]


@pytest.fixture
def same():
    def check(path: Path, name: str | None = None, atol: float = 1e-5) -> ExportedModel:
        model = import_onnx(path)
        c, part = model.contract, model.parts["vision"]
        x = np.random.default_rng(3).normal(size=(1, 3, c.image_height, c.image_width))
        x = x.astype(np.float32)
        want = outputs_of(path, x, name)
        (got,) = open_session(part).run(None, {"pixel_values": x})
        assert got.dtype == np.float32 and want.std() > 1e-3
        np.testing.assert_allclose(got, want.astype(np.float32), rtol=1e-4, atol=atol)
        assert part.opset_imports == {"": 23}
        return model

    return check


@pytest.fixture
def refused():
    def check(path: Path, code: str, said: str, fix: str = "") -> EdgeError:
        with pytest.raises(EdgeError) as caught:
            import_onnx(path)
        fault = caught.value
        assert fault.code == code and fault.exit_status == 1, str(fault)
        assert said in f"{fault.what}: {fault.why}", str(fault)
        assert fix in fault.fix and fault.fix, fault.fix
        assert all(0 < len(line) < 1000 for line in fault.lines())
        return fault

    return check


@pytest.fixture
def proto():
    """The file as protobuf, to edit."""
    return onnx.load

"""Old ops, whose attributes became inputs or whose meaning changed, keep their function."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from edgevlm.models.onnx.opset import to_opset
from edgevlm.models.onnx.read import read_onnx
from edgevlm.models.onnx.static import make_static

RNG = np.random.default_rng(0)
ONES = {n: RNG.uniform(0.5, 1.5, 3).astype(np.float32) for n in ("g", "b", "m", "v")}
#: opset, what is computed of x [1,3,4,6], constants
OLD = {
    "Clip by attributes": (7, "Clip<min = -0.5, max = 0.5>(x)", {}),
    "Clip by inputs": (11, "Clip(x, lo, hi)", {"lo": np.float32(-0.5), "hi": np.float32(0.5)}),
    "Pad by attributes": (9, "Pad<pads = [0,0,1,1,0,0,1,1], value = 2.0>(x)", {}),
    "Pad by inputs": (11, "Pad(x, pads)", {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}),
    "Slice by attributes": (9, "Slice<axes = [2], starts = [1], ends = [3]>(x)", {}),
    "Squeeze": (11, "Squeeze<axes = [0]>(x)", {}),
    "Unsqueeze": (11, "Unsqueeze<axes = [0]>(x)", {}),
    "ReduceSum": (11, "ReduceSum<axes = [2], keepdims = 1>(x)", {}),
    "ReduceMean": (13, "ReduceMean<axes = [-1], keepdims = 1>(x)", {}),
    "ReduceMax": (17, "ReduceMax<axes = [1, 2], keepdims = 0>(x)", {}),
    "Softmax of the last": (11, "Softmax<axis = -1>(x)", {}),
    "Softmax of the rest": (11, "Softmax<axis = 1>(x)", {}),
    "LogSoftmax of the rest": (9, "LogSoftmax<axis = 2>(x)", {}),
    "BatchNormalization": (7, "BatchNormalization(x, g, b, m, v)", ONES),
    "BatchNormalization 9": (9, "BatchNormalization<epsilon = 0.1>(x, g, b, m, v)", ONES),
    "Upsample": (9, 'Upsample<mode = "nearest">(x, s)', {"s": np.float32([1, 1, 2, 2])}),
    "Resize 10": (10, 'Resize<mode = "nearest">(x, s)', {"s": np.float32([1, 1, 2, 2])}),
    "Resize 11": (11, 'Resize<mode = "cubic", cubic_coeff_a = -0.75, '
                  'coordinate_transformation_mode = "pytorch_half_pixel">(x, n, n, s)',
                  {"n": np.zeros(0, np.float32), "s": np.array([1, 3, 7, 9])}),
    "Dropout": (9, "Dropout<ratio = 0.5>(x)", {}),
    "MaxPool": (8, "MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)", {}),
    "AveragePool": (10, "AveragePool<kernel_shape = [3, 3], pads = [1,1,1,1], ceil_mode = 1, "
                    "strides = [2, 2]>(x)", {}),
    "HardSwish": (14, "HardSwish(x)", {}),
    "LayerNormalization": (17, "LayerNormalization<axis = 1>(x, lg, lb)",
                           {n: np.float32(RNG.normal(size=(3, 4, 6))) for n in ("lg", "lb")}),
    "GroupNormalization": (21, "GroupNormalization<num_groups = 3>(x, g, b)",
                           {n: ONES[n] for n in "gb"}),
    "Gelu": (20, 'Gelu<approximate = "tanh">(x)', {}),
    "PRelu": (7, "PRelu(x, a)", {"a": np.float32([[[0.1]], [[0.2]], [[0.3]]])}),
    "InstanceNormalization": (7, "InstanceNormalization(x, g, b)", {n: ONES[n] for n in "gb"}),
    "Cast": (9, "Cast<to = 1>(x)", {}),
    "Gemm": (7, "Gemm<transB = 1>(f, w, c)", {"w": RNG.normal(size=(5, 72)).astype(np.float32),
                                             "c": RNG.normal(size=5).astype(np.float32)}),
}  # fmt: skip


@pytest.mark.parametrize("name", OLD)
def test_old_ops_keep_their_function(write, same, name):
    opset, call, arrays = OLD[name]
    lines = f"n0 = Neg(x) {'f = Flatten(n0) ' if '(f,' in call else ''}"
    call = call.replace("(x", "(n0")
    text = f"""(float[1,3,4,6] x) => (float[1,K] y) {{ {lines} z = {call}
        y = Reshape(z, flat) }}"""
    model = same(write(text, opset=opset, flat=np.array([1, -1]), **arrays))
    assert model.parts["vision"].opset_imports == {"": 23}


def test_what_has_no_converter_is_told_with_its_reason(write, refused, monkeypatch):
    from onnxscript import version_converter

    def fails(model, opset, fallback):
        raise NotImplementedError("no adapter from 18 for Strange")

    monkeypatch.setattr(version_converter, "convert_version", fails)
    path = write("(float[1,3,4,6] x) => (float[1,72] y) { y = Flatten(x) }")
    fault = refused(path, "EV142", "vit.onnx cannot be brought from opset 17 to 23",
                    "export the model again with opset_version=23")  # fmt: skip
    assert fault.why == "NotImplementedError: no adapter from 18 for Strange"


def test_a_converter_that_gives_up_silently_is_noticed(write, refused, monkeypatch):
    from onnxscript import version_converter

    monkeypatch.setattr(version_converter, "convert_version", lambda model, opset, fallback: None)
    path = write("(float[1,3,4,6] x) => (float[1,72] y) { y = Flatten(x) }")
    refused(path, "EV142", "does not know one of its ops", "opset_version=23")


def test_logging_is_as_loud_behind_it_as_before(write):
    path = write("(float[1,3,4,6] x) => (float[1,72] y) { y = Flatten(x) }", opset=11)
    model, before = read_onnx(path), logging.root.manager.disable
    make_static(path, model)
    to_opset(path, model)
    assert logging.root.manager.disable == before and model.ir_version == 10
    assert logging.getLogger("anything").isEnabledFor(logging.WARNING)

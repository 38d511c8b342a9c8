"""Values are stored in the type of the program after every op; sums in between are of float32."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the evaluator needs: pip install 'edgevlm[coreml]'")
pytest.importorskip("coremltools", reason="Core ML needs: pip install 'edgevlm[coreml]'")

from edgevlm.runtimes.coreml.mil_evaluator import MilProgram

HALF = np.float16


def results(path, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As stored, and in float32 throughout. Outputs are handed out in their own type in both."""
    both = (MilProgram(path, how).call("main", {"x": x})["out0"] for how in ("stored", "float32"))
    return tuple(both)


def test_what_float16_has_no_room_for_is_lost_at_the_op(emit):
    x = np.array([2.0**-12, 3 * 2.0**-11], HALF)
    path = emit(lambda mb, x: mb.sub(x=mb.add(x=x, y=HALF(1)), y=HALF(1)), {"x": x})
    stored, free = results(path, x)
    assert stored.tolist() == [0, 2.0**-9]  # to even
    assert free.tolist() == x.tolist()


def test_what_is_too_large_for_float16_is_infinite(emit):
    x = np.array([60000], HALF)
    path = emit(lambda mb, x: mb.mul(x=mb.add(x=x, y=x), y=HALF(0.25)), {"x": x})
    stored, free = results(path, x)
    assert np.isposinf(stored).all() and free.tolist() == [30000]


@pytest.mark.parametrize("op", ["linear", "matmul", "reduce_sum", "reduce_mean", "conv"])
def test_sums_are_of_float32(emit, op):
    """A sum kept in float16 stops at 2048, where the next one is lost."""
    x = np.ones((1, 4096), HALF)
    build = {
        "linear": lambda mb, x: mb.linear(x=x, weight=np.ones((1, 4096), HALF)),
        "matmul": lambda mb, x: mb.matmul(x=x, y=np.ones((4096, 1), HALF)),
        "reduce_sum": lambda mb, x: mb.reduce_sum(x=x, axes=[1], keep_dims=True),
        "reduce_mean": lambda mb, x: mb.reduce_mean(x=x, axes=[1], keep_dims=True),
        "conv": lambda mb, x: mb.conv(
            x=mb.reshape(x=x, shape=[1, 4096, 1]), weight=np.ones((1, 4096, 1), HALF)
        ),
    }[op]
    stored, free = results(emit(build, {"x": x}), x)
    want = 1 if op == "reduce_mean" else 4096
    assert stored.ravel().tolist() == free.ravel().tolist() == [want]

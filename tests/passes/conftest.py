"""What every test of a pass does: run it, compare in ONNX Runtime, run it again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from edgevlm.compiler.pass_base import PassResult

UNARY, BINARY = ("Neg", "Sigmoid", "Cos", "Identity"), ("Add", "Sub", "Mul", "Max")


@pytest.fixture(scope="session")
def apply(solo, ort):
    """apply(step, part, **feeds): the result, proved equal in numbers and idempotent."""

    def run(step, part, rtol=0.0, atol=0.0, **feeds) -> PassResult:
        before = ort(part, **feeds)
        result = step(solo(part))
        after = ort(result.model.parts["vision"], **feeds)
        assert list(before) == list(after)
        for name, value in before.items():
            np.testing.assert_allclose(after[name], value, rtol=rtol, atol=atol, err_msg=name)
        again = step(result.model)
        assert not again.changed, [vars(n) for n in again.notes]
        return result

    return run


@pytest.fixture(scope="session")
def ops():
    """Op types of the only part, in order."""

    def count(result: PassResult) -> list[str]:
        return [n.op_type for n in result.model.parts["vision"].graph]

    return count


@st.composite
def _random_graph(draw: st.DrawFn) -> tuple[str, dict[str, np.ndarray]]:
    """Text and constants of a graph with repetitions, dead ends and parts that no input reaches."""
    arrays = {
        f"c{i}": np.float32(draw(st.integers(-2, 2))) * np.ones((2, 3), np.float32)
        for i in range(3)
    }
    known, lines = ["x0", "x1", *arrays], []
    for i in range(draw(st.integers(1, 14))):
        op = draw(st.sampled_from(UNARY + BINARY))
        picked = [draw(st.sampled_from(known)) for _ in range(2 if op in BINARY else 1)]
        lines.append(f"[n{i}] v{i} = {op}({', '.join(picked)})")
        known.append(f"v{i}")
    lines.append("[all] d0 = Max(c0, c1, c2)")  # dead, and names every constant
    outputs = draw(st.lists(st.sampled_from(known[5:]), min_size=1, max_size=3, unique=True))
    ports = ", ".join(f"float[2,3] {name}" for name in outputs)
    return f"(float[2,3] x0, float[2,3] x1) => ({ports}) {{ {' '.join(lines)} }}", arrays


@pytest.fixture(scope="session")
def random_graph():
    return _random_graph()


@pytest.fixture(scope="session")
def random_feeds():
    rng = np.random.default_rng(0)
    return {f"x{i}": rng.normal(size=(2, 3)).astype(np.float32) for i in range(2)}

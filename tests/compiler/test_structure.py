"""The digest of a graph's structure: what it hangs on, and what it does not."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.structure import structure_digest

TEXT = """(float[1,4,6] x) => (float[1,4,5] y) {
    a = MatMul(x, w) b = Reshape(a, to) y = Softmax<axis = -1>(b) }"""


def arrays(**other):
    return {"w": np.ones((6, 5), np.float32), "to": np.array([1, 4, 5])} | other


@pytest.fixture
def digest(graph):
    return lambda text=TEXT, **other: structure_digest(graph(text, **arrays(**other)))


def test_weights_and_names_do_not_count(digest):
    same = digest()
    assert digest(w=np.zeros((6, 5), np.float32)) == same
    assert digest(TEXT.replace("b =", "[other] c =").replace("(b)", "(c)")) == same
    assert len(same) == 64


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("axis = -1", "axis = 2"),
        TEXT.replace("Softmax", "LogSoftmax"),
        TEXT.replace("Softmax<axis = -1>(b)", "Add(b, a)"),
        TEXT.replace("Softmax<axis = -1>(b)", "Sub(b, a)"),
        TEXT.replace("Softmax<axis = -1>(b)", "Sub(a, b)"),
        TEXT.replace("Softmax<axis = -1>(b)", "Softmax<axis = -1>(a)"),
    ],
)
def test_ops_attributes_and_wires_count(digest, text):
    every = {digest(), digest(text), digest(TEXT.replace("Softmax<axis = -1>(b)", "Identity(b)"))}
    assert len(every) == 3


def test_shapes_types_and_what_says_shapes_count(digest):
    wide = digest(TEXT.replace("[1,4,5] y", "[1,4,7] y"), w=np.ones((6, 7), np.float32),
                  to=np.array([1, 4, 7]))  # fmt: skip
    written = digest(to=np.array([1, -1, 5]))
    double = digest(TEXT.replace("float[", "double["), w=np.ones((6, 5)))
    assert len({digest(), wide, written, double}) == 4

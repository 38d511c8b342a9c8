"""The grid of image tokens is read off the patches and the attention, or there is none."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.models.onnx.tokens import TokenGrid, token_grid


@pytest.fixture
def grid(graph):
    """Lines that make `y` of patches `c` [1,8,2,3] -> the grid."""

    def make(lines: str, out: str, opening: str = "", **arrays) -> TokenGrid:
        text = f"""(float[1,3,4,6] x) => (float[{out}] y) {{ {opening}
            c = Conv<strides = [2, 2]>(x, patch) {lines} }}"""
        patch = np.ones((8, 3, 2, 2), np.float32)
        return token_grid(graph(text, patch=patch, **arrays).graph)

    return make


ROWS = "r = Reshape(c, rows) t = Transpose<perm = [0, 2, 1]>(r)"
SCORES = "p = MatMul({0}, {1}) y = Softmax(p)"
PLAIN = f"{ROWS} {SCORES.format('t', 'r')}"


def test_as_many_rows_as_patches(grid):
    assert grid(PLAIN, "1,6,6", rows=[1, 8, -1]) == TokenGrid(2, 3, 6, 8)


@pytest.mark.parametrize("front", [1, 2, 5, 16])
def test_class_and_register_tokens_stand_in_front(grid, front):
    lines = f"""{ROWS} a = Concat<axis = 1>(front, t) b = Transpose<perm = [0, 2, 1]>(a)
        {SCORES.format("a", "b")}"""
    token = np.ones((1, front, 8), np.float32)
    found = grid(lines, f"1,{6 + front},{6 + front}", rows=[1, 8, -1], front=token)
    assert found == TokenGrid(2, 3, 6 + front, 8)


def test_more_in_front_than_any_model_has_are_no_registers(grid):
    lines = f"""{ROWS} a = Concat<axis = 1>(front, t) b = Transpose<perm = [0, 2, 1]>(a)
        {SCORES.format("a", "b")}"""
    token = np.ones((1, 17, 8), np.float32)
    assert grid(lines, "1,23,23", rows=[1, 8, -1], front=token) == TokenGrid()


def test_attention_in_one_node_counts_as_well(grid):
    lines = f"{ROWS} h = Reshape(t, heads) y = Attention(h, h, h)"
    assert grid(lines, "1,1,6,8", rows=[1, 8, -1], heads=[1, 1, 6, 8]) == TokenGrid(2, 3, 6, 8)


def test_fewer_rows_than_patches_are_windows(grid):
    lines = (
        "r = Reshape(c, rows) t = Transpose<perm = [0, 2, 1]>(r) p = MatMul(t, r) y = Softmax(p)"
    )
    assert grid(lines, "2,3,3", rows=[2, 8, 3]) == TokenGrid()


@pytest.mark.parametrize(
    ("lines", "out"),
    [
        ("y = Relu(c)", "1,8,2,3"),
        (f"{ROWS} y = Softmax<axis = 1>(t)", "1,6,8"),  # over channels' rows: no attention
        ("r = Reshape(c, rows) y = Softmax(r)", "1,48"),  # classes
    ],
)
def test_without_attention_there_is_no_grid(grid, lines, out):
    rows = {"rows": [1, 48] if out == "1,48" else [1, 8, -1]} if "rows" in lines else {}
    assert grid(lines, out, **rows) == TokenGrid()


def test_of_several_convolutions_the_last_before_attention_is_the_patches(grid):
    """A convolutional stem makes the grid smaller step by step."""
    lines = f"d = Conv<strides = [1, 1]>(c, mix) {PLAIN.replace('(c,', '(d,')}"
    found = grid(lines, "1,6,6", rows=[1, 4, -1], mix=np.ones((4, 8, 1, 1), np.float32))
    assert found == TokenGrid(2, 3, 6, 4)


def test_most_layers_decide(grid):
    """Pooling attention at the end has one query; its keys are the rows all the same."""
    lines = f"""{ROWS} p = MatMul(t, r) a = Softmax(p) o = MatMul(a, t)
        q = MatMul(query, r) z = Softmax(q) y = MatMul(z, o)"""
    query = np.ones((1, 1, 8), np.float32)
    assert grid(lines, "1,1,8", rows=[1, 8, -1], query=query) == TokenGrid(2, 3, 6, 8)

"""What the bridge cannot run is told by node, op and reason, before anything runs."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.to_torch import missing_ops, to_torch

KNOWN = "float[2,3] x", "y = Relu(x)", {}
FORMS = [
    ("float[2,3] x", "y = NonZero(x)", {}, "no such op"),
    ("float[4] x", "y = Slice(x, a, b, c, d)",
     {"a": [3], "b": [0], "c": [0], "d": [-1]}, "forwards only"),
    ("float[6] x, int64[2] s", "y = Reshape(x, s)", {}, "input 1 is computed at run time"),
    ("float[1,2,3,4] q", "y = Attention<softcap = 2.0>(q, q, q)", {}, "softcap = 2.0"),
    ("float[1,2,3,4] q, float[1,2,5,4] p", "y, z, w = Attention(q, q, q, , p, p)", {}, "is read"),
    ("float[1,2,3,4] q, float[1,2,5,4] p", "y = Attention(q, q, q, , p, p)", {}, "caches"),
    ("float[2,3] x, float[3] g", "y, z = LayerNormalization(x, g)", {}, "'z' is read"),
    ("float[1,1,4,4] x, float[1,1,3,3] w", 'y = Conv<auto_pad = "SAME_UPPER">(x, w)', {}, "SAME"),
    ("float[2,3] x", 'y = Pad<mode = "reflect">(x, p)', {"p": [0, 1, 0, 1]}, "mode = 'reflect'"),
    ("float[2,3] x", "y = Cast<to = 17>(x)", {}, "FLOAT8E4M3FN"),
    ("float[2,3] x", "y = ArgMax<select_last_index = 1>(x)", {}, "select_last_index"),
    ("float[2,3] x", "y = ReduceSum<noop_with_empty_axes = 1>(x)", {}, "reduces nothing"),
    ("int32[2,3] x", "y = ReduceMean(x)", {}, "means of integers"),
    ("float[2,3] x, float r, bool t", "y = Dropout(x, r, t)", {}, "input 2 is computed"),
    ("float[2,3] x, float r", "y = Dropout(x, r, t)", {"t": 1}, "at random"),
    ("float[2,3] x, float8e5m2 t", "y = CastLike(x, t)", {}, "no FLOAT8E5M2"),
    ("uint32[3] x", 'y = BitShift<direction = "LEFT">(x, x)', {}, "UINT32"),
    ("float[3] x", "y = Mod(x, x)", {}, "without fmod"),
    ("float[1,1,4,4] x", "y, z = MaxPool<kernel_shape = [2, 2]>(x)", {}, "'z' is read"),
    ("float[1,1,2,2,2,2] x", "y = MaxPool<kernel_shape = [2, 2, 2, 2]>(x)", {}, "over 4 axes"),
    ("float[2,3,4] x, float[3] g", "y, z, w = BatchNormalization<training_mode = 1>(x, g, g, g, g)",
     {}, "training_mode = 1"),
    ("float[2,4,3] x, float[2] g", "y = GroupNormalization<num_groups = 2>(x, g, g)", {},
     "there are 4 channels"),
    ("float[2,3] x", "y = LpNormalization<p = 3>(x)", {}, "p = 3"),
    ("float[4,4] x", 'y = Resize<antialias = 1, mode = "linear">(x, , , s)', {"s": [2, 2]},
     "antialias = 1"),
    ("float[4,4] x, float[4] r",
     'y = Resize<coordinate_transformation_mode = "tf_crop_and_resize">(x, r, , s)',
     {"s": [2, 2]}, "'tf_crop_and_resize'"),
    ("float[4,4] x, int64[2] s", "y = Resize(x, , , s)", {}, "input 3 is computed"),
    ("int32[4,4] x", 'y = Resize<mode = "linear">(x, , , s)', {"s": [2, 2]}, "interpolates INT32"),
    ("float[4,4] x", 'y = Resize<mode = "linear", exclude_outside = 1>(x, , , s)', {"s": [2, 2]},
     "exclude_outside"),
    ("int64 k, float[3,3] x", "y = Trilu(x, k)", {}, "input 1 is computed"),
    ("int64[2] n, float[3,3] x", "y = Tile(x, n)", {}, "input 1 is computed"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def needs_torch():
    pytest.importorskip("torch", reason="the bridge needs: pip install 'edgevlm[torch]'")


@pytest.mark.parametrize("form", FORMS, ids=[form[1] for form in FORMS])
def test_it_is_refused_with_the_node_and_the_reason(form, graph_of):
    inputs, nodes, constants, said = form
    part = graph_of(inputs, nodes, {n: np.array(a, np.int64) for n, a in constants.items()})
    last = part.graph.node(-1)
    last.name = "the_node"
    with pytest.raises(JobFault) as caught:
        to_torch(part)
    assert caught.value.code == "EV212" and said in caught.value.why
    assert "'the_node'" in caught.value.what and last.op_type in caught.value.what
    assert "CONTRIBUTING" in caught.value.fix and len(caught.value.lines()) == 3
    (line,) = missing_ops(part)
    assert line.startswith(f"the_node: {last.op_type}: ") and said in line


def test_all_are_listed_and_the_first_is_raised(graph_of):
    part = graph_of("float[2,3] x", "a = NonZero(x); b = Relu(x); y = Det(b); z = Size(a)", {})
    assert [line.split(": ")[1] for line in missing_ops(part)] == ["NonZero", "Det", "Size"]
    with pytest.raises(JobFault, match=r"NonZero cannot be run .* and 2 more nodes"):
        to_torch(part)


def test_nothing_is_missing_of_what_is_known(graph_of):
    assert missing_ops(graph_of(*KNOWN)) == []


def test_an_op_of_another_domain_is_unknown_even_if_its_name_is_not(graph_of):
    part = graph_of(*KNOWN)
    part.graph.node(0).domain = "com.vendor"
    with pytest.raises(JobFault, match=r"com\.vendor::Relu cannot be run"):
        to_torch(part)


def test_without_torch_it_says_what_to_install(graph_of, monkeypatch):
    part = graph_of(*KNOWN)
    for name in [n for n in sys.modules if n.startswith("edgevlm.compiler.to_torch.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    for call in (to_torch, missing_ops):
        with pytest.raises(JobFault) as caught:
            call(part)
        assert caught.value.code == "EV190" and "torch module" in caught.value.what
        assert caught.value.fix == "pip install 'edgevlm[torch]'"

"""Random graphs on a stream of rows: what works row by row does so on the rows that stay.

Where rows meet in an Attention, those that stay are what masking the others leaves (T1).
"""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from edgevlm.compiler.axes.shorten import Places, Region, shorten
from edgevlm.compiler.builder import GraphBuilder

ROWS, D = 6, 4
KINDS = ("unary", "weight", "beside", "heads", "norm", "halves", "gate", "share", "table", "attend")


def step(net, x, kind, rng, beside, mask):
    """One more op on [1,ROWS,D]."""
    match kind:
        case "unary":
            return net(str(rng.choice(["Relu", "Sigmoid", "Tanh", "Neg"])), x)
        case "weight":
            return net("MatMul", x, net.weight(rng.normal(size=(D, D)) / 2))
        case "beside":
            return net("Add", x, beside)
        case "heads":
            split = net("Reshape", x, net.ints(1, ROWS, 2, D // 2))
            turned = net("Transpose", split, perm=[0, 2, 1, 3])
            back = net("Transpose", net("Sigmoid", turned), perm=[0, 2, 1, 3])
            return net("Reshape", back, net.ints(1, ROWS, D))
        case "norm":
            return net("LayerNormalization", x, net.weight(np.ones(D)), axis=-1)
        case "halves":
            left, right = net("Split", x, net.ints(1, D - 1), axis=2, outputs=2)
            return net("Concat", right, left, axis=2)
        case "gate":
            return net("Mul", x, net("Softmax", x, axis=-1))
        case "share":
            total = net("ReduceSum", net("Abs", x), net.ints(-1), keepdims=1)
            return net("Div", x, net("Add", total, net.weight(np.ones(1))))
        case "table":
            return net("Add", x, net.weight(rng.normal(size=(1, ROWS, D))))
        case "attend":
            k = net("Unsqueeze", x, net.ints(1))
            seen = (
                net("Attention", k, k, k, mask) if mask is not None else net("Attention", k, k, k)
            )
            return net("Add", x, net("Squeeze", seen, net.ints(1)))


def build(new_net, kinds, seed, masked):
    net, rng = new_net(), np.random.default_rng(seed)
    x, beside = net.input("x", 1, ROWS, D), net.input("beside", 1, ROWS, D)
    mask = net.input("mask", ROWS, ROWS) if masked else None
    stream = value = net("Relu", x, name="stream")
    for kind in kinds:
        value = step(net, value, kind, rng, beside, mask)
    return net.build(y=net("Identity", value)), str(stream.name)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=6),
    rows=st.sets(st.integers(0, ROWS - 1), min_size=1, max_size=ROWS),
    seed=st.integers(0, 2**16),
)
def test_rows_that_stay_are_what_they_were(new_net, run, value_of, kinds, rows, seed):
    event("attends" if "attend" in kinds else "row by row")
    rows = np.array(sorted(rows))
    short, name = build(new_net, kinds, seed, masked=False)
    region = Region(short, {}, value_of(short, name))
    maker = GraphBuilder(short, "cut")
    shorten(region, maker, maker.const(rows), Places(ROWS, len(rows)))
    rng = np.random.default_rng(seed)
    feeds = {n: rng.normal(size=(1, ROWS, D)).astype(np.float32) for n in ("x", "beside")}
    whole, _ = build(new_net, kinds, seed, masked=True)
    mask = np.zeros((ROWS, ROWS), np.float32)
    mask[:, np.setdiff1d(np.arange(ROWS), rows)] = -np.inf
    np.fill_diagonal(mask, 0)
    got = run(short, feeds)["y"]
    want = run(whole, feeds | {"mask": mask})["y"][:, rows]
    assert got.shape == (1, len(rows), D)
    np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5)

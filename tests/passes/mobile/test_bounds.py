"""What a number can be: never less than what it is, whatever goes in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.compiler.executor import open_session
from edgevlm.passes.mobile.bounds import Bounds, ranges_of_ports

WHOLE = ["Add", "Sub", "Mul", "Max", "Min"]


@settings(max_examples=60)
@given(data=st.data())
def test_every_value_of_a_random_graph_is_within(data, graph):
    """Integers: sums, products, choices, looked-up and counted; what is known holds."""
    arrays = {f"c{i}": np.array(data.draw(st.lists(st.integers(-9, 9), min_size=4, max_size=4)))
              for i in range(3)}  # fmt: skip
    known, lines = ["x", *arrays], []
    for i in range(data.draw(st.integers(1, 8))):
        a, b = (data.draw(st.sampled_from(known)) for _ in range(2))
        op = data.draw(st.sampled_from([*WHOLE, "Neg", "Where", "Gather", "TopK", "Sum", "Round"]))
        lines.append(
            {
                "Neg": f"v{i} = Neg({a})",
                "Where": f"q{i} = Greater({a}, {b}) v{i} = Where(q{i}, {a}, {b})",
                "Gather": f"p{i} = ArgMax<axis=0, keepdims=1>({b}) v{i} = Gather<axis=0>({a}, p{i})"
                f" w{i} = Expand(v{i}, four)",
                "TopK": f"z{i}, v{i} = TopK<axis=0>({a}, four)",
                "Sum": f"s{i} = ReduceSum<keepdims=1>({a}, zero) v{i} = Expand(s{i}, four)",
                "Round": f"f{i} = Cast<to=1>({a}) g{i} = Clip(f{i}, low, high)"
                f" v{i} = Cast<to=7>(g{i})",
            }.get(op, f"v{i} = {op}({a}, {b})")
        )
        known.append(f"w{i}" if op == "Gather" else f"v{i}")
    words = " ".join(lines)
    used = {k: v for k, v in arrays.items() if f"{k})" in words or f"{k}," in words}
    extra = {
        "four": np.array([4]),
        "zero": np.array([0]),
        "low": np.float32(-50),
        "high": np.float32(60),
    }
    used |= {k: v for k, v in extra.items() if f" {k}" in words}
    part = graph(f"(int64[4] x) => (int64[4] y) {{ {words} y = Identity({known[-1]}) }}", **used)
    bounds = Bounds({"x": (-7, 11)})
    values = [v for n in part.graph for v in n.outputs if v.dtype.is_integer()]
    session = open_session(part, outputs=tuple(values))
    names = [o.name for o in session.get_outputs()]
    for x in (
        [-7, 11, 0, 3],
        [11, 11, -7, -7],
        data.draw(st.lists(st.integers(-7, 11), min_size=4, max_size=4)),
    ):
        seen = dict(zip(names, session.run(names, {"x": np.array(x)}), strict=True))
        for value in values:
            found = bounds.of(value)
            if found is not None:
                low, high = found
                assert low <= seen[value.name].min() and seen[value.name].max() <= high, value.name


FINITE = {
    "cleaned": ("n = IsNaN(x) w = Where(n, c, x) y = Clip(w, c, d)", (-5, 9)),
    "ramp": (
        "n = IsNaN(x) w = Where(n, c, x) u = Clip(w, c, d) l = ReduceMin<keepdims=0>(u) "
        "h = ReduceMax<keepdims=0>(u) s = Sub(h, l) m = Max(s, e) t = Sub(u, l) y = Div(t, m)",
        None,  # wide, but no NaN: asserted below
    ),
    "a clip alone lets NaN through": ("y = Clip(x, c, d)", "nothing"),
    "infinities may cancel": ("n = IsNaN(x) w = Where(n, c, x) y = Sub(w, w)", "nothing"),
    "or in a sum": ("n = IsNaN(x) w = Where(n, c, x) y = ReduceSum(w)", "nothing"),
    "what is added up is more than either": (
        "n = IsNaN(x) w = Where(n, c, x) u = Clip(w, c, d) i = Cast<to=7>(u) "
        'y = ScatterElements<reduction="add">(u, i, u)',
        "nothing",
    ),
    "an input is anything": ("y = Add(x, c)", "nothing"),
    "a product is anything": ("y = MatMul(x, x)", "nothing"),
    "another question": ("n = IsInf(x) y = Where(n, c, x)", "nothing"),
}


@pytest.mark.parametrize("case", FINITE)
def test_floats_are_numbers_or_nothing_is_known(case, graph):
    words, wanted = FINITE[case]
    constants = {"c": np.float32(-5), "d": np.float32(9), "e": np.float32(1e-30)}
    used = {k: v for k, v in constants.items() if f"{k}," in words or f"{k})" in words}
    part = graph(f"(float[3,3] x) => (float[3,3] y) {{ {words} }}", **used)
    found = Bounds({}).of(part.graph.outputs[0])
    if wanted == "nothing":
        assert found is None
    elif wanted is not None:
        assert found == wanted
    else:
        assert found is not None


def test_a_stream_of_a_thousand_sums_is_not_followed_to_its_end(graph):
    sums = " ".join(f"v{i + 1} = Add(v{i}, c)" for i in range(1000))
    part = graph(f"(int64[1] v0) => (int64[1] v1000) {{ {sums} }}", c=np.array([1]))
    bounds = Bounds({"v0": (0, 5)})
    assert bounds.of(part.graph.outputs[0]) is None
    assert bounds.of(next(iter(part.graph)).outputs[0]) == (1, 6)


def test_the_numbers_a_caller_gives_are_those_of_the_contract(micro_model):
    ranges = ranges_of_ports(micro_model.contract, "prefill")
    contract = micro_model.contract
    assert ranges["last_index"] == (0, contract.prefill_length - 1)
    assert ranges["position_ids"][1] >= contract.image_tokens + contract.prompt_capacity
    ids = ranges_of_ports(contract, "embed")["input_ids"]
    assert ids == (0, contract.vocabulary - 1)
    assert ranges_of_ports(contract, "vision") == {}

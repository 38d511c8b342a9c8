"""float16 in the reference executor is float16: it overflows, and it loses digits, node by node."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgevlm.compiler.executor import open_session
from edgevlm.compiler.rounded import halves_of, round_halves

TEXT = """(float[4] x) => (float[4] y) { [c] a = Cast<to = 10>(x) [o] b = OP
    [m] c = Mul(b, half) [z] y = Cast<to = 1>(c) }"""
X = np.float32([6e4, 1.0001, 2049.3, 3])
OPS = {
    "Neg(a)": np.negative,
    "Add(a, a)": lambda a: a + a,
    "Mul(a, a)": lambda a: a * a,
    "Sqrt(a)": np.sqrt,
    "Tanh(a)": np.tanh,
}


@pytest.mark.parametrize("op", OPS)
def test_each_result_is_one_of_float16(graph, ort, op):
    part = graph(TEXT.replace("OP", op), half=np.float16(0.5))
    with np.errstate(over="ignore"):
        made = OPS[op](X.astype(np.float16).astype(np.float32)).astype(np.float16)
    wanted = (made * np.float16(0.5)).astype(np.float32)
    found = ort(part, x=X)["y"]
    np.testing.assert_array_equal(np.isinf(found), np.isinf(wanted))
    np.testing.assert_allclose(found, wanted, rtol=2.0**-10)
    assert np.isinf(found).any() == (op in ("Add(a, a)", "Mul(a, a)"))
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found, found.astype(np.float16))


def test_values_inside_are_those_that_were_rounded(graph):
    part = graph(TEXT.replace("OP", "Add(a, a)"), half=np.float16(0.5))
    inner = part.graph.node(1).outputs[0]
    before = ir.to_proto(part).SerializeToString(deterministic=True)
    session = open_session(part, outputs=(inner,))
    y, b = session.run(["y", "b"], {"x": X})
    assert b.dtype == np.float16 and np.isinf(b[0]) and np.isinf(y[0])
    assert ir.to_proto(part).SerializeToString(deterministic=True) == before


def test_an_output_in_float16_keeps_its_name_and_no_other_type_is_touched(graph):
    part = graph("(float[4] x) => (float16[4] y, float[4] z) { y = Cast<to = 10>(x) z = Exp(x) }")
    proto = ir.to_proto(part)
    assert halves_of(part) == {"y"}
    round_halves(proto, halves_of(part))
    assert [n.op_type for n in proto.graph.node] == ["Cast", "Identity", "Identity", "Exp"]
    onnx.checker.check_model(proto, full_check=True)
    assert [v.name for v in proto.graph.output] == ["y", "z"]
    found = open_session(part).run(None, {"x": X})
    np.testing.assert_array_equal(found[0], X.astype(np.float16))
    assert halves_of(graph("(float[4] x) => (float[4] y) { y = Exp(x) }")) == set()

"""The peak of activations against brute force and a real run; weights, caches, largest tensor."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from micro.dags import SIDE, dags

from edgevlm.compiler.fused import is_view, source_of
from edgevlm.compiler.memory import Range, activation_bytes, need_of, peak_bytes
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights

TENSOR = 4 * SIDE * SIDE  # bytes of a value of a random graph


@st.composite
def runs(draw):
    """Steps that read what is there and write new values of random sizes; some are kept."""
    size = {f"i{i}": draw(st.integers(0, 9)) for i in range(draw(st.integers(0, 3)))}
    given, steps = list(size), []
    for i in range(draw(st.integers(1, 10))):
        reads = draw(st.lists(st.sampled_from(list(size) or [None]), max_size=3))
        writes = [f"v{i}_{k}" for k in range(draw(st.integers(0, 2)))]
        steps.append(([v for v in reads if v is not None], writes))
        size |= {v: draw(st.integers(0, 9)) for v in writes}
    kept = draw(st.sets(st.sampled_from(list(size)))) if size else set()
    return steps, size, given, kept


@given(runs())
def test_the_peak_is_that_of_a_step_by_step_count(run):
    """By definition: alive in step i is what exists by then and is read, written or kept later."""
    steps, size, given, kept = run
    most = sum(size[v] for v in given)
    for i in range(len(steps)):
        written = {v for _, writes in steps[: i + 1] for v in writes} | set(given)
        later = {v for reads, _ in steps[i:] for v in reads} | set(steps[i][1]) | kept
        untouched = {v for v in given if not any(v in reads for reads, _ in steps)}
        early = untouched - kept if i == 0 else set()  # nobody reads them: there at the start only
        most = max(most, sum(size[v] for v in (written & later) - early))
    assert peak_bytes(steps, size, kept=kept, given=given) == most


def test_a_chain_needs_two_tensors_and_a_branch_three():
    size = dict.fromkeys("abcd", 10)
    assert peak_bytes([("", "a"), ("a", "b"), ("b", "c")], size) == 20
    assert peak_bytes([("", "a"), ("a", "b"), ("ab", "c")], size) == 30
    assert peak_bytes([("", "a"), ("a", "b"), ("b", "c")], size, kept="a") == 30


@given(dags())
def test_fused_kernels_never_need_more_and_both_bounds_hold(part):
    fused, alone = (activation_bytes(part, fused=how) for how in (True, False))
    values = {source_of(v) for node in part.graph for v in node.outputs if not is_view(node)}
    outputs = {source_of(v) for v in part.graph.outputs} | set(part.graph.inputs)
    assert TENSOR * len(outputs) <= fused <= alone <= TENSOR * (len(values) + 1)
    assert activation_bytes(part, fused=True, width=2) == fused // 2


RUN = """
import re, sys
from pathlib import Path
import numpy as np
import onnx_ir as ir
from edgevlm.compiler.executor import open_session
from edgevlm.compiler.memory import activation_bytes
from edgevlm.compiler.shapes import infer_shapes

side, bodies = 2048, {
    "chain": "a = MatMul(x, w) b = MatMul(a, w) c = MatMul(b, w) y = MatMul(c, w)",
    "held": "a = MatMul(x, w) b = MatMul(a, w) c = MatMul(b, w) d = MatMul(c, a) y = MatMul(d, b)",
}
text = (f'<ir_version: 10, opset_import: ["" : 23]> g (float[{side},{side}] x, '
        f'float[{side},{side}] w) => (float[{side},{side}] y) {{ {bodies[sys.argv[1]]} }}')
part = infer_shapes(ir.from_onnx_text(text))
session = open_session(part)
feeds = {name: np.ones((side, side), np.float32) for name in "xw"}
small = infer_shapes(ir.from_onnx_text(text.replace(str(side), "256")))
open_session(small).run(None, {k: v[:256, :256] for k, v in feeds.items()})

def resident(what):  # VmRSS now, VmHWM at the peak, in bytes
    return 1024 * int(re.search(what + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

before = resident("VmRSS")
session.run(None, feeds)
grown = resident("VmHWM") - before
print(grown, activation_bytes(part, fused=False) - 2 * 4 * side * side)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
@pytest.mark.parametrize("body", ["chain", "held"])
def test_a_real_run_takes_what_was_counted(body):
    """Growth of a process that runs it in ONNX Runtime, inputs there before: within a tenth.

    Each product packs some of one side into blocks, which is not counted: 0.1 MB.
    """
    ran = subprocess.run([sys.executable, "-c", RUN, body], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    grown, counted = map(int, ran.stdout.split())
    assert counted == (2 if body == "chain" else 4) * 4 * 2048**2
    assert 0.95 * counted <= grown <= 1.1 * counted


def test_scores_of_attention_take_room_where_they_are_written(graph):
    ports = "(float[1,4,64,8] q, float[1,4,64,8] k, float[1,4,64,8] v) => (float[1,4,64,8] y)"
    part = graph(f"{ports} {{ y = Attention(q, k, v) }}")
    sides = 4 * 4 * (4 * 64 * 8)
    assert activation_bytes(part, fused=True) == sides
    assert activation_bytes(part, fused=False) == sides + 4 * (4 * 64 * 64)


def test_weights_that_parts_share_are_there_once(tiny_model):
    need = need_of(tiny_model.parts, tiny_model.contract, folds=False)
    stored = {
        value.const_value.tobytes()
        for part in tiny_model.parts.values()
        for value in part.graph.initializers.values()
    }
    assert need.weights.least == pytest.approx(sum(map(len, stored)), rel=0.001)
    assert need.weights.most > 1.4 * need.weights.least, "prefill and decode hold one decoder"
    apart = need_of(tiny_model.parts, tiny_model.contract, folds=True).weights
    assert apart.least == apart.most == pytest.approx(need.weights.most, rel=0.001)


def test_caches_count_once(tiny_model):
    need = need_of(tiny_model.parts, tiny_model.contract, folds=False)
    contract = tiny_model.contract
    rows = contract.kv_capacity * contract.kv_heads * contract.head_dim
    assert need.kv == contract.layers * 2 * rows * 4
    decode = activation_bytes(tiny_model.parts["decode"], fused=True)
    assert decode < need.kv, "the caches themselves are not among its activations"


def test_int8_weights_take_a_quarter_unless_they_are_made_float(tiny_model):
    small = QuantizeWeights()(tiny_model).model
    before, after = (
        need_of(model.parts, model.contract, folds=False).weights.least
        for model in (tiny_model, small)
    )
    assert after < 0.3 * before
    made = need_of(small.parts, small.contract, folds=True).weights.least
    assert made > 0.95 * need_of(tiny_model.parts, tiny_model.contract, folds=True).weights.least


def test_half_precision_halves_what_is_float(tiny_model):
    full, half = (
        need_of(tiny_model.parts, tiny_model.contract, folds=False, width=width) for width in (4, 2)
    )
    assert half.weights.least == pytest.approx(full.weights.least / 2, rel=0.001)
    assert half.weights.most == full.weights.most and half.activations.most == full.activations.most
    assert half.largest == full.largest / 2 and half.largest_name == full.largest_name


def test_a_model_without_a_decoder_has_no_caches(graph, solo):
    part = graph(
        "(float[1,5,8] x) => (float[1,5,8] y) { y = MatMul(x, w) }", w=np.ones((8, 8), np.float32)
    )
    model = solo(part)
    classifier = model.contract.model_copy(update={"kind": "classifier"})
    need = need_of(model.parts, classifier, folds=False)
    assert need.kv == 0 and need.total == Range(4 * 64 + 2 * 4 * 40, 4 * 64 + 2 * 4 * 40)
    assert need.largest_name == "vision/w" and need.largest == 4 * 64

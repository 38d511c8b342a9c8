"""Caches as state: the same numbers in ONNX Runtime, wherever the new row goes."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.attention import grouped_attention
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.kv_state import decode_with_state, prefill_with_state
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.reference import observe
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.passes.tokens.schedule import parse_asked

FORMS = {
    "plain": Flags(),
    "codes": Flags(kv="int8"),
    "fewer tokens": Flags(parse_asked("24", "prumerge", None)),
    "fewer at layers": Flags(parse_asked("24", "fastv", None)),
}


@pytest.fixture(scope="module", params=FORMS, ids=str)
def model(request, tiny_model, tiny_probes):
    recipe = compose("host-cpu", "ort", FORMS[request.param], tiny_model)
    return apply_unchecked(tiny_model, make_passes(recipe), tiny_probes[:2])


def caches_of(part, seed=0):
    """Numbers, or codes, in every row of every cache."""
    rng, found = np.random.default_rng(seed), {}
    for value in part.graph.inputs:
        if str(value.name).startswith("past_"):
            shape, dtype = [int(d) for d in value.shape], value.dtype.numpy()
            wide = rng.normal(size=shape) if dtype.kind == "f" else rng.integers(-127, 128, shape)
            found[str(value.name)] = wide.astype(dtype)
    return found


@pytest.mark.parametrize("written_out", [True, False])
@pytest.mark.parametrize("left", [1, 7])
def test_a_step_gives_the_same_and_leaves_its_row_in_the_cache(
    left, written_out, model, tiny_probes, ort
):
    contract, part = model.contract, model.parts["decode"]
    row = contract.kv_capacity - left
    feeds = dict(observe(model, tiny_probes[:1]).feeds[0]["decode"]) | caches_of(part)
    for tokens, name in contract.masks.items():
        gone = contract.kept_image_tokens - tokens
        mask = np.zeros_like(feeds[name])
        mask[..., : row - gone] = mask[..., -1] = True
        feeds[name] = mask
    want = ort(part, **feeds)
    held = decode_with_state(grouped_attention(part, None) if written_out else part, contract)
    masks = set(contract.masks.values())
    given = {n: a for n, a in feeds.items() if n not in masks}
    found = ort(held, **given, cache_position=np.array([row]))
    np.testing.assert_allclose(found["logits"], want["logits"], rtol=1e-4, atol=1e-3)
    for layer in range(contract.layers):
        at = row - contract.kv_capacity + contract.capacity_at(layer)
        for name in (f"key_{layer}", f"value_{layer}"):
            now, before = found[f"present_{name}"], feeds[f"past_{name}"]
            np.testing.assert_allclose(now[:, :, at], want[name][:, :, 0], rtol=1e-4, atol=1e-4)
            np.testing.assert_array_equal(np.delete(now, at, 2), np.delete(before, at, 2))
    # what is fed is what is needed: no cache has a second copy, no mask is left
    assert {str(v.name) for v in held.graph.inputs} == {*given, "cache_position"}


def test_prefill_leaves_whole_caches(model, tiny_probes, ort):
    feeds = dict(observe(model, tiny_probes[:1]).feeds[0]["prefill"])
    want = ort(model.parts["prefill"], **feeds)
    found = ort(prefill_with_state(model.parts["prefill"], model.contract), **feeds)
    for name, array in want.items():
        if not name.startswith(("key_", "value_")):
            np.testing.assert_array_equal(found[name], array)
            continue
        held, rows = found[f"present_{name}"], array.shape[2]
        assert held.shape[2] == model.contract.capacity_at(int(name.rpartition("_")[2]))
        np.testing.assert_array_equal(held[:, :, :rows], array)
        assert not held[:, :, rows:].any()


def test_the_parts_themselves_are_left_alone(model):
    before = [n.op_type for n in model.parts["decode"].graph]
    decode_with_state(model.parts["decode"], model.contract)
    assert [n.op_type for n in model.parts["decode"].graph] == before
    assert model.parts["decode"].opset_imports[""] == 23


def test_a_cache_that_is_read_otherwise_is_refused(micro_model):
    part = micro_model.parts["decode"].clone()
    concat = next(n for n in part.graph if n.op_type == "Concat")
    concat.replace_input_with(0, concat.inputs[1])
    past = next(v for v in part.graph.inputs if v.name == "past_key_0")
    node = next(n for n in part.graph if n.op_type == "Softmax" or n.op_type == "Attention")
    node.replace_input_with(0, past)
    with pytest.raises(JobFault, match="reads past_key_0") as caught:
        decode_with_state(part, micro_model.contract)
    assert caught.value.code == "EV501"


def test_a_shape_that_knows_the_rows_is_refused(tiny_model):
    """Another capacity in the contract than in the graph."""
    more = replace_capacity(tiny_model.contract, 3)
    with pytest.raises(JobFault, match="not \\[1, 2, "):
        decode_with_state(tiny_model.parts["decode"], more)


def replace_capacity(contract, more):
    return contract.model_copy(update={"kv_capacity": contract.kv_capacity + more})

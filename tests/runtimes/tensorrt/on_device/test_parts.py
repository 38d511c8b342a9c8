"""The one token loop over engines: the tokens of the reference, with the cache on the device."""

from __future__ import annotations

import numpy as np
import pytest
from micro.jetson import draft_bundle, reference

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.generate import Trace, encode_image, generate
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.passes.quantize.quantize_kv import QuantizeKv
from edgevlm.passes.tokens.keep_tokens import KeepTokens
from edgevlm.runtimes.tensorrt.on_device.api import find_api
from edgevlm.runtimes.tensorrt.on_device.cudart import find_cuda
from edgevlm.runtimes.tensorrt.on_device.keys import EngineStore
from edgevlm.runtimes.tensorrt.on_device.making import Maker
from edgevlm.runtimes.tensorrt.on_device.parts import EngineParts
from edgevlm.runtimes.tensorrt.on_device.plan import read_plan


@pytest.fixture
def opened(tensorrt, tmp_path):
    """opened(bundle, graphs) -> plan, parts."""
    made = []

    def open_parts(bundle, graphs=True):
        plan, cuda = read_plan(bundle), find_cuda()
        store = EngineStore(tmp_path / "engines", bundle)
        maker = Maker(find_api("tensorrt"), cuda, cuda.stream(), store, plan, 87, None)
        engines = {one.part.role: one.engine for one in maker.make(plan.parts, lambda line: None)}
        made.append(EngineParts(engines, graphs))
        return plan, made[-1]

    yield open_parts
    for parts in made:
        parts.close()


def said(plan, parts, probe, trace=None):
    image = encode_image(plan.contract, parts, probe.pixel_values)
    asked = (plan.contract, parts, image, probe.before, probe.after, plan.eos_ids)
    return list(generate(*asked, trace=trace))


@pytest.mark.parametrize("graphs", [True, False])
def test_the_bundled_model_says_the_tokens_of_the_reference(
    tiny_model, tiny_probes, tmp_path, opened, graphs
):
    bundle = draft_bundle(tmp_path / "tiny", tiny_model, tiny_probes, count=3)
    plan, parts = opened(bundle, graphs)
    for probe, golden in zip(tiny_probes, plan.goldens, strict=False):
        assert said(plan, parts, probe) == golden.token_ids and golden.token_ids
    assert parts.notes == [] and bool(parts.engines["decode"].graph) == graphs


PRUNED = {
    "one site": [("llm:1", 8)],
    "to nothing": [("llm:1", 8), ("llm:2", 0)],
    "before and within": [("vision-out", 32), ("connector-out", 16), ("llm:1", 4)],
}


@pytest.mark.parametrize("sites", PRUNED.values(), ids=PRUNED)
def test_pruned_models_have_caches_of_several_lengths(
    sites, tiny_model, tiny_probes, tmp_path, opened
):
    passes = [KeepTokens(keep=keep, method="stride", at=at) for at, keep in sites]
    model = apply_unchecked(tiny_model, passes)
    plan, parts = opened(draft_bundle(tmp_path / "pruned", model, tiny_probes, count=2))
    assert len(plan.contract.masks) > 1
    for probe, golden in zip(tiny_probes, plan.goldens, strict=False):
        assert said(plan, parts, probe) == golden.token_ids


def test_a_cache_of_codes_is_carried_as_codes(tiny_model, tiny_probes, tmp_path, opened):
    model = apply_unchecked(tiny_model, [QuantizeKv()], tiny_probes[:2])
    plan, parts = opened(draft_bundle(tmp_path / "kv", model, tiny_probes, count=2))
    assert parts.engines["decode"].ports["past_key_0"].dtype == np.int8
    for probe, golden in zip(tiny_probes, plan.goldens, strict=False):
        assert said(plan, parts, probe) == golden.token_ids


def test_keys_and_values_never_reach_the_host(bundle, micro_probes, opened):
    plan, parts = opened(bundle)
    moved, trace = parts.engines["decode"].cuda.moved, Trace()
    before = dict(moved)
    ids = said(plan, parts, micro_probes[0], trace)
    steps = len(trace.seconds["decode"])
    assert steps > 1 and len(ids) >= steps
    seen = {role: parts.engines[role] for role in ("vision", "connector", "embed", "prefill")}
    down = sum(
        engine.ports[name].nbytes
        for engine in seen.values()
        for name in engine.outputs
        if not name.startswith(("key_", "value_"))
    )
    decode = parts.engines["decode"].ports
    embeds = parts.engines["embed"].ports["text_embeds"].nbytes
    assert moved["to_host"] - before["to_host"] == down + steps * (decode["logits"].nbytes + embeds)
    c = plan.contract
    row = 2 * c.layers * c.kv_heads * c.head_dim * 4
    assert moved["on_device"] - before["on_device"] == row * (c.prefill_length + steps)


def test_a_second_question_starts_with_an_empty_cache(bundle, micro_probes, opened):
    plan, parts = opened(bundle)
    first = said(plan, parts, micro_probes[0])
    said(plan, parts, micro_probes[1])
    assert said(plan, parts, micro_probes[0]) == first


def test_a_cache_starts_with_the_rows_of_prefill_and_zeros(bundle, micro_probes, opened):
    """What is behind a mask still meets a product, and garbage may be infinite."""
    plan, parts = opened(bundle)
    said(plan, parts, micro_probes[0])
    c, draw = plan.contract, np.random.default_rng(0)
    shape = (1, c.kv_heads, c.prefill_length, c.head_dim)
    ports = parts.engines["prefill"].ports
    names = [f"{kind}_{i}" for i in range(c.layers) for kind in ("key", "value")]
    first = {name: draw.random(shape, np.float32) for name in names}
    for name in names:
        ports[name].cuda.to_device(ports[name].pointer, first[name], ports[name].stream)
    cache = parts.cache(c, ports)
    for name in names:
        held = np.array(cache.rows[name])
        assert (held[:, :, : c.prefill_length] == first[name]).all()
        assert not held[:, :, c.prefill_length :].any() and held.shape[2] == c.kv_capacity


def test_rows_that_are_kept_for_a_trace_are_copies(bundle, micro_probes, opened, micro_model):
    plan, parts = opened(bundle)
    mine, theirs = Trace(feeds={}), Trace(feeds={})
    said(plan, parts, micro_probes[0], mine)
    host = ReferenceParts(micro_model.parts)
    probe = micro_probes[0]
    image = encode_image(plan.contract, host, probe.pixel_values)
    asked = (plan.contract, host, image, probe.before, probe.after, plan.eos_ids)
    list(generate(*asked, trace=theirs))
    assert len(mine.rows) == len(theirs.rows) > 1
    for a, b in zip(mine.rows, theirs.rows, strict=True):
        for name in b:
            np.testing.assert_allclose(a[name], b[name], rtol=1e-4, atol=1e-5)


def test_feeds_of_another_contract_are_refused(bundle, opened):
    _, parts = opened(bundle)
    with pytest.raises(JobFault, match="takes pixel_values, not pixels") as caught:
        parts.call("vision", {"pixels": np.zeros(3)})
    assert caught.value.code == "EV304"


def test_the_reference_of_these_tests_says_something(micro_model, micro_probes):
    ids, tensors = reference(micro_model, micro_probes, micro_model.processor.eos_ids, 2)
    assert all(ids) and "part/decode/in/past_key_0" in tensors

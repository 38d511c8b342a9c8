"""Decode behind sites: however its mask is prepared, each cache and each mask has its length."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.generate import encode_image, generate

SITES = {
    "falling": [("random", "llm:1", 9), ("random", "llm:2", 4), ("random", "llm:3", 0)],
    "one": [("random", "llm:2", 1)],
    "returning": [("alvts", "llm:0", 9), ("alvts", "llm:1", 5), ("alvts", "llm:3", 9)],
    "returning, then falling": [("alvts", "llm:1", 5), ("random", "llm:2", 9)],
}


def prepared(model, how):
    """decode whose layers read the mask as exporters write it: shared, added, or a copy each."""
    part = model.parts["decode"].clone()
    build, mask = (
        GraphBuilder(part, "mask"),
        next(v for v in part.graph.inputs if v.name == "attention_mask"),
    )
    nodes = [n for n in part.graph if n.op_type == "Attention"]

    def made():
        if how == "as it is":
            return mask
        off = build("Cast", build("Not", mask), to=1)
        small = build("Mul", off, build.const(-1e9, np.float32))
        return build("Where", mask, build.const(0, np.float32), small)

    shared = made()
    for node in nodes:
        node.replace_input_with(3, made() if how == "a chain a layer" else shared)
    build.finish()
    return model.with_parts(decode=part)


@pytest.fixture(scope="module")
def placed(small, put_in):
    @functools.cache
    def make(how, sites):
        model = prepared(small(layers=4), how)
        for method, at, keep in SITES[sites]:
            options = {"score": "random"} if method == "alvts" else {}
            model = put_in(model, method, at, keep, **options).model
        return model

    return make


def logits(model, before=(4, 5), after=(6, 7, 8)):
    """Of prefill and of four steps of decode."""
    parts, found = ReferenceParts(model.parts), []
    pixels = np.random.default_rng(0).normal(size=(1, 3, 8, 10)).astype(np.float32)
    image = encode_image(model.contract, parts, pixels)
    said = generate(
        model.contract, parts, image, before, after, (), on_logits=found.append, max_new=5
    )
    return list(said), np.concatenate(found)


@pytest.mark.parametrize("how", ["a chain for all", "a chain a layer"])
@pytest.mark.parametrize("sites", SITES)
def test_prepared_masks_end_in_the_same_words(placed, sites, how):
    plain, other = placed("as it is", sites), placed(how, sites)
    (said, a), (heard, b) = logits(plain), logits(other)
    assert said == heard and len(a) == 5
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sites", SITES)
@pytest.mark.parametrize("how", ["as it is", "a chain for all", "a chain a layer"])
def test_ports_are_the_contracts(placed, sites, how):
    model = placed(how, sites)
    for role in ("prefill", "decode"):
        graph = model.parts[role].graph
        for values, ports in (
            (graph.inputs, model.contract.inputs(role)),
            (graph.outputs, model.contract.outputs(role)),
        ):
            found = {v.name: tuple(v.shape) for v in values}
            assert found == {p.name: p.shape for p in ports}
            assert [v.name for v in values] == [p.name for p in ports] or role == "prefill"
    lengths = {model.contract.tokens_at(layer) for layer in range(4)}
    masks = [v for v in model.parts["decode"].graph.inputs if v.name.startswith("attention_mask")]
    assert len(masks) == len(lengths)


def test_a_full_cache_ends_the_answer_in_every_layer(placed):
    """The shorter caches have as much room for words as the longest."""
    model = placed("as it is", "falling")
    parts = ReferenceParts(model.parts)
    image = encode_image(model.contract, parts, np.zeros((1, 3, 8, 10), np.float32))
    said = list(generate(model.contract, parts, image, (4, 5, 6), (7, 8, 9), ()))
    assert len(said) == model.contract.kv_capacity - 26 + 1

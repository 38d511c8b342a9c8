"""The bundled VLM, as torch exported it: the names of its axes, and what comes of resizing them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.axes import analyse, resize, single, size_of
from edgevlm.compiler.axes.axis import expand
from edgevlm.compiler.axes.equations import parts_of
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.exported_model import load_model
from edgevlm.models.zoo import bundled_folder


@pytest.fixture(scope="module")
def model():
    return load_model(bundled_folder("easyvqa-tiny"))


@pytest.fixture
def opened(model):
    """A clone of a part and its analysis."""

    def open_part(role: str):
        part = model.parts[role].clone()
        return part, analyse(part.graph, model.contract.signature(role))

    return open_part


def nodes(part: ir.Model, op: str) -> list[ir.Node]:
    return [node for node in part.graph if node.op_type == op]


@pytest.mark.parametrize("role", ["vision", "connector", "embed", "prefill", "decode"])
def test_every_part_is_analysed_and_agrees_with_its_shapes(role, opened):
    part, found = opened(role)
    values = [*part.graph.inputs, *(v for node in part.graph for v in node.outputs)]
    assert len(values) == len(found.terms) > len(part.graph)
    for value in values:
        assert [size_of(term) for term in found.of(value)] == list(value.shape)


@pytest.mark.parametrize("role", ["vision", "connector", "embed", "prefill", "decode"])
def test_ports_mean_what_the_contract_says(role, opened, model):
    part, found = opened(role)
    for port in (*model.contract.inputs(role), *model.contract.outputs(role)):
        value = next(v for v in (*part.graph.inputs, *part.graph.outputs) if v.name == port.name)
        for name, size, axis in zip(found.names(value), port.shape, port.axes, strict=True):
            if size == 1:
                assert name == "1"
            elif axis == "pixel":
                assert name == "token*pixel"  # rows of patches, and pixels in one
            elif axis is not None:
                assert name == axis, f"{port.name}: {found.names(value)}"


def test_every_dimension_of_the_vision_part_has_a_name(opened):
    part, found = opened("vision")
    for attention in nodes(part, "Attention"):
        for value in (*attention.inputs[:3], *attention.outputs):
            assert found.names(value) == ("1", "head", "token", "head_dim")
    assert found.names(nodes(part, "Conv")[0].outputs[0]) == ("1", "channel", "token", "token")
    for gelu in nodes(part, "Gelu"):
        assert found.names(gelu.outputs[0]) == ("1", "token", "hidden")
    unnamed = {n for v in found.terms for n in found.names(v) if "?" in n}
    assert unnamed <= {"?3"}  # red, green, blue


def test_the_decoder_groups_its_queries(opened, model):
    for role, rows in (("prefill", "token"), ("decode", "1")):
        part, found = opened(role)
        assert len(nodes(part, "Attention")) == model.contract.layers
        for attention in nodes(part, "Attention"):
            q, k, v = attention.inputs[:3]
            assert found.names(q) == ("1", "head*group", rows, "head_dim")
            keys = "token" if role == "prefill" else "kv"
            assert found.names(k) == found.names(v) == ("1", "head", keys, "head_dim")
        for sigmoid in nodes(part, "Sigmoid"):
            assert found.names(sigmoid.outputs[0]) == ("1", rows, "hidden")
        assert found.names(part.graph.outputs[0]) == ("1", "class")


def test_the_rows_of_the_token_table_are_classes(opened, model):
    part, found = opened("embed")
    rows, columns = found.weights[(nodes(part, "Gather")[0], 0)]
    assert (size_of(rows), rows[0].root.label) == (model.contract.vocabulary, "class")
    assert (size_of(columns), columns[0].root.label) == (model.contract.width, "channel")


def prefill_feeds(contract, rng):
    rows = contract.prefill_length
    embeds = rng.normal(size=(1, rows, contract.width)).astype(np.float32)
    return embeds, np.arange(rows)[None]


@pytest.mark.parametrize("rows", [1, 17, 40])
def test_a_prompt_of_fewer_rows(rows, opened, model, run, rng):
    """Attention is causal: the first K rows of N do not see the rest, so the full part on K rows
    and padding says what the short part must. The rows keep the positions they had among N."""
    contract = model.contract
    part, found = opened("prefill")
    value = next(v for v in part.graph.inputs if v.name == "inputs_embeds")
    log = resize(found, found.of(value)[1], rows)
    assert log and all("->" in line for line in log)
    embeds, positions = prefill_feeds(contract, rng)
    keep = np.sort(rng.choice(contract.prefill_length, rows, replace=False))
    short = {
        "inputs_embeds": embeds[:, keep],
        "position_ids": positions[:, keep],
        "last_index": np.array([rows - 1]),
    }
    padding = contract.prefill_length - rows
    full = {
        "inputs_embeds": np.pad(short["inputs_embeds"], ((0, 0), (0, padding), (0, 0))),
        "position_ids": np.pad(short["position_ids"], ((0, 0), (0, padding))),
        "last_index": short["last_index"],
    }
    expected, got = run(model.parts["prefill"], full), run(part, short)
    assert expected.keys() == got.keys() and len(got) == 1 + 2 * contract.layers
    np.testing.assert_allclose(got.pop("logits"), expected["logits"], rtol=1e-4, atol=1e-4)
    for name, array in got.items():
        np.testing.assert_allclose(array, expected[name][:, :, :rows], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("capacity", [12, 200])
def test_a_cache_of_another_capacity(capacity, opened, model, run, rng):
    """The same nine rows, in a cache of C and in one of another size; the mask hides the others."""
    contract, filled = model.contract, 9
    part, found = opened("decode")
    value = next(v for v in part.graph.inputs if v.name == "past_key_0")
    resize(found, found.of(value)[2], capacity)
    past = rng.normal(size=(contract.layers, 2, contract.kv_heads, filled, contract.head_dim))
    embeds = rng.normal(size=(1, 1, contract.width)).astype(np.float32)

    def feeds(rows: int) -> dict[str, np.ndarray]:
        slots = np.zeros((*past.shape[:3], rows, past.shape[4]), np.float32)
        slots[..., :filled, :] = past
        seen = np.array([i < filled or i == rows for i in range(rows + 1)])
        out = {"inputs_embeds": embeds, "position_ids": np.array([[filled]])}
        out["attention_mask"] = seen[None, None, None]
        for layer in range(contract.layers):
            out[f"past_key_{layer}"], out[f"past_value_{layer}"] = slots[layer, :, None]
        return out

    expected = run(model.parts["decode"], feeds(contract.kv_capacity))
    got = run(part, feeds(capacity))
    for name, array in expected.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-4, err_msg=name)


def zero_rows(part: ir.Model, attention: ir.Node, axes: slice, heads: int) -> None:
    """Zero the rows of an output projection that belong to some heads, in place."""
    node = attention
    while node.op_type != "MatMul":
        node = next(user for user, _ in node.outputs[0].uses())
    weight = node.inputs[1]
    array = weight.const_value.numpy().copy()
    array.reshape(heads, -1, array.shape[1])[axes] = 0
    weight.const_value = ir.tensor(array, name=weight.name)


def test_heads_of_the_vision_part(opened, model, run, rng):
    """Two heads of the second layer leave; the reference is the original without their outputs."""
    pixels = {"pixel_values": rng.normal(size=(1, 3, 64, 64)).astype(np.float32)}
    reference, _ = opened("vision")
    zero_rows(reference, nodes(reference, "Attention")[1], slice(1, 3), heads=4)
    part, found = opened("vision")
    head = found.of(nodes(part, "Attention")[1].inputs[0])[1]
    log = resize(found, head, 2, [0, 3])
    assert sum(" [128, 128] -> [128, 64]" in line for line in log) == 3
    assert sum(" [128, 128] -> [64, 128]" in line for line in log) == 1
    (got,), (expected,) = run(part, pixels).values(), run(reference, pixels).values()
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)


def test_a_kv_head_of_one_layer_of_prefill(opened, model, run, rng):
    contract = model.contract
    embeds, positions = prefill_feeds(contract, rng)
    feeds = {"inputs_embeds": embeds, "position_ids": positions, "last_index": np.array([50])}
    reference, _ = opened("prefill")
    zero_rows(reference, nodes(reference, "Attention")[2], slice(0, 1), heads=contract.kv_heads)
    part, found = opened("prefill")
    key = nodes(part, "Attention")[2].inputs[1]
    resize(found, found.of(key)[1], contract.kv_heads - 1, range(1, contract.kv_heads))
    got, expected = run(part, feeds), run(reference, feeds)
    assert got["key_2"].shape[1] == contract.kv_heads - 1
    assert got["key_1"].shape[1] == contract.kv_heads
    for name, array in expected.items():
        array = array[:, 1:] if name in ("key_2", "value_2") else array
        np.testing.assert_allclose(got[name], array, rtol=1e-3, atol=1e-3, err_msg=name)


def test_image_tokens_are_rows_and_columns_of_patches(opened, run, rng):
    """65 is 1 + 8 x 8; a row of patches goes with its pixels and its positions, or not at all."""
    part, found = opened("vision")
    total = found.of(part.graph.outputs[0])[1]
    with pytest.raises(JobFault, match="concatenation") as caught:
        resize(found, total, 33)
    assert any(node.name in caught.value.what for node in nodes(part, "Concat"))
    rows, _ = expand(parts_of(total)[1])
    with pytest.raises(JobFault, match="must be known when compiling") as caught:
        resize(found, (rows,), 5)
    assert caught.value.code == "EV211"
    resize(found, (rows,), 5, [0, 2, 3, 5, 7])
    assert list(part.graph.inputs[0].shape) == [1, 3, 40, 64]
    assert list(part.graph.outputs[0].shape)[1] == 1 + 5 * 8
    out = run(part, {"pixel_values": rng.normal(size=(1, 3, 40, 64)).astype(np.float32)})
    assert out["image_features"].shape[1] == 41


def test_the_connector_drops_the_class_token_and_keeps_the_rest(opened, model, run, rng):
    part, found = opened("connector")
    one, patches = parts_of(found.of(part.graph.inputs[0])[1])
    assert one == () and single(patches, "image").size == model.contract.image_tokens
    keep = [3, 9, 10, 60]
    resize(found, patches, 4)
    features = rng.normal(size=(1, 65, model.contract.vision_width)).astype(np.float32)
    less = features[:, [0, *(k + 1 for k in keep)]]
    (got,) = run(part, {"image_features": less}).values()
    (expected,) = run(model.parts["connector"], {"image_features": features}).values()
    np.testing.assert_allclose(got, expected[:, keep], rtol=1e-4, atol=1e-5)


def test_what_is_edited_is_the_clone(model, opened):
    before = {
        r: ir.to_proto(p).SerializeToString(deterministic=True) for r, p in model.parts.items()
    }
    for role, port, dim in (("prefill", "inputs_embeds", 1), ("decode", "past_key_0", 2)):
        part, found = opened(role)
        value = next(v for v in part.graph.inputs if v.name == port)
        resize(found, found.of(value)[dim], 10)
    for role, part in model.parts.items():
        assert ir.to_proto(part).SerializeToString(deterministic=True) == before[role]

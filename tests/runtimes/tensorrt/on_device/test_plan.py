"""plan.json: what is read, that it is the contract, and what of a stranger is refused."""

from __future__ import annotations

import json

import pytest
from micro.jetson import change_plan, draft_bundle

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.passes.tokens.keep_tokens import KeepTokens
from edgevlm.runtimes.tensorrt.on_device.plan import read_plan

ASKED = ("image_tokens", "kept_image_tokens", "given_tokens", "prompt_capacity", "kv_capacity")
MORE = ("prefill_length", "width", "layers", "kv_heads", "head_dim", "vocabulary", "masks")


def test_it_is_the_contract_as_the_loop_asks_it(tiny_model, tiny_probes, tmp_path):
    steps = [KeepTokens(keep=k, method="stride", at=at) for at, k in (("llm:1", 8), ("llm:2", 0))]
    model = apply_unchecked(tiny_model, steps)
    plan = read_plan(draft_bundle(tmp_path / "b", model, tiny_probes, count=1))
    mine, theirs = plan.contract, model.contract
    for name in (*ASKED, *MORE, "image_positions", "kv_dtype"):
        assert getattr(mine, name) == getattr(theirs, name), name
    for layer in range(theirs.layers):
        assert mine.tokens_at(layer) == theirs.tokens_at(layer)
        assert mine.capacity_at(layer) == theirs.capacity_at(layer)
    assert [(s.layer, s.given, s.tokens, s.returns) for s in mine.sites] == [
        (s.layer, s.given, s.tokens, s.returns) for s in theirs.sites
    ]
    for role in theirs.roles:
        assert [(p.name, p.dtype, p.shape) for p in mine.inputs(role)] == [
            (p.name, p.dtype, p.shape) for p in theirs.inputs(role)
        ]


def test_what_else_it_says(bundle):
    plan = read_plan(bundle)
    assert (plan.sm, plan.tensorrt, plan.jetpack, plan.workspace) == (87, "10.3", "6.2", 2**28)
    assert plan.is_whole and plan.parts[0].path == bundle / "tensorrt" / "vision.onnx"
    assert len(plan.goldens) == 3 and plan.goldens[0].token_ids


def test_only_what_sees_is_not_the_whole(micro_model, micro_probes, tmp_path):
    roles = ("vision", "connector")
    plan = read_plan(draft_bundle(tmp_path / "b", micro_model, micro_probes, roles=roles))
    assert not plan.is_whole and [part.role for part in plan.parts] == list(roles)


def put(*path):
    """path: keys and indices, the last one the value."""

    def change(plan):
        at = plan
        for key in path[:-2]:
            at = at[key]
        at[path[-2]] = path[-1]

    return change


HOSTILE = {
    "another schema": put("schema", 2),
    "no parts": put("parts", []),
    "parts are text": put("parts", "vision"),
    "a part that there is not": put("parts", 0, "role", "vision2"),
    "a part twice": lambda plan: plan["parts"].append(plan["parts"][0]),
    "up": put("parts", 0, "file", "tensorrt/../../x.onnx"),
    "absolute": put("parts", 0, "file", "/x.onnx"),
    "backslash": put("parts", 0, "file", "tensorrt\\x.onnx"),
    "hidden": put("parts", 0, "file", "tensorrt/.x.onnx"),
    "tensors elsewhere": put("tensors", "../goldens.npz"),
    "no digest": put("parts", 0, "sha256", "abc"),
    "a number that is text": put("sm", "87"),
    "a number that is true": put("sm", True),
    "a number out of range": put("sm", 10**9),
    "a workspace of nothing": put("workspace_bytes", 0),
    "a floor that is none": put("parts", 0, "floor_db", "NaN"),
    "a negative count": put("parts", 0, "expects", {"mha": -1}),
    "a profile of two": put("parts", 0, "profile", {"x": [[1], [2]]}),
    "an unknown kind": put("kind", "robot"),
    "no contract": put("contract", None),
    "no width": put("contract", "width", 0),
    "more kept than there are": put("contract", "kept_image_tokens", 10**6),
    "a prefill of another length": put("contract", "prefill_length", 10**6),
    "a cache too small": put("contract", "capacity_at", [1, 1]),
    "layers that are missing": put("contract", "tokens_at", []),
    "masks that are missing": put("contract", "masks", {}),
    "positions of a third kind": put("contract", "image_positions", "random"),
    "a port without a type": put("parts", 0, "inputs", [{"name": "x", "shape": [1]}]),
    "a port of a strange type": put("parts", 0, "inputs", 0, "dtype", "STRING"),
    "no ports": put("parts", 0, "outputs", []),
    "a cache that is longer than said": put("parts", 4, "inputs", -1, "shape", [1, 2, 99, 4]),
    "rows that are more than said": put("parts", 3, "outputs", -1, "shape", [1, 2, 99, 4]),
    "no keys": put("parts", 4, "outputs", -1, "name", "keys"),
    "token ids below zero": put("goldens", 0, "token_ids", [-1]),
    "a question that is a number": put("goldens", 0, "question", 3),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_what_cannot_be_followed_is_refused(change, bundle):
    change_plan(bundle, change)
    with pytest.raises(JobFault) as caught:
        read_plan(bundle)
    assert caught.value.code == "EV357" and caught.value.why


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 10_000, "\xff"])
def test_what_is_no_json_object_is_refused(text, bundle):
    (bundle / "tensorrt" / "plan.json").write_text(text, encoding="latin-1")
    with pytest.raises(JobFault, match="EV357"):
        read_plan(bundle)


def test_a_plan_that_is_missing_or_endless_is_refused(bundle, tmp_path):
    with pytest.raises(JobFault, match="EV357"):
        read_plan(tmp_path / "nowhere")
    path = bundle / "tensorrt" / "plan.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "more": "x" * 2**23}))
    with pytest.raises(JobFault, match="more than"):
        read_plan(bundle)


def test_a_link_out_of_the_bundle_is_refused(bundle, tmp_path):
    part = bundle / "tensorrt" / "vision.onnx"
    part.replace(tmp_path / "elsewhere.onnx")
    part.symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(JobFault, match="out of the bundle"):
        read_plan(bundle)

"""A bundle for a Jetson as far as the device reads it: plan.json, ONNX parts, goldens of the host.

Parts are the model's own, unlowered: the stand-in for TensorRT runs any graph. What the engines are
compared with is computed by the reference executor and the very loop that the device uses.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.generate import Trace, classify, encode_image, generate
from edgevlm.compiler.weights import WeightWriter, save_graph

__all__ = ["change_plan", "draft_bundle", "reference"]


def reference(model, probes, eos_ids, count):
    """Token ids of each golden, and the tensors to compare with."""
    parts, contract, tensors, said = ReferenceParts(model.parts), model.contract, {}, []
    for i, probe in enumerate(probes[:count]):
        trace = Trace(feeds={})
        tensors[f"{i}/pixel_values"] = probe.pixel_values
        if contract.kind != "vlm":
            seen = classify(parts, probe.pixel_values, trace)
            said.append([int(seen[0].argmax())] if contract.kind == "classifier" else [])
            tensors[f"{i}/logits"] = seen
        else:
            tensors[f"{i}/before"] = np.array(probe.before, np.int64)
            tensors[f"{i}/after"] = np.array(probe.after, np.int64)
            image = encode_image(contract, parts, probe.pixel_values, trace)
            asked = (image, probe.before, probe.after, eos_ids)
            logits = []
            how = {"trace": trace, "max_new": 16, "on_logits": logits.append}
            said.append(list(generate(contract, parts, *asked, **how)))
            tensors[f"{i}/logits"] = logits[0]
        tensors.update({f"{i}/choice/{name}": kept for name, kept in trace.choices.items()})
        if i == 0:
            calls = dict(trace.feeds)
            if contract.kind == "vlm":
                padded = np.zeros((1, contract.prompt_capacity), np.int64)
                padded[0, : len(probe.after)] = probe.after
                calls["embed"] = {"input_ids": padded}
    for role, feeds in calls.items():
        tensors.update({f"part/{role}/in/{name}": value for name, value in feeds.items()})
        out = parts.call(role, feeds)
        tensors.update({f"part/{role}/out/{name}": value for name, value in out.items()})
    return said, tensors


def draft_bundle(folder: Path, model, probes, *, roles=None, count=3, sm=87, expects=None) -> Path:
    """roles: of those only. expects: the same of every part."""
    contract, inside = model.contract, folder / "tensorrt"
    inside.mkdir(parents=True)
    roles = list(roles or contract.roles)
    with WeightWriter(inside) as writer:
        for role in roles:
            save_graph(model.parts[role], inside / f"{role}.onnx", writer)
    said, tensors = reference(model, probes, model.processor.eos_ids, count)
    kept = {k: v for k, v in tensors.items() if k[0] != "p" or k.split("/")[1] in roles}
    np.savez(inside / "goldens.npz", **kept)
    plan = {
        "schema": 1,
        "edgevlm": "0.1.0",
        "device": "jetson-orin-nano-super",
        "tensorrt": "10.3",
        "jetpack": "6.2",
        "sm": sm,
        "workspace_bytes": 2**28,
        "kind": contract.kind,
        "contract": _contract(contract) if contract.kind == "vlm" else None,
        "eos_ids": list(model.processor.eos_ids),
        "max_answer": 16,
        "parts": [_part(inside, role, contract, expects or {}) for role in roles],
        "goldens": [
            {"answer": str(probe.truth or ""), "question": f"question {i}", "token_ids": ids}
            for i, (probe, ids) in enumerate(zip(probes, said, strict=False))
        ],
        "tensors": "tensorrt/goldens.npz",
    }
    (inside / "plan.json").write_text(json.dumps(plan))
    sums = [f"{_sha(p)}  tensorrt/{p.name}" for p in sorted(inside.iterdir())]
    (folder / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    return folder


def change_plan(bundle: Path, change) -> None:
    """Edit the plan, and leave its sum out of SHA256SUMS."""
    path = bundle / "tensorrt" / "plan.json"
    plan = json.loads(path.read_text())
    change(plan)
    path.write_text(json.dumps(plan))
    sums = bundle / "SHA256SUMS"
    lines = [line for line in sums.read_text().splitlines() if "plan.json" not in line]
    sums.write_text("\n".join(lines) + "\n")


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _part(inside: Path, role: str, contract, expects) -> dict:
    def ports(listed):
        return [{"name": p.name, "dtype": p.dtype, "shape": list(p.shape)} for p in listed]

    return {
        "role": role,
        "file": f"tensorrt/{role}.onnx",
        "sha256": _sha(inside / f"{role}.onnx"),
        "digest": _sha(inside / f"{role}.onnx"),
        "inputs": ports(contract.inputs(role)),
        "outputs": ports(contract.outputs(role)),
        "profile": {},
        "floor_db": 60.0,
        "expects": expects,
    }


def _contract(c) -> dict:
    keys = ("image_tokens", "kept_image_tokens", "given_tokens", "prompt_capacity", "kv_capacity")
    more = ("prefill_length", "width", "layers", "kv_heads", "head_dim", "vocabulary", "kv_dtype")
    return {
        **{key: getattr(c, key) for key in (*keys, *more, "image_positions")},
        "sites": [site.model_dump() for site in c.sites],
        "tokens_at": [c.tokens_at(i) for i in range(c.layers)],
        "capacity_at": [c.capacity_at(i) for i in range(c.layers)],
        "masks": {str(tokens): name for tokens, name in c.masks.items()},
    }

"""`edgevlm inspect`: what is in a model or a bundle: ports, sizes, ops, axes, passes and drift."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from edgevlm.commands.quant_show import not_quantised, stored_quant
from edgevlm.compiler.axes import analyse
from edgevlm.compiler.bare_graph import graph_of
from edgevlm.compiler.bundle import MANIFEST, open_bundle
from edgevlm.compiler.contract import Contract
from edgevlm.compiler.cost import count, image_tokens
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.shapes import infer_shapes
from edgevlm.models.source import open_source

__all__ = ["inspect_model"]


def inspect_model(name: str, *, axes: bool = False, quant: bool = False) -> dict[str, Any]:
    """The JSON of `edgevlm inspect --json`, for anything `compile` takes or makes.

    axes: name the dimensions of every value as well. quant: the quantised layers of a bundle.
    Raises EV1xx, EV32x, EV330, EV21x; EV220 for layers of what is no bundle.
    """
    path = Path(name)
    if os.path.isfile(path / MANIFEST):  # noqa: PTH113  (Path's raises for a name that is too long)
        return _bundle(path, axes, quant)
    if quant:
        raise not_quantised(name)
    return {"schema": 1, "kind": "model", **_model(open_source(name), axes)}


def _bundle(path: Path, axes: bool, quant: bool) -> dict[str, Any]:
    bundle = open_bundle(path)
    manifest = bundle.manifest
    drift = _recorded_drift(bundle.record())
    parts = [
        {
            **_part(a.role, infer_shapes(graph_of(bundle, a)), manifest.contract, axes),
            "drift": drift.get(a.role),
        }
        for a in manifest.artifacts
    ]
    return {
        "schema": 1,
        "kind": "bundle",
        "bundle": str(path),
        "bytes": bundle.bytes,
        "digest": bundle.digest,
        "source": manifest.source.model_dump(),
        "target": manifest.target.model_dump(),
        "contract": manifest.contract.model_dump(),
        "image_tokens": image_tokens(manifest.contract),
        "passes": [p.model_dump() for p in manifest.passes],
        "parts": parts,
        "verified": manifest.verified,
        "not_verified": manifest.not_verified,
        **({"quant": stored_quant(bundle)} if quant else {}),
    }


def _recorded_drift(record: dict[str, Any]) -> dict[str, Any]:
    """record.json is only told, never relied on: what does not look like drift is left out."""
    parts = record.get("parts")
    rows = [p for p in parts if isinstance(p, dict)] if isinstance(parts, list) else []
    return {str(p.get("role")): p.get("drift") for p in rows}


def _model(model: ExportedModel, axes: bool) -> dict[str, Any]:
    return {
        "source": model.source.model_dump(),
        "contract": model.contract.model_dump(),
        "image_tokens": image_tokens(model.contract),
        "parts": [_part(role, part, model.contract, axes) for role, part in model.parts.items()],
    }


def _part(role: str, part: Any, contract: Contract, axes: bool) -> dict[str, Any]:
    cost = count(part)
    found = {
        "role": role,
        "nodes": cost.nodes,
        "macs": cost.macs,
        "weight_bytes": cost.weight_bytes,
        "opset": part.opset_imports.get(""),
        "inputs": {str(v.name): [v.dtype.name, list(v.shape)] for v in part.graph.inputs},
        "outputs": {str(v.name): [v.dtype.name, list(v.shape)] for v in part.graph.outputs},
        "ops": dict(Counter(n.op_type for n in part.graph).most_common()),
    }
    if axes:
        known = analyse(part.graph, contract.signature(role))
        found["axes"] = {str(v.name): list(known.names(v)) for v in known.terms}
    return found

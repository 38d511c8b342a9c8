"""What a bundle carries beside its artifacts: the plan, the goldens, and the programs for there.

    tensorrt/plan.json      ports, sizes, and which kernels are expected of every part
    tensorrt/goldens.npz    pictures and prompts as numbers, and one call of every part
    build_on_device.py, run_on_device.py, device/    what builds and runs the engines

A device needs TensorRT, numpy and CUDA's runtime for them, and nothing of edgevlm.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgevlm.compiler.beside import ProbeInput
from edgevlm.compiler.bundle import digest
from edgevlm.compiler.closure import closure
from edgevlm.compiler.contract import Contract, Port, Role
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.manifest import Artifact
from edgevlm.compiler.reference import MAX_ANSWER
from edgevlm.compiler.weights import load_graph
from edgevlm.devices import Device
from edgevlm.runtimes.base import Shown
from edgevlm.runtimes.tensorrt.aim import Aim
from edgevlm.runtimes.tensorrt.expects import expected_kernels
from edgevlm.runtimes.tensorrt.floors import floor_of
from edgevlm.runtimes.tensorrt.on_device.own_picture import CARRIED

__all__ = ["GOLDENS", "PLAN", "write_device_files"]

PLAN, GOLDENS = "tensorrt/plan.json", "tensorrt/goldens.npz"
DEVICE = "edgevlm.runtimes.tensorrt.on_device"
MAINS = (f"{DEVICE}.build_main", f"{DEVICE}.run_main")
#: of pictures in goldens.npz, before it is packed; one is always there
PICTURE_BYTES = 32 << 20
#: of the memory of a device that shares it with its system, what a builder may take
WORKSPACE_SHARE = 8
COPIED = (
    *("image_tokens", "kept_image_tokens", "given_tokens", "prompt_capacity", "kv_capacity"),
    *("prefill_length", "width", "layers", "kv_heads", "head_dim", "vocabulary"),
    *("image_positions", "kv_dtype"),
)


def write_device_files(
    model: ExportedModel,
    folder: Path,
    artifacts: Sequence[Artifact],
    shown: Shown,
    device: Device | None,
    aim: Aim,
) -> None:
    """Into a draft."""
    roles = [a.role for a in artifacts]
    whole = set(roles) == set(model.contract.roles)
    asked = _fitting(shown.probes) if whole else []
    _write_goldens(folder / GOLDENS, roles, asked, shown)
    plan = {
        "schema": 1,
        "edgevlm": version("edgevlm"),
        "device": device.id if device else "any",
        "tensorrt": aim.tensorrt,
        "jetpack": aim.jetpack,
        "sm": aim.chip.sm if aim.chip else None,
        "workspace_bytes": aim.dram_bytes and aim.dram_bytes // WORKSPACE_SHARE,
        "kind": model.contract.kind,
        "contract": _contract(model.contract),
        "eos_ids": list(model.processor.eos_ids),
        "max_answer": MAX_ANSWER,
        "parts": [_part(folder, artifact, model, shown) for artifact in artifacts],
        "goldens": [
            {"question": g.question, "answer": g.answer, "token_ids": list(g.token_ids)}
            for g in shown.goldens[: len(asked)]
        ],
        "tensors": GOLDENS,
    }
    (folder / PLAN).write_text(json.dumps(plan, indent=1) + "\n")
    scripts = resources.files(DEVICE) / "scripts"
    for name in ("build_on_device.py", "run_on_device.py"):
        (folder / name).write_text((scripts / name).read_text("utf-8"))
    for name, path in closure([*MAINS, *CARRIED]).items():
        inside = Path("device", *name.split("."))
        file = inside / "__init__.py" if path.name == "__init__.py" else inside.with_suffix(".py")
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(path.read_bytes())


def _contract(contract: Contract) -> dict[str, Any]:
    layers = range(contract.layers)
    return {name: getattr(contract, name) for name in COPIED} | {
        "sites": [site.model_dump() for site in contract.sites],
        "tokens_at": [contract.tokens_at(layer) for layer in layers],
        "capacity_at": [contract.capacity_at(layer) for layer in layers],
        "masks": {str(tokens): name for tokens, name in contract.masks.items()},
    }


def _part(folder: Path, artifact: Artifact, model: ExportedModel, shown: Shown) -> dict[str, Any]:
    path, contract = folder / artifact.file, model.contract
    part = load_graph(path)
    return {
        "role": artifact.role,
        "file": artifact.file,
        "sha256": digest(path),
        "digest": _digest(path),
        "inputs": [_port(port) for port in contract.inputs(artifact.role)],
        "outputs": [_port(port) for port in contract.outputs(artifact.role)],
        "profile": {},  # every shape is static
        "floor_db": math.floor(floor_of(model, part, shown, artifact.role)),
        "expects": expected_kernels(part),
    }


def _port(port: Port) -> dict[str, Any]:
    return {"name": port.name, "dtype": port.dtype, "shape": list(port.shape)}


def _digest(path: Path) -> str:
    """Of a graph and the weights it reads."""
    beside = [p for p in sorted(path.parent.iterdir()) if p.suffix == ".bin"]
    text = " ".join(digest(each) for each in (path, *beside))
    return hashlib.sha256(text.encode()).hexdigest()


def _fitting(probes: Sequence[ProbeInput]) -> list[ProbeInput]:
    most = max(1, PICTURE_BYTES // max(1, probes[0].pixel_values.nbytes)) if probes else 0
    return list(probes[:most])


def _write_goldens(
    path: Path,
    roles: Sequence[Role],
    asked: Sequence[ProbeInput],
    shown: Shown,
) -> None:
    arrays: dict[str, np.ndarray] = {}
    seen, words = shown.seen, any(shown.seen.answers)
    for i, probe in enumerate(asked):
        arrays[f"{i}/pixel_values"] = probe.pixel_values
        arrays[f"{i}/before"] = np.array(probe.before, np.int64)
        arrays[f"{i}/after"] = np.array(probe.after, np.int64)
        arrays |= {f"{i}/choice/{name}": kept for name, kept in seen.choices[i].items()}
        if words:  # a map has no first word
            arrays[f"{i}/logits"] = np.asarray(seen.logits[i], np.float32)
    for role in roles:
        feeds = next((each[role] for each in shown.seen.feeds if role in each), None)
        if feeds is None:
            continue
        arrays |= {f"part/{role}/in/{name}": array for name, array in feeds.items()}
        made = shown.parts.call(role, feeds)
        arrays |= {f"part/{role}/out/{name}": array for name, array in made.items()}
    np.savez_compressed(path, **arrays)

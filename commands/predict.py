"""`edgevlm profile --device NAME` of a device that is not at hand: what its file lets us expect.

Every time is a roofline (devices/roofline.py) of the bundle's own graphs and labelled `predicted`;
beside it stands how wrong the same formula is on this machine, where it can be checked.
"""

from __future__ import annotations

import shlex
from typing import Any

from edgevlm.commands.predict_host import check_here
from edgevlm.commands.predicted import figures, products, put_estimates, stages_of, time_layers
from edgevlm.compiler.bare_graph import graph_of
from edgevlm.compiler.bundle import Bundle
from edgevlm.compiler.contract import Role
from edgevlm.compiler.cost import image_tokens
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.memory import need_of
from edgevlm.compiler.shapes import infer_shapes
from edgevlm.devices import Device, find_device
from edgevlm.devices.host import tool_versions
from edgevlm.devices.memory_limits import memory_verdict
from edgevlm.devices.rates import float_width, rates_of
from edgevlm.devices.roofline import Rates, worst
from edgevlm.runtimes import RUNTIMES, find_runtime

__all__ = ["check_asked", "graphs_of", "predict_bundle", "runtime_folds"]


#: of a stage whose device's own compiler told a time
ESTIMATED = (
    "times of stages are those that the device's own compiler estimates, without what the host "
    "computes in front and between; layers are by the roofline"
)


def check_asked(*, power: str, **others: Any) -> None:
    """A request, a meter and a run belong to a measurement. Raises EV220."""
    asked = [f"--{name}" for name, given in others.items() if given is not None]
    asked += ["--power"] if power not in ("auto", "none") else []
    if asked:
        raise UsageFault(
            "EV220",
            f"{' and '.join(asked)} for a device that is not at hand",
            "its times are predicted from the graphs: no request runs there",
            "leave it out, or --device local",
        )


def predict_bundle(bundle: Bundle, device: str, *, ops: bool = False) -> dict[str, Any]:
    """The JSON of `edgevlm profile --device NAME --json` where NAME is a device file.

    Raises EV301 (no such device), EV403 (this machine), EV3xx (bundle).
    """
    found = find_device(device)
    if found.host:
        raise UsageFault(
            "EV403",
            f"profile on device {device!r}",
            "that is this machine, where nothing needs to be predicted",
            f"edgevlm profile {shlex.quote(str(bundle.folder))} --device local",
        )
    contract, target, parts = bundle.manifest.contract, bundle.manifest.target, graphs_of(bundle)
    folds = runtime_folds(found)
    rates = rates_of(found, products(parts))
    times = time_layers(parts, lambda _: rates, folds=folds)
    stages = stages_of(times)
    estimated = None
    if target.device == found.id and target.runtime in RUNTIMES:
        estimated = find_runtime(target.runtime).estimate(bundle, ops)
    if estimated:
        put_estimates(stages, estimated["parts"])
    here, reason = check_here(bundle, parts)
    need = need_of(parts, contract, folds=folds, width=float_width(found))
    report = {
        "schema": 1,
        "bundle": str(bundle.folder),
        "digest": bundle.digest,
        "bundle_mb": round(bundle.bytes / 1e6, 3),
        "device": {
            "id": found.id,
            "name": found.name,
            "unit": found.units[0].name,
            "runtime": found.runtime,
        },
        "compiled_for": bundle.manifest.target.device,
        "how": "predicted",
        "confidence": worst(rates.used),
        "at_least": rates.partial or bool(estimated),
        "image_tokens": image_tokens(contract),
        "stages": stages,
        **figures(stages),
        "used": [vars(fact) for fact in rates.used],
        "notes": [
            *_remarks(found, bundle),
            *([ESTIMATED] if estimated else [*rates.notes, *_launches(stages, rates)]),
        ],
        "this_machine": here,
        "this_machine_note": reason
        or "the same formulas with the rates of this machine, measured through ONNX Runtime",
        "estimated": estimated,
        "memory": memory_verdict(found, need),
        "tools": tool_versions(["edgevlm", "onnxruntime", "numpy"]),
    }
    if ops:
        report["layers"] = [each.as_json() for each in times]
    return report


def graphs_of(bundle: Bundle) -> dict[Role, Any]:
    """The ONNX graphs of a bundle, every shape known; perhaps without weights. Raises EV101."""
    parts = {a.role: graph_of(bundle, a) for a in bundle.manifest.artifacts}
    for part in parts.values():
        if any(v.shape is None or v.dtype is None for node in part.graph for v in node.outputs):
            infer_shapes(part)
    return parts


def runtime_folds(device: Device) -> bool:
    """Whether its runtime makes float weights of stored integers; of one we lack, it does not."""
    return device.runtime in RUNTIMES and find_runtime(device.runtime).folds_weights


def _remarks(device: Device, bundle: Bundle) -> list[str]:
    """What a reader must know before quoting a figure."""
    target = bundle.manifest.target
    notes = ["preprocessing is not predicted: fps and the first token are without it"]
    if target.device != device.id:
        notes.append(
            f"the graphs are those that were compiled for {target.device}; a compile for "
            f"{device.id} may change them"
        )
    return notes


def _launches(stages: dict[str, Any], rates: Rates) -> list[str]:
    """What an unknown launch latency would add; of small models it is most of the time."""
    if rates.launch:
        return []
    each = [f"{stage['kernels'] / 1e3:.3f} ms to {name}" for name, stage in stages.items()]
    return [f"every microsecond of launch latency would add {', '.join(each)}"]

"""Whether what was compiled fits the device, told before anything is built for it."""

from __future__ import annotations

from math import prod
from typing import Any

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.layers import weight_sizes
from edgevlm.compiler.memory import Need, need_of
from edgevlm.devices import Device
from edgevlm.devices.memory_limits import DOES_NOT_FIT, mb, memory_verdict
from edgevlm.devices.rates import float_width
from edgevlm.runtimes.base import Runtime

__all__ = ["check_memory"]

#: --quant -> bits that a weight then takes, its share of the scales included
SCHEMES = {"w8a8": 8.1, "w4a16": 4.6}


def check_memory(
    model: ExportedModel, device: Device, runtime: Runtime, *, force: bool
) -> dict[str, Any]:
    """The `memory` object of compile. Raises EV343 where it surely does not fit, but with force."""
    folds, width = runtime.folds_weights, float_width(device)
    need = need_of(model.parts, model.contract, folds=folds, width=width)
    found = memory_verdict(device, need)
    if found["verdict"] == DOES_NOT_FIT and not force:
        raise JobFault(
            "EV343",
            f"the model does not fit {device.name}",
            f"{'; '.join(found['why'])} (weights {mb(need.weights.least)}, KV {mb(need.kv)}, "
            f"activations {mb(need.activations.least)})",
            f"{_smaller(device, found, need, _bits(model, folds, width))}; --force goes on",
        )
    return found


def _bits(model: ExportedModel, folds: bool, width: int) -> float:
    """That a weight takes now, in the mean."""
    held = [row for part in model.parts.values() for row in weight_sizes(part, folds=folds).items()]
    numbers = sum(prod(map(int, value.shape)) for value, _ in held)
    return 8 * sum(size.bytes(width) for _, size in held) / max(numbers, 1)


def _smaller(device: Device, found: dict[str, Any], need: Need, bits: float) -> str:
    """The first scheme under which everything would fit, estimated; or another device."""
    rest = found["least_bytes"] - need.weights.least
    there = found["limit"]["bytes"] if found["limit"] else float("inf")
    pool = found["contiguous"][-1]["bytes"] if found["contiguous"] else float("inf")
    for scheme, fewer in SCHEMES.items():
        share = fewer / bits
        total = rest + need.weights.least * share
        if share < 0.9 and total <= there and need.largest * share <= pool:
            return f"edgevlm compile ... --target {device.id} --quant {scheme} (about {mb(total)})"
    return "a smaller model, or a device with more memory (edgevlm devices list)"

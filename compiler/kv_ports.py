"""Ports of parts whose caches are state: the contract's, but for caches and masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevlm.compiler.kv_names import CACHE_POSITION, PAST
from edgevlm.compiler.ports import Port

if TYPE_CHECKING:
    from edgevlm.compiler.contract import Contract, Role

__all__ = ["cache_names", "method_ports"]


def cache_names(contract: Contract) -> list[str]:
    """key_0, value_0, key_1, ...: the order in which runtimes have them."""
    return [f"{kind}_{layer}" for layer in range(contract.layers) for kind in ("key", "value")]


def method_ports(contract: Contract, role: Role) -> tuple[list[Port], list[Port]]:
    """Inputs and outputs; decode takes `cache_position` in place of masks."""
    masks = set(contract.masks.values()) if role == "decode" else set()
    ins = [p for p in contract.inputs(role) if not p.name.startswith(PAST) and p.name not in masks]
    if role == "decode":
        ins.append(Port(name=CACHE_POSITION, dtype="INT64", shape=(1,), axes=(None,)))
    outs = [p for p in contract.outputs(role) if not p.name.startswith(("key_", "value_"))]
    return ins, outs

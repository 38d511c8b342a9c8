"""Ports of parts whose caches a runtime holds: those of the contract, but for what is state.

decode   inputs_embeds, position_ids, cache_position [1] -> logits       (no past_*, no masks)
prefill  as it is -> logits, image_index_*                               (no key_i, value_i)
"""

from __future__ import annotations

from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.kv_names import CACHE_POSITION, PAST
from edgevlm.compiler.ports import Port

__all__ = ["cache_names", "cache_ports", "state_ports"]


def cache_names(contract: Contract) -> list[str]:
    """key_0, value_0, key_1, ...: the order in which prefill and decode have them."""
    return [f"{kind}_{layer}" for layer in range(contract.layers) for kind in ("key", "value")]


def cache_ports(contract: Contract) -> dict[str, Port]:
    """Of every cache by its name: type, and shape [1,kv_heads,C,head_dim]."""
    ports = {port.name: port for port in contract.inputs("decode")}
    return {
        name: ports[PAST + name].model_copy(update={"name": name}) for name in cache_names(contract)
    }


def state_ports(contract: Contract, role: Role) -> tuple[list[Port], list[Port]]:
    """Inputs and outputs of a part, in order."""
    masks = set(contract.masks.values()) if role == "decode" else set()
    ins = [p for p in contract.inputs(role) if not p.name.startswith(PAST) and p.name not in masks]
    if role == "decode":
        ins.append(Port(name=CACHE_POSITION, dtype="INT64", shape=(1,), axes=(None,)))
    outs = [p for p in contract.outputs(role) if not p.name.startswith(("key_", "value_"))]
    return ins, outs

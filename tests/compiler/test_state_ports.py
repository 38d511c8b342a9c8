"""Ports of parts whose caches a runtime holds."""

from __future__ import annotations

from edgevlm.compiler.state_ports import cache_names, cache_ports, state_ports


def test_caches_are_no_ports_but_state(tiny_model):
    contract = tiny_model.contract
    names = {role: [[p.name for p in side] for side in state_ports(contract, role)]
             for role in contract.roles}  # fmt: skip
    assert names["prefill"] == [["inputs_embeds", "position_ids", "last_index"], ["logits"]]
    assert names["decode"] == [["inputs_embeds", "position_ids", "cache_position"], ["logits"]]
    for role in ("vision", "connector", "embed"):  # as the contract has them
        assert state_ports(contract, role) == (contract.inputs(role), contract.outputs(role))


def test_a_cache_is_what_decode_is_handed(tiny_model):
    contract = tiny_model.contract
    ports = cache_ports(contract)
    assert list(ports) == cache_names(contract) and len(ports) == 2 * contract.layers
    assert list(ports)[:3] == ["key_0", "value_0", "key_1"]
    handed = {p.name: p for p in contract.inputs("decode")}
    for name, port in ports.items():
        assert port.name == name
        assert (port.dtype, port.shape) == (
            handed[f"past_{name}"].dtype,
            (1, contract.kv_heads, contract.kv_capacity, contract.head_dim),
        )

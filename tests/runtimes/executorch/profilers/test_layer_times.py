"""Layers of a profile: they add up, go by nodes, and a report takes them."""

from __future__ import annotations

import pytest
from micro.etdump import dump, inside, span, whole

from edgevlm.devices.report.layers import FAMILIES, family
from edgevlm.devices.report.measured import Layer
from edgevlm.runtimes.base import by_part
from edgevlm.runtimes.executorch.etdump import parse_etdump
from edgevlm.runtimes.executorch.layer_times import layer_times
from edgevlm.runtimes.executorch.op_rows import rows_of
from edgevlm.runtimes.executorch.program import Instruction
from edgevlm.runtimes.executorch.qnn.rows import CycleLayer

KINDS = ["fp32", "int8-static", "int8-dynamic", "int4-block", "portable"]
MS = 1_000_000


@pytest.mark.parametrize("kind", KINDS)
def test_they_add_up_to_ops_and_delegates(profile_of, kind):
    profile = profile_of(kind)
    layers = layer_times(profile, "measured-host", {"forward": "vision"})
    (method,) = profile.methods
    total = sum(layer.ms for layer in layers)
    assert total == pytest.approx(method.operator_ms + method.delegate_ms, abs=3e-3)
    assert {layer.role for layer in layers} == {"vision"}
    assert {layer.how for layer in layers} == {"measured-host"}
    units = {"ExecuTorch"} if kind == "portable" else {"ExecuTorch", "XNNPACK"}
    assert {layer.unit for layer in layers} == units


@pytest.mark.parametrize("kind", KINDS)
def test_a_report_takes_them(profile_of, kind):
    layers = layer_times(profile_of(kind), "measured-device")
    for layer in layers:
        assert Layer.model_validate(vars(layer)).how == "measured-device"


def test_nodes_and_families(profile_of):
    layers = {
        layer.node: layer for layer in layer_times(profile_of("int8-static"), "measured-host")
    }
    up = layers["/up"]
    assert (up.op, up.unit) == ("FullyConnected (QS8, QC8W)", "XNNPACK")
    found = {node: FAMILIES[family(layers[node].op)][1] for node in ("/up", "/norm", "/softmax")}
    assert found == {
        "/up": "products",
        "/norm": "norms and activations",
        "/softmax": "norms and activations",
    }


def test_a_method_without_a_role_keeps_its_name(profile_of):
    assert {layer.role for layer in layer_times(profile_of("fp32"), "measured-host")} == {"forward"}


def test_cycles_share_out_the_call_and_say_so():
    """Synthetic: a QNN delegate of 4 ms with ops of 3000 and 1000 cycles."""
    program = {"vision": {(0, 0): Instruction("delegate", "QnnBackend")}}
    events = [
        inside("Number of HVX threads used", 0, 0, 4),
        inside("fc:OpId_17 (cycles)", 0, 0, 3000),
        inside("act:OpId_23 (cycles)", 0, 0, 1000),
        span("DELEGATE_CALL", 0, MS, 5 * MS),
        whole(MS, 5 * MS),
    ]
    profile = rows_of(parse_etdump(dump([("Execute", events)])), program)
    layers = layer_times(profile, "measured-device")
    assert layers == [
        CycleLayer("vision", "fc:17", "qnn op", "HTP", 3.0, "estimated-qnn", 3000),
        CycleLayer("vision", "act:23", "qnn op", "HTP", 1.0, "estimated-qnn", 1000),
    ]
    assert Layer.model_validate(vars(layers[0])).how == "estimated-qnn"
    (op,) = by_part(layers)  # a sum is known as surely as the least sure of it
    assert (op.how, op.nodes, op.ms) == ("estimated-qnn", 2, 4.0)


def test_a_delegate_that_tells_nothing_of_its_inside():
    """Synthetic: as a runner without XNNPACK's profiler, or another delegate."""
    program = {"f": {(0, 0): Instruction("delegate", "SomeBackend")}}
    events = [span("DELEGATE_CALL", 0, MS, 3 * MS), whole(MS, 3 * MS)]
    profile = rows_of(parse_etdump(dump([("Execute", events)])), program)
    (layer,) = layer_times(profile, "measured-device")
    assert (layer.op, layer.unit, layer.ms) == ("SomeBackend call", "SomeBackend", 2.0)

"""The table of what TensorRT takes, and what each device and each toolchain aims at by it."""

from __future__ import annotations

import re
from itertools import pairwise

import onnx
import pytest
from pydantic import ValidationError

from edgevlm.compiler.axes.rules import RULES
from edgevlm.compiler.errors import UsageFault
from edgevlm.devices import find_device, list_devices
from edgevlm.runtimes.tensorrt.aim import NEWEST, Aim, aim_at
from edgevlm.runtimes.tensorrt.facts import Facts, facts, parsed
from edgevlm.runtimes.tensorrt.written import DTYPES, capabilities_of

OURS = [device for device in list_devices() if device.runtime == "tensorrt"]
ORIN, THOR = "jetson-orin-nano-super", "jetson-thor-t5000"


def entries():
    known = facts()
    return [*known.releases, *known.limits, *known.chips, *known.jetpacks]


def test_every_entry_says_how_it_is_known_and_where():
    assert len(entries()) > 20
    for entry in entries():
        assert entry.how in ("run", "documented", "memory")
        assert re.fullmatch(r"https://[a-z0-9.-]+/\S*", entry.source)


@pytest.mark.parametrize("kind", ["releases", "jetpacks"])
def test_versions_rise(kind):
    versions = [parsed(each.version) for each in getattr(facts(), kind)]
    assert len(versions) > 3 and all(a < b for a, b in pairwise(versions))


def test_opsets_rise_with_releases_and_onnx_knows_them():
    opsets = [r.opset for r in facts().releases]
    assert opsets == sorted(opsets) and max(opsets) <= onnx.defs.onnx_opset_version()


def test_ops_are_those_of_onnx_and_are_added_where_they_were_lacking():
    lacking: set[str] = set()
    for release in facts().releases:
        assert set(release.adds) <= lacking, f"{release.version} adds what nobody lacked"
        lacking = (lacking | set(release.lacks)) - set(release.adds)
    for op in {op for r in facts().releases for op in (*r.lacks, *r.adds)}:
        assert op in RULES and onnx.defs.has(op)


@pytest.mark.parametrize("kind", ["chips", "limits"])
def test_nothing_stands_there_twice(kind):
    names = [getattr(each, "sm", each.name) for each in getattr(facts(), kind)]
    assert len(names) == len(set(names))


def test_chips_multiply_types_that_are_written():
    for chip in facts().chips:
        assert set(chip.types) <= DTYPES and {"FLOAT", "FLOAT16", "INT8"} <= set(chip.types)
        assert ("FLOAT8E4M3FN" in chip.types) == (chip.sm >= 89), chip.name
        assert chip.proxy is None or re.fullmatch(r"SM\d{2,3}", chip.proxy)


def test_jetpacks_are_of_chips_and_bring_what_is_listed():
    for jetpack in facts().jetpacks:
        assert jetpack.sms and all(facts().chip(sm) for sm in jetpack.sms)
        old = parsed(jetpack.tensorrt) < parsed(facts().releases[0].version)
        assert (facts().release(jetpack.tensorrt) is None) == old


def test_the_limits_that_rules_ask_for_are_there():
    assert facts().limit("topk").value == 3840
    assert facts().limit("int4_opset").value == 21


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d["releases"][0].pop("how"),
        lambda d: d["chips"][0].pop("source"),
        lambda d: d["limits"][0].update(how="guessed"),
        lambda d: d["jetpacks"][0].update(source="somebody said so"),
        lambda d: d["releases"][0].update(version="10.x"),
        lambda d: d["releases"][0].update(more=1),
        lambda d: d.pop("chips"),
    ],
)
def test_a_table_that_says_less_is_refused(edit):
    data = facts().model_dump()
    Facts.model_validate(data)
    edit(data)
    with pytest.raises(ValidationError):
        Facts.model_validate(data)


@pytest.mark.parametrize(
    ("a", "b"), [("10.3", "10.13"), ("9.9", "10"), ("10.0.1", "10.0.2"), ("10.13", "10.13.0.1")]
)
def test_versions_are_numbers(a, b):
    assert parsed(a) < parsed(b) and parsed("10") == parsed("10.0.0") < parsed("10.1")


@pytest.mark.parametrize(
    ("version", "listed"),
    [("10.0", "10.0"), ("10", "10.0"), ("10.3", "10.0"), ("10.9.1", "10.9"), ("10.13.2", "10.13"),
     ("10.16", "10.15"), ("99.1", NEWEST), ("9.9", None), ("8.6", None)],
)  # fmt: skip
def test_a_release_is_taken_for_the_newest_one_below(version, listed):
    found = facts().release(version)
    assert (found and found[0].version) == listed


@pytest.mark.parametrize(
    ("version", "opset", "lacking"),
    [
        ("10.3", 20, {"Attention", "RMSNormalization", "RotaryEmbedding", "Swish"}),
        ("10.9", 22, {"Attention", "RMSNormalization", "RotaryEmbedding", "Swish"}),
        ("10.13", 23, {"Attention", "RMSNormalization", "RotaryEmbedding", "Swish"}),
        ("10.15", 23, {"Attention", "Swish"}),
        ("11.4", 23, {"Attention"}),
    ],
)
def test_opset_and_ops_by_release(version, opset, lacking):
    aim = Aim(version)
    known = {"Attention", "RMSNormalization", "RotaryEmbedding", "Swish"}
    assert (aim.opset, aim.lacks & known) == (opset, lacking)
    assert "BitShift" in aim.lacks, "no release has it"
    ops = capabilities_of(aim).ops
    assert not ops & aim.lacks and ops | aim.lacks >= set(RULES)


@pytest.mark.parametrize("device", OURS, ids=lambda device: device.id)
def test_every_device_aims_at_something(device):
    aim = aim_at(device, None)
    told = device.units[0].compute_capability
    assert aim.chip.sm == round(told.value * 10)
    assert aim.dram_bytes == int(device.memory.dram.value * 1e9)
    assert facts().release(aim.tensorrt) is not None
    kind, _, version = (device.sdk or f"tensorrt-{NEWEST}").partition("-")
    assert (aim.jetpack, aim.tensorrt)[kind == "tensorrt"] == version
    assert aim.as_json() == {
        "tensorrt": aim.tensorrt, "sm": str(aim.chip.sm),
        **({"jetpack": version} if kind == "jetpack" else {}),
    }  # fmt: skip
    written = {name.upper() for name in device.units[0].dtypes}
    assert {"FP16", "INT8"} <= written
    assert ("FLOAT8E4M3FN" in aim.chip.types) == any(n.startswith("FP8") for n in written)


def test_there_are_devices():
    assert {ORIN, THOR, "rtx-4090", "h200"} <= {device.id for device in OURS}


@pytest.mark.parametrize(
    ("name", "asked", "tensorrt", "jetpack"),
    [
        (ORIN, None, "10.3", "6.2"),
        (ORIN, "jetpack-6.2", "10.3", "6.2"),
        (ORIN, " JetPack-6.1.1 ", "10.3", "6.1.1"),
        (ORIN, "jetpack-7.2.2", "10.13", "7.2.2"),
        (ORIN, "tensorrt-10.13", "10.13", None),
        (ORIN, "tensorrt-10", "10", None),
        (THOR, None, "10.13", "7.1"),
        (THOR, "jetpack-7.9", "10.13", "7.9"),
        ("rtx-4090", None, "10.13", None),
        ("h200", None, NEWEST, None),
        ("h200", "tensorrt-42.1.0.7", "42.1.0.7", None),
    ],
)
def test_what_is_asked_for(name, asked, tensorrt, jetpack):
    aim = aim_at(find_device(name), asked)
    assert (aim.tensorrt, aim.jetpack) == (tensorrt, jetpack)
    if asked and asked.startswith("tensorrt-42"):
        assert (aim.opset, aim.lacks) == (Aim(NEWEST).opset, Aim(NEWEST).lacks)


@pytest.mark.parametrize(
    ("name", "asked", "what", "why"),
    [
        (ORIN, "cuda-12", "toolchain 'cuda-12'", "jetpack-VERSION or tensorrt-VERSION"),
        (ORIN, "jetpack", "toolchain 'jetpack'", "VERSION"),
        (ORIN, "jetpack-six", "toolchain", "VERSION"),
        (ORIN, "tensorrt-10.", "toolchain", "VERSION"),
        (ORIN, "tensorrt-1.2.3.4.5", "toolchain", "VERSION"),
        (ORIN, "tensorrt-" + "9" * 5000, "toolchain 'tensorrt-999", "VERSION"),
        (ORIN, "tensorrt-10.3; rm", "toolchain", "VERSION"),
        (ORIN, "jetpack-5.1", "JetPack 5.1 on Orin (sm_87)", "known for it: 6.1, 7.2"),
        (ORIN, "jetpack-7.0", "JetPack 7.0 on Orin (sm_87)", "known for it: 6.1, 7.2"),
        (ORIN, "jetpack-8.0", "JetPack 8.0 on Orin (sm_87)", "known for it"),
        (THOR, "jetpack-6.2", "JetPack 6.2 on Thor (sm_110)", "known for it: 7.0, 7.2"),
        ("rtx-4090", "jetpack-6.2", "JetPack 6.2 on Ada", "no JetPack is for this chip"),
        (ORIN, "jetpack-6.0", "TensorRT 8.6, of JetPack 6.0", "need 10.0 or later"),
        (ORIN, "tensorrt-8.6", "TensorRT 8.6", "need 10.0 or later"),
        (ORIN, "tensorrt-9.9.9", "TensorRT 9.9.9", "need 10.0 or later"),
    ],
)
def test_what_is_refused_and_why(name, asked, what, why):
    with pytest.raises(UsageFault, match=re.escape(f"EV308 {what}")) as caught:
        aim_at(find_device(name), asked)
    assert why in caught.value.why
    assert len(caught.value.what) < 120
    assert f"tensorrt-{NEWEST}" in caught.value.fix and "--toolchain" in caught.value.fix

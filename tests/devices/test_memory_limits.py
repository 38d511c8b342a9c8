"""Verdicts by hand: DRAM, what the system keeps, scratch, contiguous pools, memory on the chip."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgevlm.compiler.memory import Need, Range
from edgevlm.devices import find_device, memory_limits
from edgevlm.devices.memory_limits import mb, memory_verdict, on_chip_bytes
from edgevlm.devices.schema import parse_device

GB = 10**9
NEED = Need(Range(2 * GB, 3 * GB), GB // 2, Range(GB // 2, GB), GB // 10, "decode/head")  # 3 - 4.5
SOURCE = 'source = "https://example.org/s", confidence = "A"'


def board(memory: str = "", traps: str = "", kind: str = "gpu"):
    rows = "\n".join(f"{row}, {SOURCE}}}" for row in memory.split("; ") if row)
    text = f"""
id = "board-8"
name = "Board 8"
family = "board"
runtime = "tensorrt"
[memory]
{rows}
[[units]]
name = "unit"
kind = "{kind}"
source = "https://example.org/s"
confidence = "A"
[units.dtypes]
int8 = {{}}
{traps}
"""
    return parse_device(text, "board-8.toml")


def pool(name: str, mib: float) -> str:
    return (
        f'[traps.{name}]\ntext = "the {name} pool"\nvalue = {mib}\nunit = "MiB"\n'
        f'limits = "contiguous"\nsource = "https://example.org/t"\nconfidence = "B"\n'
    )


@pytest.mark.parametrize(
    ("memory", "verdict"),
    [
        ("dram = {value = 8", "fits"),
        ("dram = {value = 4.5", "fits"),
        ("dram = {value = 4.4", "fits only if"),
        ("dram = {value = 3", "fits only if"),
        ("dram = {value = 2.9", "does not fit"),
        ("dram = {value = 8; system = {value = 4", "fits only if"),
        ("dram = {value = 8; system = {value = 5.5", "does not fit"),
        ("dram = {value = 8; scratch = {value = 3.6", "fits only if"),
        ("dram = {value = 8; scratch = {value = 5.1", "does not fit"),
        ("", None),
    ],
)
def test_between_what_it_needs_at_least_and_at_most(memory, verdict):
    found = memory_verdict(board(memory), NEED)
    assert found["verdict"] == verdict and found["how"] == "predicted"
    assert bool(found["why"]) == (verdict not in ("fits", None))
    assert (verdict or "not published") in found["text"]
    assert ("nothing taken off" in found["text"]) == (bool(memory) and "system" not in memory)
    if memory:
        assert found["limit"]["confidence"] == "A" and found["limit"]["source"]


def test_both_numbers_are_told():
    assert memory_verdict(board("dram = {value = 2"), NEED)["why"] == [
        "it takes at least 3.00 GB, and there are 2.00 GB"
    ]
    (why,) = memory_verdict(board("dram = {value = 4"), NEED)["why"]
    assert why.startswith("its parts share their weights and give activations back")
    assert "3.00 GB to 4.50 GB" in why and "there are 4.00 GB" in why


@pytest.mark.parametrize(
    ("largest", "verdict"),
    [(200, "fits"), (300, "fits only if"), (960, "fits only if"), (961, "does not fit")],
)
def test_a_pool_of_contiguous_memory_limits_the_largest_tensor(largest, verdict):
    device = board("dram = {value = 8", pool("most", 960) + pool("default", 256))
    found = memory_verdict(device, replace(NEED, largest=largest * 2**20))
    assert found["verdict"] == verdict
    assert [each["bytes"] for each in found["contiguous"]] == [256 * 2**20, 960 * 2**20]
    begins = "it takes" if verdict == "does not fit" else "there are"
    said = f"{begins} {mb(largest * 2**20)} in one piece (decode/head), more than the"
    assert all(why.startswith(said) for why in found["why"])


def test_an_orin_nano_refuses_the_head_of_a_large_vocabulary():
    head = replace(NEED, largest=622 * 10**6)
    for name in ("jetson", "jetson-orin-nano-8"):
        found = memory_verdict(find_device(name), head)
        assert found["verdict"] == "fits only if" and "(256 MiB)" in found["why"][0]
    assert memory_verdict(find_device("orin-nx"), head)["verdict"] == "fits"


def test_what_is_not_verified_is_flagged():
    small = Need(Range(1, 1), 0, Range(1, 1), 1, "vision/w")
    assert "not verified (C)" in memory_verdict(find_device("pixel-9"), small)["text"]
    assert "(C)" not in memory_verdict(find_device("kv260"), small)["text"]


def test_this_machine_is_its_own_limit(monkeypatch):
    small = replace(memory_limits.describe_host(), ram_gib=0.5)
    monkeypatch.setattr(memory_limits, "describe_host", lambda: small)
    found = memory_verdict(find_device("cpu"), NEED)
    assert found["verdict"] == "does not fit" and found["limit"]["bytes"] == 2**29
    unread = replace(small, ram_gib=None)
    monkeypatch.setattr(memory_limits, "describe_host", lambda: unread)
    assert memory_verdict(find_device("cpu"), NEED)["verdict"] is None


def test_memory_on_the_chip():
    assert on_chip_bytes(find_device("kv260")) == (144 * 36 + 64 * 288) * 1024 // 8
    assert on_chip_bytes(find_device("imx93")) == 640 * 1024
    assert on_chip_bytes(find_device("jetson")) is None, "a cache is none"
    assert on_chip_bytes(find_device("cpu")) is None
    there = board("dram = {value = 8; sram = {value = 1000", kind="npu")
    tight = Need(Range(600_000, 600_000), 300_000, Range(300_000, 300_000), 1, "x")
    chip = [
        memory_verdict(there, need)["on_chip"]["exceeded_by"]
        for need in (
            replace(tight, kv=0),
            tight,
            replace(tight, weights=Range(2**20, 2**20), kv=2**21),
        )
    ]
    assert chip == [[], ["weights, activations and caches together"], ["weights", "KV caches"]]


def test_how_bytes_are_written():
    assert [mb(n) for n in (0, 1_500_000, 999_499_999, 999_999_999, 8e9)] == [
        "0.00 MB",
        "1.50 MB",
        "999.50 MB",
        "1.00 GB",
        "8.00 GB",
    ]

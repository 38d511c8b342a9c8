"""From a device file to rates: the ladder of dtypes, the yardstick, bounds, and what is said."""

from __future__ import annotations

import pytest

from edgevlm.devices import find_device, list_devices
from edgevlm.devices.rates import float_width, rates_of
from edgevlm.devices.roofline import worst
from edgevlm.devices.schema import parse_device

HEAD = 'id = "board-8"\nname = "Board 8"\nfamily = "board"\n'
SOURCED = 'source = "https://example.org/sheet"\nconfidence = "A"'


def board(dtypes: str, runtime: str = "tensorrt", more: str = "", unit: str = ""):
    """dtypes: `fp16=17 int8=33`, without a number for a rate that nobody published."""
    rows = []
    for each in dtypes.split():
        name, _, rate = each.partition("=")
        fact = f'{{value = {rate}, source = "https://example.org/r", confidence = "B"}}'
        rows.append(f"[units.dtypes.{name}]" + (f"\ndense = {fact}" if rate else ""))
    text = "\n".join(
        [
            HEAD + f'runtime = "{runtime}"',
            "[memory]\nbandwidth = "
            '{value = 100, source = "https://example.org/b", confidence = "A"}',
            f'[[units]]\nname = "GPU"\nkind = "gpu"\n{unit}\n{SOURCED}',
            *rows,
            more,
        ]
    )
    return parse_device(text, "board-8.toml")


LAUNCH = 'launch = {value = 5, source = "https://example.org/l", confidence = "C"}'


def published(dtype: str, ms: float, sure: str = "A") -> str:
    return (
        f'[[published]]\nwhat = "ViT"\nvalue = {ms}\nunit = "ms"\ngmac = 10\ndtype = "{dtype}"\n'
        f'runtime = "tflite"\nsource = "https://example.org/p"\nconfidence = "{sure}"\n'
    )


@pytest.mark.parametrize(
    ("dtypes", "runtime", "wanted", "rate"),
    [
        ("fp32=2 fp16=17 int8=33", "tensorrt", "fp32", 2),
        ("fp32 tf32=8 fp16=17", "tensorrt", "fp32", 8),
        ("fp32 fp16=17 int8=33", "tensorrt", "fp32", 17),
        ("fp32 bf16=17", "tensorrt", "fp32", 17),
        ("int8 int16=5 fp16=17", "tensorrt", "int8", 5),
        ("fp16=17", "tensorrt", "int8", 17),
        ("fp32=2", "ort", "int8", 2),
        ("fp16=17 int8=33 fp8=35", "tensorrt", "fp8", 35),
        ("fp16=17 int8=33", "tensorrt", "fp8", 17),
        ("fp16 fp32=2", "tensorrt", "fp16", 2),
    ],
)
def test_a_dtype_without_a_rate_goes_at_that_of_the_next(dtypes, runtime, wanted, rate):
    found = rates_of(board(dtypes, runtime, unit=LAUNCH), {wanted: 9})
    assert found.ops == {wanted: rate * 1e12} and not found.partial
    used = {fact.what for fact in found.used}
    exact = f"{wanted}={rate}" in dtypes.split()
    assert len(used) == 3 and bool(found.notes) != exact
    assert all(f"none is published for {wanted}" in note for note in found.notes)


def test_ort_keeps_floats_so_half_precision_is_a_bound_there():
    found = rates_of(board("fp32 fp16=17", "ort"), {"fp32": 1})
    assert found.ops == {"fp32": 17e12} and found.partial and found.width == 4
    assert "at least so long: their rate is not published" in found.notes[0]
    assert rates_of(board("fp32 fp16=17"), {"fp32": 1}).width == 2


def test_a_published_time_is_the_yardstick_where_no_rate_is_printed():
    device = board("fp16 int8", more=published("fp16", 4) + published("fp16", 2))
    found = rates_of(device, {"fp32": 30, "int8": 70})
    assert found.ops["fp32"] == pytest.approx(2 * 10e9 / 2e-3), "of the faster of the two"
    (fact, *_) = [each for each in found.used if "effective" in each.what]
    assert fact.confidence == "B" and fact.note.startswith("derived: ViT in 2 ms through tflite")
    assert any("float products (30%)" in note for note in found.notes)
    assert found.ops["int8"] == found.ops["fp32"], "the next wider dtype that there is a time of"
    sure = rates_of(board("fp16", more=published("fp16", 4, "C")), {"fp32": 1})
    assert worst(sure.used) == "C"


def test_a_printed_rate_goes_before_the_yardstick():
    found = rates_of(board("fp16=17 int8", more=published("int8", 4)), {"int8": 1})
    assert found.ops == {"int8": 17e12}


def test_a_unit_without_floats_bounds_them_from_below():
    found = rates_of(board("int8=0.5"), {"fp32": 5, "int8": 5})
    assert found.ops == {"fp32": 5e11, "int8": 5e11} and found.partial and found.width == 1
    assert any("GPU computes no floats" in note for note in found.notes)


def test_nothing_is_made_up():
    found = rates_of(board("fp16 int8"), {"fp32": 5, "int8": 0})
    assert found.ops == {"fp32": None} and found.partial
    assert [fact.what for fact in found.used] == ["bandwidth"]
    assert any("computing float products (100%) is left out" in note for note in found.notes)


def test_an_unknown_launch_latency_is_said_and_a_known_one_used():
    without, known = (rates_of(board("fp32=1", unit=unit), {"fp32": 1}) for unit in ("", LAUNCH))
    assert without.launch == 0 and without.partial and "launch latency unknown: 0" in without.notes
    assert known.launch == pytest.approx(5e-6) and not known.partial and not known.notes
    assert worst(known.used) == "C" and worst(without.used) == "B"


@pytest.mark.parametrize("device", [d for d in list_devices() if not d.host], ids=lambda d: d.id)
def test_every_device_that_ships_is_told_with_what_it_rests_on(device):
    found = rates_of(device, {"fp32": 1, "int8": 1})
    for dtype, rate in found.ops.items():
        assert (rate is None) == any(
            f"computing {'float' if dtype == 'fp32' else dtype} products" in n for n in found.notes
        )
    assert all(fact.source.startswith("https://") for fact in found.used)
    assert (found.bandwidth is None) == (device.memory.bandwidth is None)
    assert found.width in (1, 2, 4) and float_width(device) in (1, 2, 4)


def test_the_phones_without_a_printed_rate_have_a_yardstick_and_pixels_have_none():
    for name in ("snapdragon-8-gen-3", "snapdragon-8-elite", "snapdragon-8-elite-gen-5"):
        rates = rates_of(find_device(name), {"fp32": 1, "int8": 1}).ops
        assert 5e12 < rates["fp32"] < rates["int8"] < 20e12
    assert set(rates_of(find_device("pixel-9"), {"int8": 1}).ops.values()) == {None}

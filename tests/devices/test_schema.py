"""Device files: what ships is whole, what is broken is named by file and field."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

import edgevlm.devices as devices
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.devices import find_device, list_devices, read_devices
from edgevlm.devices.schema import parse_device

# Synthetic: no such device, and no such page.
SOURCED = 'source = "https://example.org/sheet", confidence = "B"'
BOARD = f"""
id = "board-8"
name = "Board 8"
aliases = ["board"]
family = "jetson"
runtime = "tensorrt"

[sources]
sheet = "https://example.org/fabric"

[matrices]
multiple = {{value = 16, {SOURCED}}}

[toolchain]
jetpack = ">=6.1,<8"

[memory]
dram = {{value = 8, {SOURCED}}}
bandwidth = {{value = 102.4, unit = "GB/s", {SOURCED}}}

[[units]]
name = "GPU"
kind = "gpu"
clock = {{value = 1020, {SOURCED}}}
{SOURCED.replace(", ", chr(10))}
[units.dtypes]
fp16 = {{}}
[units.dtypes.int8]
dense = {{value = 33, {SOURCED}}}
sparse = {{value = 67, {SOURCED}}}

[fabric]
lut = {{value = 53200, source = "sheet", confidence = "A"}}
ff = {{value = 106400, source = "sheet", confidence = "A"}}
bram36 = {{value = 140, source = "sheet", confidence = "A"}}
dsp = {{value = 220, source = "sheet", confidence = "A"}}

[[power_modes]]
name = "15W"
watts = {{value = 15, {SOURCED}}}
command = "nvpmodel -m 0"

[[rails]]
name = "VDD_IN"
covers = "the whole board"
total = true
{SOURCED.replace(", ", chr(10))}

[traps.cma_ceiling]
text = "the contiguous pool ends here"
value = 950
unit = "MiB"
limits = "contiguous"
{SOURCED.replace(", ", chr(10))}

[[published]]
what = "ViT-B/16"
value = 3.5
unit = "ms"
gmac = 17.5
dtype = "fp16"
runtime = "tflite"
{SOURCED.replace(", ", chr(10))}

[[measured]]
what = "ViT-B/16 int8"
value = 3.5
unit = "ms"
how = "measured-device"
method = "trtexec"
n = 200
date = 2026-01-31
tools = {{tensorrt = "10.3.0"}}
power_mode = "15W"
"""


def fault_of(text: str, file: str = "board-8.toml") -> JobFault:
    with pytest.raises(JobFault) as caught:
        parse_device(text, file)
    assert caught.value.code == "EV401"
    assert "board-8.toml" in caught.value.what or file in caught.value.what
    return caught.value


def test_a_full_file_is_read_with_units_filled_in():
    device = parse_device(BOARD, "board-8.toml")
    assert device.memory.dram.value == 8 and device.memory.dram.unit == "GB"
    assert device.memory.bandwidth.unit == "GB/s" and device.memory.sram is None
    (gpu,) = device.units
    assert gpu.dtypes["int8"].sparse.unit == "Top/s" and gpu.clock.unit == "MHz"
    assert gpu.dtypes["fp16"].dense is None, "taken, and nobody says how fast"
    assert device.power_modes[0].watts.unit == "W"
    assert device.measured[0].date.isoformat() == "2026-01-31"
    assert "bf16" not in gpu.dtypes
    assert device.fabric.lut.source == "https://example.org/fabric" and device.fabric.uram is None
    assert device.published[0].rate == pytest.approx(2 * 17.5e9 / 3.5e-3)
    assert device.traps["cma_ceiling"].limits == "contiguous"
    assert device.matrices.channels == 16 and device.matrices.multiple.unit == "channels"


def test_a_device_cannot_be_changed():
    device = parse_device(BOARD, "board-8.toml")
    with pytest.raises(ValidationError, match="frozen"):
        device.name = "other"


@pytest.mark.parametrize(
    ("old", "new", "field", "why"),
    [
        ("dram = {value = 8,", 'dram = {value = 8, unit = "GiB",', "memory.dram", "GB, not GiB"),
        ("value = 8,", "value = true,", "memory.dram.value", "number"),
        ("value = 8,", 'value = "8",', "memory.dram.value", "number"),
        ("value = 8,", "value = inf,", "memory.dram.value", "finite"),
        ("value = 8,", "value = 0,", "memory.dram", "leave the field out"),
        (
            f"dram = {{value = 8, {SOURCED}}}",
            'dram = {value = 8, confidence = "A"}',
            "memory.dram.source",
            "required",
        ),
        (f"dram = {{value = 8, {SOURCED}}}", "dram = 8", "memory.dram", "object"),
        (
            f"dram = {{value = 8, {SOURCED}}}",
            'dram = {value = 8, source = "a sheet", confidence = "A"}',
            "memory.dram.source",
            "pattern",
        ),
        (
            'confidence = "B"}\nbandwidth',
            'confidence = "D"}\nbandwidth',
            "memory.dram.confidence",
            "'A', 'B' or 'C'",
        ),
        ("value = 33", "value = 68", "units.0.dtypes.int8", "swapped"),
        ("[units.dtypes.int8]", "[units.dtypes.int7]", "units.0.dtypes.int7", "int8"),
        ('kind = "gpu"', 'kind = "tpu"', "units.0.kind", "'npu'"),
        ('unit = "MiB"', 'unit = "MB"', "traps.cma_ceiling", "a value in MiB"),
        ("value = 950\n", "", "traps.cma_ceiling", "a value in MiB"),
        ("gmac = 17.5", "gmac = 0", "published.0.gmac", "greater than 0"),
        ('dtype = "fp16"', 'dtype = "fp17"', "published.0.dtype", "fp16"),
        ("{value = 53200,", "{value = 0.5,", "fabric.lut", "a whole number"),
        (
            'dsp = {value = 220, source = "sheet"',
            'dsp = {value = 220, source = "sheets"',
            "fabric.dsp.source",
            "pattern",
        ),
        (
            'sheet = "https://example.org/fabric"',
            'sheet = "https://example.org/fabric"\nother = "https://example.org/other"',
            "sources.other",
            "nothing cites it",
        ),
        ('sheet = "https://example.org/fabric"', 'sheet = "a book"', "sources.sheet", "pattern"),
        (
            'name = "VDD_IN"\ncovers = "the whole board"',
            'name = "VDD_IN"\ncovers = "a part"\nsource = "sheet"\nconfidence = "A"\n[[rails]]\n'
            'name = "VDD_IN"\ncovers = "the whole board"',
            "file as a whole",
            "rails: a name",
        ),
        ("{value = 16,", "{value = 16.5,", "matrices.multiple", "a whole number"),
        ("{value = 16,", "{value = 512,", "matrices.multiple", "256 at most"),
        ("{value = 16,", "{value = 0,", "matrices.multiple", "above zero"),
        ('id = "board-8"', 'id = "Board_8"', "id", "pattern"),
        ('id = "board-8"', 'id = "board-9"', "id", "board-9.toml"),
        ('aliases = ["board"]', 'aliases = ["board-8"]', "file as a whole", "repeats the id"),
        ('family = "jetson"', 'family = "jetson"\ncolour = "green"', "colour", "not permitted"),
        ('how = "measured-device"', 'how = "predicted"', "measured.0.how", "measured-host"),
        ("n = 200", "n = 0", "measured.0.n", "greater than or equal to 1"),
        ("date = 2026-01-31", "date = 2026-01-31T10:00:00", "file as a whole", "datetime"),
        ('jetpack = ">=6.1,<8"', 'jetpack = "6.1"', "toolchain.jetpack", "pattern"),
        ('runtime = "tensorrt"', 'runtime = "tensort"', "runtime", "tensorrt"),
        ("[memory]", "[memory", "file as a whole", "line"),
        (
            'runtime = "tensorrt"',
            'runtime = "tensorrt"\nhost = true',
            "file as a whole",
            "memory, units, fabric, matrices, power_modes, rails, published, measured must go",
        ),
    ],
)
def test_a_broken_file_names_file_field_and_cause(old: str, new: str, field: str, why: str):
    assert old in BOARD
    fault = fault_of(BOARD.replace(old, new, 1))
    assert field in fault.what and why in fault.why and fault.fix


def test_every_required_field_is_asked_for_by_name():
    for field in ("id", "name", "family", "runtime"):
        line = next(line for line in BOARD.splitlines() if line.startswith(f"{field} ="))
        assert f"field {field}" in fault_of(BOARD.replace(line, "", 1)).what


def test_every_file_that_ships_is_read_and_names_are_unique():
    shipped = list_devices()
    names = [name for device in shipped for name in (device.id, *device.aliases)]
    assert "host-cpu" in names and len(set(names)) == len(names)


def test_the_host_is_found_by_id_alias_and_any_case_and_claims_nothing():
    for name in ("host-cpu", "cpu", "host", " CPU "):
        device = find_device(name)
        assert (device.id, device.runtime, device.host) == ("host-cpu", "ort", True)
    assert (
        device.matrices.channels is None
        and device.memory.dram is None
        and not device.units
        and not device.measured
    )


def test_an_unknown_target_names_what_is_near():
    with pytest.raises(UsageFault, match="unknown target 'host-cup'") as caught:
        find_device("host-cup")
    assert caught.value.code == "EV301" and caught.value.exit_status == 2
    assert "did you mean host-cpu" in caught.value.why
    assert caught.value.fix == "edgevlm devices list"


def test_at_most_three_names_are_offered_and_none_when_none_is_near(tmp_path, monkeypatch):
    for i in range(1, 6):
        text = BOARD.replace("board-8", f"board-{i}").replace('["board"]', f'["plank-{i}"]')
        (tmp_path / f"board-{i}.toml").write_text(text)
    monkeypatch.setattr(devices, "list_devices", lambda: read_devices(tmp_path))
    with pytest.raises(UsageFault) as caught:
        find_device("board-7")
    assert caught.value.why.count("board-") == 3
    with pytest.raises(UsageFault) as caught:
        find_device("zzz")
    assert "did you mean" not in caught.value.why


def test_a_name_in_two_files_is_refused_with_both(tmp_path):
    (tmp_path / "board-8.toml").write_text(BOARD)
    (tmp_path / "board-9.toml").write_text(BOARD.replace("board-8", "board-9"))
    (tmp_path / "notes.txt").write_text("not a device file")
    with pytest.raises(JobFault) as caught:
        read_devices(tmp_path)
    assert caught.value.code == "EV401" and "board-9.toml, field aliases" in caught.value.what
    assert "board already belongs to board-8.toml" in caught.value.why


def test_a_file_that_is_not_text_is_refused_without_its_path(tmp_path):
    (tmp_path / "board-8.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(JobFault) as caught:
        read_devices(tmp_path)
    assert caught.value.code == "EV401" and "board-8.toml" in caught.value.what
    assert str(tmp_path) not in "".join(caught.value.lines())


def test_importing_devices_loads_no_heavy_package():
    code = (
        "import sys, edgevlm.devices, edgevlm.devices.profiler, edgevlm.commands.doctor\n"
        "import edgevlm.commands.devices\n"
        "print(sorted({'onnx', 'onnxruntime', 'torch', 'numpy'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"

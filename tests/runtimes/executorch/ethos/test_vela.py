"""Vela's tables: two that were recorded (recorded/README.md), and every way to be none of them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.executorch.ethos import vela as module
from edgevlm.runtimes.executorch.ethos.vela import read_layers, read_summary, whole_time_ms

RECORDED = Path(__file__).with_name("recorded")
TARGETS = ("ethos-u85-256", "ethos-u55-128")


def summary_of(target: str):
    return read_summary(RECORDED / f"{target}.summary.csv")


def test_a_summary_of_an_u85():
    found = summary_of("ethos-u85-256")
    assert (found.accelerator, found.system_config, found.memory_mode) == (
        "Ethos_U85_256", "Ethos_U85_SYS_DRAM_Mid", "Sram_Only"
    )  # fmt: skip
    assert (found.clock_hz, found.how) == (1e9, "estimated-vela")
    assert found.ms == pytest.approx(found.cycles["total"] / found.clock_hz * 1e3)
    assert found.memory_bytes["sram"] == 9472 and found.memory_bytes["dram"] == 0


def test_a_summary_of_an_u55_waits_for_its_flash():
    found = summary_of("ethos-u55-128")
    assert (found.accelerator, found.clock_hz) == ("Ethos_U55_128", 5e8)
    assert found.cycles["total"] > found.cycles["npu"] > 0
    assert found.cycles["off_chip_flash_access"] > 0 and found.memory_bytes["off_chip_flash"] > 0
    assert found.ms > 5 * summary_of("ethos-u85-256").ms


@pytest.mark.parametrize("target", TARGETS)
def test_layers_are_in_order_and_add_up(target):
    summary = summary_of(target)
    found = read_layers(RECORDED / f"{target}.layers.csv", summary.clock_hz)
    text = (RECORDED / f"{target}.layers.csv").read_text().splitlines()
    assert [row.name for row in found] == [line.rpartition(",")[2] for line in text[1:]]
    assert sum(row.cycles for row in found) == summary.cycles["total"]
    assert sum(row.macs for row in found) == summary.macs
    assert sum(row.ms for row in found) == pytest.approx(summary.ms)
    assert {"Conv2D", "MatMul", "ReduceMax", "LUT"} <= {row.op for row in found}
    assert {row.how for row in found} == {"estimated-vela"}


def test_the_time_of_several_is_their_sum():
    both = [summary_of(target) for target in TARGETS]
    assert whole_time_ms(both) == both[0].ms + both[1].ms and whole_time_ms([]) == 0


# what is none


def table(target: str = "ethos-u85-256", kind: str = "summary") -> list[list[str]]:
    return list(csv.reader((RECORDED / f"{target}.{kind}.csv").read_text().splitlines()))


def written(path: Path, rows: list[list[str]]) -> Path:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    path.write_text(out.getvalue())
    return path


def refused(path: Path) -> str:
    with pytest.raises(JobFault) as told:
        read_summary(path)
    assert told.value.code == "EV374" and path.name in told.value.what
    assert len("".join(told.value.lines())) < 1000
    return told.value.why


def test_spoilt_but_unspoilt_is_read(tmp_path):
    """The synthetic tables below differ from what is read in the one thing that they say."""
    read = read_summary(written(tmp_path / "s.csv", table()))
    assert read == summary_of("ethos-u85-256")


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("inference_time", "nan", "'nan' is no figure"),
        ("inference_time", "inf", "'inf' is no figure"),
        ("inference_time", "-1", "'-1' is no figure"),
        ("inference_time", "1e300", "'1e300' is no figure"),
        ("inference_time", "", "'' is no figure"),
        ("inference_time", "=cmd()", "'=cmd()' is no figure"),
        ("nn_macs", "1.5", "1.5 is no whole number"),
        ("cycles_total", "9" * 400, "is no figure"),
        ("core_clock", "0", "its clock is 0 Hz"),
        ("sram_memory_used", "٣x", "is no figure"),
    ],
)
def test_synthetic_a_figure_that_is_none_is_named(tmp_path, column, value, why):
    rows = table()
    rows[1][rows[0].index(column)] = value
    told = refused(written(tmp_path / "s.csv", rows))
    assert why in told and (column in told or column == "core_clock")


def test_synthetic_a_column_that_is_missing_is_named(tmp_path):
    rows = table()
    rows[0][rows[0].index("cycles_npu")] = "cycles_gpu"
    assert refused(written(tmp_path / "s.csv", rows)) == "it has no column 'cycles_npu'"


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda rows: rows[:1], "it has 0 rows, and one is expected"),
        (lambda rows: [*rows, rows[1]], "it has 2 rows, and one is expected"),
        (lambda rows: [rows[0], rows[1][:-1]], "line 2 has"),
        (lambda rows: [rows[0], [*rows[1], "x"]], "line 2 has"),
        (lambda rows: [[*rows[0][:-1], rows[0][0]], rows[1]], "two of its columns have one name"),
        (lambda rows: [], "it has 0 rows"),
    ],
)
def test_synthetic_a_table_of_another_form_is_refused(tmp_path, spoil, why):
    assert why in refused(written(tmp_path / "s.csv", spoil(table())))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xff\xfe\x00", "can't decode"),
        (b'a,b\n"open', "unexpected end of data"),
        (b"a\n" + b"x" * 200_000, "field larger than field limit"),
    ],
)
def test_synthetic_bytes_that_are_no_table_are_refused(tmp_path, data, why):
    (tmp_path / "s.csv").write_bytes(data)
    assert why in refused(tmp_path / "s.csv")


def test_synthetic_a_file_without_end_is_not_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES", 1000)
    assert "larger than" in refused(written(tmp_path / "s.csv", table()))
    monkeypatch.undo()
    monkeypatch.setattr(module, "_MOST_ROWS", 20)
    rows = written(tmp_path / "l.csv", table(kind="layers"))
    with pytest.raises(JobFault, match=r"EV374 .*more than 20 rows"):
        read_layers(rows, 1e9)


def test_a_file_that_is_missing_or_a_folder_is_told(tmp_path):
    assert "No such file" in refused(tmp_path / "s.csv")
    (tmp_path / "s.csv").mkdir()
    assert "directory" in refused(tmp_path / "s.csv")


def test_a_long_name_is_cut(tmp_path):
    rows = table(kind="layers")
    rows[1][-1] = "n" * 5000
    found = read_layers(written(tmp_path / "l.csv", rows), 1e9)
    assert len(found[0].name) == 300 and found[1].name == rows[2][-1]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "s.csv"
    path.write_bytes(data)
    for read in (read_summary, lambda p: read_layers(p, 1e9)):
        try:
            read(path)
        except JobFault as fault:
            assert fault.code == "EV374"

"""The folder of a sweep: what is kept, what is refused, and what a stranger may have put there."""

from __future__ import annotations

import csv
import io
import json

import pytest
from filelock import FileLock

from edgevlm.commands.sweep_csv import csv_text
from edgevlm.commands.sweep_grid import read_grid
from edgevlm.commands.sweep_record import Record
from edgevlm.commands.sweep_store import SweepFolder, check_folder
from edgevlm.compiler.errors import JobFault, UsageFault

POINTS = read_grid(["tokens=16,8"])


@pytest.fixture
def filled(tmp_path, cell, record):
    """A folder with the baseline and one of the two cells."""
    folder = tmp_path / "sweep"
    with SweepFolder(folder, record(), POINTS) as opened:
        opened.put(cell("baseline", kept=64))
        opened.put(cell("tokens=16", x=0.5, right=90))
    return folder


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_was_put_is_found_again(filled, cell, record):
    with SweepFolder(filled, record(), POINTS) as again:
        assert again.find(POINTS[0]).size.kept == 64
        assert again.find(POINTS[1]).accuracy.correct == 90 and again.find(POINTS[2]) is None
        again.put(cell("tokens=8", x=0.25))
    data = json.loads((filled / "sweep.json").read_text())
    assert [c["name"] for c in data["cells"]] == ["baseline", "tokens=16", "tokens=8"]
    assert [c["x_ms"] for c in data["cells"]] == [2.0, 1.0, 0.5] and data["baseline_ms"] == 2.0
    assert [c["on_front"] for c in data["cells"]] == [False, False, True]
    assert names(filled) == {"sweep.json", "sweep.csv", ".lock"}


def test_a_failed_cell_is_tried_again_and_a_refused_one_is_not(filled, cell, record):
    refused = cell("tokens=8", fault="EV203")
    for status, expected in (("refused", True), ("failed", False)):
        with SweepFolder(filled, record(), POINTS) as opened:
            opened.put(refused.model_copy(update={"status": status}))
        with SweepFolder(filled, record(), POINTS) as opened:
            assert (opened.find(POINTS[2]) is not None) == expected
            assert opened.find(POINTS[2], failed=True).status == status


def test_cells_of_another_grid_are_kept_behind(filled, cell, record):
    with SweepFolder(filled, record(), read_grid(["tokens=4,8"])) as opened:
        opened.put(cell("tokens=4"))
    cells = json.loads((filled / "sweep.json").read_text())["cells"]
    assert [c["name"] for c in cells] == ["baseline", "tokens=4", "tokens=16"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"n": 11}, "n 10 (now 11)"),
        ({"limit": 5, "questions": "sha256:2"}, "made with limit none (now 5)"),
        ({"questions": "sha256:2"}, "other questions"),
        ({"source": "sha256:2"}, "another state of the model"),
        ({"edgevlm": "9.9"}, "edgevlm 0.1.0 (now 9.9)"),
        ({"cpu_model": "another"}, "cpu_model a machine (now another)"),
        ({"baseline": None}, "baseline none (now none)"),
    ],
)
def test_other_settings_are_refused_and_nothing_is_touched(filled, record, settings, said):
    if settings == {"baseline": None}:
        settings, said = {"baseline": {"quant": "w8"}}, "baseline none (now {'quant': 'w8'})"
    before = (filled / "sweep.json").read_bytes()
    with pytest.raises(UsageFault) as caught, SweepFolder(filled, record(**settings), POINTS):
        pass
    assert caught.value.code == "EV312" and said in caught.value.why
    assert "sha256" not in caught.value.why and (filled / "sweep.json").read_bytes() == before


def test_force_starts_anew_and_leaves_what_is_not_ours(filled, cell, record):
    (filled / "notes.txt").write_text("mine")
    (filled / "cells" / "old.edgevlm").mkdir(parents=True)
    with SweepFolder(filled, record(n=11), POINTS, force=True) as opened:
        assert opened.find(POINTS[0]) is None
        opened.put(cell("baseline"))
    assert names(filled) == {"sweep.json", "sweep.csv", ".lock", "notes.txt"}


def test_a_sweep_that_never_got_to_a_cell_leaves_nothing(tmp_path, record):
    with pytest.raises(RuntimeError), SweepFolder(tmp_path / "new", record(), POINTS) as opened:
        opened.place(POINTS[0]).mkdir()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_two_at_once(filled, record):
    with FileLock(filled / ".lock"), pytest.raises(JobFault) as caught:
        SweepFolder(filled, record(), POINTS).__enter__()
    assert caught.value.code == "EV313"
    with SweepFolder(filled, record(), POINTS):
        pass  # the lock is free again


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Invalid JSON"),
        ("[]", "should be an object"),
        ('{"schema": 2}', "Input should be 1"),
        ("[" * 100_000, "Invalid JSON"),
        ('{"schema": 1}', "Field required"),
        ("\udc80", "Invalid JSON"),
    ],
)
def test_a_broken_record_is_refused_and_can_be_forced(filled, record, text, said):
    (filled / "sweep.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageFault) as caught, SweepFolder(filled, record(), POINTS):
        pass
    assert caught.value.code == "EV312" and said in caught.value.why
    with SweepFolder(filled, record(), POINTS, force=True) as opened:
        assert opened.record.cells == ()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d["cells"][0].update(status="great"),
        lambda d: d["cells"][0].update(options={"tokens": 16}),
        lambda d: d["cells"][0]["timing"].update(ttft_ms=-1.0),
        lambda d: d["cells"][0]["accuracy"].update(accuracy=7.0),
        lambda d: d["cells"][0].update(name="x" * 10_001),
        lambda d: d["cells"][0].update(more=1),
        lambda d: d["settings"].update(cores="2"),
        lambda d: d.update(cells={"a": 1}),
    ],
)
def test_every_field_of_a_record_is_checked(filled, record, spoil):
    data = json.loads((filled / "sweep.json").read_text())
    spoil(data)
    (filled / "sweep.json").write_text(json.dumps(data))
    with pytest.raises(UsageFault, match="EV312"), SweepFolder(filled, record(), POINTS):
        pass


def test_a_record_that_is_too_big_is_not_read(filled, record, monkeypatch):
    monkeypatch.setattr("edgevlm.commands.sweep_store.MAX_JSON_BYTES", 100)
    with pytest.raises(UsageFault, match="too big"), SweepFolder(filled, record(), POINTS):
        pass


def test_other_places_are_not_taken(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.tex").write_text("x")
    for place, code in (("file", "EV312"), ("theirs", "EV312"), ("no/such", "EV310")):
        with pytest.raises(UsageFault, match=code):
            check_folder(tmp_path / place)
    (tmp_path / "empty").mkdir()
    check_folder(tmp_path / "empty")
    check_folder(tmp_path / "new")


def test_leftovers_go_and_links_lead_nowhere(filled, cell, record, tmp_path):
    """What a killed sweep left is removed; a link that a stranger laid is never followed."""
    theirs = tmp_path / "theirs"
    (theirs / "x.edgevlm").mkdir(parents=True)
    (theirs / "note").write_text("mine")
    cells = filled / "cells"
    for name in (".tokens-8.edgevlm.draft-1-ab", "tokens-8.edgevlm", f"{POINTS[0].slug}.edgevlm"):
        (cells / name).mkdir(parents=True)
    (cells / "link.edgevlm").symlink_to(theirs)
    (filled / ".sweep.json.part").symlink_to(theirs / "note")
    with SweepFolder(filled, record(), POINTS) as opened:
        assert names(cells) == {f"{POINTS[0].slug}.edgevlm", "link.edgevlm"}
        opened.drop(POINTS[0])
        assert names(cells) == {"link.edgevlm"}
        opened.put(cell("tokens=8"))
    assert (theirs / "note").read_text() == "mine" and (theirs / "x.edgevlm").is_dir()
    assert not (filled / ".sweep.json.part").exists()


def test_a_folder_of_cells_that_is_a_link_is_not_cleaned(filled, record, tmp_path):
    theirs = tmp_path / "theirs"
    (theirs / "precious.edgevlm").mkdir(parents=True)
    (filled / "cells").symlink_to(theirs)
    with SweepFolder(filled, record(), POINTS):
        pass
    with SweepFolder(filled, record(n=11), POINTS, force=True):
        pass
    assert (theirs / "precious.edgevlm").is_dir()


def test_a_kept_bundle_stays(filled, cell, record):
    with SweepFolder(filled, record(), POINTS) as opened:
        path = opened.place(POINTS[2])
        path.mkdir()
        opened.put(cell("tokens=8").model_copy(update={"bundle": f"cells/{path.name}"}))
    with SweepFolder(filled, record(), POINTS):
        assert path.is_dir()


def test_the_table_says_what_the_record_says(cell):
    cells = [
        cell("baseline", kept=64),
        cell('prune=zip:a=1,b="2" tokens=25%', x=0.5, right=90),
        cell("prune=dart tokens=99", fault="EV203"),
    ]
    rows = list(csv.DictReader(io.StringIO(csv_text(cells))))
    assert [r["cell"] for r in rows] == [c.name for c in cells]
    assert [r["prune"] for r in rows] == ["", 'zip:a=1,b="2"', "dart"]
    assert [r["tokens"] for r in rows] == ["", "25%", "99"]
    assert [r["kept"] for r in rows] == ["64", "16", ""]
    assert [float(r["accuracy"] or "nan") for r in rows[:2]] == [1.0, 0.9]
    assert float(rows[1]["ratio"]) == 0.5 and float(rows[1]["vision_ms"]) == 0.5
    assert [r["code"] for r in rows] == ["", "", "EV203"] and rows[2]["ratio"] == ""
    assert csv_text(()) == ""


def test_without_a_baseline_the_plain_time_is_the_place(cell, record):
    alone = cell("tokens=8", x=3.0)
    timing = alone.timing.model_copy(update={"ratio": None, "baseline_ms": None})
    placed = record(alone.model_copy(update={"timing": timing}))
    assert placed.cells[0].x_ms == 6.0 and placed.baseline_ms is None
    assert placed.cells[0].on_front


def test_a_record_comes_back_as_it_was(cell, record):
    before = record(cell("baseline"), cell("tokens=8", x=0.7), cell("tokens=99", fault="EV203"))
    assert Record.model_validate_json(json.dumps(before.as_json())) == before

"""An exported model on disk: it comes back whole, and a broken one says what is wrong with it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from edgevlm.compiler.errors import EdgeError, JobFault
from edgevlm.compiler.exported_model import load_model, save_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory, micro_model):
    folder = tmp_path_factory.mktemp("saved")
    save_model(micro_model, folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def code(folder):
    with pytest.raises(JobFault) as caught:
        load_model(folder)
    return caught.value.code


def edit(folder, change):
    path = folder / "model.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    return folder


def test_it_comes_back_whole(saved, micro_model):
    loaded = load_model(saved)
    assert loaded.contract == micro_model.contract and loaded.source == micro_model.source
    assert loaded.processor == micro_model.processor and loaded.tokenizer == micro_model.tokenizer
    assert len(loaded.probes) == len(micro_model.probes)
    for a, b in zip(loaded.probes, micro_model.probes, strict=True):
        assert (a.question, a.answer) == (b.question, b.answer)
        assert a.image.dtype == np.uint8 and np.array_equal(a.image, b.image)
    for role, part in micro_model.parts.items():
        protos = [
            ir.to_proto(p).SerializeToString(deterministic=True) for p in (part, loaded.parts[role])
        ]
        assert protos[0] == protos[1]


def test_the_bundled_model_survives_another_round(tiny_model, tmp_path):
    save_model(tiny_model, tmp_path)
    again = load_model(tmp_path)
    assert [p.answer for p in again.probes] == [p.answer for p in tiny_model.probes]
    for role, part in tiny_model.parts.items():
        for name, value in part.graph.initializers.items():
            other = again.parts[role].graph.initializers[name].const_value
            assert other.tobytes() == value.const_value.tobytes()


def test_two_saves_are_equal_in_every_file(micro_model, saved, tmp_path):
    save_model(micro_model, tmp_path)
    a, b = (
        {str(p.relative_to(f)): hashlib.sha256(p.read_bytes()).hexdigest() for p in f.rglob("*.*")}
        for f in (saved, tmp_path)
    )
    assert a == b and len(a) == 5 + 3 + len(micro_model.probes)


def test_a_model_without_probes(micro_model, tmp_path):
    from dataclasses import replace

    save_model(replace(micro_model, probes=()), tmp_path)
    assert load_model(tmp_path).probes == ()


def test_a_folder_without_model_json_is_no_model(tmp_path):
    assert code(tmp_path) == "EV100"
    assert code(tmp_path / "none") == "EV100"
    os.mkfifo(tmp_path / "model.json")
    assert code(tmp_path) == "EV100"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("vision.onnx", "EV101"), ("decode.onnx", "EV101"), ("tokenizer.json", "EV102"),
     ("probes/001.png", "EV102")],
)  # fmt: skip
def test_a_missing_file(copy, name, expected):
    (copy / name).unlink()
    assert code(copy) == expected
    os.mkfifo(copy / name)  # there, and yet it would never be read to its end
    assert code(copy) == expected


@pytest.mark.parametrize("schema", [0, 2, "1", None, True, 1.0, [1]])
def test_another_schema(copy, schema):
    assert code(edit(copy, lambda r: r.update(schema=schema))) == "EV105"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", "null", '"schema"', "{}", '{"schema": 1}', "\0", "[" * 100_000,
     '{"a":' * 50_000, '{"schema": NaN, "schema": 1' + "9" * 5000 + "}"],
    ids=lambda t: t[:12],
)  # fmt: skip
def test_broken_json(copy, text):
    (copy / "model.json").write_text(text)
    assert code(copy) in ("EV102", "EV105")


def test_json_that_is_not_utf8(copy):
    (copy / "model.json").write_bytes(b'{"schema": "\xff\xfe"}')
    assert code(copy) == "EV102"


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.pop("contract"),
        lambda r: r.pop("processor"),
        lambda r: r.pop("source"),
        lambda r: r.update(contract=[]),
        lambda r: r["contract"].update(layers="1"),
        lambda r: r["contract"].update(kept_image_tokens=10),
        lambda r: r["contract"].update(more=1),
        lambda r: r["contract"].update(layers=float("nan")),
        lambda r: r["processor"].update(eos_ids="all"),
        lambda r: r["processor"].update(image_token=""),
        lambda r: r["source"].update(digest="md5:0"),
        lambda r: r.update(probes=5),
        lambda r: r.update(probes=None),
        lambda r: r.update(probes="abc"),
        lambda r: r.update(probes=[{"question": "x"}]),
        lambda r: r["probes"][0].update(question=5),
        lambda r: r["probes"][0].update(image=None),
        lambda r: r["probes"][0].update(answer=["yes"]),
    ],
)
def test_a_record_that_describes_no_model(copy, change):
    assert code(edit(copy, change)) == "EV102"


@pytest.mark.parametrize(
    "name", ["../000.png", "/etc/passwd", "..", ".", "", "a/../000.png", "nul\0.png", "a" * 300]
)
def test_a_probe_outside_the_model(copy, name):
    shutil.copy(copy / "probes/000.png", copy / "000.png")
    assert code(edit(copy, lambda r: r["probes"][0].update(image=name))) == "EV102"


def test_a_probe_that_is_a_link(copy):
    shutil.move(copy / "probes/000.png", copy.parent / "elsewhere.png")
    (copy / "probes/000.png").symlink_to(copy.parent / "elsewhere.png")
    assert code(copy) == "EV102"


def bomb(side):
    """Some kilobytes that claim a picture of side x side; Pillow stops at 179 million pixels."""
    out = io.BytesIO()
    Image.new("L", (side, side)).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", bomb(9_000), bomb(20_000)], ids=len
)
def test_a_probe_that_is_no_picture(copy, data):
    (copy / "probes/000.png").write_bytes(data)
    assert code(copy) == "EV102"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_damaged_pictures_and_records_never_crash(saved, data):
    folder = saved.with_name("damaged")
    if not folder.exists():
        shutil.copytree(saved, folder)
    name = data.draw(st.sampled_from(["probes/000.png", "model.json"]))
    content = bytearray((saved / name).read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    (folder / name).write_bytes(content[: cut if data.draw(st.booleans()) else None])
    try:
        load_model(folder)
    except EdgeError as error:
        assert error.code in ("EV102", "EV105", "EV101", "EV106")
    finally:
        shutil.copy(saved / name, folder / name)

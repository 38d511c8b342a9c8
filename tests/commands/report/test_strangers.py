"""A report on what comes from strangers: profiles, changed files, text and pictures of a bundle."""

from __future__ import annotations

import base64
import hashlib
import json
import os

import pytest
from micro.page import elements, visible
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from edgevlm.compiler.bundle import open_bundle

EVIL = "<script>alert(1)</script>\u202e"


def profile_of(edgevlm, own, tmp_path, **changes):
    said = edgevlm("profile", own, "-n", "2", "--warmup", "0", "--json", "--quiet").json
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({k: v for k, v in (said | changes).items() if v is not None}))
    return path


def test_a_profile_from_elsewhere(edgevlm, made, own, tmp_path, monkeypatch):
    device = {"id": "jetson", "name": "A Jetson", "reached": "ssh"}
    path = profile_of(edgevlm, own, tmp_path, device=device)
    monkeypatch.setenv("EDGEVLM_CACHE", str(tmp_path / "other"))
    page, said = made(own, "--profile", path)
    assert said["bundles"][0]["profiles"] == 1 and "A Jetson" in visible(page)


def test_a_profile_of_another_bundle_is_refused(edgevlm, own, tmp_path):
    path = profile_of(edgevlm, own, tmp_path, digest="sha256:" + "0" * 64)
    ended = edgevlm("report", own, "--profile", path, "-o", tmp_path / "p.html")
    assert (ended.status, ended.code) == (2, "EV412") and "belongs to none" in ended.err


def test_a_profile_without_a_digest_goes_by_its_name(edgevlm, made, own, tmp_path):
    path = profile_of(edgevlm, own, tmp_path, digest=None, bundle="/far/away/own.edgevlm")
    page, _ = made(own, "--profile", path)
    assert b"far/away" not in page
    path = profile_of(edgevlm, own, tmp_path, digest=None, bundle="/far/away/other.edgevlm")
    ended = edgevlm("report", own, "--profile", path, "-o", tmp_path / "p.html")
    assert (ended.status, ended.code) == (2, "EV412")


@pytest.mark.parametrize(
    "spoilt",
    [b"", b"[]", b"{", b"[" * 100_000, b"\xff\xfe", b'{"stages": {}}', b'{"fps": NaN}',
     b'{"stages": {"vision": {"p50_ms": 1e999, "how": "measured-host"}}}',
     b'{"stages": {"vision": {"p50_ms": 1, "how": "<b>"}}}'],
)  # fmt: skip
def test_a_spoilt_profile_is_told_in_three_lines(edgevlm, own, tmp_path, spoilt):
    path = tmp_path / "spoilt.json"
    path.write_bytes(spoilt)
    ended = edgevlm("report", own, "--profile", path, "-o", tmp_path / "p.html")
    assert (ended.status, ended.code) == (1, "EV412") and not (tmp_path / "p.html").exists()


def test_a_pipe_and_nothing_for_a_profile(edgevlm, own, tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("pipe.json", "none.json", "own.edgevlm"):
        ended = edgevlm("report", own, "--profile", tmp_path / name, "-o", tmp_path / "p.html")
        assert (ended.status, ended.code) == (1, "EV412")


def test_a_changed_file_is_the_first_thing_on_the_page(made, own):
    path = own / "ort" / "decode.onnx"
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    page, said = made(own)
    first = said["bundles"][0]["warnings"][0]
    assert first["level"] == "problem" and "ort/decode.onnx: changed" in first["text"]
    text = visible(page)
    assert text.index("ort/decode.onnx: changed") < text.index("compiled for")


def test_probes_that_are_answered_otherwise_are_told_and_not_hidden(made, own, resign):
    def lie(manifest):
        manifest["goldens"][0] |= {"token_ids": [1, 1, 1], "answer": "never"}

    resign(own, lie)
    page, said = made(own, "--measure")
    assert said["bundles"][0]["warnings"][0]["level"] == "problem"
    assert "goldens differently here" in visible(page)


def test_a_strangers_text_is_text(made, own, resign):
    record = json.loads((own / "record.json").read_text())
    record["passes"][0] |= {"name": EVIL, "changed": True, "options": {EVIL: EVIL}}
    record["notes"] = [EVIL]
    (own / "record.json").write_text(json.dumps(record))

    def spoil(manifest):
        manifest["goldens"][0]["question"] = EVIL
        manifest["source"]["name"] = EVIL
        manifest["verified"][EVIL] = EVIL
        manifest["target"]["device"] = EVIL

    resign(own, spoil)
    page, _ = made(own)
    assert not [e for e in elements(page) if e.tag == "script"]
    assert visible(page).count("<script>alert(1)</script>\\u202e") > 5


@pytest.fixture
def fit(own):
    """What a forger does to a manifest whose first picture was changed."""

    def edit(manifest):
        data = (own / "goldens" / "000.png").read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        manifest["files"]["goldens/000.png"] = {"bytes": len(data), "sha256": digest}

    return edit


@pytest.mark.parametrize("kind", ["svg", "text", "truncated"])
def test_only_pixels_of_a_strangers_picture_reach_the_page(made, own, resign, fit, kind):
    picture = own / "goldens" / "000.png"
    whole = picture.read_bytes()
    spoilt = {
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        "text": b"not a picture",
        "truncated": whole[:-20],
    }[kind]
    picture.write_bytes(spoilt)

    resign(own, fit)
    page, _ = made(own)
    assert b"onload" not in page and b"svg+xml" not in page
    assert "EV112" in visible(page) if kind == "truncated" else "EV114" in visible(page)
    images = [e for e in elements(page) if e.tag == "img"]
    assert len(images) == len(open_bundle(own).manifest.goldens) - 1


def test_pictures_are_small_and_carry_no_bytes_of_the_file(made, own, resign, fit):
    picture = own / "goldens" / "000.png"
    extra = PngInfo()
    extra.add_text("comment", "a secret of the photographer")
    Image.new("RGB", (2000, 1000), "red").save(picture, pnginfo=extra)

    resign(own, fit)
    page, _ = made(own)
    first = next(e for e in elements(page) if e.tag == "img")
    data = base64.b64decode(first.attrs["src"].partition(",")[2])
    assert (first.attrs["width"], first.attrs["height"]) == ("176", "88")
    assert b"secret" not in data and len(data) < 5000


@pytest.mark.parametrize(
    "broken", [{"passes": 3}, {"parts": [{"role": 1}]}, {"payoff": {"n": -1, "how": "x"}}]
)
def test_a_record_that_is_none_is_told(edgevlm, own, tmp_path, broken):
    record = json.loads((own / "record.json").read_text())
    (own / "record.json").write_text(json.dumps(record | broken))
    ended = edgevlm("report", own, "-o", tmp_path / "p.html")
    assert (ended.status, ended.code) == (1, "EV322")


def test_a_bundle_without_its_record_still_has_a_page(made, own):
    (own / "record.json").unlink()
    text = visible(made(own)[0])
    assert "record of the compile is missing" in text and "fold-constants" in text

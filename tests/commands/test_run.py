"""`edgevlm run`: one picture of any kind, one question, one answer."""

from __future__ import annotations

import io
import json
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

QUESTION = "what color is the shape?"  # of the picture; its answer is "teal"


@pytest.fixture(scope="module")
def ask(edgevlm, bundle):
    def call(image: object, *args: object, prompt: str = QUESTION):
        return edgevlm("run", bundle, "--image", image, "--prompt", prompt, *args)

    return call


def test_the_answer_streams_to_stdout_and_figures_to_stderr(ask, picture):
    ended = ask(picture)
    assert (ended.status, ended.out) == (0, "teal\n")
    assert "1 token, " in ended.err and "16 of 64 image tokens" in ended.err
    assert ask(picture, "--quiet").err == ""


def test_streamed_and_json_answers_are_the_same(ask, edgevlm, bundle):
    """Of every golden, and as the manifest has it."""
    for golden in goldens_of(bundle):
        image = bundle / golden["image"]
        streamed = ask(image, "--quiet", prompt=golden["question"])
        report = ask(image, "--json", prompt=golden["question"]).json
        assert streamed.out == f"{report['answer']}\n" == f"{golden['answer']}\n"
        assert report["token_ids"] == golden["token_ids"]
        assert report["tokens"] == len(report["token_ids"])


def goldens_of(bundle):
    return json.loads((bundle / "manifest.json").read_text())["goldens"]


def test_pieces_come_one_by_one(bundle, picture, monkeypatch):
    """Written and flushed as they are decoded, not in one go at the end."""
    from edgevlm.commands.run import run_bundle

    pieces = []
    report = run_bundle(bundle, picture, QUESTION, on_text=pieces.append)
    assert "".join(pieces) == report["answer"] == "teal" and all(pieces)


def test_the_stages_add_up(ask, picture):
    stages = ask(picture, "--json").json["stages"]
    assert list(stages) == ["preprocess", "vision", "connector", "prefill", "decode", "end_to_end"]
    assert all(ms > 0 for ms in stages.values())
    total = stages.pop("end_to_end")
    assert 0.3 * total < sum(stages.values()) <= total * 1.001


def test_max_new_stops_early(ask, picture):
    report = ask(picture, "--json", "--max-new", "1").json
    assert report["tokens"] == 1 and "decode" not in report["stages"]


def image_bytes(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def over_white(image: Image.Image) -> Image.Image:
    """The picture with its background made transparent and laid over nothing."""
    rgba = np.array(image.convert("RGBA"))
    background = rgba[0, 0, :3]
    rgba[(rgba[..., :3] == background).all(-1), 3] = 0
    return Image.fromarray(rgba)


KINDS = {
    "png": lambda image: image_bytes(image, "PNG"),
    "jpeg": lambda image: image_bytes(image, "JPEG", quality=95),
    "jpeg, progressive, CMYK": lambda image: image_bytes(
        image.convert("CMYK"), "JPEG", quality=95, progressive=True
    ),
    "webp": lambda image: image_bytes(image, "WEBP", quality=95),
    "webp, lossless": lambda image: image_bytes(image, "WEBP", lossless=True),
    "bmp": lambda image: image_bytes(image, "BMP"),
    "gif": lambda image: image_bytes(image, "GIF"),
    "tiff": lambda image: image_bytes(image, "TIFF"),
    "palette": lambda image: image_bytes(image.convert("P"), "PNG"),
    "RGBA": lambda image: image_bytes(image.convert("RGBA"), "PNG"),
    "RGBA, see-through": lambda image: image_bytes(over_white(image), "PNG"),
    "large": lambda image: image_bytes(image.resize((1024, 1024), Image.NEAREST), "PNG"),
    "1 pixel more": lambda image: image_bytes(image.resize((65, 64)), "PNG"),
    "EXIF, turned": lambda image: image_bytes(
        image.transpose(Image.ROTATE_90), "JPEG", quality=95, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01"
        b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_gives_the_same_answer(ask, picture, tmp_path, kind):
    path = tmp_path / "picture with no suffix"
    path.write_bytes(KINDS[kind](Image.open(picture).convert("RGB")))
    ended = ask(path)
    assert (ended.status, ended.out) == (0, "teal\n"), ended.err


@pytest.mark.parametrize("mode", ["L", "LA", "1", "I;16"])
def test_grey_pictures_are_answered_like_their_rgb_twin(ask, picture, tmp_path, mode):
    """A grey picture has another colour, so its answer is compared with that of its RGB copy."""
    grey = Image.open(picture).convert("L")
    twin = grey.point(lambda v: 255 * (v > 127)) if mode == "1" else grey
    if mode == "I;16":
        odd = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
        assert odd.mode == "I;16"
    else:
        odd = twin.convert(mode)
    odd.save(tmp_path / "odd.png")
    twin.convert("RGB").save(tmp_path / "rgb.png")
    got, want = ask(tmp_path / "odd.png", "--json"), ask(tmp_path / "rgb.png", "--json")
    assert got.status == 0 and got.json["token_ids"] == want.json["token_ids"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "EV110"),
        (b"", "EV111"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "EV112"),
        ("truncated", "EV112"),
        (b"this is a text", "EV114"),
        (b"<svg></svg>", "EV114"),
    ],
)
def test_a_bad_picture_is_told(ask, picture, tmp_path, content, code):
    path = tmp_path / "cat.png"
    if content is not None:
        path.write_bytes(picture.read_bytes()[:-30] if content == "truncated" else content)
    ended = ask(path)
    assert (ended.status, ended.code, ended.out) == (1, code, "") and "cat.png" in ended.err
    ended = ask(path, "--json", "--quiet")
    assert ended.json["error"]["code"] == code and len(ended.err.splitlines()) == 3


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        ("", "EV121"),
        (" \n", "EV121"),
        ("is it red? " * 40, "EV120"),
        ("x" * 70_000, "EV120"),
        ("what is <image>?", "EV122"),
        ("bad \udcff byte", "EV123"),
    ],
)
def test_a_bad_question_is_told_before_anything_runs(ask, picture, prompt, code):
    ended = ask(picture, prompt=prompt)
    assert (ended.status, ended.code, ended.out) == (2, code, "")
    assert max(map(len, ended.err.splitlines())) < 400


def test_the_longest_question_that_fits_is_answered(ask, picture):
    """Right up to the capacity, and one word more is refused."""
    fits = next(n for n in range(15, 100) if ask(picture, prompt="is " * (n + 1)).status)
    assert 15 < fits < 32
    report = ask(picture, "--json", prompt="is " * fits).json
    assert 0 <= report["tokens"] <= 8
    assert ask(picture, prompt="is " * (fits + 1)).code == "EV120"


@pytest.mark.parametrize("place", ["nowhere", "file", "folder"])
def test_what_is_no_bundle_is_told(edgevlm, picture, tmp_path, place):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for verb in (("run", "--image", picture, "--prompt", "x"), ("profile",), ("verify",),
                 ("eval", "--dataset", "easy-scenes", "--limit", "1")):  # fmt: skip
        ended = edgevlm(verb[0], tmp_path / place, *verb[1:])
        assert (ended.status, ended.code) == (1, "EV320"), verb
        assert "edgevlm compile easyvqa-tiny" in ended.err
        why = "no such folder" if place == "nowhere" else "no manifest.json"
        assert why in ended.err


def test_a_name_too_long_for_any_disk_is_no_bundle(edgevlm, picture):
    """Such as a prompt given where the bundle belongs."""
    for name in ("x" * 300, "x" * 5000, "x/" * 3000):
        ended = edgevlm("run", name, "--image", picture, "--prompt", "x")
        assert (ended.status, ended.code) == (1, "EV320") and len(ended.err) < 600
        assert edgevlm("inspect", name).code == "EV100"


def test_a_bundle_opens_from_anywhere(process, ask, bundle, picture, tmp_path):
    """By a relative path, through a link, with an odd name, from a folder that is read-only."""
    odd = tmp_path / "дом 'x'"
    odd.symlink_to(bundle.parent)
    for cwd, name in ((odd, "b.edgevlm"), (bundle, "."), ("/", str(odd / "b.edgevlm"))):
        ended = process(
            "run", name, "--image", picture, "--prompt", QUESTION, "--quiet", cwd=str(cwd)
        )
        assert (ended.status, ended.out, ended.err) == (0, "teal\n", "")


def test_asking_writes_nothing(ask, bundle, picture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in bundle.rglob("*")}
    assert ask(picture).status == 0
    assert {p: p.stat().st_mtime_ns for p in bundle.rglob("*")} == before
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_on_a_read_only_disk_works(edgevlm, mount, bundle, picture):
    disk = mount("size=4m")
    shutil.copytree(bundle, disk / "b.edgevlm")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    asked = ("--image", picture, "--prompt", QUESTION)
    assert edgevlm("run", disk / "b.edgevlm", *asked).out == "teal\n"
    assert edgevlm("verify", disk / "b.edgevlm").status == 0
    assert edgevlm("profile", disk / "b.edgevlm", "-n", "1", "--ops").status == 0

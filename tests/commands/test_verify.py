"""`edgevlm verify`: every byte of every file, and the answers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

#: every file of a compiled easyvqa-tiny, so that each is a test of its own
FILES = (
    "SHA256SUMS", "manifest.json", "record.json", "recipe.toml", "processor/tokenizer.json",
    *(f"goldens/{i:03d}.png" for i in range(12)),
    *(f"ort/{part}.onnx" for part in ("vision", "connector", "embed", "prefill", "decode")),
    "ort/weights.bin",
)  # fmt: skip


@pytest.fixture
def verify(edgevlm, own_bundle):
    """`verify()` the copy, without answering: what the bytes say."""

    def call(*args: object):
        return edgevlm("verify", own_bundle, "--no-run", *args)

    return call


def spoil(path: Path, place: float) -> None:
    """Flip one bit of one byte, at a share of the file."""
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 0x10
    path.write_bytes(data)


def blamed(ended) -> str:
    """The reason of an EV330, which must be the only thing that is told."""
    assert (ended.status, ended.code, ended.out) == (1, "EV330", "")
    return ended.err.splitlines()[-2].removeprefix("  why:  ")


def test_the_list_above_is_the_bundle(bundle):
    found = {str(p.relative_to(bundle)) for p in bundle.rglob("*") if p.is_file()}
    assert found == set(FILES)


def test_a_whole_bundle_passes(edgevlm, bundle):
    ended = edgevlm("verify", bundle, "--json")
    assert ended.status == 0
    assert ended.json["ok"] is True and ended.json["files"] == len(FILES)
    assert ended.json["goldens"] == {"agree": 12, "of": 12}
    assert f"{len(FILES)} files unchanged, 12 of 12 golden answers" in ended.err
    assert edgevlm("verify", bundle, "--no-run", "--json").json["goldens"] is None


@pytest.mark.parametrize("name", FILES[1:])
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_one_flipped_bit_is_found_and_its_file_named(verify, own_bundle, name, place):
    spoil(own_bundle / name, place)
    assert blamed(verify()) == f"{name}: changed (sha256 differs)"


@pytest.mark.parametrize(
    ("place", "why"),
    [(0.0, "(sha256 differs)"), (0.02, "(sha256 differs)"), (1.0, "record.json\\x1a: missing")],
)
def test_a_flipped_bit_in_the_list_of_checksums_is_found(verify, own_bundle, place, why):
    """In a checksum or in a line break: some file no longer fits its line."""
    spoil(own_bundle / "SHA256SUMS", place)
    assert why in blamed(verify())


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(verify, own_bundle, name):
    (own_bundle / name).unlink()
    assert blamed(verify()).startswith(f"{name}: missing")


@pytest.mark.parametrize("name", ["extra.txt", "ort/other.onnx", "goldens/012.png", "new/deep/x"])
def test_an_extra_file_is_named(verify, own_bundle, name):
    (own_bundle / name).parent.mkdir(parents=True, exist_ok=True)
    (own_bundle / name).touch()
    assert blamed(verify()) == f"{name}: not part of the bundle"


def test_a_renamed_file_is_named_twice(verify, own_bundle):
    (own_bundle / "ort" / "embed.onnx").rename(own_bundle / "ort" / "embed2.onnx")
    assert blamed(verify()) == "ort/embed.onnx: missing; ort/embed2.onnx: not part of the bundle"


def test_swapped_files_are_both_named(verify, own_bundle):
    a, b = own_bundle / "ort" / "prefill.onnx", own_bundle / "ort" / "decode.onnx"
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    assert "ort/decode.onnx: changed" in blamed(verify())
    assert "ort/prefill.onnx: changed" in blamed(verify())


@pytest.mark.parametrize("name", FILES)
def test_a_link_in_the_place_of_a_file_is_named(verify, own_bundle, name):
    """Even one to the same bytes: what it points to may change behind our back."""
    outside = own_bundle.with_name("outside")
    (own_bundle / name).rename(outside)
    (own_bundle / name).symlink_to(outside)
    reason = blamed(verify())
    assert reason.startswith(f"{name}: ") and "link" in reason


def test_a_folder_that_is_a_link_is_named(verify, own_bundle):
    (own_bundle / "ort").rename(own_bundle.with_name("ort"))
    (own_bundle / "ort").symlink_to(own_bundle.with_name("ort"))
    assert "ort/connector.onnx: missing" in blamed(verify())


def test_a_pipe_in_the_place_of_a_file_does_not_hang(verify, own_bundle, edgevlm):
    (own_bundle / "recipe.toml").unlink()
    os.mkfifo(own_bundle / "recipe.toml")
    assert blamed(verify()) == "recipe.toml: is not a regular file"
    assert edgevlm("inspect", own_bundle).code == "EV330"


def test_many_problems_are_counted(verify, own_bundle):
    for name in FILES[5:17]:
        (own_bundle / name).unlink()
    assert blamed(verify()).endswith(" and 9 more")


@pytest.mark.parametrize("name", ["ort/weights.bin", "ort/decode.onnx", "goldens/003.png"])
def test_a_truncated_file_is_three_lines_whatever_is_asked(edgevlm, own_bundle, picture, name):
    os.truncate(own_bundle / name, 100)
    for verb in (("run", "--image", picture, "--prompt", "x"), ("inspect",), ("profile", "-n", "1"),
                 ("eval", "--dataset", "easy-scenes", "--limit", "1")):  # fmt: skip
        ended = edgevlm(verb[0], own_bundle, *verb[1:])
        assert (ended.status, ended.code, ended.out) == (1, "EV330", "")
        assert len(ended.err.splitlines()) == 3
        assert f"{name}: has 100 bytes, " in ended.err


def test_truncated_weights_do_not_let_onnx_runtime_speak(process, own_bundle, picture):
    """In a process of its own: it would print its stack past sys.stderr."""
    os.truncate(own_bundle / "ort" / "weights.bin", 100)
    ended = process("run", own_bundle, "--image", picture, "--prompt", "is it red?")
    assert (ended.status, ended.code, ended.out) == (1, "EV330", "")
    assert len(ended.err.splitlines()) == 3 and "onnxruntime" not in ended.err


def test_answers_that_differ_are_told(verify, edgevlm, own_bundle, resign):
    """All checksums fit, and yet another answer is promised than is given."""

    def edit(manifest: dict) -> None:
        manifest["goldens"][3]["token_ids"] = [7]
        manifest["goldens"][3]["answer"] = "green"

    resign(own_bundle, edit)
    assert verify().status == 0
    ended = edgevlm("verify", own_bundle)
    assert (ended.status, ended.code) == (1, "EV331")
    assert "1 of 12 goldens" in ended.err and "'teal', not 'green'" in ended.err


def test_an_answer_that_goes_on_is_not_the_golden_one(edgevlm, own_bundle, resign):
    def edit(manifest: dict) -> None:
        manifest["goldens"][0]["token_ids"] = []

    resign(own_bundle, edit)
    assert edgevlm("verify", own_bundle).code == "EV331"


def test_an_edited_manifest_with_new_checksums_is_found(verify, own_bundle, resign):
    def edit(manifest: dict) -> None:
        manifest["files"]["ort/decode.onnx"]["sha256"] = "0" * 64

    resign(own_bundle, edit)
    assert blamed(verify()) == "ort/decode.onnx: manifest.json and SHA256SUMS disagree"


def test_an_edited_file_with_new_checksums_is_found(verify, own_bundle, resign):
    """SHA256SUMS was made again over it, but the manifest remembers."""
    spoil(own_bundle / "ort" / "weights.bin", 0.5)
    resign(own_bundle)
    assert blamed(verify()) == "ort/weights.bin: manifest.json and SHA256SUMS disagree"


def test_an_extra_file_with_new_checksums_is_found(verify, own_bundle, resign):
    (own_bundle / "ort" / "custom_op.so").write_bytes(b"\x7fELF")
    resign(own_bundle)
    assert blamed(verify()) == "ort/custom_op.so: manifest.json and SHA256SUMS disagree"


@pytest.mark.parametrize("line", ["nonsense", "0" * 64 + "  ", "0" * 64 + "  ../../etc/passwd"])
def test_odd_lines_in_the_list_of_checksums(verify, own_bundle, line):
    with (own_bundle / "SHA256SUMS").open("a") as file:
        file.write(line + "\n")
    reason = blamed(verify())
    wanted = "SHA256SUMS: line" if "passwd" not in line else "../../etc/passwd: missing"
    assert wanted in reason


def test_json_of_a_failure(edgevlm, own_bundle):
    spoil(own_bundle / "recipe.toml", 0.5)
    ended = edgevlm("verify", own_bundle, "--json", "--quiet")
    assert ended.status == 1 and json.loads(ended.out)["error"]["code"] == "EV330"

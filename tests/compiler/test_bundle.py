"""Opening and checking bundles: small ones, made by hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edgevlm.compiler.bundle import (
    MANIFEST,
    SUMS,
    Bundle,
    check_bundle,
    digest,
    file_entries,
    open_bundle,
    read_manifest,
    write_sums,
)
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.manifest import TOKENIZER, Artifact, Golden, Manifest, Target

FILES = {TOKENIZER: b"{}", "goldens/000.png": b"png", "ort/all.onnx": b"onnx", "x.y/a-b_c": b""}


@pytest.fixture
def bundle(tmp_path, micro_model) -> Path:
    """A bundle whose five artifacts are one file of four bytes."""
    folder = tmp_path / "b.edgevlm"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    roles = micro_model.contract.roles
    manifest = Manifest(
        schema=1, edgevlm="0", source=micro_model.source,
        target=Target(device="d", runtime="ort", toolchain={}), contract=micro_model.contract,
        processor=micro_model.processor, passes=(),
        artifacts=tuple(Artifact(role=role, file="ort/all.onnx") for role in roles),
        engine="not needed", verified={}, not_verified={},
        goldens=(Golden(image="goldens/000.png", question="q", answer="a", token_ids=(1,)),),
        files=file_entries(folder),
    )  # fmt: skip
    (folder / MANIFEST).write_text(manifest.model_dump_json(by_alias=True))
    write_sums(folder)
    return folder


def test_a_bundle_opens_and_passes(bundle):
    opened = open_bundle(bundle)
    assert opened.bytes == sum(map(len, FILES.values())) and check_bundle(bundle) == []
    assert opened.digest == f"sha256:{digest(bundle / MANIFEST)}" and opened.record() == {}
    assert opened == Bundle(bundle, read_manifest(bundle))


def test_entries_are_sorted_relative_and_recursive(bundle):
    names = list(file_entries(bundle))
    assert names == sorted(names) and set(FILES) < set(names) and SUMS in names
    assert file_entries(bundle)["x.y/a-b_c"].sha256.startswith("e3b0c44298fc1c14")  # of nothing


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_size_does_not_open(bundle, name):
    with (bundle / name).open("ab") as file:
        file.write(b"more")
    with pytest.raises(JobFault, match="EV330") as caught:
        open_bundle(bundle)
    assert f"{name}: has {len(FILES[name]) + 4} bytes, {len(FILES[name])}" in caught.value.why


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_does_not_open(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(JobFault, match=f"EV330.*{name}: missing"):
        open_bundle(bundle)


def test_a_link_does_not_open_even_to_the_right_bytes(bundle, tmp_path):
    (bundle / "ort" / "all.onnx").rename(tmp_path / "all.onnx")
    (bundle / "ort" / "all.onnx").symlink_to(tmp_path / "all.onnx")
    with pytest.raises(JobFault, match=r"EV330.*ort/all\.onnx: is not a regular file"):
        open_bundle(bundle)
    (bundle / "ort" / "all.onnx").unlink()
    (bundle / "ort").rmdir()
    (tmp_path / "ort").mkdir()
    (tmp_path / "all.onnx").rename(tmp_path / "ort" / "all.onnx")
    (bundle / "ort").symlink_to(tmp_path / "ort")
    with pytest.raises(JobFault, match=r"EV330.*ort/all\.onnx: is not a regular file"):
        open_bundle(bundle)


def test_a_pipe_does_not_open(bundle):
    (bundle / "ort" / "all.onnx").unlink()
    os.mkfifo(bundle / "ort" / "all.onnx")
    with pytest.raises(JobFault, match="EV330"):
        open_bundle(bundle)
    assert check_bundle(bundle) == ["ort/all.onnx: is not a regular file"]


def test_a_bundle_reached_through_a_link_opens(bundle, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(bundle)
    assert open_bundle(tmp_path / "link").bytes == open_bundle(bundle).bytes
    monkeypatch.chdir(bundle)
    assert open_bundle(Path()).bytes == open_bundle(bundle).bytes and check_bundle(Path()) == []


def test_a_file_that_was_swapped_for_one_of_its_size_opens_and_is_found(bundle):
    """Opening looks at sizes only: reading 2 GB to answer one question would be no service."""
    (bundle / "ort" / "all.onnx").write_bytes(b"evil")
    assert open_bundle(bundle)
    assert check_bundle(bundle) == ["ort/all.onnx: changed (sha256 differs)"]


def test_every_problem_is_listed_once(bundle):
    (bundle / TOKENIZER).unlink()
    (bundle / "ort" / "all.onnx").write_bytes(b"evil")
    (bundle / "new").touch()
    assert check_bundle(bundle) == [
        "ort/all.onnx: changed (sha256 differs)",
        f"{TOKENIZER}: missing",
        "new: not part of the bundle",
    ]


def test_a_checksum_twice_or_without_a_name_is_a_problem(bundle):
    sums = (bundle / SUMS).read_text()
    (bundle / SUMS).write_text(sums + sums.splitlines()[0] + "\n" + "0" * 64 + "\n")
    assert (
        check_bundle(bundle)
        == [
            f"{SUMS}: line 6 is not a checksum of one more file",
            f"{SUMS}: line 7 is not a checksum of one more file",
            ": missing",
            f": {MANIFEST} and {SUMS} disagree",
        ][: len(check_bundle(bundle))]
    )


@pytest.mark.parametrize("odd", ["missing", "link", "folder", "large"])
def test_a_list_of_checksums_that_is_none(bundle, odd, monkeypatch):
    if odd == "large":
        monkeypatch.setattr("edgevlm.compiler.bundle.MAX_JSON_BYTES", 10)
    else:
        (bundle / SUMS).rename(bundle.parent / "moved")
    if odd == "link":
        (bundle / SUMS).symlink_to(bundle.parent / "moved")
    elif odd == "folder":
        (bundle / SUMS).mkdir()
    assert check_bundle(bundle) == [f"{SUMS}: missing, a link or too large"]


def test_a_manifest_that_its_checksum_vouches_for_must_still_be_one(bundle):
    (bundle / MANIFEST).write_text("{}")
    (bundle / SUMS).unlink()
    write_sums(bundle)
    with pytest.raises(JobFault, match=r"EV322 manifest\.json of b\.edgevlm is broken"):
        check_bundle(bundle)


def test_a_manifest_lists_whatever_is_used(bundle):
    data = json.loads((bundle / MANIFEST).read_text())
    for name in (TOKENIZER, "goldens/000.png", "ort/all.onnx"):
        without = {**data, "files": {k: v for k, v in data["files"].items() if k != name}}
        (bundle / MANIFEST).write_text(json.dumps(without))
        with pytest.raises(JobFault, match=f"EV322.*uses {name}"):
            open_bundle(bundle)
    (bundle / MANIFEST).write_text(json.dumps({**data, "artifacts": data["artifacts"][:-1]}))
    with pytest.raises(JobFault, match=r"EV322.*has artifacts for"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", ["nowhere", "x" * 300, "x/" * 4000, "file/below"])
def test_a_place_without_a_bundle(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(JobFault, match="EV320") as caught:
        open_bundle(tmp_path / name)
    assert caught.value.why == "there is no such folder" and len(caught.value.what) < 250


def test_a_record_is_an_object_or_is_told(bundle):
    (bundle / "record.json").write_text('{"a": 1}')
    assert open_bundle(bundle).record() == {"a": 1}
    for text in ("[]", "{", "1", "[" * 10**5, "\0"):
        (bundle / "record.json").write_text(text)
        with pytest.raises(JobFault, match=r"EV322 record\.json of b\.edgevlm"):
            open_bundle(bundle).record()

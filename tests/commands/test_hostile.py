"""A bundle from a stranger: whatever its JSON says is told in three lines, and not run."""

from __future__ import annotations

import pytest

from edgevlm.compiler.bundle import write_sums

OPENING = (("verify",), ("run",), ("profile", "-n", "1"), ("eval",))  # all that open sessions


def put(value: object, *path: str | int):
    """An edit that puts `value` at a place of the manifest."""

    def edit(manifest: dict) -> None:
        place = manifest
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return edit


def drop(*path: str | int):
    def edit(manifest: dict) -> None:
        place = manifest
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return edit


EDITS = {
    "artifact outside": put("../../etc/passwd", "artifacts", 0, "file"),
    "artifact hidden outside": put("ort/../../x.onnx", "artifacts", 0, "file"),
    "artifact absolute": put("/etc/passwd", "artifacts", 0, "file"),
    "artifact with a line break": put("ort/vision.onnx\n", "artifacts", 0, "file"),
    "artifact with a NUL": put("ort/vision\0.onnx", "artifacts", 0, "file"),
    "artifact that is not listed": put("ort/other.onnx", "artifacts", 0, "file"),
    "artifact of no known role": put("shell", "artifacts", 0, "role"),
    "artifact missing": drop("artifacts", 0),
    "artifacts: none": put([], "artifacts"),
    "golden outside": put("../secret.png", "goldens", 0, "image"),
    "golden not listed": put("goldens/999.png", "goldens", 0, "image"),
    "file listed outside": put({"bytes": 1, "sha256": "0" * 64}, "files", "../x"),
    "file of negative size": put(-1, "files", "recipe.toml", "bytes"),
    "digest of another form": put("md5", "files", "recipe.toml", "sha256"),
    "tokenizer not listed": drop("files", "processor/tokenizer.json"),
    "unknown key": put("rm -rf /", "run_this"),
    "missing key": drop("contract"),
    "contract: text for a number": put("64", "contract", "image_height"),
    "contract: zero": put(0, "contract", "layers"),
    "contract: astronomic": put(10**30, "contract", "kv_capacity"),
    "contract: caches of a type there is not": put("INT4", "contract", "kv_dtype"),
    "contract: caches of a number": put(8, "contract", "kv_dtype"),
    "contract: more kept than there are": put(65, "contract", "kept_image_tokens"),
    "schema: text": put("1", "schema"),
    "schema: zero": put(0, "schema"),
    "schema: null": put(None, "schema"),
    "schema: 1.5": put(1.5, "schema"),
    "goldens: an object": put({}, "goldens"),
    "token ids: text": put(["a"], "goldens", 0, "token_ids"),
    "source: no digest": put("none", "source", "digest"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_manifest_out_of_the_schema(refused, resign, own_bundle, edit):
    resign(own_bundle, edit)
    assert "manifest.json of own.edgevlm is broken" in refused("EV322")


SETTINGS = {
    "text": {"threads": "4; rm -rf /"},
    "digits as text": {"threads": "4"},
    "negative": {"threads": -1},
    "a billion": {"threads": 10**9},
    "a fraction": {"threads": 1.5},
    "true": {"threads": True},
    "null": {"threads": None},
    "a list": {"threads": [[1]]},
    "unknown": {"custom_op_library": "/tmp/evil.so"},
    "a dunder": {"__class__": "x"},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_settings_of_odd_kinds(refused, resign, own_bundle, settings):
    resign(own_bundle, put(settings, "artifacts", 0, "settings"))
    err = refused("EV322", OPENING)
    assert "settings of artifact vision.onnx are broken" in err


TEXTS = {
    "nothing": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "a number": b"1",
    "nested 100 000 deep": b'{"schema": 1, "files": ' + b'{"a":' * 100_000,
    "nested and closed": b'{"schema": 1, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a number of 10 000 digits": b'{"schema": ' + b"9" * 10_000 + b"}",
    "17 MiB": b'{"schema": 1, "x": "' + b"a" * (17 * 2**20) + b'"}',
    "UTF-16": '{"schema": 1}'.encode("utf-16"),
    "bytes": bytes(range(256)),
    "not a number": b'{"schema": NaN}',
    "infinite": b'{"schema": 1e999}',
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_manifest_that_is_no_manifest(refused, resign, own_bundle, text):
    (own_bundle / "manifest.json").write_bytes(text)
    (own_bundle / "SHA256SUMS").unlink()
    write_sums(own_bundle)
    assert "manifest.json of own.edgevlm is broken" in refused("EV322")


@pytest.mark.parametrize("schema", [2, 99, 2**70])
def test_a_newer_schema_is_told_as_such(refused, resign, own_bundle, schema):
    resign(own_bundle, put(schema, "schema"))
    assert "pip install --upgrade edgevlm" in refused("EV321")


@pytest.mark.parametrize(
    "text", [b"[]", b"{", b'{"parts": 1}', b'{"parts": [1, {}]}', b"[" * 10**5]
)
def test_a_record_of_any_kind_does_no_harm(edgevlm, own_bundle, text):
    (own_bundle / "record.json").write_bytes(text)
    ended = edgevlm("inspect", own_bundle, "--json")
    if text.startswith(b'{"'):
        assert ended.status == 0 and {p["drift"] for p in ended.json["parts"]} == {None}
    else:
        assert (ended.status, ended.code) == (1, "EV322") and "record.json" in ended.err


def test_an_unknown_runtime_is_refused_before_anything_is_opened(edgevlm, own_bundle, resign):
    resign(own_bundle, put("tvm", "target", "runtime"))
    ended = edgevlm("verify", own_bundle)
    assert (ended.status, ended.code) == (2, "EV302") and "this edgevlm lowers to " in ended.err

"""What differs on paper: everything that does, nothing that does not, and no trust in a record."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgevlm.commands.compare_changes import (
    goldens_changed,
    passes_changed,
    settings_changed,
    sizes,
)
from edgevlm.compiler.bundle import Bundle, open_bundle
from edgevlm.compiler.manifest import PassEntry

steps = st.lists(
    st.builds(
        PassEntry,
        name=st.sampled_from(["keep", "fold", "round"]),
        effect=st.just("exact"),
        options=st.fixed_dictionaries({"k": st.integers(0, 2)}),
        changed=st.booleans(),
    ),
    max_size=6,
)
shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def pair(micro_bundle, micro_other) -> tuple[Bundle, Bundle]:
    return open_bundle(micro_bundle), open_bundle(micro_other)


def edited(bundle: Bundle, **fields: object) -> Bundle:
    return replace(bundle, manifest=bundle.manifest.model_copy(update=fields))


def turned(rows: list[dict]) -> list[dict]:
    return [{**row, "a": row["b"], "b": row["a"]} for row in rows]


def by_name(rows: list[dict]) -> list[dict]:
    return sorted(rows, key=lambda row: row["what"])


def test_a_bundle_differs_from_itself_in_nothing(pair):
    for bundle in pair:
        assert settings_changed(bundle, bundle) == []
        assert passes_changed(bundle, bundle) == {"added": [], "removed": [], "changed": []}
        assert goldens_changed(bundle, bundle)["otherwise"] == []
        told = sizes(bundle, bundle)
        assert told["bytes"]["a"] == told["bytes"]["b"] == bundle.bytes


def test_the_sides_may_be_turned(pair):
    a, b = pair
    assert by_name(settings_changed(b, a)) == by_name(turned(settings_changed(a, b)))
    there, back = passes_changed(a, b), passes_changed(b, a)
    assert (there["added"], there["removed"]) == (back["removed"], back["added"])


def test_every_setting_that_differs_has_a_row_and_no_other(pair):
    a, _ = pair
    target = a.manifest.target.model_copy(update={"toolchain": {"onnx": "0.1", "new": "7"}})
    source = a.manifest.source.model_copy(update={"digest": f"sha256:{'7' * 64}"})
    contract = a.manifest.contract.model_copy(update={"kv_dtype": "INT8"})
    other = edited(a, target=target, source=source, contract=contract)
    rows = {row["what"]: (row["a"], row["b"]) for row in settings_changed(a, other)}
    gone = set(a.manifest.target.toolchain) - {"onnx"}
    assert set(rows) == {
        "source.digest",
        "contract.kv_dtype",
        "target.toolchain.onnx",
        "target.toolchain.new",
        *(f"target.toolchain.{name}" for name in gone),
    }
    assert rows["contract.kv_dtype"] == ("FLOAT", "INT8")
    assert rows["target.toolchain.new"] == (None, "7")


def test_settings_of_artifacts_are_compared_within_one_runtime(pair):
    a, _ = pair
    first, *rest = a.manifest.artifacts
    artifacts = (first.model_copy(update={"settings": {"threads": 64}}), *rest)
    same = edited(a, artifacts=artifacts)
    names = [row["what"] for row in settings_changed(a, same)]
    assert f"artifacts.{first.role}.threads" in names
    elsewhere = a.manifest.target.model_copy(update={"runtime": "tensorrt"})
    other = edited(a, artifacts=artifacts, target=elsewhere)
    assert [row["what"] for row in settings_changed(a, other)] == ["target.runtime"]


def test_passes_are_told_by_name_with_the_options_of_the_recipe(pair):
    found = passes_changed(*pair)
    assert found["removed"] == found["changed"] == []
    added = {row["name"]: row for row in found["added"]}
    whole = {p.name: p for p in pair[1].manifest.passes}["quantize-weights"]
    told = added["quantize-weights"]
    assert told["did_something"] == whole.changed
    assert len(told["options"]) < len(whole.options)  # the recipe leaves defaults out


@shared
@given(old=steps, new=steps)
def test_what_was_added_and_removed_makes_one_list_of_the_other(micro_bundle, old, new):
    bundle = open_bundle(micro_bundle)
    a, b = (edited(bundle, passes=tuple(passes)) for passes in (old, new))
    found = passes_changed(a, b)
    count = Counter(p.name for p in old)
    count.subtract(row["name"] for row in found["removed"])
    count.update(row["name"] for row in found["added"])
    assert +count == Counter(p.name for p in new)
    assert all(row["a"] != row["b"] and row["option"] == "k" for row in found["changed"])
    if old == new:
        assert not any(found.values())


def test_a_golden_that_is_promised_otherwise_is_named(pair):
    a, _ = pair
    first, *rest = a.manifest.goldens
    spoilt = first.model_copy(update={"answer": "something else"})
    found = goldens_changed(a, edited(a, goldens=(spoilt, *rest)))
    assert found["shared"] == len({(g.image, g.question) for g in a.manifest.goldens})
    (row,) = found["otherwise"]
    assert (row["a"], row["b"]) == (first.answer, "something else")
    assert (row["image"], row["question"]) == (first.image, first.question)


def test_goldens_of_other_pictures_are_not_shared(pair):
    a, _ = pair
    files = {
        name: entry.model_copy(update={"sha256": "0" * 64}) if "goldens" in name else entry
        for name, entry in a.manifest.files.items()
    }
    assert goldens_changed(a, edited(a, files=files)) == {"shared": 0, "otherwise": []}


def test_classes_are_compared_by_name(shade_bundle):
    a = open_bundle(shade_bundle)
    names = a.manifest.processor.class_names
    turned_names = tuple(name.lower().replace(" ", "-") for name in reversed(names))
    moved = a.manifest.processor.model_copy(update={"class_names": turned_names})
    last = len(names) - 1
    goldens = tuple(
        g.model_copy(update={"answer": str(last - int(g.answer))}) for g in a.manifest.goldens
    )
    assert goldens_changed(a, edited(a, processor=moved, goldens=goldens))["otherwise"] == []
    assert goldens_changed(a, edited(a, processor=moved))["otherwise"]


@pytest.mark.parametrize(
    "parts",
    [None, 7, [7], [{}], [{"role": "vision", "bytes": -1, "macs": 1}], [{"role": ["x"]}],
     [{"role": "vision", "bytes": "1e9", "macs": 1, "drift": 3}]],
)  # fmt: skip
def test_a_record_that_tells_no_sizes_leaves_them_null(micro_bundle, tmp_path, parts):
    folder = shutil.copytree(micro_bundle, tmp_path / "b.edgevlm")
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps({**record, "parts": parts}))
    told = sizes(open_bundle(micro_bundle), open_bundle(folder))
    assert {of["b"] for part in told["parts"].values() for of in part.values()} == {None}
    assert all(part["macs"]["a"] is not None for part in told["parts"].values())

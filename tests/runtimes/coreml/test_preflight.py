"""The preflight of Core ML: the lint as a table, predicted everywhere it is shown or kept."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest

from edgevlm.devices import find_device
from edgevlm.runtimes import find_runtime

pytest.importorskip("coremltools", reason="packages are made by: pip install 'edgevlm[coreml]'")

from edgevlm.runtimes.coreml.mlpackage import open_mlpackage


@pytest.fixture(scope="module")
def lowered(make_micro, tmp_path_factory):
    model, folder = make_micro(layers=1, width=32, heads=2), tmp_path_factory.mktemp("package")
    runtime = find_runtime("coreml").aimed_at(find_device("iphone-16-pro"), "18")
    artifacts = runtime.lower(model, folder)
    return SimpleNamespace(
        folder=folder,
        artifacts=artifacts,
        package=folder / artifacts[0].file.removesuffix("/Manifest.json"),
        found=runtime.preflight(folder, artifacts),
        runtime=runtime,
    )


def ops_of(package, role):
    """Types of ops of a function, counted in the protobuf itself."""
    (block,) = open_mlpackage(package).spec.mlProgram.functions[role].block_specializations.values()
    return Counter(
        op.type for op in block.operations
        if op.type != "const" and not op.type.startswith("constexpr_")
    )  # fmt: skip


def test_a_row_a_part_that_says_it_is_predicted(lowered):
    table, parts = lowered.found.table, lowered.found.more["parts"]
    assert [row[0] for row in table.rows] == [a.role for a in lowered.artifacts]
    assert all(len(row) == len(table.headings) and row[1] == "predicted" for row in table.rows)
    assert "predicted" in lowered.found.label and lowered.found.predicted
    for part, row in zip(parts, table.rows, strict=True):
        counted = ops_of(lowered.package, part["role"])
        assert part["ops"] == sum(counted.values()) == int(row[2])
        assert part["ops"] - part["leaving"] == int(row[3])
        assert sum(part["left"].values()) == part["leaving"]
        assert all(n <= counted[kind] for kind, n in part["left"].items())
    assert any(part["leaving"] for part in parts)


def test_every_kind_that_leaves_has_a_reason_and_who_says_so(lowered):
    kinds = {kind for part in lowered.found.more["parts"] for kind in part["left"]}
    told = [line.split(": ", 2) for line in lowered.found.odd]
    assert all(start == "predicted" and "https://" in rest for start, _, rest in told)
    assert {kind for _, names, _ in told for kind in names.split(", ")} == kinds


def test_rules_are_those_of_the_chip(lowered, make_micro):
    """Cosines and sines of rotary positions: none before A15, and float32 on any of them."""
    older = find_runtime("coreml").aimed_at(find_device("iphone-15"), "18")
    any_chip = find_runtime("coreml").aimed_at(find_device("mac-m4"), "18")
    assert (lowered.runtime.chip, older.chip, any_chip.chip) == (18, 16, None)
    told = any_chip.preflight(lowered.folder, lowered.artifacts)
    assert "any chip" in told.label and "A18" in lowered.found.label
    assert not any("none before A15" in line for line in lowered.found.odd)
    assert any("none before A15" in line for line in told.odd)


def test_it_names_the_call_that_asks_a_mac(lowered):
    """A module that is there, with the package as the bundle has it."""
    import importlib

    call = lowered.found.note.rsplit(": ", 1)[1].split()
    assert call[:2] == ["python3", "-m"] and (lowered.folder / call[3]).is_dir()
    assert callable(importlib.import_module(call[2]).main) and call[4] == "CPU_AND_NE"

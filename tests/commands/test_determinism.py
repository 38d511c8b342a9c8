"""The same inputs give the same bytes: in another process, place, hash seed and time."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

COMPILE = ("compile", "easyvqa-tiny", "--target", "cpu", "--tokens", "16",
           "--prune", "dart", "--quant", "w8", "--payoff", "none")  # fmt: skip
#: differ from run to run, and say so in docs/bundle.md
VARYING = {"record.json", "SHA256SUMS"}


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def fixed(folder: Path) -> dict[str, str]:
    return {name: value for name, value in digests(folder).items() if name not in VARYING}


def test_the_fixed_files_are_nearly_all(bundle):
    assert set(digests(bundle)) - set(fixed(bundle)) == VARYING and len(fixed(bundle)) > 15


@pytest.mark.parametrize("seed", ["0", "12345"])
def test_another_process_name_and_hash_seed_give_the_same_bytes(process, bundle, tmp_path, seed):
    out = tmp_path / f"another name {seed}"
    done = process(*COMPILE, "-o", out, "--json", "--quiet", env={"PYTHONHASHSEED": seed})
    assert done.status == 0 and fixed(out) == fixed(bundle)
    manifest = hashlib.sha256((out / "manifest.json").read_bytes()).hexdigest()
    assert done.json["digest"] == f"sha256:{manifest}"


def test_the_digest_is_told_alike_by_all_verbs(edgevlm, tmp_path, micro_folder):
    out = tmp_path / "b.edgevlm"
    made = edgevlm("compile", micro_folder, "--target", "cpu", "-o", out, "--json").json
    assert made["digest"].startswith("sha256:") and len(made["digest"]) == 71
    assert edgevlm("verify", out, "--json").json["digest"] == made["digest"]
    assert edgevlm("inspect", out, "--json").json["digest"] == made["digest"]


def test_the_recipe_in_a_bundle_makes_it_again(edgevlm, bundle, tmp_path):
    out = tmp_path / "again.edgevlm"
    recipe = bundle / "recipe.toml"
    done = edgevlm("compile", "easyvqa-tiny", "--target", "cpu", "--recipe", recipe, "-o", out)
    assert done.status == 0 and fixed(out) == fixed(bundle)


def test_all_names_of_a_target_are_one(edgevlm, micro_folder, micro_bundle, tmp_path):
    for name in ("host-cpu", "HOST"):
        out = tmp_path / name
        assert edgevlm("compile", micro_folder, "--target", name, "-o", out).status == 0
        assert fixed(out) == fixed(micro_bundle)


def test_the_place_of_the_source_does_not_matter(edgevlm, micro_folder, micro_bundle, tmp_path):
    moved = tmp_path / "moved" / "elsewhere"
    shutil.copytree(micro_folder, moved)
    out = tmp_path / "b.edgevlm"
    assert edgevlm("compile", moved, "--target", "cpu", "-o", out).status == 0
    assert fixed(out) == fixed(micro_bundle)


def test_other_inputs_give_another_digest(edgevlm, micro_folder, micro_bundle, tmp_path):
    seen = {(micro_bundle / "manifest.json").read_bytes()}
    changes = (
        ("--tokens", "4"),
        ("--tokens", "3"),
        ("--tokens", "3", "--prune", "stride"),
        ("--tokens", "3", "--prune", "random"),
        ("--tokens", "3", "--prune", "random:seed=1"),
        ("--tokens", "3", "--prune-at", "llm:0"),
        ("--tokens", "3", "--positions", "renumber"),
        ("--tokens", "3", "--positions", "run-end-pad"),
    )
    for i, change in enumerate(changes):
        out = tmp_path / str(i)
        call = ("compile", micro_folder, "--target", "cpu", "--payoff", "none", *change, "-o", out)
        assert edgevlm(*call).status == 0
        seen.add((out / "manifest.json").read_bytes())
    assert len(seen) == 1 + len(changes)


def test_nothing_that_ships_names_a_place_or_a_person(bundle):
    """record.json is published with the bundle, so it must not tell where it was made."""
    for path in bundle.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for secret in (str(bundle.parent), str(Path.cwd()), str(Path.home()) + "/"):
                assert secret.encode() not in content, (path.name, secret)
    assert "bundle" not in json.loads((bundle / "record.json").read_text())


def test_sha256sum_agrees(shell, bundle):
    ended = shell(f"cd '{bundle}' && sha256sum --strict --check SHA256SUMS")
    assert ended.status == 0 and ended.err == ""
    assert ended.out.count(": OK") == len(digests(bundle)) - 1

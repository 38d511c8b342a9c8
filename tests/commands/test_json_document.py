"""docs/json.md against what `--json` prints: every field, its type, and none that is not there."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import edgevlm as package
from edgevlm.commands.kept import keep
from edgevlm.compiler.bundle import open_bundle
from edgevlm.compiler.workshop.home import Environment, environment_of
from edgevlm.compiler.workshop.tools import find_tool

TEXT = (Path(package.__file__).parent / "docs" / "json.md").read_text()
ROW = re.compile(r"\| `([^`]+)` \| ([a-z ]+)(, optional)? \| .*\|")
TYPES = {
    "int": lambda v: type(v) is int,
    "number": lambda v: type(v) in (int, float),
    "string": lambda v: type(v) is str,
    "bool": lambda v: type(v) is bool,
    "list": lambda v: type(v) is list,
    "object": lambda v: type(v) is dict,
    "null": lambda v: v is None,
}


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


#: section -> calls whose JSON it describes; B is a bundle, C one of a classifier, F its data set,
#: O and E others to compare these with; P a picture; V a classifier to narrow and L pictures for
#: it, T a VLM to narrow and D its domain;
#: N a ViT, G pictures of its classes, Y class sets of it of which one fails
CALLS = {
    "error": [("passes", "show", "x")],
    "compile": [
        words("compile easyvqa-tiny --target cpu --tokens 16 --payoff full --force -o OUT"),
        words("compile easyvqa-tiny --target cpu --quant w8 --max-drop 9 --force -o OUT"),
        words("compile easyvqa-tiny --target cpu --force -o OUT"),
        words(
            "compile V --target cpu --classes cat,bee --latency-budget 9s --calib L --force -o OUT"
        ),
        words("compile V --target cpu --classes cat,bee --alpha 0.1 --calib L --force -o OUT"),
        words("compile T --target cpu --domain D --alpha 0.1 --force -o OUT"),
    ],
    "run": [
        ("run", "B", "--image", "P", "--prompt", "what color is the shape?"),
        ("run", "B", "--image", "P", "--prompt", "is it red?", "--max-new", "1"),
    ],
    "eval": [
        ("eval", "B", "--dataset", "easy-scenes", "--limit", "30"),
        words("eval C --dataset fashion-mnist --data F --limit 30"),
        words("eval C --dataset fashion-mnist --data F --classes bag,coat --limit 30"),
    ],
    "profile": [("profile", "B", "-n", "2", "--ops"), ("profile", "B", "-n", "1")],
    "profile of a device that is not at hand": [
        ("profile", "B", "--device", "jetson", "--ops"),
        ("profile", "B", "--device", "pixel-9"),
    ],
    "report": [
        ("report", "C", "-o", "PAGE"),
        ("report", "B", "--measure", "-o", "PAGE", "--force"),
    ],
    "sweep": [
        words(
            "sweep easyvqa-tiny --target cpu --over tokens=16,99 --dataset easy-scenes "
            "--limit 10 -n 2 --keep-bundles -o OUT"
        )
    ],
    "compare": [
        words("compare B O -n 26 --dataset easy-scenes --limit 60 --max-slower 9% --max-drop 0"),
        words("compare C E -n 1 --warmup 0 --dataset fashion-mnist --data F --limit 30"),
        words("compare B O -n 2 --warmup 0"),
    ],
    "derive": [
        words("derive N --class-sets Y --targets cpu --calib G -o OUT --jobs 1"),
        words("derive N --class-sets Y --targets cpu --calib G -o OUT --jobs 1"),
        words("derive N --class-sets Y --targets cpu --calib G -o OUT --jobs 1 --force"),
    ],
    "inspect": [
        ("inspect", "B", "--axes"),
        ("inspect", "B", "--quant"),
        ("inspect", "B"),
        ("inspect", "easyvqa-tiny"),
    ],
    "verify": [("verify", "B"), ("verify", "B", "--no-run")],
    "passes": [("passes",), ("passes", "list")],
    "passes show": [("passes", "show", "keep-tokens"), ("passes", "show", "drop-dead")],
    "passes show METHOD": [("passes", "show", name) for name in ("dart", "resize", "coin")],
    "devices": [("devices",), ("devices", "list")],
    "devices show": [("devices", "show", "cpu"), ("devices", "show", "fpga")],
    "doctor": [("doctor",)],
    "doctor --install": [("doctor", "--install", "coreai")],
}

SETS = """
[[set]]
name = "a"
classes = ["ant", "bee"]
alpha = 0.5
[[set]]
name = "b"
classes = ["bee", "cat"]
alpha = 0.99
"""


#: what `compare` finds of earlier calls
EVALUATED = {
    "dataset": "easy-vqa", "split": "test", "n": 50, "metric": "exact match",
    "overall": {"n": 50, "correct": 40}, "how": "measured-host",
}  # fmt: skip
PROFILED = {"n": 9, "fps": 3.0, "host": {"cpu_model": "a board", "architecture": "aarch64"}}


def as_if_made(place: Environment) -> None:
    """A synthetic stamp: the call then finds its environment. A real one: test_doctor_install.py"""
    place.python.parent.mkdir(parents=True)
    place.python.symlink_to(sys.executable)
    told = {"python": "3.11.7", "packages": {"torch": "2.13.0"}, "bytes": 10}
    place.stamp.write_text(json.dumps(told))


def sections() -> dict[str, dict[str, tuple[set[str], bool]]]:
    """section -> field -> (types, whether it may be absent)."""
    found: dict[str, dict[str, tuple[set[str], bool]]] = {}
    for part in TEXT.split("\n## ")[1:]:
        title, _, body = part.partition("\n")
        rows = [line for line in body.splitlines() if line.startswith("| `")]
        fields = found[title] = {}
        for line in rows:
            row = ROW.fullmatch(line)
            assert row, f"not a row of field, type, meaning: {line}"
            fields[row[1]] = (set(row[2].split(" or ")), bool(row[3]))
    return found


DOCUMENTED = sections()


def leaves(value: Any, fields: set[str], at: str = "") -> Iterator[tuple[str, Any]]:
    """(documented name, value) of all there is; an undocumented name comes as it is."""
    if at in fields:
        yield at, value
        if not any(name.startswith((f"{at}.", f"{at}[]")) for name in fields):
            return
    elif not isinstance(value, dict | list) or value in ({}, []):
        yield at, value
    if isinstance(value, dict):
        for key, item in value.items():
            inner = f"{at}.{key}" if at else key
            known = [f for f in fields if f == inner or f.startswith((f"{inner}.", f"{inner}["))]
            varying = next((f for f in fields if re.match(rf"{re.escape(at)}\.<\w+>", f)), None)
            if not known and varying:
                inner = re.match(rf"{re.escape(at)}\.<\w+>", varying)[0]
            yield from leaves(item, fields, inner)
    elif isinstance(value, list) and any(f.startswith(f"{at}[]") for f in fields):
        for item in value:
            yield from leaves(item, fields, f"{at}[]")


def test_every_verb_has_a_section():
    from edgevlm.cli import cli

    assert set(DOCUMENTED) == set(CALLS) and set(cli.commands) <= set(CALLS)


@pytest.mark.parametrize("section", CALLS)
def test_the_document_says_what_is_printed(
    edgevlm, bundle, shade_bundle, shade_data, picture, tmp_path, section, vit_folder,
    labelled_folder, tower_folder, domain_folder, vit, pictures, other_bundle, few_bundle,
    monkeypatch,
):  # fmt: skip
    fields = DOCUMENTED[section]
    seen: dict[str, int] = dict.fromkeys(fields, 0)
    stand_ins = {"B": bundle, "P": picture, "OUT": tmp_path / "b.edgevlm"}
    stand_ins |= {"PAGE": tmp_path / "page.html"}
    stand_ins |= {"C": shade_bundle, "F": shade_data}
    stand_ins |= {"V": vit_folder, "L": labelled_folder, "T": tower_folder, "D": domain_folder}
    stand_ins |= {"N": vit, "Y": tmp_path / "sets.toml", "G": pictures}
    stand_ins |= {"O": other_bundle, "E": few_bundle}
    (tmp_path / "sets.toml").write_text(SETS)
    if section == "doctor --install":
        monkeypatch.setenv("EDGEVLM_TOOLS", str(tmp_path))
        as_if_made(environment_of(find_tool("coreai")))
    if section == "compare":
        for each in (bundle, other_bundle):
            keep("eval", open_bundle(each), EVALUATED)
            keep("profile", open_bundle(each), PROFILED)
    for i, call in enumerate(CALLS[section]):
        ended = edgevlm(*(stand_ins.get(word, word) for word in call), "--json", "--quiet")
        report = ended.json
        assert report["schema"] == 1 and next(iter(report)) == "schema"
        here = set()
        for name, value in leaves(report, set(fields)):
            assert name in fields, f"{name} = {value!r} is not documented"
            types, _ = fields[name]
            assert any(TYPES[kind](value) for kind in types), f"{name} = {value!r}, not {types}"
            here.add(name)
        for name in here:
            seen[name] += 1
        absent = {name for name, (_, optional) in fields.items() if not optional} - here
        assert not absent, f"call {i} lacks {absent}"
    never = {name for name, count in seen.items() if not count}
    assert not never, f"documented and never seen: {never}"


def test_the_fields_of_the_issue_are_documented():
    wanted = {
        "compile": "bundle seconds peak_rss_mb parts[].role parts[].bytes parts[].drift.sqnr_db",
        "run": "answer tokens stages.vision",
        "eval": "dataset split n accuracy",
        "profile": "stages.<stage>.p50_ms stages.<stage>.p90_ms stages.<stage>.p99_ms "
        "stages.<stage>.n stages.<stage>.how fps tokens_per_s ttft_ms energy_j_per_answer",
        "passes": "items[].name",
        "devices": "items[].id",
    }
    for section, names in wanted.items():
        assert set(names.split()) <= set(DOCUMENTED[section])
        assert not any(DOCUMENTED[section][name][1] for name in names.split())

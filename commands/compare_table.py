"""What a person reads of a comparison: what differs, in tables, and sentences on how surely."""

from __future__ import annotations

import json
from typing import Any

from edgevlm.commands.compare_words import (
    accuracy_words,
    gate_words,
    kept_words,
    p_value,
    speed_words,
)
from edgevlm.commands.output import Speaker
from edgevlm.compiler.drift import EXACT_DB

__all__ = ["compare_table"]

SHOWN = 3  # goldens that are answered otherwise
WIDE = 60  # characters of a setting; --json has all of it


def compare_table(speaker: Speaker, report: dict[str, Any]) -> None:
    a, b = report["a"], report["b"]
    for name, side in (("A", a), ("B", b)):
        speaker.say(f"{name}: {side['bundle']} ({side['digest'][:19]})", "bold")
    if report["same"]:
        speaker.say("the same bundle: both have one digest, so nothing differs")
    else:
        _settings(speaker, report)
        _passes(speaker, report["passes"])
        _sizes(speaker, report)
        _goldens(speaker, report["goldens"])
    if report["note"] and not report["same"]:
        speaker.say(report["note"])
    _speed(speaker, report["speed"])
    _accuracy(speaker, report["accuracy"])
    for found in report["kept_evals"]:
        speaker.say(kept_words(found))
    _profiles(speaker, report["kept_profiles"])
    for gate in report["gates"]:
        speaker.say(gate_words(gate))


def _settings(speaker: Speaker, report: dict[str, Any]) -> None:
    if report["settings"]:
        rows = [[row["what"], _cell(row["a"]), _cell(row["b"])] for row in report["settings"]]
        speaker.table("settings that differ", ["setting", "A", "B"], rows)
    else:
        speaker.say("settings: source, target, shapes and processor are equal")


def _passes(speaker: Speaker, passes: dict[str, Any]) -> None:
    lines = [f"  - {_step(row)}" for row in passes["removed"]]
    lines += [f"  + {_step(row)}" for row in passes["added"]]
    lines += [
        f"  ~ {row['name']}: {row['option']} {_cell(row['a'])} -> {_cell(row['b'])}"
        for row in passes["changed"]
    ]
    speaker.say("passes: - only in A, + only in B, ~ changed" if lines else "passes: equal")
    for line in lines:
        speaker.say(line)


def _step(row: dict[str, Any]) -> str:
    """A pass with the options that are not its defaults."""
    options = " ".join(f"{key}={_cell(value)}" for key, value in row["options"].items())
    idle = "" if row["did_something"] else "(nothing to do)"
    return " ".join(word for word in (row["name"], options, idle) if word)


def _sizes(speaker: Speaker, report: dict[str, Any]) -> None:
    sizes, memory = report["sizes"], report["memory"]
    rows = [
        _size("bundle MB", sizes["bytes"], ".3f", 1e6),
        _size("KV caches MB", sizes["kv_bytes"], ".3f", 1e6),
    ]
    if memory:
        peaks = {"a": memory["a_mb"], "b": memory["b_mb"]}
        rows.append(_size(f"peak memory MB, n = {memory['n']}", peaks, ".1f"))
    for role, part in sizes["parts"].items():
        rows += [
            _size(f"{role} weights MB", part["weight_bytes"], ".3f", 1e6),
            _size(f"{role} MMAC", part["macs"], ".2f", 1e6),
            _drift(role, part),
        ]
    table = [row for row in rows if row[1] != row[2]]
    if table:
        speaker.table("sizes that differ", ["what", "A", "B", "change %"], table)
    else:
        speaker.say("sizes: bundle, caches and parts are equal")


def _size(name: str, of: dict[str, Any], spec: str, unit: float = 1.0) -> list[str]:
    change = f"{100 * (of['b'] / of['a'] - 1):+.1f}" if of["a"] and of["b"] is not None else "-"
    return [name, *(_scaled(of[side], unit, spec) for side in "ab"), change]


def _goldens(speaker: Speaker, goldens: dict[str, Any]) -> None:
    other = goldens["otherwise"]
    if not goldens["shared"]:
        speaker.say("goldens: they have none in common")
        return
    speaker.say(f"goldens: {len(other)} of {goldens['shared']} are answered otherwise")
    for row in other[:SHOWN]:
        asked = f" {_cell(row['question'])}" if row["question"] else ""
        speaker.say(f"  {row['image']}{asked}: A {_cell(row['a'])!r}, B {_cell(row['b'])!r}")
    if other[SHOWN:]:
        speaker.say(f"  and {len(other) - SHOWN} more")


def _speed(speaker: Speaker, speed: dict[str, Any] | None) -> None:
    if speed is None:
        return
    rows = [
        [
            stage.replace("_", " "),
            f"{found['a_ms']:.3f}",
            f"{found['b_ms']:.3f}",
            "-" if found["ratio"] is None else f"{found['ratio']:.3f}",
            "-" if found["low"] is None else f"{found['low']:.3f} - {found['high']:.3f}",
            {"faster": "B faster", "slower": "B slower"}.get(found["verdict"], "cannot be told"),
            found["n"],
        ]
        for stage, found in speed["stages"].items()
    ]
    speaker.table(
        f"speed, turn about on this machine, {speed['requests']} different requests "
        f"({speed['how']})",
        ["stage", "A p50 ms", "B p50 ms", "time B / A", "95 % interval", "difference", "pairs"],
        rows,
    )
    for line in speed_words(speed):
        speaker.say(line)
    speaker.say("each stage is judged by itself: of twenty that are equal, one may look different")


def _accuracy(speaker: Speaker, found: dict[str, Any] | None) -> None:
    if found is None:
        return
    alone = {name: k for name, k in found["kinds"].items() if k["only_a"] or k["only_b"]}
    every = {**found, **{side: found[side]["accuracy"] for side in "ab"}}
    rows = [
        [name, f"{100 * k['a']:.2f}", f"{100 * k['b']:.2f}", f"{k['points']:+.2f}",
         k["only_a"], k["only_b"], p_value(k["p"]), k["n"]]
        for name, k in {**alone, "all": every}.items()
    ]  # fmt: skip
    speaker.table(
        f"{found['dataset']} {found['split']}: {found['metric']}, the same rows",
        ["rows", "A right %", "B right %", "points", "A alone", "B alone", "p", "n"],
        rows,
    )
    classes = found["classes"]
    if classes and len(classes["asked"]) < max(classes["of_a"], classes["of_b"]):
        speaker.say(
            f"both are held to {len(classes['asked'])} classes (A knows {classes['of_a']}, "
            f"B {classes['of_b']}): {_cell(', '.join(classes['asked']))}"
        )
    for line in accuracy_words(found):
        speaker.say(line)
    told = f"p by {found['test']}"
    if len(alone) < len(found["kinds"]):
        told += f"; kinds that are not listed ({len(found['kinds']) - len(alone)}) are equal"
    if alone:
        told += "; that of a kind is raised for their number (Holm)"
    speaker.say(told)


def _profiles(speaker: Speaker, profiles: list[dict[str, Any]]) -> None:
    for found in profiles:
        names = [name for name in found["a"] if name not in ("n", "at", "how")]
        rows = [
            [name, *(_scaled(found[side][name], 1.0, ".2f") for side in "ab")] for name in names
        ]
        speaker.table(
            f"{found['device']}: profiled before, A {found['a']['at']}, B {found['b']['at']}",
            ["figure", "A", "B"],
            rows,
        )
        speaker.say("times of different hours: whether they differ cannot be told")


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else "-" if value is None else json.dumps(value)
    return text if len(text) <= WIDE else f"{text[: WIDE - 3]}..."


def _scaled(value: float | None, unit: float, spec: str) -> str:
    return "-" if value is None else format(value / unit, spec)


def _drift(role: str, part: dict[str, Any]) -> list[str]:
    """Against the source, or what else each says it is against: two scales are not one."""
    against = [part["against"][side] or "source" for side in "ab"]
    told = [
        "exact" if part["sqnr_db"][side] == EXACT_DB else _scaled(part["sqnr_db"][side], 1.0, ".1f")
        for side in "ab"
    ]
    name = f"{role} SQNR dB"
    if against[0] != against[1]:
        told = [f"{value} ({of})" for value, of in zip(told, against, strict=True)]
    elif against[0] != "source":
        name += f" ({against[0]})"
    return [name, *told, "-"]

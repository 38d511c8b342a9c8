"""What differs between two bundles as they were written down: settings, passes, sizes, goldens.

Read from manifest and record alone, so that bundles which this machine cannot run are told as well.
"""

from __future__ import annotations

import contextlib
import difflib
import operator
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgevlm.compiler.bundle import Bundle
from edgevlm.compiler.class_names import plain
from edgevlm.compiler.cost import image_tokens
from edgevlm.compiler.errors import EdgeError
from edgevlm.compiler.manifest import Golden, PassEntry
from edgevlm.compiler.recipe import Recipe
from edgevlm.models.answer import same_samples

__all__ = ["goldens_changed", "passes_changed", "settings_changed", "sizes"]

Both = dict[str, Any]  # {"a": ..., "b": ...}

#: kind of model -> whether two answers are one
SAME: dict[str, Callable[[str, str], bool]] = {
    "vlm": operator.eq,
    "classifier": lambda one, other: plain(one) == plain(other),
    "dense": same_samples,
}


class _Drift(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    sqnr_db: float | None = None
    against: str | None = Field(None, max_length=40)


class _Part(BaseModel):
    """One row of `parts` of the record, which may come from anybody."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    role: str = Field(max_length=40)
    bytes: int = Field(ge=0)
    macs: int = Field(ge=0)
    drift: _Drift = _Drift()


def settings_changed(a: Bundle, b: Bundle) -> list[Both]:
    """Everything in the manifest that differs, but for passes, files and goldens: a row a value.

    Settings of artifacts are a runtime's own, and are not held against those of another.
    """
    told = [_settings(bundle) for bundle in (a, b)]
    if a.manifest.target.runtime != b.manifest.target.runtime:
        for side in told:
            del side["artifacts"]
    sides = [dict(_leaves(side)) for side in told]
    names = list(dict.fromkeys([*sides[0], *sides[1]]))
    rows = [{"what": name, "a": sides[0].get(name), "b": sides[1].get(name)} for name in names]
    return [row for row in rows if row["a"] != row["b"]]


def passes_changed(a: Bundle, b: Bundle) -> dict[str, Any]:
    """Which passes were added, removed, or ran with other options, in the order they run."""
    old, new = a.manifest.passes, b.manifest.passes
    told = _told(a), _told(b)
    matcher = difflib.SequenceMatcher(None, [p.name for p in old], [p.name for p in new], False)
    added, removed, changed = [], [], []
    for kind, i, i_end, j, j_end in matcher.get_opcodes():
        if kind == "equal":
            for before, after in zip(old[i:i_end], new[j:j_end], strict=True):
                changed += _options_changed(before, after)
        else:
            removed += [_pass(old[k], told[0][k]) for k in range(i, i_end)]
            added += [_pass(new[k], told[1][k]) for k in range(j, j_end)]
    return {"added": added, "removed": removed, "changed": changed}


def sizes(a: Bundle, b: Bundle) -> dict[str, Any]:
    """Counted: bytes of all files, of the KV caches, and of each part as the compile told it.

    What a record does not tell, or tells wrongly, is null.
    """
    parts = [_parts(bundle) for bundle in (a, b)]
    roles = list(dict.fromkeys(r for bundle in (a, b) for r in bundle.manifest.contract.roles))
    cache = [image_tokens(bundle.manifest.contract).get("kv_bytes") for bundle in (a, b)]
    told = [{role: side.get(role, {}) for role in roles} for side in parts]
    return {
        "bytes": {"a": a.bytes, "b": b.bytes},
        "kv_bytes": {"a": cache[0], "b": cache[1]},
        "parts": {
            role: {
                key: {"a": told[0][role].get(key), "b": told[1][role].get(key)}
                for key in ("weight_bytes", "macs", "sqnr_db", "against")
            }
            for role in roles
        },
        "how": "counted",
    }


def goldens_changed(a: Bundle, b: Bundle) -> dict[str, Any]:
    """Goldens of both, by picture and question, and those for which another answer is promised."""
    same, before = SAME[a.manifest.contract.kind], _goldens(a)
    shared = [(golden, before[key]) for key, golden in _goldens(b).items() if key in before]
    otherwise = [
        {"image": new.image, "question": new.question, "a": _said(old, a), "b": _said(new, b)}
        for new, old in shared
        if not same(_said(new, b), _said(old, a))
    ]
    return {"shared": len(shared), "otherwise": otherwise}


def _settings(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    tokens = image_tokens(manifest.contract)
    return {
        "edgevlm": manifest.edgevlm,
        "source": manifest.source.model_dump(mode="json"),
        "target": manifest.target.model_dump(mode="json"),
        "image_tokens": {key: tokens[key] for key in ("kept", "of", "average")},
        "contract": manifest.contract.model_dump(mode="json"),
        "processor": manifest.processor.model_dump(mode="json"),
        "artifacts": {artifact.role: artifact.settings for artifact in manifest.artifacts},
    }


def _leaves(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """(name with dots, value); a list is one value."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{at}.{key}" if at else str(key))
    else:
        yield at, value


def _options_changed(before: PassEntry, after: PassEntry) -> Iterator[dict[str, Any]]:
    old, new = dict(_leaves(before.options)), dict(_leaves(after.options))
    for option in dict.fromkeys([*old, *new]):
        if old.get(option) != new.get(option):
            row = {"name": after.name, "option": option}
            yield {**row, "a": old.get(option), "b": new.get(option)}


def _pass(step: PassEntry, options: dict[str, Any]) -> dict[str, Any]:
    return {"name": step.name, "options": options, "did_something": step.changed}


def _told(bundle: Bundle) -> list[dict[str, Any]]:
    """Options of each pass as the recipe tells them, which leaves defaults out; else all."""
    passes = bundle.manifest.passes
    with contextlib.suppress(EdgeError):
        steps = Recipe.read(bundle.folder / "recipe.toml").steps
        if [step.name for step in steps] == [step.name for step in passes]:
            return [step.options for step in steps]
    return [step.options for step in passes]


def _parts(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """role -> what the record tells of it; a row that is none is left out."""
    told: dict[str, dict[str, Any]] = {}
    rows = bundle.record().get("parts")
    for row in rows if isinstance(rows, list) else ():
        try:
            part = _Part.model_validate(row)
        except ValidationError:
            continue
        counted = {"weight_bytes": part.bytes, "macs": part.macs}
        told[part.role] = {**counted, **part.drift.model_dump()}
    return told


def _goldens(bundle: Bundle) -> dict[tuple[str, str], Golden]:
    files = bundle.manifest.files
    return {(files[g.image].sha256, g.question): g for g in bundle.manifest.goldens}


def _said(golden: Golden, bundle: Bundle) -> str:
    """The answer in words; of a classifier, the name of its class where it has one."""
    names = bundle.manifest.processor.class_names
    if bundle.manifest.contract.kind == "classifier" and golden.answer.isdigit():
        place = int(golden.answer)
        return names[place] if place < len(names) else golden.answer
    return golden.answer

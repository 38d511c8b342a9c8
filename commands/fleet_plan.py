"""What a fleet will be, found out before any work: every set checked, and its inputs named.

Bundles for the same classes are one group: they have the class-set stage in common. Groups whose
first passes are the same have one base, which is kept in the cache.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgevlm.commands.begun import save_begun
from edgevlm.commands.compile_inputs import CalibrationInputs, calibration_inputs
from edgevlm.commands.compile_options import CompileOptions, options_of
from edgevlm.commands.fleet_report import Item
from edgevlm.commands.fleet_sets import ClassSet, of_set
from edgevlm.commands.fleet_work import FITTED, Group
from edgevlm.commands.quant_gate import QUANT_STEPS
from edgevlm.compiler.bundle import file_entries
from edgevlm.compiler.cache import KEEP, cached_folder
from edgevlm.compiler.class_names import chosen, names_of
from edgevlm.compiler.errors import EdgeError, UsageFault
from edgevlm.compiler.exported_model import SCHEMA, ExportedModel
from edgevlm.compiler.pass_base import Pass
from edgevlm.compiler.pass_manager import first_of, run_passes
from edgevlm.compiler.recipe import Recipe
from edgevlm.devices import find_device
from edgevlm.models.answer import inputs_of
from edgevlm.models.picture_folders import CalibrationSet
from edgevlm.passes import make_passes
from edgevlm.passes.derive.asked import DERIVE_STEPS
from edgevlm.passes.pipelines import compose
from edgevlm.runtimes import find_runtime

__all__ = ["Asked", "Plan", "ask", "groups_of", "make_base", "plan"]


@dataclass(frozen=True)
class Asked:
    """One bundle, by its name."""

    name: str
    options: CompileOptions


@dataclass(frozen=True)
class Plan:
    """One bundle, with everything that it is made from."""

    item: Item
    calibration: CalibrationInputs
    base: tuple[Pass, ...]  # passes that know nothing of classes
    base_key: str
    group: str  # of bundles with the same class-set stage
    timed: bool  # its budget is one of time, measured on this machine


def ask(
    sets: Sequence[ClassSet], targets: Sequence[str], alpha: float | None, out: Path, **common: Any
) -> list[Asked]:
    """A bundle for each set and target. Raises EV220, EV222, EV250, EV301, EV302, EV20x."""
    found: list[Asked] = []
    for each in sets:
        names = [each.target] if each.target else list(targets)
        if not names:
            raise of_set(each.name, _untargeted())
        for target in names:
            name = each.name if len(names) == 1 else f"{each.name}-{target}"
            try:
                found.append(Asked(name, _options(each, target, alpha, out / name, **common)))
            except EdgeError as fault:
                raise of_set(each.name, fault) from fault
    count = Counter(each.name.casefold() for each in found)
    if twice := [each.name for each in found if count[each.name.casefold()] > 1]:
        raise UsageFault(
            "EV222",
            f"--class-sets with --targets {','.join(targets)}",
            f"two bundles would be called {twice[0]!r}",
            "give one of the sets another name",
        )
    return found


def plan(
    model: ExportedModel, where: str, asked: Sequence[Asked], found: CalibrationSet, calib: str
) -> list[Plan]:
    """Raises, with the name of the set, EV135 (classes), EV139 (their pictures), EV220, EV20x."""
    digests = [_digest(probe.image, probe.answer) for probe in found.probes]
    known = {id(probe): digest for probe, digest in zip(found.probes, digests, strict=True)}
    source = _source(model, where)
    plans = []
    for each in asked:
        try:
            plans.append(_plan(model, each, found, calib, known, source))
        except EdgeError as fault:
            raise of_set(each.name, fault) from fault
    if len(bases := {p.base_key for p in plans}) > KEEP:
        raise UsageFault(
            "EV222",
            f"--class-sets with {len(bases)} different reductions of tokens",
            f"the cache keeps {KEEP} bases, and each of these is one",
            "split the file",
        )
    return plans


def make_base(model: ExportedModel, plan: Plan) -> tuple[Path, bool]:
    """The folder of the base, and whether it was there."""
    cached = True

    def build(draft: Path) -> None:
        nonlocal cached
        cached = False
        made, applied, _ = run_passes(model, plan.base, inputs_of)
        save_begun(model, made, applied, draft)

    return cached_folder("base", plan.base_key, build), cached


def groups_of(plans: Sequence[Plan], bases: dict[str, Path]) -> list[Group]:
    """In the order of their first set."""
    found: dict[str, list[Plan]] = {}
    for each in plans:
        found.setdefault(each.group, []).append(each)
    return [
        Group(bases[of[0].base_key], tuple(p.item for p in of), of[0].calibration)
        for of in found.values()
    ]


def _options(
    each: ClassSet, target: str, alpha: float | None, place: Path, **common: Any
) -> CompileOptions:
    budget = alpha if each.alpha is None and each.latency_budget is None else each.alpha
    find_runtime(find_device(target).runtime).toolchain()  # a missing package is told at once
    return options_of(
        target,
        place.with_name(f"{place.name}.edgevlm"),
        tokens=None if each.tokens is None else str(each.tokens),
        prune=each.prune,
        quant=each.quant,
        purify=each.purify,
        recover=each.recover,
        classes=",".join(each.classes),
        alpha=budget,
        latency_budget=each.latency_budget,
        payoff="none",
        **common,
    )


def _plan(
    model: ExportedModel,
    each: Asked,
    found: CalibrationSet,
    calib: str,
    digests: dict[int, str],
    source: str,
) -> Plan:
    options = each.options
    device, flags = find_device(options.target), options.flags
    recipe = compose(device.id, device.runtime, flags, model, device.matrices.channels)
    passes = make_passes(recipe)
    for step in passes:
        if step.name in DERIVE_STEPS:
            step.requires(model)
    names = names_of(model)
    classes = chosen(names, flags.derived.classes, all_allowed=False, option="classes")
    calibration = calibration_inputs(calib, model, passes, flags.derived, found)
    pictures = [digests[id(p)] for p in (*calibration.split.fit, *calibration.split.held)]
    base = next(
        (
            i
            for i, p in enumerate(passes)
            if p.calibrated or p.name in (*DERIVE_STEPS, *QUANT_STEPS)
        ),
        len(passes),
    )
    fitted = first_of(passes, {FITTED})
    base_key = _digest(source, _steps(recipe, base))[:32]
    toolchain = find_runtime(device.runtime).toolchain()
    inputs = _digest(base_key, recipe.to_toml(), toolchain, pictures)
    item = Item(each.name, options, recipe, f"sha256:{inputs}")
    timed = flags.derived.budget_ms or any(getattr(p.options, "budget_ms", 0) for p in passes)
    before = Recipe(device.id, tuple(s for s in recipe.steps[:fitted] if s.name != "keep-classes"))
    group = _digest(base_key, _steps(before, fitted), classes, bool(timed))  # in any spelling
    return Plan(item, calibration, tuple(passes[:base]), base_key, group, bool(timed))


def _source(model: ExportedModel, where: str) -> str:
    """Digest of a model by what it holds: one that was exported keeps the digest of its origin."""
    folder = Path(where)
    files = file_entries(folder) if (folder / "model.json").is_file() else {}
    probes = [_digest(probe.image, probe.answer, probe.question) for probe in model.probes]
    versions = [version(n) for n in ("edgevlm", "numpy", "onnx", "onnx-ir", "onnxruntime")]
    made_of = (model.source, model.contract, model.processor, SCHEMA)
    return _digest(*made_of, files, probes, versions)


def _digest(*parts: Any) -> str:
    """Of pictures by their bytes, of all else as it is written."""
    total = hashlib.sha256()
    for part in parts:
        data = part.tobytes() + repr(part.shape).encode() if hasattr(part, "tobytes") else b""
        data = data or repr(part).encode()
        total.update(len(data).to_bytes(8, "big") + data)
    return total.hexdigest()


def _steps(recipe: Recipe, count: int) -> str:
    return json.dumps([(s.name, s.options) for s in recipe.steps[:count]], sort_keys=True)


def _untargeted() -> UsageFault:
    return UsageFault(
        "EV222", "it has no target", "it names none, and there is no --targets", "--targets cpu"
    )

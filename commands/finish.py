"""The rest of a compile, behind its first passes: other passes -> artifacts -> a bundle, whole."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from edgevlm.commands.artifacts import check_artifacts, total_drift
from edgevlm.commands.begun import Begun
from edgevlm.commands.beside import lower_beside
from edgevlm.commands.compile_inputs import CalibrationInputs
from edgevlm.commands.compile_options import CompileOptions
from edgevlm.commands.derived import compare_derived, saying_no_more
from edgevlm.commands.derived_domain import compare_domain
from edgevlm.commands.memory_check import check_memory
from edgevlm.commands.narrow_latency import budget_step, settle_latency
from edgevlm.commands.next_steps import next_steps
from edgevlm.commands.payoff import TOKEN_STEPS, check_payoff, measure_payoff
from edgevlm.commands.preflight import ask_preflight
from edgevlm.commands.quant_gate import QUANT_STEPS, Judged, judge, judge_lowered
from edgevlm.commands.quant_latency import within_budget
from edgevlm.commands.some_parts import Completed, elsewhere, written_parts
from edgevlm.commands.writing import (
    Proof,
    compile_report,
    goldens_of,
    write_graphs,
    write_manifest,
    write_processor,
)
from edgevlm.compiler.atomic import atomic_folder
from edgevlm.compiler.bundle import RECORD, Bundle, write_sums
from edgevlm.compiler.manifest import Target
from edgevlm.compiler.memo import ROOM, Memo
from edgevlm.compiler.pass_base import Pass
from edgevlm.compiler.pass_manager import Originals, first_of, run_passes
from edgevlm.compiler.recipe import Recipe
from edgevlm.compiler.reference import Reference, observe
from edgevlm.devices import find_device
from edgevlm.devices.host import describe_host
from edgevlm.models.answer import inputs_of
from edgevlm.passes import make_passes
from edgevlm.passes.derive.asked import DERIVE_STEPS, Derived
from edgevlm.runtimes import find_runtime
from edgevlm.runtimes.base import Shown

__all__ = ["Given", "Progress", "finish"]

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Given:
    """What a compile does, and what it fits numbers to."""

    recipe: Recipe
    passes: Sequence[Pass]
    calibration: CalibrationInputs | None = None
    derived: Derived | None = None  # what the recipe derives a model for


def finish(
    begun: Begun,
    options: CompileOptions,
    given: Given,
    start: float,
    progress: Progress = lambda _: None,
    more: Callable[[], dict[str, Any]] = dict,
) -> dict[str, Any]:
    """From what the first passes made of a model to the bundle; returns the JSON of `compile`.

    start: `perf_counter` when this compile began. more: what else the record says, asked for when
    it is written. Raises as `compile_model`.
    """
    recipe, passes, calibration = given.recipe, given.passes, given.calibration
    asked_for = given.derived
    original, first = begun.original, begun.first
    device = find_device(options.target)
    runtime = find_runtime(device.runtime).aimed_at(device, options.toolchain)
    others = elsewhere(options, original)
    rounding = first_of(passes, QUANT_STEPS)
    probes = inputs_of(original)
    run = functools.partial(
        run_passes,
        probes=inputs_of,
        calibration=calibration,
        originals=Originals(passes),
        min_sqnr=options.min_sqnr,
        progress=progress,
    )
    deriving = min(first_of(passes, DERIVE_STEPS), rounding)
    done = len(begun.applied)
    whole, applied, before = run(begun.model, passes[done:deriving], seen=begun.seen)
    applied = [*begun.applied, *applied]
    base, latency = whole, None
    if (narrowing := budget_step(recipe)) is not None:
        base, derived_by, before = run(base, passes[deriving:narrowing], seen=before)
        applied += derived_by
        progress("time widths")
        fitted = (calibration or inputs_of)(base)
        memo = passes[narrowing].memo if passes[narrowing].memo.limit else Memo(ROOM)
        latency = settle_latency(recipe, base, runtime, inputs=fitted, probes=inputs_of, memo=memo)
        recipe, deriving = latency.recipe, narrowing
        passes = make_passes(recipe)
        passes[narrowing].memo = memo
    base, derived_by, before = run(base, passes[deriving:rounding], seen=before)
    applied += derived_by
    if any(getattr(p.options, "budget_ms", 0) for p in passes[rounding:]):
        progress("time layers")
        inputs = calibration or inputs_of
        recipe = within_budget(recipe, base, observe(base, inputs(base)), runtime)
        passes = make_passes(recipe)
    model, rounded_by, seen = run(base, passes[rounding:], seen=before)
    applied += rounded_by
    asked = inputs_of(model)  # a pass may have changed the size of the pictures
    shown = saying_no_more(original, passes)
    if shown is not original:
        first = observe(shown, probes)
    proof = Proof(applied, seen, agree_source=_agree(first, seen))
    runtime = runtime.fitted_to(lambda: observe(model, calibration(model)) if calibration else seen)
    memory = check_memory(model, device, runtime, force=options.force)
    with atomic_folder(options.out, options.force) as draft:
        progress(f"lower to {runtime.name}")
        graphs_proof = dataclasses.replace(proof)
        artifacts = runtime.lower(written_parts(options, model), draft)
        target = Target(
            device=device.id,
            runtime=runtime.name,
            toolchain=runtime.toolchain(),
            sdk=runtime.sdk,
        )
        write_processor(model, draft)
        if not runtime.onnx_artifacts:
            write_graphs(model, draft)
        runtime.write_sample(draft, model.contract.kind)
        (draft / "recipe.toml").write_text(recipe.to_toml())
        progress("check artifacts")
        parts = runtime.open_artifacts(draft, artifacts, model.contract)
        parts = Completed(parts, model, others) if others else parts
        check_artifacts(model, runtime, parts, proof, asked)
        if runtime.rounds:
            proof.agree_source = _agree(first, proof.seen)
        also, told = lower_beside(model, runtime, draft, options, graphs_proof, asked, progress)
        goldens = goldens_of(model, proof.seen)
        shown_here = Shown(goldens, asked, proof.seen, parts)
        runtime.write_for_device(model, draft, artifacts, shown_here)
        preflight = ask_preflight(runtime, draft, artifacts, options.preflight, progress)
        manifest = write_manifest(
            model, target, artifacts, proof, draft, runtime, goldens, preflight, also
        )
        bundle = Bundle(draft, manifest)
        proof.source_drift = total_drift(shown, model, parts, first)
        payoff = None
        timed = options.payoff != "none" and runtime.runs_here
        if timed and any(s.name in TOKEN_STEPS for s in recipe.steps):
            progress("time it against no pruning")
            full = options.payoff == "full"
            sides = (model.contract, parts)
            payoff = measure_payoff(
                original, recipe, runtime, sides, probes, asked=asked, crossover=full
            )
            check_payoff(payoff, options.force)
        quant = None
        if rounding < len(passes):
            progress("judge quantisation")
            quant = judge(
                runtime,
                Judged(base, before),
                Judged(model, seen),
                (parts, draft, artifacts),
                asked,
                scheme=options.scheme,
                calib=options.calib,
                max_drop=options.max_drop,
                timed=timed,
                force=options.force,
            )
        elif runtime.rounds:
            progress("judge rounding")
            quant = judge_lowered(
                model,
                parts,
                asked,
                scheme=f"int8 of {runtime.name}",
                calib=options.calib,
                max_drop=options.max_drop,
                force=options.force,
            )
        report = compile_report(model, bundle, proof) | {"memory": memory}
        report["notes"] += calibration.notes if calibration else ()
        report["also"] = told
        report["notes"] += runtime.notes
        report["preflight"] = preflight and preflight.as_json()
        if not runtime.runs_here and options.payoff != "none":
            report["notes"].append(f"nothing was timed: this machine is no {device.name}")
        derived = None
        if asked_for and calibration:
            progress("compare with the base")
            sides = (whole, model, parts, calibration.split)
            if asked_for.domain:
                derived = compare_domain(asked_for.domain, *sides)
            else:
                derived = compare_derived(*sides, begun.said if whole is begun.model else Memo())
        if latency:
            progress("time the vision part")
            derived = (derived or {}) | {"latency": latency.report(parts)}
            report["notes"] += latency.notes(derived["latency"])
        record = {
            **report,
            "derived": derived,
            "payoff": payoff,
            "quant": quant,
            "passes": [a.as_json() for a in applied],
            "host": describe_host().as_json(),
            **more(),
            "seconds": round(perf_counter() - start, 2),
        }
        (draft / RECORD).write_text(json.dumps(record, indent=1) + "\n")
        write_sums(draft)
        progress("write bundle")
    return {
        "schema": 1,
        "bundle": str(options.out),
        **report,
        "derived": derived,
        "payoff": payoff,
        "quant": quant and {k: v for k, v in quant.items() if k != "layers"},
        "seconds": round(perf_counter() - start, 2),
        "next": next_steps(options.out, model, runtime, others, device.id),
    }


def _agree(a: Reference, b: Reference) -> int:
    return sum(x == y for x, y in zip(a.answers, b.answers, strict=True))

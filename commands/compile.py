"""`edgevlm compile`: source -> passes, each checked -> artifacts, checked -> a bundle, whole."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from edgevlm.commands.begun import Begun
from edgevlm.commands.compile_inputs import calibration_inputs, check_floor, check_os
from edgevlm.commands.compile_options import CompileOptions
from edgevlm.commands.derived import with_probes_of
from edgevlm.commands.finish import Given, Progress, finish
from edgevlm.commands.narrow_latency import check_timed_here
from edgevlm.commands.quant_drop import check_limit
from edgevlm.commands.quant_gate import QUANT_STEPS
from edgevlm.commands.some_parts import check_parts
from edgevlm.compiler.atomic import check_target
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.legalise import check_tables
from edgevlm.compiler.pass_manager import first_of
from edgevlm.compiler.recipe import Recipe
from edgevlm.compiler.reference import observe
from edgevlm.devices import Device, find_device
from edgevlm.models.answer import inputs_of
from edgevlm.models.source import open_source
from edgevlm.passes import make_passes
from edgevlm.passes.derive.asked import DERIVE_STEPS, derived_of
from edgevlm.passes.pipelines import compose
from edgevlm.runtimes import find_runtime

__all__ = ["compile_model"]


def compile_model(
    source: str, options: CompileOptions, progress: Progress = lambda _: None
) -> dict[str, Any]:
    """Compile and write the bundle; returns the JSON of `edgevlm compile --json`.

    Raises EV1xx (source, data), EV2xx (pass), EV3xx (target, output). On any of
    them the old bundle stays whole.
    """
    start = perf_counter()
    device = find_device(options.target)
    check_os(options.toolchain, device)
    runtime = find_runtime(device.runtime).aimed_at(device, options.toolchain)
    runtime.toolchain()  # a missing package is told at once
    check_target(options.out, options.force)
    check_floor(options.min_sqnr)
    recipe = None if options.recipe is None else _recipe(options, device)
    passes = None if recipe is None else make_passes(recipe)  # a broken one is told at once

    progress("read source")
    original = open_source(source, options.source)
    if recipe is None:
        recipe = compose(
            device.id, device.runtime, options.flags, original, device.matrices.channels
        )
        passes = make_passes(recipe)
    check_timed_here(recipe, device)
    runtime.check_recipe(recipe)
    check_tables(recipe, runtime.name, runtime.capabilities)
    check_parts(options, original)
    asked_for = options.flags.derived
    if options.recipe and options.calib:
        asked_for = derived_of(recipe.steps)  # the same pictures are held out
    for step in passes:
        if step.name in DERIVE_STEPS:
            step.requires(original)
    calibration = calibration_inputs(
        options.calib, original, passes, asked_for, rounds=runtime.rounds
    )
    rounds = runtime.rounds or first_of(passes, QUANT_STEPS) < len(passes)
    check_limit(options.max_drop, rounds=rounds)
    original = with_probes_of(original, asked_for)
    progress("probe source")
    first = observe(original, inputs_of(original))
    begun = Begun(original, original, (), first, first)
    return finish(begun, options, Given(recipe, passes, calibration, asked_for), start, progress)


def _recipe(options: CompileOptions, device: Device) -> Recipe:
    """The recipe of a file. Raises EV205, EV220, EV301."""
    recipe = Recipe.read(options.recipe)
    wanted = find_device(recipe.target)
    if wanted.id != device.id:
        raise UsageFault(
            "EV220",
            f"--target {options.target} with a recipe for {recipe.target}",
            "the order of the passes was chosen for that target",
            f"--target {recipe.target}, or another recipe",
        )
    return Recipe(device.id, recipe.steps)

"""Programs lowered once a session: lowering one takes as long as a hundred other tests.

lowered(scheme)     a miniature's program; its model, folder, artifacts, open parts
lowered(scheme, "vulkan", ("prefill", "decode"))    for another backend, some of its parts
bundle_of(scheme)   the same as a bundle for this machine, with goldens; shared, not to be edited
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from types import SimpleNamespace

import pytest

from edgevlm.commands.writing import Proof, goldens_of, write_manifest, write_processor
from edgevlm.compiler.bundle import RECORD, open_bundle, write_sums
from edgevlm.compiler.manifest import Target
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.reference import observe
from edgevlm.models.answer import inputs_of
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose

WHY = "programs are made and run by: pip install 'edgevlm[executorch]'"


@pytest.fixture(scope="session")
def lowered(make_micro, tmp_path_factory):
    """lowered(scheme): a miniature's program, once; its model, folder, artifacts, open parts."""
    pytest.importorskip("executorch", reason=WHY)
    from edgevlm.runtimes.executorch.runtime import ExecutorchRuntime

    made: dict[tuple, SimpleNamespace] = {}

    def lower(scheme="none", backend="xnnpack", roles=None) -> SimpleNamespace:
        key = scheme, backend, roles
        if key not in made:
            source = make_micro(layers=1, width=64, heads=2, tower=1)
            probes = inputs_of(source)
            recipe = compose("pixel-9", "executorch", Flags(quant=scheme), source)
            model = apply_unchecked(source, make_passes(recipe), probes)
            if roles:
                model = dataclasses.replace(model, parts={r: model.parts[r] for r in roles})
            folder, runtime = tmp_path_factory.mktemp(scheme), ExecutorchRuntime(backend=backend)
            artifacts = runtime.lower(model, folder)
            parts = runtime.open_artifacts(folder, artifacts, model.contract)
            made[key] = SimpleNamespace(
                source=source, probes=probes, model=model, folder=folder, artifacts=artifacts,
                parts=parts, runtime=runtime,
            )  # fmt: skip
        return made[key]

    return lower


@pytest.fixture(scope="session")
def bundle_of(lowered, tmp_path_factory):
    made: dict[str, object] = {}

    def bundle(scheme: str = "none"):
        if scheme not in made:
            it, folder = lowered(scheme), tmp_path_factory.mktemp("bundles") / f"{scheme}.edgevlm"
            shutil.copytree(it.folder, folder)
            write_processor(it.model, folder)
            seen = observe(it.model, it.probes, it.parts)
            versions = it.runtime.toolchain()
            target = Target(
                device="host-cpu", runtime="executorch", toolchain=versions, sdk=it.runtime.sdk
            )
            goldens = goldens_of(it.model, seen)
            write_manifest(
                it.model, target, it.artifacts, Proof([], seen), folder, it.runtime, goldens
            )
            (folder / RECORD).write_text(json.dumps({"schema": 1}))
            write_sums(folder)
            made[scheme] = open_bundle(folder)
        return made[scheme]

    return bundle

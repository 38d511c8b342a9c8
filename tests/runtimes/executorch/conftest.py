"""Programs lowered once a session: lowering one takes as long as a hundred other tests.

lowered(scheme)     a miniature's program; its model, folder, artifacts, open parts
lowered(scheme, "vulkan", ("prefill", "decode"))    for another backend, some of its parts
bundle_of(scheme)   the same as a bundle for this machine, with goldens; shared, not to be edited
sample(file, model, probes)     token ids that the C++ sample answers with, linked with the wheel's
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import pytest
from micro.once import made_once

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


#: of the wheel, by name
LIBRARIES = ("executorch", "executorch_kernels_optimized", "executorch_kernels_quantized",
             "executorch_backend_xnnpack", "executorch_threadpool")  # fmt: skip


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """The header of sample/, compiled and linked as an app would."""
    executorch = pytest.importorskip("executorch", reason=WHY)
    if shutil.which("g++") is None:
        pytest.skip("no g++: sudo apt-get install g++")
    root = Path(next(iter(executorch.__path__)))
    include, lib = root / "include", root / "lib"
    header = Path(str(resources.files("edgevlm.runtimes.executorch"))) / "sample"

    def build(folder: Path) -> None:
        call = ["g++", "-std=c++17", "-O1", "-w", "-DC10_USING_CUSTOM_GENERATED_MACROS",
                f"-I{include}", f"-I{include}/executorch/runtime/core/portable_type/c10",
                f"-I{header}", str(Path(__file__).with_name("ask.cpp")), "-o", str(folder / "ask"),
                f"-L{lib}", f"-Wl,-rpath,{lib}", "-Wl,--no-as-needed",
                *(f"-l{name}" for name in LIBRARIES)]  # fmt: skip
        done = subprocess.run(call, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]

    ask = made_once(tmp_path_factory, "executorch-sample", build) / "ask"

    def answers(file: Path, model, probes) -> list[list[int]]:
        ends = model.processor.eos_ids
        rows = [(p.pixel_values.reshape(-1).tolist(), p.before, p.after, ends) for p in probes]
        words = [str(len(rows))]
        for row in rows:
            words += [" ".join(map(repr, [len(part), *part])) for part in row]
        asked = tmp_path_factory.mktemp("asked") / "questions"
        asked.write_text("\n".join(words))
        done = subprocess.run([ask, file, asked], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        return [[int(word) for word in line.split()] for line in done.stdout.splitlines()]

    return answers

"""Programs lowered once a session: lowering one takes as long as a hundred other tests."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.models.answer import inputs_of
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose

WHY = "programs are made and run by: pip install 'edgevlm[executorch]'"


@pytest.fixture(scope="session")
def lowered(make_micro, tmp_path_factory):
    """lowered(scheme): a miniature's program, once; its model, folder, artifacts, open parts."""
    pytest.importorskip("executorch", reason=WHY)
    from edgevlm.runtimes.executorch.runtime import ExecutorchRuntime

    made: dict[str, SimpleNamespace] = {}

    def lower(scheme: str = "none") -> SimpleNamespace:
        if scheme not in made:
            source = make_micro(layers=1, width=64, heads=2, tower=1)
            probes = inputs_of(source)
            recipe = compose("pixel-9", "executorch", Flags(quant=scheme), source)
            model = apply_unchecked(source, make_passes(recipe), probes)
            folder, runtime = tmp_path_factory.mktemp(scheme), ExecutorchRuntime()
            artifacts = runtime.lower(model, folder)
            parts = runtime.open_artifacts(folder, artifacts, model.contract)
            made[scheme] = SimpleNamespace(
                source=source, probes=probes, model=model, folder=folder, artifacts=artifacts,
                parts=parts, runtime=runtime,
            )  # fmt: skip
        return made[scheme]

    return lower

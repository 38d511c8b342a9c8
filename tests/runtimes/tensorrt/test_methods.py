"""Every method of token reduction as TensorRT takes it: built by the real thing, right by ONNX
Runtime. What chooses tokens is in the graphs, so no plugin and no size of run time is there.
"""

from __future__ import annotations

import pytest

from edgevlm.compiler.compare_parts import compare_parts
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.reference import observe
from edgevlm.devices import find_device
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.passes.tokens.methods import METHODS
from edgevlm.passes.tokens.schedule import parse_asked
from edgevlm.runtimes import find_runtime
from edgevlm.runtimes.tensorrt.on_device.build import build_part

#: passes of their own: one makes pictures smaller, one drops no tokens
OTHERS = ("resize", "httm")
#: dB; float16 in another order
FLOOR_DB = 30.0
LEAST_OVERLAP = 0.7


@pytest.mark.parametrize("method", sorted(set(METHODS) - set(OTHERS)))
def test_a_method_is_lowered_built_and_right(method, tiny_model, tiny_probes, tmp_path, rtx):
    device = find_device("jetson")
    runtime = find_runtime("tensorrt").aimed_at(device)
    asked = parse_asked("25%", method, None, None)
    recipe = compose(device.id, "tensorrt", Flags(asked), tiny_model)
    model = apply_unchecked(tiny_model, make_passes(recipe), tiny_probes[:4])
    changed = [r for r, part in model.parts.items() if r not in ("embed", "decode")]
    artifacts = runtime.lower(model, tmp_path)
    for artifact in artifacts:
        if artifact.role in changed:
            built = build_part(tmp_path / artifact.file, rtx, compute_capability="SM86")
            assert built.ok, built.refusals
    parts = runtime.open_artifacts(tmp_path, artifacts, model.contract)
    seen = observe(model, tiny_probes[:2])
    drift = compare_parts(ReferenceParts(model.parts), parts, seen, changed)
    for found in drift.values():
        if found.overlap in (None, 1.0):
            assert found.sqnr_db > FLOOR_DB, drift
        else:  # two tokens were all but equal, and one of them was kept in the other's place
            assert found.overlap > LEAST_OVERLAP, drift

"""Artifacts for a GPU run by torch: the numbers of ONNX Runtime, float16 and int8 included."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="torch runs them: pip install 'edgevlm[torch]'")

from edgevlm.compiler.compare_parts import compare_parts
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.reference import observe
from edgevlm.compiler.to_torch.running import TorchParts
from edgevlm.devices import find_device
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.runtimes import find_runtime
from edgevlm.runtimes.tensorrt.written import written


@pytest.mark.parametrize(("quant", "least"), [("none", 45), ("w8", 45), ("w8a8", 20)])
def test_strongly_typed_graphs(quant, least, tiny_model, tiny_probes):
    aim = find_runtime("tensorrt").aimed_at(find_device("jetson")).aim
    recipe = compose("jetson", "tensorrt", Flags(quant=quant), tiny_model)
    model = apply_unchecked(tiny_model, make_passes(recipe), tiny_probes[:2])
    graphs = {role: written(role, part, aim) for role, part in model.parts.items()}
    seen = observe(model, tiny_probes[:2])
    found = compare_parts(ReferenceParts(graphs), TorchParts(graphs), seen, list(graphs))
    assert set(found) == set(graphs)
    assert min(drift.sqnr_db for drift in found.values()) >= least
    assert observe(model, tiny_probes[:2], TorchParts(graphs)).answers == seen.answers

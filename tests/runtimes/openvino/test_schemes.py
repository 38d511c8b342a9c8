"""Every way of rounding, from the passes to OpenVINO's kernels: on integers where it should be."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.compare_parts import compare_parts
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.quantised import is_rounded, weights_of
from edgevlm.compiler.reference import observe
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.runtimes.openvino.kernels import products
from edgevlm.runtimes.openvino.open_part import compile_part
from edgevlm.runtimes.openvino.runtime import OpenVinoRuntime

ROLES = ("vision", "connector", "prefill", "decode")


@pytest.fixture
def lowered(tiny_model, tiny_probes, tmp_path):
    """(scheme, type of caches) -> (model, settings by role, kernels by role, dB by role)"""

    def make(scheme: str, kv: str = "float"):
        flags = Flags(quant=scheme, kv=kv)
        steps = make_passes(compose("host-openvino", "openvino", flags, tiny_model))
        probes = tiny_probes[:4]
        model = apply_unchecked(tiny_model, steps, probes)  # each pass is proved elsewhere
        seen = observe(model, probes)
        runtime = OpenVinoRuntime()
        artifacts = runtime.lower(model, tmp_path)
        parts = runtime.open_artifacts(tmp_path, artifacts, model.contract)
        drift = compare_parts(ReferenceParts(model.parts), parts, seen, ROLES)
        kernels = {a.role: products(compile_part(tmp_path / a.file, a.settings)) for a in artifacts}
        settings = {a.role: a.settings for a in artifacts}
        return model, settings, kernels, {r: d.sqnr_db for r, d in drift.items()}

    return make


@pytest.mark.parametrize(
    "scheme",
    ["w8a8", "w4a8:method=max", "dasq-w4a8:form=branches,method=dasq", "w4a8:block=128,method=max"],
)
def test_products_with_a_scale_a_tensor_run_as_int8(lowered, scheme):
    """Of 128 inputs a block of 128 is all, so that in the last some have one scale, others many."""
    model, settings, kernels, db = lowered(scheme)
    for role in ROLES:
        wanted = sum(
            weights_of(n) is not None
            and is_rounded(n.inputs[0])
            and not n.inputs[0].producer().attributes.get_int("block_size", 0)
            for n in model.parts[role].graph
        )
        assert kernels[role]["i8"] == wanted > 0, role
        assert settings[role]["group"] in (0, 128)
    assert min(db.values()) > 30, db


def test_weights_alone_stay_integers_and_products_float(lowered, tmp_path):
    _, settings, kernels, db = lowered("w4a16:method=max")
    assert min(db.values()) > 100, db
    for role in ROLES:
        graph = ir.load(tmp_path / "openvino" / f"{role}.onnx").graph
        stored = [v.const_value for v in graph.initializers.values() if len(v.shape) == 2]
        assert {t.dtype for t in stored if t.size > 8000} == {ir.DataType.INT4}
        assert set(kernels[role]) == {"f32"} and settings[role]["group"] == 0


def test_scales_of_run_time_are_the_plugins(lowered):
    """Decode, of one row, shows that they are the graph's: no code is another."""
    _, settings, _, db = lowered("w4a8:block=64,method=max")
    assert {settings[role]["group"] for role in ROLES} == {64}
    assert min(db.values()) > 30 and db["decode"] > 100, db


def test_int8_caches(lowered):
    model, _, kernels, db = lowered("w8a8", "int8")
    assert model.contract.kv_dtype == "INT8" and set(kernels["decode"]) == {"i8"}
    assert min(db.values()) > 30 and np.isfinite(list(db.values())).all(), db

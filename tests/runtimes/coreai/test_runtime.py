"""Bundles for Core AI: what Apple's runtime computes, what a compile says, what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from edgevlm.compiler.bundle import check_bundle
from edgevlm.compiler.compare_parts import compare_parts
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.exported_model import load_model
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.reference import observe
from edgevlm.models.answer import inputs_of
from edgevlm.models.zoo import bundled_folder
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.passes.tokens.schedule import parse_asked
from edgevlm.runtimes import find_runtime
from edgevlm.runtimes.coreai import package
from edgevlm.runtimes.coreai.asset import HASH, METADATA, PROGRAM
from edgevlm.runtimes.coreai.runtime import CoreAiRuntime


def passed(model, flags, probes):
    return apply_unchecked(model, make_passes(compose("apple-27", "coreai", flags, model)), probes)


def lowered(model, folder):
    return CoreAiRuntime().open_artifacts(
        folder, CoreAiRuntime().lower(model, folder), model.contract
    )


def strayed(model, parts, probes, some=None):
    """dB of every part against the reference executor; answers and choices are the same."""
    seen = observe(model, probes)
    drift = compare_parts(ReferenceParts(model.parts), parts, seen, model.contract.roles)
    ran = observe(model, probes, parts)
    assert ran.answers == seen.answers
    for a, b in zip(ran.choices, seen.choices, strict=True):
        assert {k: v.tolist() for k, v in a.items()} == {k: v.tolist() for k, v in b.items()}
    assert len(set(seen.answers)) > (some or 1) - 1
    return {role: d.sqnr_db for role, d in drift.items()}


def test_a_compile_proves_the_asset_and_times_nothing(plain):
    manifest = plain.manifest
    assert check_bundle(plain.folder) == []
    assert manifest.target.runtime == "coreai" and manifest.target.sdk["ios"] == "27"
    assert "Core AI's CPU runtime" in manifest.verified["artifacts"]
    assert "makes of it" in manifest.not_verified["engine"]
    home = "coreai/model.aimodel"
    assert {n for n in manifest.files if n.startswith("coreai/")} == {
        f"{home}/{n}" for n in (PROGRAM, HASH, METADATA)
    }
    assert {a.role: (a.file, a.settings) for a in manifest.artifacts} == {
        role: (f"{home}/{PROGRAM}", {"function": role}) for role in manifest.contract.roles
    }
    record = json.loads((plain.folder / "record.json").read_text())
    assert min(row["drift"]["sqnr_db"] for row in record["parts"]) > 100
    assert record["answers"]["agree_with_source"] == len(manifest.goldens) >= 10
    assert any("nothing was timed" in note for note in record["notes"])


def test_it_answers_as_the_source_does(plain, tiny_model, tiny_probes):
    """Token for token, on all probes, of the model as it was before any pass."""
    parts = CoreAiRuntime().open(plain)
    said = observe(tiny_model, tiny_probes).answers
    assert observe(passed(tiny_model, Flags(), ()), tiny_probes, parts).answers == said
    assert [g.token_ids for g in plain.manifest.goldens] == said and len(set(said)) > 3


def test_a_model_of_scenes(tmp_path):
    model = load_model(bundled_folder("scenes-tiny"))
    model = passed(model, Flags(), ())
    found = strayed(model, lowered(model, tmp_path), inputs_of(model), some=5)
    assert min(found.values()) > 100, found


@pytest.mark.parametrize("method", ["visionzip", "divprune", "fastv"])
def test_methods_of_token_reduction(method, make_micro, tmp_path):
    """In the vision part, behind the connector, in front of decoder layers; under noise, as tokens
    of a plain background are equal but for rounding."""
    source = make_micro(layers=2, width=32, grid=(4, 4), tower=2)
    model = passed(source, Flags(parse_asked("6", method, None)), inputs_of(source)[:2])
    rng = np.random.default_rng(0)
    probes = [
        replace(p, pixel_values=p.pixel_values + rng.normal(size=p.pixel_values.shape).astype("f4"))
        for p in inputs_of(model)[:3]
    ]
    assert min(strayed(model, lowered(model, tmp_path), probes).values()) > 100
    assert observe(model, probes[:1]).choices[0]


@pytest.mark.parametrize(
    ("flags", "floor", "stored"),
    [
        ({"quant": "w8a8"}, 25, ("Int8",)),  # a number between two codes falls to either side
        ({"quant": "w4a16"}, 90, ("Int4", "Int8")),  # rows that are looked up stay int8
        ({"quant": "lut4"}, 100, ("UInt4", "Int8")),  # the same rows
        ({"kv": "int8"}, 60, ("Int8",)),
    ],
    ids=str,
)
def test_integers_stay_integers(flags, floor, stored, make_micro, tmp_path):
    from coreai.authoring.asset import AIModelAsset

    source = make_micro(layers=2, width=128, heads=4, tower=2)
    model = passed(source, Flags(**flags), inputs_of(source)[:2])
    parts = lowered(model, tmp_path)
    assert min(strayed(model, parts, inputs_of(model)[:4]).values()) > floor
    told = AIModelAsset.load(parts.path).summary()
    counts = dict(told.storage_types)
    assert all(counts[name] for name in stored)
    if "quant" in flags:
        stored = sum(
            value.const_value.size
            for part in (model.parts["vision"], model.parts["prefill"])
            for value in part.graph.initializers.values()
        )
        assert counts["Float32"] < 0.1 * stored
    if flags.get("quant") == "w8a8":
        ops = dict(told.operation_distribution)
        assert ops["quantize"] > 10 and ops["quantize"] == ops["dequantize"]


def test_weights_are_stored_once_and_caches_written_in_place(plain):
    from coreai.authoring.asset import AIModelAsset

    home = plain.folder / "coreai" / "model.aimodel"
    model = load_model(bundled_folder("easyvqa-tiny"))
    sizes = {
        role: sum(v.const_value.nbytes for v in part.graph.initializers.values())
        for role, part in model.parts.items()
    }
    assert (home / PROGRAM).stat().st_size < 1.05 * (sum(sizes.values()) - sizes["decode"])
    asset = AIModelAsset.load(home)
    ops = dict(asset.summary().operation_distribution)
    assert ops["slice_update"] == 2 * plain.manifest.contract.layers and "scatter_nd" not in ops
    text = str(asset.program)
    for name in ("rms_norm", "layer_norm", "scaled_dot_product_attention"):
        assert f'composite_declaration<"{name}"' in text


SCRIPT = """
import sys
from pathlib import Path
import torch
from torch.nn import functional as F
from edgevlm.compiler.quiet import quietly
from edgevlm.runtimes.coreai.lower import Function, make_steady, write_asset

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        for name in "abc":
            self.register_buffer(name, torch.randn(64, 64, generator=generator))
    def forward(self, x):
        x = F.layer_norm(F.rms_norm(x @ self.a, (64,), self.b[0], 1e-6), (64,))
        return (F.scaled_dot_product_attention(x, x @ self.b, x @ self.c),)

with quietly():
    program = torch.export.export(Net(), (torch.ones(1, 2, 3, 64),), strict=False)
    write_asset({"main": Function(program, ["x"], ["y"])}, Path(sys.argv[1]))
make_steady(Path(sys.argv[1]))
"""


def test_another_process_writes_the_same_bytes(tmp_path):
    """Core AI names constants by where it was loaded, and composites by chance."""
    homes = [tmp_path / f"{name}.aimodel" for name in "ab"]
    for home in homes:
        subprocess.run([sys.executable, "-c", SCRIPT, str(home)], check=True)
    for file in (PROGRAM, HASH, METADATA):
        one, two = ((home / file).read_bytes() for home in homes)
        assert one == two, file
    names = re.findall(
        rb"resource_\d+|layer_norm_\d+|sdpa\w*_\d+", (homes[0] / PROGRAM).read_bytes()
    )
    assert len(set(names)) >= 5


def test_lowering_and_opening_say_nothing_and_leave_nothing(
    micro_model, tmp_path, monkeypatch, capfd
):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = {r: [n.op_type for n in p.graph] for r, p in micro_model.parts.items()}
    capfd.readouterr()
    parts = lowered(micro_model, tmp_path)
    parts.call(
        "embed", {"input_ids": np.zeros((1, micro_model.contract.prompt_capacity), np.int64)}
    )
    assert capfd.readouterr() == ("", "")
    left = [path.name for path in (tmp_path / "temporary").iterdir()]
    assert [name for name in left if not name.startswith("torchinductor")] == []  # torch's own
    assert before == {r: [n.op_type for n in p.graph] for r, p in micro_model.parts.items()}


def test_what_it_cannot_have_is_refused_before_anything_is_written(micro_model, graph, tmp_path):
    odd = graph("(float[2] x) => (uint8[2] y) { y, s, z = DynamicQuantizeLinear(x) }")
    odd.graph.node(0).name = "odd"
    with pytest.raises(JobFault, match="EV303 part vision: node odd"):
        CoreAiRuntime().lower(micro_model.with_parts(vision=odd), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        # codes with a zero point: the bridge; numbers that are added up where they meet: an op that
        # the converter has not; the same by another op, of which it has not this form
        ("q = QuantizeLinear(x, s, z) odd = DequantizeLinear(q, s, z)", "zero point"),
        ('odd = ScatterElements<axis = 3, reduction = "add">(x, i, u)', "scatter_reduce"),
        ('odd = ScatterND<reduction = "add">(x, n, w)', "accumulate"),
    ],
)
def test_a_form_that_it_has_not_is_told_with_its_node(nodes, told, micro_model, graph, tmp_path):
    constants = {
        "s": np.float32(0.1), "z": np.int8(3),
        "i": np.zeros((1, 3, 6, 1), np.int64), "u": np.ones((1, 3, 6, 1), np.float32),
        "n": np.zeros((1, 4), np.int64), "w": np.ones(1, np.float32),
    }  # fmt: skip
    used = {name: value for name, value in constants.items() if f" {name}" in nodes}
    head = "(float[1,3,6,6] pixel_values) => (float[1,3,6,6] y)"
    part = graph(f"{head} {{ x = Neg(pixel_values) {nodes} y = Relu(odd) }}", **used)
    for node in part.graph:
        node.name = f"of_{node.outputs[0].name}"
    with pytest.raises(JobFault, match=r"EV303 .*node '?of_(odd|q)") as error:
        CoreAiRuntime().lower(micro_model.with_parts(vision=part), tmp_path)
    assert told in error.value.why


def test_no_time_is_taken_here(plain):
    for ask in (CoreAiRuntime().check_timed, CoreAiRuntime().profile_layers):
        with pytest.raises(UsageFault, match="EV434") as told:
            ask(plain)
        assert "apple-27" in told.value.why


def test_a_package_that_is_missing_or_of_another_version(monkeypatch, tmp_path, micro_model):
    found = CoreAiRuntime().toolchain()
    assert found["coreai-torch"] == package.WANTED and set(found) == set(package.PACKAGES)
    monkeypatch.setattr(package, "WANTED", "0.1")
    with pytest.raises(JobFault, match="EV302") as told:
        CoreAiRuntime().lower(micro_model, tmp_path)
    assert (
        "pip install 'edgevlm[coreai]'" in told.value.fix
        and found["coreai-torch"] in told.value.why
    )
    monkeypatch.setattr(package, "PACKAGES", ("coreai-never",))
    with pytest.raises(JobFault, match="coreai-never is not installed"):
        CoreAiRuntime().toolchain()


def test_naming_the_runtime_imports_none_of_it():
    script = "import sys; from edgevlm.runtimes import find_runtime; find_runtime('coreai').sdk; "
    script += "print([m for m in ('torch', 'coreai', 'coreai_torch') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    assert find_runtime("coreai").engine != "not needed"

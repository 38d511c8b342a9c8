"""A whole miniature as one Core ML package, run by the evaluator against its own graphs."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgevlm.compiler.compare_parts import compare_parts
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.palettes import find_palette
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.reference import observe
from edgevlm.devices import find_device
from edgevlm.models.answer import inputs_of
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.runtimes import find_runtime

pytest.importorskip("coremltools", reason="packages are made by: pip install 'edgevlm[coreml]'")

from edgevlm.runtimes.coreml.constants import Constants
from edgevlm.runtimes.coreml.mil_types import tensor_type
from edgevlm.runtimes.coreml.mlpackage import open_mlpackage

#: least SQNR of any part against its own graph, dB: float16, and integers that may fall either way
FLOORS = {"none": 40, "w8": 40, "w4a16": 40, "lut4": 40, "w8a8": 25}


@pytest.fixture(scope="module")
def lowered(make_micro, tmp_path_factory):
    made = {}

    def lower(scheme="none", layout="tokens"):
        if (scheme, layout) not in made:
            source = make_micro(layers=1, width=64, heads=2, tower=1)
            probes = inputs_of(source)
            recipe = compose("iphone-17-pro", "coreml", Flags(quant=scheme, layout=layout), source)
            model = apply_unchecked(source, make_passes(recipe), probes)
            folder, runtime = tmp_path_factory.mktemp(scheme), find_runtime("coreml")
            artifacts = runtime.lower(model, folder)
            parts = runtime.open_artifacts(folder, artifacts, model.contract)
            made[scheme, layout] = SimpleNamespace(
                model=model, probes=probes, folder=folder, artifacts=artifacts, parts=parts,
                runtime=runtime,
            )  # fmt: skip
        return made[scheme, layout]

    return lower


@pytest.mark.parametrize("scheme", FLOORS)
def test_it_computes_what_its_graphs_do(scheme, lowered):
    made = lowered(scheme)
    seen = observe(made.model, made.probes)
    found = compare_parts(ReferenceParts(made.model.parts), made.parts, seen, made.model.parts)
    assert set(found) == set(made.model.parts)
    assert min(drift.sqnr_db for drift in found.values()) >= FLOORS[scheme]


def test_greedy_answers_are_the_same_token_for_token(lowered):
    made = lowered()
    want, found = (observe(made.model, made.probes, p) for p in (None, made.parts))
    assert found.answers == want.answers


def test_our_codes_arrive_as_codes(lowered):
    """As many compressed weights as were stored, and rounded inputs with our own scales."""
    kinds = {scheme: kinds_of(lowered(scheme), "decode") for scheme in FLOORS}
    assert "constexpr_blockwise_shift_scale" not in kinds["none"]
    for scheme in ("w8", "w4a16", "w8a8"):
        stored = sum(
            n.op_type == "DequantizeLinear" and n.inputs[0].is_initializer()
            for n in lowered(scheme).model.parts["decode"].graph
        )
        assert kinds[scheme].count("constexpr_blockwise_shift_scale") == stored == 7
    rounded = [n for n in lowered("w8a8").model.parts["decode"].graph
               if n.op_type == "QuantizeLinear"]  # fmt: skip
    assert kinds["w8a8"].count("quantize") == len(rounded) > 0
    scales = {float(np.float16(n.inputs[1].const_value.numpy().item())) for n in rounded}
    assert scales_of(lowered("w8a8"), "decode") == scales


def test_our_tables_arrive_as_tables(lowered):
    """As many as the graph has: indices of four bits, tables of float16, and no float weight."""
    made = lowered("lut4")
    wanted = [p for p in map(find_palette, made.model.parts["decode"].graph) if p]
    ops = [op for op in made.parts.program.functions["decode"].ops
           if op.type == "constexpr_lut_to_dense"]  # fmt: skip
    stored = Constants(open_mlpackage(made.parts.program.folder))
    assert len(ops) == len(wanted) == 7
    found = []
    for op in ops:
        (indices,), (lut,) = op.takes["indices"], op.takes["lut"]
        assert tensor_type(indices.type).dtype.name == "uint4"
        assert tensor_type(lut.type).dtype.name == "fp16"
        found.append((stored.tensor(indices, False), stored.tensor(lut, False)))
    for palette in wanted:  # stored [N,K] for products
        mine = palette.indices.const_value.numpy().astype(np.int32).T
        tables = palette.tables.astype(np.float16).astype(np.float32)
        assert any(
            np.array_equal(mine, indices) and np.array_equal(tables.ravel(), lut.flatten())
            for indices, lut in found
        )


@pytest.mark.parametrize("scheme", ["none", "w4a16", "w8a8"])
def test_channels_first_computes_the_same_with_the_same_codes(scheme, lowered):
    """Every product is a convolution, and its weight the codes that were stored."""
    made = lowered(scheme, "channels")
    seen = observe(made.model, made.probes)
    found = compare_parts(ReferenceParts(made.model.parts), made.parts, seen, made.model.parts)
    assert min(drift.sqnr_db for drift in found.values()) >= FLOORS[scheme]
    for role in ("vision", "prefill", "decode"):
        kinds, before = kinds_of(made, role), kinds_of(lowered(scheme), role)
        assert "linear" not in kinds and before.count("linear") > 4
        assert kinds.count("conv") == before.count("linear") + before.count("conv")
        codes = "constexpr_blockwise_shift_scale"
        assert kinds.count(codes) == before.count(codes)


def test_tables_make_the_file_smaller(lowered):
    """Four bits for sixteen, tables and what stays float included; smaller than int8."""
    float16, int8, tables = (
        next(lowered(s).folder.rglob("weight.bin")).stat().st_size for s in ("none", "w8", "lut4")
    )
    assert tables < 0.75 * int8 < 0.75 * float16


def kinds_of(made, role):
    return [op.type for op in made.parts.program.functions[role].ops]


def scales_of(made, role):
    """Of the inputs that a function rounds, as float16 has them."""
    function = made.parts.program.functions[role]
    names = {n for op in function.ops if op.type == "quantize" for n in op.takes["scale"]}
    stored = Constants(open_mlpackage(made.parts.program.folder))
    return {float(np.float16(stored.tensor(function.constants[n], False))) for n in names}


def test_angles_of_positions_stay_float32(lowered):
    function = lowered().parts.program.functions["decode"]
    angles = [op for op in function.ops if op.type in ("cos", "sin")]
    assert angles
    for op in angles:
        (name, _), *_ = op.gives
        assert function.types[name].dtype.name == "fp32"


def test_the_same_model_gives_the_same_bytes(lowered, tmp_path):
    made = lowered()
    made.runtime.lower(made.model, tmp_path)
    first = {p.relative_to(made.folder): p.read_bytes() for p in made.folder.rglob("*.*")
             if p.is_file()}  # fmt: skip
    second = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*.*")
              if p.is_file()}  # fmt: skip
    assert first == second


def test_weights_of_prefill_and_decode_are_in_the_file_once(lowered):
    made = lowered()
    stored = {role: sum(v.const_value.nbytes for v in part.graph.initializers.values()) / 2
              for role, part in made.model.parts.items()}  # fmt: skip
    file = next(made.folder.rglob("weight.bin")).stat().st_size
    assert file < sum(stored.values()) - 0.8 * stored["decode"]


def test_int8_caches_are_refused_before_anything_is_converted(make_micro, tmp_path):
    source = make_micro(layers=1, width=64, heads=2)
    recipe = compose("iphone-17-pro", "coreml", Flags(kv="int8"), source)
    model = apply_unchecked(source, make_passes(recipe), inputs_of(source))
    with pytest.raises(JobFault, match="states of Core ML are float16") as caught:
        find_runtime("coreml").lower(model, tmp_path)
    assert caught.value.code == "EV303" and not list(tmp_path.iterdir())


def test_a_package_of_another_model_is_told(lowered, make_micro):
    made, other = lowered(), make_micro(layers=1, width=32, heads=2)
    with pytest.raises(JobFault, match="not as the contract says") as caught:
        made.runtime.open_artifacts(made.folder, made.artifacts, other.contract)
    assert caught.value.code == "EV304"


@pytest.mark.parametrize(
    ("asked", "found"), [(None, "18"), ("ios-18", "18"), ("iOS18", "18"), ("26", "26")]
)
def test_systems(asked, found):
    runtime = find_runtime("coreml").aimed_at(find_device("iphone"), asked)
    assert runtime.sdk == {"ios": found}


@pytest.mark.parametrize("asked", ["ios-17", "ios-30", "android", "", "18;rm"])
def test_systems_that_it_is_not_for(asked):
    with pytest.raises(UsageFault) as caught:
        find_runtime("coreml").aimed_at(find_device("iphone"), asked)
    assert caught.value.code == "EV308"


@pytest.mark.parametrize(
    ("role", "change"),
    [
        ("vision", lambda states: states.add(name="key_9").CopyFrom(_wide("key_9", [1, 2, 8, 32]))),
        ("decode", lambda states: setattr(states[0], "name", "mine")),
        ("decode", lambda states: states[0].CopyFrom(_wide(states[0].name, [2**15, 2**15]))),
        ("decode", lambda states: states[0].CopyFrom(_wide(states[0].name, [0, 2**63 - 1]))),
        ("prefill", lambda states: states[0].CopyFrom(_wide(states[0].name, [1], kind=2))),
    ],
    ids=["of a part without caches", "another name", "another size", "nothing", "of words"],
)
def test_states_are_those_of_the_contract(role, change, lowered, tmp_path):
    """Before any is made: their sizes are whatever a package says."""
    from coremltools.proto import Model_pb2

    made = lowered()
    folder = Path(shutil.copytree(made.folder, tmp_path / "bundle"))
    path = next(folder.rglob("*.mlmodel"))
    spec = Model_pb2.Model()
    spec.ParseFromString(path.read_bytes())
    change(spec.mlProgram.functions[role].inputs)
    path.write_bytes(spec.SerializeToString())
    with pytest.raises(JobFault, match="EV304"):
        made.runtime.open_artifacts(folder, made.artifacts, made.model.contract)


def _wide(name, sizes, kind=10):
    from coremltools.proto import MIL_pb2

    value = MIL_pb2.NamedValueType(name=name)
    tensor = value.type.stateType.wrappedType.tensorType
    tensor.dataType, tensor.rank = kind, len(sizes)
    for size in sizes:
        tensor.dimensions.add().constant.size = size
    return value

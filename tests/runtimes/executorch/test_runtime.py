"""A whole miniature as one program, run by the kernels that phones run."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from edgevlm.compiler.compare_parts import compare_parts
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.reference import observe
from edgevlm.devices import find_device
from edgevlm.models.answer import inputs_of
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.passes.tokens.schedule import parse_asked
from edgevlm.runtimes import find_runtime
from edgevlm.runtimes.executorch.runtime import ExecutorchRuntime
from edgevlm.runtimes.executorch.written import written

#: least SQNR of any part against its own graph, in dB: float, or a number may fall to either side;
#: rows that are rounded at run time XNNPACK rounds with a zero point, and so to other numbers
FLOORS = {"none": 90, "w8a8": 25, "8da4w": 15}


@pytest.mark.parametrize("scheme", FLOORS)
def test_it_computes_what_its_graphs_do(scheme, lowered):
    made = lowered(scheme)
    seen = observe(made.model, made.probes)
    found = compare_parts(ReferenceParts(made.model.parts), made.parts, seen, made.model.parts)
    assert set(found) == set(made.model.parts)
    assert min(drift.sqnr_db for drift in found.values()) >= FLOORS[scheme]


@pytest.mark.parametrize("method", ["visionzip", "hawk"])
def test_methods_of_token_reduction(method, make_micro, tmp_path, sample):
    """In the vision part and in front of decoder layers: TopK and Gather by portable kernels.

    The place of a prompt's end moves when tokens in front of it go: any that is fed lies behind.
    """
    pytest.importorskip("executorch", reason="pip install 'edgevlm[executorch]'")
    source = make_micro(layers=2, width=32, grid=(4, 4), tower=2)
    flags = Flags(parse_asked("6", method, None))
    steps = make_passes(compose("pixel-9", "executorch", flags, source))
    model, runtime = apply_unchecked(source, steps, inputs_of(source)[:2]), ExecutorchRuntime()
    probes = inputs_of(model)[:4]
    artifacts = runtime.lower(model, tmp_path)
    parts = runtime.open_artifacts(tmp_path, artifacts, model.contract)
    assert len(runtime.preflight(tmp_path, artifacts).table.rows) == len(artifacts)
    seen, ran = observe(model, probes), observe(model, probes, parts)
    found = compare_parts(ReferenceParts(model.parts), parts, seen, model.parts)
    assert min(drift.sqnr_db for drift in found.values()) > 90
    assert ran.answers == seen.answers and seen.choices[0]
    for ours, theirs in zip(sample(parts.path, model, probes), ran.answers, strict=True):
        assert ours[: len(theirs)] == [i for i in theirs if i not in model.processor.eos_ids]
    for a, b in zip(ran.choices, seen.choices, strict=True):
        assert {k: v.tolist() for k, v in a.items()} == {k: v.tolist() for k, v in b.items()}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ('float[4,3] x, int64[4,2] i, float[4,2] u| y = ScatterElements<axis=1, reduction="add">'
         "(x, i, u)", "puts together by 'add'"),
        ("float[1,2,4,4,4] x| y = MaxPool<kernel_shape=[2,2,2]>(x)", "over 3 axes"),
    ],
)  # fmt: skip
def test_what_has_no_kernel_is_refused_by_name(graph, words, said):
    """A program with it would be written, and not load."""
    inputs, nodes = words.split("|")
    shape = "float[4,3]" if "Scatter" in nodes else "float[1,2,3,3,3]"
    part = graph(f"({inputs}) => ({shape} y) {{ {nodes} }}")
    with pytest.raises(JobFault, match="EV303 part vision: node") as caught:
        written("vision", part)
    assert said in caught.value.why
    assert len(list(written("vision", part, portable=False).graph)) == 1


def test_core_ml_is_asked_for_no_portable_kernels(micro_model, tmp_path, monkeypatch):
    """Neither when it is lowered nor when its products are counted."""
    asked = []

    def note(role, part, portable=True):
        asked.append(portable)
        return part

    monkeypatch.setattr("edgevlm.runtimes.executorch.written.written", note)
    made = SimpleNamespace(data=b"", placed=dict.fromkeys(micro_model.parts), nodes={})
    monkeypatch.setattr("edgevlm.runtimes.executorch.lower.lower", lambda *_: made)
    for backend, portable in (("coreml", False), ("xnnpack", True)):
        (tmp_path / backend).mkdir()
        ExecutorchRuntime(backend=backend).lower(micro_model, tmp_path / backend)
        assert asked == [portable] * len(micro_model.parts)
        asked.clear()


def test_a_program_that_gives_something_else_is_told(lowered, monkeypatch):
    parts = lowered().parts
    ports = {p.name: np.zeros(p.shape, np.float32) for p in parts.contract.inputs("vision")}
    real = parts.execute
    for change in (lambda made: made * 2, lambda made: [made[0][:, :1]], lambda made: []):
        monkeypatch.setattr(parts, "execute", lambda *call, to=change: to(real(*call)))
        with pytest.raises(JobFault, match="EV304") as told:
            parts.run("vision", ports)
        assert "method vision gives" in told.value.why
        with pytest.raises(JobFault, match="EV304"):
            parts.read("key_0")


def test_rows_are_rounded_as_finely_as_in_the_graph(lowered):
    """Against the model before any rounding: other numbers, and no further from the truth."""
    made = lowered("8da4w")
    seen, graphs = observe(made.source, made.probes), ReferenceParts(made.model.parts)
    source = ReferenceParts(made.source.parts)
    for role in ("connector", "prefill", "decode"):
        ours, theirs = (
            compare_parts(source, side, seen, [role])[role].sqnr_db for side in (graphs, made.parts)
        )
        assert theirs > ours - 3, role


def test_greedy_answers_are_the_same_token_for_token(lowered):
    made = lowered()
    want, found = (observe(made.model, made.probes, p) for p in (None, made.parts))
    assert found.answers == want.answers
    again = observe(made.model, made.probes, made.parts)  # caches of the last answer are no matter
    assert again.answers == want.answers


def test_caches_are_one_for_all_methods_and_can_be_kept(lowered):
    """Prefill's rows are what decode reads, whatever runs in between; out and in again the same."""
    parts, rng = lowered().parts, np.random.default_rng(0)
    contract = parts.contract
    shape = contract.inputs("decode")[-1].shape
    caches = {f"{k}_0": rng.normal(size=shape).astype(np.float32) for k in ("key", "value")}
    parts.write(caches)
    parts.run("vision", {"pixel_values": np.zeros(contract.inputs("vision")[0].shape, np.float32)})
    for name, array in caches.items():
        np.testing.assert_array_equal(parts.read(name), array)
    step = {
        "inputs_embeds": rng.normal(size=(1, 1, contract.width)).astype(np.float32),
        "position_ids": np.array([[12]]),
        "cache_position": np.array([12]),
    }
    first = parts.run("decode", step)["logits"]
    changed = parts.read("key_0")
    assert (changed[:, :, 12] != caches["key_0"][:, :, 12]).any()
    np.testing.assert_array_equal(np.delete(changed, 12, 2), np.delete(caches["key_0"], 12, 2))
    parts.write(caches)
    np.testing.assert_array_equal(parts.run("decode", step)["logits"], first)


def test_everything_that_computes_is_delegated(lowered):
    """What stays outside looks things up, or writes rows: a table of a few names."""
    for artifact in lowered().artifacts:
        placed = artifact.settings["placed"]
        assert set(placed["left"]) <= {
            "embedding", "index_put", "index_select", "le", "unsqueeze_copy", "where",
            "_to_dim_order_copy", "view_copy",
        }, artifact.role  # fmt: skip
        assert not {"native_layer_norm", "mean", "expand_copy"} & set(placed["delegated"])
    by_role = {a.role: a.settings["placed"] for a in lowered().artifacts}
    assert by_role["vision"]["delegates"] == 1 and by_role["vision"]["share"] == 1
    assert by_role["decode"]["delegates"] <= 3


def test_weights_of_prefill_and_decode_are_in_the_file_once(lowered):
    made = lowered()
    sizes = {role: weights(part) for role, part in made.model.parts.items()}
    assert sizes["prefill"] == pytest.approx(sizes["decode"], rel=0.01)
    file = (made.folder / made.artifacts[0].file).stat().st_size
    assert file < sum(sizes.values()) - 0.5 * sizes["decode"] + 300_000


def weights(part):
    return sum(v.const_value.nbytes for v in part.graph.initializers.values())


def test_integers_make_it_smaller(lowered):
    size = {s: (lowered(s).folder / lowered(s).artifacts[0].file).stat().st_size for s in FLOORS}
    assert size["8da4w"] < size["w8a8"] < size["none"]


def test_codes_arrive_as_codes(lowered):
    """q k v o, up, down, head: six products of static int8, and logits, which keep their bits."""
    static, dynamic = (
        {a.role: a.settings["placed"]["delegated"] for a in lowered(scheme).artifacts}["decode"]
        for scheme in ("w8a8", "8da4w")
    )
    assert static["dequantize_per_channel"] == 7
    assert static["quantize_per_tensor"] == 6 + 4  # an output each, and inputs that are shared
    assert static["choose_qparams_affine"] == 1
    assert dynamic["choose_qparams_affine"] == 7
    assert dynamic["dequantize_affine"] == 2 * 7  # rows, and blocks of weights


def test_a_broken_program_is_told(lowered, tmp_path):
    made = lowered()
    name = made.artifacts[0].file
    whole = (made.folder / name).read_bytes()
    (tmp_path / "executorch").mkdir()
    for data in (b"", b"no program", whole[:1000], whole[: len(whole) // 2]):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(JobFault) as caught:
            made.runtime.open_artifacts(tmp_path, made.artifacts, made.model.contract)
        assert caught.value.code == "EV304"


def test_a_program_of_another_model_is_told(lowered, make_micro):
    made, other = lowered(), make_micro(layers=1, width=32, heads=2)
    with pytest.raises(JobFault, match="the contract says") as caught:
        made.runtime.open_artifacts(made.folder, made.artifacts, other.contract)
    assert caught.value.code == "EV304"


def test_feeds_of_another_shape_are_told(lowered):
    with pytest.raises(JobFault) as caught:
        lowered().parts.run("connector", {"image_features": np.zeros((1, 2, 3), np.float32)})
    assert caught.value.code == "EV307"


def test_backends_by_name():
    runtime, pixel = find_runtime("executorch"), find_device("pixel-9")
    assert runtime.aimed_at(pixel).sdk == {"backend": "xnnpack"}
    with pytest.raises(UsageFault, match="backends: xnnpack") as caught:
        runtime.aimed_at(pixel, "cuda")
    assert caught.value.code == "EV308"

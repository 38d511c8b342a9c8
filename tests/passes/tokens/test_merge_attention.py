"""merge-attention on whole models: what it does, what it leaves alone, what it refuses."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.axes import analyse
from edgevlm.compiler.cost import count
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.executor import open_session
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.compiler.recipe import Recipe, Step
from edgevlm.passes import make_passes
from edgevlm.passes.tokens.forms import FORMS
from edgevlm.passes.tokens.keep_tokens import KeepTokens
from edgevlm.passes.tokens.merge_attention import MergeAttention

SMALL = {"block": 8, "queries": 0.75, "keys": 0.5, "back": 0.125}


def _load(name):
    spec = importlib.util.spec_from_file_location(
        f"token_{name}", Path(__file__).with_name(f"{name}.py")
    )
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference, vit = _load("merged"), _load("vit")


class Merging(vit.Vit):
    """The float64 ViT, with attention over merged rows in the blocks `where`."""

    where: tuple[int, ...] = ()
    options: dict = SMALL

    def attend(self, block, rows, sizes):
        seen = super().attend(block, rows, sizes)
        if not any(block is self.blocks[i] for i in self.where):
            return seen
        o, patches = self.options, len(rows) - self.first
        common = {"block": o["block"], "targets": o.get("targets", 0.25)}
        sides = [
            reference.sides(x, self.first, patches, **common, **side)
            for x, side in (
                (seen.q, {"share": o["queries"], "back": o["back"]}),
                (seen.k, {"share": o["keys"]}),
            )
        ]
        out = reference.attend(seen.q, seen.k, seen.v, *sides, sizes=sizes)
        out = out.transpose(1, 0, 2).reshape(len(rows), -1)
        weight, bias = block.w["o"]
        seen.middle = rows + out @ weight + bias
        return seen


def refused(call, code="EV230", fault=UsageFault):
    with pytest.raises(fault) as caught:
        call()
    assert caught.value.code == code
    return caught.value


def run(part, pixels):
    session = open_session(part)
    names = [v.name for v in session.get_outputs()]
    return dict(zip(names, session.run(names, {"pixel_values": pixels[None]}), strict=True))


def pixels_of(model, seed=0):
    c = model.contract
    shape = (3, c.image_height, c.image_width)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def attentions(model):
    return [n for n in model.parts["vision"].graph if n.op_type == "Attention"]


def with_exit(model):
    """The vision part with the stream behind the last block as a further output."""
    part = model.parts["vision"].clone()
    part.graph.outputs.append(
        next(v for n in part.graph for v in n.outputs if v.name == "features")
    )
    return part


@pytest.mark.parametrize("where", [(), (1,)])
@pytest.mark.parametrize(("lead", "grid"), [(0, (4, 6)), (1, (4, 6)), (1, (3, 5))])
@pytest.mark.parametrize("kind", ["classifier", "dense"])
def test_it_is_what_a_float64_vit_says(kind, lead, grid, where):
    """Blocks of eight begin amid a row of six patches; fifteen leave one in no block."""
    plain = vit.plain_vit(kind, lead=lead, grid=grid)
    made = MergeAttention(**SMALL, blocks=where)(plain).model
    pixels, check = pixels_of(plain), Merging.of_micro(plain)
    before = check(pixels)[-1].exit
    check.where = where or (0, 1, 2)
    wanted = check(pixels)[-1].exit
    found = run(with_exit(made), pixels)["features"][0]
    np.testing.assert_allclose(found, wanted, atol=1e-3, rtol=1e-3)
    assert np.abs(wanted - before).max() > 0.1
    assert made.contract == plain.contract
    for a, b in zip(*(m.parts["vision"].graph.outputs for m in (plain, made)), strict=True):
        assert (a.name, list(a.shape), a.dtype) == (b.name, list(b.shape), b.dtype)


def test_a_share_of_nothing_is_the_identity():
    plain = vit.plain_vit()
    for none in ({"queries": 0, "keys": 0}, {"queries": 0.01, "keys": 0.01, "block": 8}):
        result = MergeAttention(**none)(plain)
        assert not result.changed and result.model is plain
        assert all(note.kind == "skipped" for note in result.notes)
    assert not MergeAttention(queries=0.9, back=0.9, keys=0)(plain).changed  # as many return


def test_twice_is_once_also_behind_a_file():
    plain = vit.plain_vit("dense")
    once, again = (MergeAttention(**SMALL)(plain).model.parts["vision"] for _ in range(2))
    assert ir.to_proto(once) == ir.to_proto(again)
    read = ir.from_proto(ir.to_proto(once))
    for part in (once, read):
        result = MergeAttention(**SMALL)(plain.with_parts(vision=part))
        assert not result.changed and "merged already" in result.notes[0].why
    other = MergeAttention(**SMALL | {"keys": 0.25})
    fault = refused(lambda: other(plain.with_parts(vision=once)), "EV205")
    assert '"keys":0.5' in fault.why
    steps = [MergeAttention(**SMALL | {"keys": 0.1 * b}, blocks=[b]) for b in range(1, 3)]
    made = plain
    for step in steps:
        made = step(made).model
    assert [n.inputs[1].shape[2] for n in attentions(made)] == [17, 15, 13]


def test_rows_and_cost_are_those_of_the_plan():
    plain = vit.plain_vit(grid=(8, 8), lead=1)
    result = MergeAttention(queries=0.9, keys=0.7, back=0.1)(plain)
    for node in attentions(result.model):  # 64 patches: 58 merge, 6 return; 45 merge
        assert [int(v.shape[2]) for v in node.inputs[:3]] == [13, 20, 20]
        assert list(node.inputs[3].shape) == [1, 2, 13, 20]
    assert "13 queries and 20 keys of 65 rows" in result.notes[0].why
    part = result.model.parts["vision"]
    shapes = analyse(part.graph, result.model.contract.signature("vision"))
    assert max(np.prod([int(d) for d in v.shape]) for v in shapes.terms if v.shape) < 2 * 65 * 65

    work = [sum(int(n.inputs[0].shape[2] * n.inputs[1].shape[2]) for n in attentions(m))
            for m in (plain, result.model)]  # fmt: skip
    assert work == [3 * 65 * 65, 3 * 13 * 20]
    large = vit.plain_vit(grid=(16, 16), blocks=1)
    merged = MergeAttention()(large).model
    assert count(merged.parts["vision"]).macs < count(large.parts["vision"]).macs


def test_heads_go_their_own_ways():
    plain = vit.plain_vit(seed=3)
    part = MergeAttention(**SMALL)(plain).model.parts["vision"]
    node = next(n for n in part.graph if n.op_type == "Attention")
    mask = node.inputs[3]
    part.graph.outputs.append(mask)
    sizes = np.exp(run(part, pixels_of(plain))[mask.name])[0, :, 0]
    np.testing.assert_allclose(sizes.sum(1), 17, atol=1e-4)
    assert not np.allclose(sizes[0], sizes[1])


def behind(model, at, **options):
    return KeepTokens(keep=9, at=at, options=options, method="tome")(model).model


@pytest.mark.parametrize(("proportional", "share"), [(True, 0.5), (False, 0.5), (True, 0.0)])
def test_behind_tome_sizes_are_weights(proportional, share):
    """Taps in front of one attention and behind it, against loops."""
    shorter = behind(vit.plain_vit(grid=(4, 4)), "vision:0")
    options = SMALL | {"proportional": proportional, "keys": share, "blocks": [1]}
    made = MergeAttention(**options)(shorter).model
    part, old = shorter.parts["vision"].clone(), attentions(shorter)[1]
    inputs = [next(v for n in part.graph for v in n.outputs if v.name == old.inputs[i].name)
              for i in range(4)]  # fmt: skip
    part.graph.outputs.extend(inputs)
    pixels = pixels_of(shorter)
    tapped = run(part, pixels)
    q, k, v, mask = (tapped[value.name][0].astype(np.float64) for value in inputs)
    sizes = np.exp(mask[0, 0])
    assert len(sizes) == 10 and sizes.sum() == pytest.approx(17)
    common = {"start": 1, "count": 9, "block": 8}
    queries = reference.sides(q, **common, share=0.75, back=0.125)
    keys = reference.sides(k, **common, share=share)
    wanted = reference.attend(q, k, v, queries, keys, sizes=sizes)
    behind_it = {n.name: n for n in part.graph}[old.outputs[0].uses()[0].node.name]
    after = made.parts["vision"].clone()
    read = next(n for n in after.graph if n.name == behind_it.name).inputs[0]
    after.graph.outputs.append(read)
    np.testing.assert_allclose(run(after, pixels)[read.name][0], wanted, atol=1e-4)


def test_behind_sites_that_drop_it_merges_what_is_left(make_micro):
    model = make_micro(grid=(4, 5), tower=3, width=16, heads=4, kv_heads=2)
    for at in ("vision:1", "vision-out", "connector-out"):
        shorter = KeepTokens(keep=8, method="stride", at=at)(model).model
        made = MergeAttention(**SMALL)(shorter).model
        rows = [int(n.inputs[0].shape[2]) for n in attentions(shorter)]
        assert rows == ([21, 9, 9] if at == "vision:1" else [21, 21, 21])
        assert [int(n.inputs[0].shape[2]) for n in attentions(made)] < rows
        assert made.contract == shorter.contract


def test_what_comes_too_late_is_refused():
    for late in ("keep-tokens", "resize-image", "gather-early"):
        options = {"keep-tokens": {"keep": 4}, "resize-image": {"tokens": 4}}.get(late, {})
        steps = (Step("merge-attention"), Step(late, options))
        fault = refused(lambda steps=steps: make_passes(Recipe("cpu", steps)), "EV205")
        assert "merge-attention" in fault.what and late in fault.what
        assert len(make_passes(Recipe("cpu", steps[::-1]))) == 2
    made = MergeAttention(**SMALL)(vit.plain_vit("dense")).model
    with pytest.raises((UsageFault, JobFault)):  # also without a recipe: never in silence
        KeepTokens(keep=4, at="vision:1", method="stride")(made)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_runs_it_unless_its_topk_is_too_small(form, monkeypatch):
    step = MergeAttention(**SMALL, form=form)
    made = step(vit.plain_vit()).model
    pixels = pixels_of(made)
    assert np.isfinite(run(made.parts["vision"], pixels)["logits"]).all()
    monkeypatch.setattr(step, "form", replace(FORMS[form], topk=1))
    fault = refused(lambda: step(vit.plain_vit()), "EV231")
    assert form in fault.what and "at most 1" in fault.why


def test_the_bundled_model_answers_as_before(tiny_model, tiny_probes):
    step = MergeAttention(queries=0.5, keys=0.5)
    made, record, _ = run_passes(tiny_model, [step], tiny_probes)
    check = record[0].check
    assert check.agree == check.probes == 12 and 30 < check.logits.sqnr_db < 100
    assert [int(n.inputs[0].shape[2]) for n in attentions(made)] == [39] * 4

"""Several sites in one recipe: what each leaves, order, growth, and where tokens cannot leave."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.blocks import find_blocks
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.cost import image_tokens
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.executor import ReferenceParts, open_session
from edgevlm.compiler.exported_model import load_model, save_model
from edgevlm.compiler.generate import encode_image
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.compiler.reference import observe
from edgevlm.compiler.validate import validate
from edgevlm.models.answer import inputs_of
from edgevlm.passes.tokens.connector_view import ConnectorView
from edgevlm.passes.tokens.forms import FORMS
from edgevlm.passes.tokens.keep_tokens import KeepTokens
from edgevlm.passes.tokens.methods import METHODS
from edgevlm.passes.tokens.sites import Site

SCHEDULE = [("vision:1", 16), ("vision:2", 14), ("vision-out", 11), ("connector-out", 8),
            ("llm:0", 7), ("llm:1", 5), ("llm:2", 2)]  # fmt: skip


def steps(schedule, method="dart"):
    return [KeepTokens(keep=keep, method=method, at=at) for at, keep in schedule]


def through(model, schedule, method="dart"):
    for step in steps(schedule, method):
        model = step(model).model
    return model


def refused(model, schedule, code):
    *first, last = schedule
    with pytest.raises(UsageFault) as caught:
        steps([last])[0](through(model, first))
    assert caught.value.code == code, caught.value
    return caught.value


@pytest.fixture(scope="module")
def probes(small):
    model = small()
    return inputs_of(model)


@pytest.mark.parametrize("method", ["dart", "stride", "divprune"])
def test_every_site_at_once(small, probes, method):
    model, record, _ = run_passes(small(), steps(SCHEDULE, method), probes)
    validate(model)
    c = model.contract
    assert all(a.changed for a in record) and (c.vision_kept, c.kept_image_tokens) == (11, 8)
    assert c.layer_tokens == (7, 5, 2)
    assert [(s.layer, s.given, s.tokens) for s in c.sites] == [(0, 8, 7), (1, 7, 5), (2, 5, 2)]
    assert all(np.isfinite(x).all() for x in observe(model, probes).logits)


@pytest.mark.parametrize("method", ["visionzip", "prumerge", "score"])
def test_attention_of_rows_that_merged_is_no_tap(small, method):
    """ToMe merges amid the last block: its attention is of more rows than come out of it."""
    model = small()
    last = len(find_blocks(model.parts["vision"].graph)) - 1
    merged = through(model, [(f"vision:{last}", 14)], "tome")
    with pytest.raises(UsageFault) as caught:
        KeepTokens(keep=6, method=method, at="vision-out")(merged)
    assert caught.value.code == "EV230" and "another site in between" in caught.value.why
    early = through(model, [("vision:0", 14)], "tome")
    assert KeepTokens(keep=6, method=method, at="vision-out")(early).changed


def test_places_in_the_grid_survive_every_site(small, probes):
    """vision:1 and vision-out of a stride: the index that comes out is of the whole grid."""
    model = through(small(), [("vision:1", 10), ("vision-out", 5), ("connector-out", 2)], "stride")
    image = encode_image(model.contract, ReferenceParts(model.parts), probes[0].pixel_values)
    first = ((np.arange(10) + 0.5) * 2).astype(int)
    assert image.index.tolist() == first[[1, 3, 5, 7, 9]][[1, 3]].tolist()


def test_the_report_has_the_whole_schedule_and_an_average(small):
    c = through(small(), SCHEDULE).contract
    told = image_tokens(c)
    assert (told["kept"], told["of"], told["average"]) == (2, 20, round((7 + 5 + 2) / 3, 2))
    assert told["schedule"] == [
        {"at": "vision", "tokens": 11}, {"at": "connector", "tokens": 8},
        {"at": "llm:0", "tokens": 7}, {"at": "llm:1", "tokens": 5}, {"at": "llm:2", "tokens": 2},
    ]  # fmt: skip
    rows = sum(c.capacity_at(layer) for layer in range(3))
    assert told["kv_bytes"] == rows * 2 * c.kv_heads * c.head_dim * 4


@pytest.fixture(scope="module")
def pruned(small):
    """The model with nine tokens behind one site."""
    return functools.cache(lambda at: through(small(), [(at, 9)]))


ORDERS = [(a, b) for i, a in enumerate(SCHEDULE) for b in SCHEDULE[:i]]


@pytest.mark.parametrize(("late", "early"), ORDERS, ids=[f"{a[0]} {b[0]}" for a, b in ORDERS])
def test_a_site_in_front_of_one_that_is_placed_is_refused(pruned, late, early):
    """Also where the budgets would fall: what a later site chose was of all tokens."""
    fault = refused(pruned(late[0]), [(early[0], 4)], "EV205")
    assert early[0] in fault.what and "order" in fault.why and "sort" in fault.fix


@pytest.mark.parametrize(
    "schedule",
    [
        [("vision:1", 9), ("vision:2", 10)],
        [("vision:1", 9), ("vision-out", 20)],
        [("vision-out", 9), ("connector-out", 10)],
        [("vision:2", 9), ("llm:1", 10)],
        [("connector-out", 9), ("llm:0", 10)],
        [("llm:0", 9), ("llm:2", 10)],
    ],
    ids=str,
)
def test_a_schedule_that_grows_is_refused(small, schedule):
    fault = refused(small(), schedule, "EV203")
    assert "grows" in fault.what and "come back" in fault.why


@pytest.mark.parametrize("at", ["vision:1", "vision-out", "connector-out", "llm:1"])
def test_the_same_step_twice_is_once(small, at):
    once = through(small(), [(at, 6)])
    again = steps([(at, 6)])[0](once)
    assert not again.changed and again.model is once


def test_no_image_token_at_all_behind_a_layer(small, probes):
    model = through(small(), [("llm:1", 6), ("llm:2", 0)])
    validate(model)
    assert model.contract.layer_tokens == (20, 6, 0)
    assert "image_index_2" not in [v.name for v in model.parts["prefill"].graph.outputs]
    assert all(np.isfinite(x).all() for x in observe(model, probes).logits)


@pytest.mark.parametrize("at", ["vision:1", "vision-out", "connector-out"])
def test_no_image_token_at_all_is_refused_elsewhere(small, at):
    assert "1 to 20" in refused(small(), [(at, 0)], "EV203").why


def test_text_cannot_be_seen_in_front_of_the_language_model(small):
    for at in ("vision:1", "vision-out", "connector-out"):
        with pytest.raises(UsageFault) as caught:
            KeepTokens(keep=6, method="fastv", at=at)(small())
        fault = caught.value
        assert fault.code == "EV230" and "no text is seen there" in fault.why
        remedy = fault.fix.rpartition("--prune-at ")[2]
        assert remedy.startswith("llm:")
        assert KeepTokens(keep=6, method="fastv", at=remedy)(small()).changed


@pytest.fixture
def shuffled(small, graph):
    """A connector that makes one token of four neighbours, as SmolVLM's does."""
    model = small((4, 4), lead=0)
    d, w = model.contract.width, model.contract.vision_width
    text = f"""(float[1,16,{w}] image_features) => (float[1,4,{d}] image_embeds) {{
        a = Reshape(image_features, grid) b = Reshape(a, pairs)
        c = Transpose<perm = [0, 1, 3, 2, 4]>(b) e = Reshape(c, joined)
        image_embeds = MatMul(e, weight) }}"""
    rng = np.random.default_rng(0)
    connector = graph(
        text, grid=np.array([1, 4, 4, w]), pairs=np.array([1, 2, 2, 2, 2 * w]),
        joined=np.array([1, 4, 4 * w]), weight=rng.normal(size=(4 * w, d)).astype(np.float32),
    )  # fmt: skip
    contract = model.contract.model_copy(
        update={"image_tokens": 4, "kept_image_tokens": 4, "grid": (2, 2)}
    )
    return replace(model, contract=contract).with_parts(connector=connector)


@pytest.mark.parametrize("at", ["vision:0", "vision:2", "vision-out"])
def test_a_connector_that_joins_neighbours_is_told_as_the_reason(shuffled, at):
    with pytest.raises(UsageFault) as caught:
        KeepTokens(keep=2, at=at)(shuffled)
    fault = caught.value
    assert fault.code == "EV230" and "joins neighbours (a pixel shuffle)" in fault.why
    assert "connector-out" in fault.fix


def test_behind_such_a_connector_tokens_may_leave(shuffled):
    """Prefill is of another model here, so the connector alone is looked at."""
    part = shuffled.parts["connector"].clone()
    build = GraphBuilder(part, "t")
    embeds = part.graph.outputs[0]
    view = ConnectorView(
        build, Site.at("connector-out"), shuffled, FORMS["ort"], "dart", 2, 4,
        build("Reshape", embeds, build.const([4, 16])), 16, embeds=embeds,
    )  # fmt: skip
    part.graph.outputs.append(METHODS["dart"]().choose(view).index)
    build.finish()
    rows = np.random.default_rng(0).normal(size=(1, 16, 16)).astype(np.float32)
    index = open_session(part).run(None, {"image_features": rows})[1]
    assert len(index) == 2 and (np.diff(index) > 0).all()


def test_a_batch_of_pictures_is_refused_before_any_pass(make_micro, tmp_path):
    """The contract is of one picture: parts of two break it where the model is read."""
    model = make_micro()
    part = model.parts["connector"].clone()
    for value in (*part.graph.inputs, *(v for n in part.graph for v in n.outputs)):
        value.shape = ir.Shape([2, *list(value.shape)[1:]])
    save_model(model.with_parts(connector=part), tmp_path)
    with pytest.raises(JobFault) as caught:
        load_model(tmp_path)
    assert caught.value.code == "EV106" and "(2, 9, 4)" in str(caught.value)

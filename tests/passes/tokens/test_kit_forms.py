"""Every method in every form: the same set where it runs, a refusal with a way out where not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.forms import FORMS
from edgevlm.passes.tokens.keep_tokens import KeepTokens
from edgevlm.passes.tokens.methods import METHODS
from edgevlm.passes.tokens.sites import Site

KEEP, SEEDS = 6, range(8)
OTHERS = [name for name in FORMS if name != "ort"]
SHOWN = ("tensorrt", "fpga")  # the others that have a ramp write the same graphs
#: mean Jaccard with float32 that a form must reach; one token of six otherwise is 0.71. Random
#: weights make scores that span many orders of magnitude, where a ramp or few bits must tie some.
FLOORS = {"ramp": 0.9, "integer": 0.85}


def jaccard(a, b):
    return len(np.intersect1d(a, b)) / len(np.union1d(a, b))


def agreement(placed, other):
    pairs = [(placed.rows(s), other) for s in SEEDS]
    return np.mean([jaccard(placed.choose(rows), p.choose(rows)) for rows, p in pairs])


def refused_for(model, name, at, form):
    try:
        KeepTokens(keep=KEEP, method=name, at=at, form=form).requires(model)
    except UsageFault as fault:
        return fault
    return None


@pytest.mark.parametrize("form", OTHERS)
def test_a_form_chooses_the_same_or_says_which_method_can(method_at, place, small, form):
    name, at = method_at
    fault = refused_for(small(), name, at, form)
    if fault is None and form in SHOWN:
        level = agreement(place(name, at, KEEP), place(name, at, KEEP, form=form))
        assert level >= FLOORS[FORMS[form].ties], level
    if fault is None:
        return
    assert fault.code == "EV231" and name in fault.what and form in fault.what and fault.why
    near = fault.fix.rpartition("--prune ")[2].split()[0]
    assert near in METHODS and near != name and near in fault.why
    site = Site.at(METHODS[near].sites[0]) if at.split(":")[0] not in METHODS[near].sites else at
    result = KeepTokens(keep=KEEP, method=near, at=str(site), form=form)(small())
    assert result.changed


def test_every_form_runs_some_method_at_every_kind_of_site(small):
    """Also the text-aware sites: no target is left without a choice."""
    for form in FORMS:
        for at in ("vision:2", "vision-out", "connector-out", "llm:2"):
            kind = at.split(":")[0]
            able = [
                m for m, cls in METHODS.items()
                if kind in cls.sites and refused_for(small(), m, at, form) is None
            ]  # fmt: skip
            assert len(able) >= 3, (form, at, able)


BY_SCORE = [n for n, m in METHODS.items() if m.lowering == "A" and m.permutation == "equivariant"]


@pytest.mark.parametrize(("bits", "floor"), [(8, 0.85), (12, 0.95), (16, 0.99)])
@pytest.mark.parametrize("name", BY_SCORE)
def test_t10_integer_scores_choose_nearly_what_float_scores_do(
    place, put_in, small, name, bits, floor, record_property
):
    placed = place(name, str(METHODS[name]().default_sites(3, 3)[0]), KEEP)
    form = replace(FORMS["fpga"], bits=bits)
    level = agreement(placed, put_in(small(), name, str(placed.site), KEEP, form=form))
    record_property("T10 Jaccard", level)
    print(f"T10 {name} at {bits} bits: {level:.3f}")
    assert level >= floor


def test_t10_there_are_methods_that_go_by_score():
    assert {"fastv", "v2drop"} <= set(BY_SCORE)


def chain(graph):
    """Of the nodes that choose: how many of them, at most, wait for one another."""
    depth: dict[object, int] = {}
    for node in graph:
        before = max((depth.get(v, 0) for v in node.inputs if v is not None), default=0)
        chooses = node.op_type in ("ArgMax", "ArgMin", "TopK")
        depth |= dict.fromkeys(node.outputs, before + chooses)
    return max(depth.values())


def test_a_chain_is_one_step_a_token_where_the_target_allows_it(place):
    placed = place("divprune", "connector-out", 12)
    assert chain(placed.model.parts["connector"].graph) == 13
    assert not any("steps" in note for note in placed.notes)


def test_what_is_chosen_in_blocks_is_noted(put_in, small):
    form = replace(FORMS["tensorrt"], steps=4)
    notes = put_in(small(), "divprune", "connector-out", 12, form=form).notes
    assert any("4 steps of up to 3" in note for note in notes)


GREEDY = [n for n, m in METHODS.items() if m.greedy]


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("name", GREEDY)
def test_a_chain_that_is_too_long_for_the_target_goes_in_blocks(
    put_in, small, hostile, name, steps
):
    at = str(METHODS[name]().default_sites(3, 3)[0])
    form = replace(FORMS["tensorrt"], steps=steps)
    keep = max(12, METHODS[name]().least(Site.at("llm", 2)))
    placed = put_in(small(), name, at, keep, form=form)
    # there may be two chains, one behind the other; a start, scores and sorting come on top
    assert chain(placed.model.parts[placed.role].graph) <= 2 * steps + 4
    for rows in hostile(20, placed.width).values():
        index = placed.choose(rows)
        assert len(index) == keep and (np.diff(index) > 0).all()
        assert index[0] >= 0 and index[-1] < 20


def test_a_topk_that_is_too_large_for_the_target_is_refused(small, monkeypatch):
    monkeypatch.setitem(FORMS, "tensorrt", replace(FORMS["tensorrt"], topk=5))
    assert refused_for(small(), "dart", "connector-out", "tensorrt").code == "EV231"
    KeepTokens(keep=5, method="dart", form="tensorrt").requires(small())

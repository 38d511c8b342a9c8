"""Every method in every form: the same set where it runs, a refusal with a way out where not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.forms import FORMS, why_not
from edgevlm.passes.tokens.keep_tokens import KeepTokens
from edgevlm.passes.tokens.methods import METHODS
from edgevlm.passes.tokens.sites import Site

KEEP, SEEDS = 6, range(6)
OTHERS = [name for name in FORMS if name != "ort"]
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


def agrees(place, small, name, at, form):
    """Where it does not run at all it is refused, which is another test's."""
    if refused_for(small(), name, at, form) is None:
        level = agreement(place(name, at, KEEP), place(name, at, KEEP, form=form))
        assert level >= FLOORS[FORMS[form].ties], level


def test_with_a_ramp_it_chooses_the_same(method_at, place, small):
    """Others that have a ramp write the same graphs as tensorrt."""
    agrees(place, small, *method_at, "tensorrt")


def test_in_integers_it_chooses_the_same(own_at, place, small):
    """Forms are known to pieces alone, so what one site shows holds at the others."""
    agrees(place, small, *own_at, "fpga")


def test_a_refusal_says_which_method_can(method_at, small):
    name, at = method_at
    for form in OTHERS:
        fault = refused_for(small(), name, at, form)
        if fault is not None:
            assert fault.code == "EV231" and name in fault.what and form in fault.what and fault.why
            near = fault.fix.rpartition("--prune ")[2].split()[0]
            assert near in METHODS and near != name and near in fault.why
            there = at.split(":")[0] in METHODS[near].sites
            site = at if there else str(Site.at(METHODS[near].sites[0]))
            assert refused_for(small(), near, site, form) is None


def test_forms_refuse_some_methods_and_not_all():
    """Neither test above is of nothing."""
    for form in (FORMS["coreml"], FORMS["executorch"], FORMS["fpga"]):
        told = [n for n, m in METHODS.items() if why_not(form, m.greedy, m.lowering, KEEP)]
        assert 0 < len(told) < len(METHODS) / 2, (form.name, told)
    assert not any(why_not(FORMS["tensorrt"], m.greedy, m.lowering) for m in METHODS.values())


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
    place, put_in, host, name, bits, floor, record_property
):
    placed = place(name, str(METHODS[name]().default_sites(3, 3)[0]), KEEP)
    form = replace(FORMS["fpga"], bits=bits)
    other = put_in(host(str(placed.site)), name, str(placed.site), KEEP, form=form)
    level = agreement(placed, other)
    record_property("T10 Jaccard", float(level))
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
def test_a_chain_that_is_too_long_for_the_target_goes_in_blocks(put_in, host, hostile, name, steps):
    at = str(METHODS[name]().default_sites(3, 3)[0])
    form = replace(FORMS["tensorrt"], steps=steps)
    keep = max(12, METHODS[name]().least(Site.at("llm", 2)))
    placed = put_in(host(at), name, at, keep, form=form)
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

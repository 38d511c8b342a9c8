"""A runtime that keeps caches itself, driven by the one token loop: ONNX Runtime plays it here."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler import contract
from edgevlm.compiler.attention import grouped_attention
from edgevlm.compiler.compare_parts import compare_parts
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.held_state import Held, StateParts
from edgevlm.compiler.kv_state import decode_with_state, prefill_with_state
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.reference import observe
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.passes.tokens.schedule import parse_asked


class Keeper(StateParts):
    """Caches in a dict, which prefill and decode replace."""

    def __init__(self, model):
        super().__init__(model.contract)
        plain = {role: grouped_attention(part, None) for role, part in model.parts.items()}
        plain["prefill"] = prefill_with_state(plain["prefill"], model.contract)
        plain["decode"] = decode_with_state(plain["decode"], model.contract)
        self.parts, self.held, self.writes = ReferenceParts(plain), {}, 0

    def run(self, role, feeds):
        feeds = dict(feeds)
        if role == "decode":
            assert {n for n in feeds if n.startswith(("past_", "attention_mask"))} == set()
            feeds |= {f"past_{name}": array for name, array in self.held.items()}
        out = self.parts.call(role, feeds)
        self.held |= {n[8:]: out.pop(n) for n in list(out) if n.startswith("present_")}
        return out

    def read(self, name):
        return self.held[name]

    def write(self, caches):
        self.writes += 1
        self.held = {name: np.array(array) for name, array in caches.items()}


@pytest.fixture(params=[None, "fastv"], scope="module")
def model(request, tiny_model, tiny_probes):
    asked = parse_asked("24", request.param, None) if request.param else None
    recipe = compose("host-cpu", "ort", Flags(asked), tiny_model)
    return apply_unchecked(tiny_model, make_passes(recipe), tiny_probes[:2])


def test_answers_are_those_of_parts_that_hand_caches_over(model, tiny_probes):
    want, keeper = observe(model, tiny_probes[:3]), Keeper(model)
    found = observe(model, tiny_probes[:3], keeper)
    assert found.answers == want.answers
    for a, b in zip(found.logits, want.logits, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)
    assert keeper.writes == 0  # nothing was carried about
    # what a trace recorded are numbers, and the rows are those that the caller would have written
    for ours, theirs in zip(found.rows, want.rows, strict=True):
        for mine, other in zip(ours, theirs, strict=True):
            assert all(isinstance(array, np.ndarray) for array in mine.values())
            for name in other:
                np.testing.assert_allclose(mine[name], other[name], rtol=1e-3, atol=1e-3)


def test_any_call_can_be_made_and_compared(model, tiny_probes):
    """decode with caches that some other runtime filled: they are written first."""
    seen, keeper = observe(model, tiny_probes[:2]), Keeper(model)
    found = compare_parts(ReferenceParts(model.parts), keeper, seen, model.contract.roles)
    assert set(found) == set(model.contract.roles)
    assert min(drift.sqnr_db for drift in found.values()) > 90
    assert keeper.writes == 2


def test_recorded_feeds_of_a_step_are_the_contracts(model, tiny_probes):
    """So that they can be fed to any other runtime."""
    seen = observe(model, tiny_probes[:1], Keeper(model))
    out = ReferenceParts(model.parts).call("decode", seen.feeds[0]["decode"])
    assert np.isfinite(out["logits"]).all()


def test_a_step_makes_no_ports_again(model, tiny_probes, monkeypatch):
    """They are models of pydantic, sixteen of them a step: as long as the step itself."""
    keeper, seen = Keeper(model), observe(model, tiny_probes[:1])
    prompt = keeper.call("prefill", seen.feeds[0]["prefill"])
    cache = keeper.cache(model.contract, prompt)
    step = {n: seen.feeds[0]["decode"][n] for n in ("inputs_embeds", "position_ids")}
    first = keeper.call("decode", step | cache.feeds(model.contract.prefill_length))
    for name in ("input_ports", "output_ports"):
        monkeypatch.setattr(contract, name, lambda *_: pytest.fail("made again"))
    again = keeper.call("decode", step | cache.feeds(model.contract.prefill_length))
    np.testing.assert_array_equal(again["logits"], first["logits"])
    assert set(again) == set(first)


def test_a_held_array_is_fetched_when_it_is_looked_at(model):
    keeper, fetched = Keeper(model), []
    held = Held(lambda: fetched.append(1) or np.ones((1, 2)), (1, 2), np.dtype("f4"), keeper)
    assert held.shape == (1, 2) and not fetched
    assert np.asarray(held, np.float64).dtype == np.float64 and fetched == [1]

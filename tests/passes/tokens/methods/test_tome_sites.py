"""ToMe: how many tokens leave at each site, and sites it does not work at."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.keep_tokens import KeepTokens
from edgevlm.passes.tokens.methods import METHODS


def test_nothing_to_merge_is_the_identity(vit):
    plain = vit.plain_vit()
    result = KeepTokens(keep=16, at="vision:1", method="tome")(plain)
    assert not result.changed and result.model is plain


@given(st.integers(1, 300), st.integers(1, 32), st.floats(0, 1))
def test_the_same_number_leaves_in_every_block(count, blocks, share):
    keep = max(1, round(share * count))
    tome = METHODS["tome"]()
    sites = tome.default_sites(1, blocks)
    assert [str(s) for s in sites] == [f"vision:{b}" for b in range(blocks)]
    kept = tome.budgets(count, keep, sites)
    before = [count, *kept[:-1]]
    gone = [a - b for a, b in zip(before, kept, strict=True)]
    assert kept[-1] == keep and min(gone) >= 0
    if count // 2**blocks < keep:  # halves get there
        assert all(2 * k >= b - 1 for k, b in zip(kept, before, strict=True))
        r = max(gone)
        full = [g for g, b, k in zip(gone, before, kept, strict=True) if k > keep and r <= b // 2]
        assert set(full) <= {r}


def test_a_site_that_halves_are_not_enough_for_is_told(vit):
    plain = vit.plain_vit()
    for keep, rounds in ((8, 0), (1, 4)):
        notes = KeepTokens(keep=keep, at="vision:1", method="tome")(plain).notes
        told = [n.why for n in notes if "rounds of matching" in n.why]
        assert told == (
            [f"{keep} of 16 at one site: {rounds} rounds of matching"] if rounds else []
        )


def test_attention_with_a_mask_of_its_own_is_refused(vit):
    plain = vit.plain_vit()
    part = plain.parts["vision"].clone()
    build = GraphBuilder(part, "windows")
    nodes = [n for n in part.graph if n.op_type == "Attention"]
    nodes[1].resize_inputs(4)
    nodes[1].replace_input_with(3, build.const(np.zeros((17, 17)), np.float32))
    build.finish()
    windowed = plain.with_parts(vision=part)
    with pytest.raises(UsageFault, match="mask of its own") as caught:
        vit.shortened(windowed, "tome", {"vision:0": 8})
    assert caught.value.code == "EV230"

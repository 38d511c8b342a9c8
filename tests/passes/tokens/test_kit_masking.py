"""T1 at every site: dropping tokens is masking their keys from there on, at original positions.

The unpruned part gets an additive mask on the Attention of every block behind the site: -inf on the
columns of the dropped tokens. What stays must then be what the pruned part says, up to rounding.
What a method chooses is what leaves here; what it makes of those that stay, by merging, is left out
(test_kit_merging.py). Where tokens return behind one layer, the others pass it by
(tests/compiler/axes/test_shorten_until.py).
"""

from __future__ import annotations

import functools

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.blocks import find_blocks
from edgevlm.compiler.drift import measure
from edgevlm.compiler.executor import open_session

FLOOR_DB = 90.0
KEEP = 6
WORDS_BEFORE = 2  # in the kit's prompts
#: options that leave a method its choice and nothing else
ALONE = {"hilo": {"gain": 0}}


@pytest.fixture(scope="module")
def whole(host):
    """whole(role, start): the unpruned part, masked from a block on."""
    model = {"vision": host("vision-out"), "prefill": host("llm:2")}
    return functools.cache(lambda role, start: masked(model[role].parts[role], slice(start, None)))


def masked(part, blocks):
    """The part with one more input: a mask [rows, rows], added in the Attention of some blocks."""
    part = part.clone()
    found = [b.attention for b in find_blocks(part.graph)[blocks]]
    rows = int(find_blocks(part.graph)[0].entry.shape[1])
    mask = ir.val("mask", ir.DataType.FLOAT, [rows, rows])
    part.graph.inputs.append(mask)
    for node in found:
        assert len(node.inputs) == 3
        node.resize_inputs(4)
        node.replace_input_with(3, mask)
    return open_session(part), [str(v.name) for v in part.graph.outputs], rows


def run_masked(session, feeds, dropped):
    made, names, rows = session
    mask = np.zeros((rows, rows), np.float32)
    mask[:, dropped] = -np.inf
    np.fill_diagonal(mask, 0)  # a dropped token sees itself, so that its unused row stays finite
    return dict(zip(names, made.run(names, feeds | {"mask": mask}), strict=True))


def test_t1_what_stays_is_what_masking_leaves(leaving_at, put_in, host, whole):
    name, at = leaving_at
    placed = put_in(host(at), name, at, KEEP, bare=True, **ALONE.get(name, {}))
    role, site = placed.role, placed.site
    if role == "connector":
        feeds, out = placed.feeds(placed.rows(3)), placed.run(placed.rows(3))
        every = open_session(host(at).parts[role]).run(["image_embeds"], feeds)
        assert np.array_equal(out["image_embeds"], every[0][:, out["image_index"]])
        return
    # at the end of the encoder nothing is left to be masked, nor is the attention of a block from
    # whose middle tokens leave
    behind = site.depth + (site.kind == "vision" and placed.method.stream == "middle")
    session = whole(role, behind if site.kind != "vision-out" else 3)
    lead = WORDS_BEFORE if role == "prefill" else 1
    for seed in range(3):
        got = placed.run(placed.rows(seed))
        dropped = lead + np.setdiff1d(np.arange(placed.count), got[placed.index])
        stayed = np.setdiff1d(np.arange(session[2]), dropped)
        feeds = placed.feeds(placed.rows(seed))
        feeds.pop("image_start", None)
        want = run_masked(session, feeds, dropped)
        assert set(want) == set(got) - {placed.index}
        for name, full in want.items():
            rows = full[:, stayed] if name == "image_features" else full
            if name.startswith(("key", "value")) and full.shape != got[name].shape:
                rows = full[:, :, stayed]
            assert measure(rows, got[name], name).sqnr_db > FLOOR_DB


def test_t1_fails_for_another_choice(place, small):
    """The identity tells one dropped token from another."""
    placed = place("dart", "llm:2", KEEP)
    session = masked(small().parts["prefill"], slice(2, None))
    got, feeds = placed.run(placed.rows(0)), placed.feeds(placed.rows(0))
    feeds.pop("image_start")
    dropped = np.setdiff1d(np.arange(placed.count), got[placed.index])
    dropped[0] = got[placed.index][0]
    want = run_masked(session, feeds, WORDS_BEFORE + dropped)
    assert measure(want["logits"], got["logits"], "logits").sqnr_db < 60

"""T1 inside the language model: a token that leaves in front of a layer = a key hidden from it on.

llama.py computes the whole prompt and the words that were generated, all rows in all layers, in
float64. In front of layer l a site drops tokens: from there on nobody sees their columns. A site
whose tokens return hides them in its own layer, which their own rows pass by. The pruned prefill
and every decode step behind it, with caches of different length in each layer, must say the same.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest

from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.generate import _prompt, encode_image, generate
from edgevlm.models.zoo import bundled_folder
from edgevlm.passes.cleanup.drop_zero_masks import DropZeroMasks
from edgevlm.passes.cleanup.fold_constants import FoldConstants
from edgevlm.passes.cleanup.gather_early import GatherEarly
from edgevlm.passes.cleanup.merge_duplicates import MergeDuplicates
from edgevlm.passes.tokens.keep_tokens import KeepTokens

CHECKPOINT = bundled_folder("easyvqa-tiny").parent / "checkpoint"
LAYERS, NEW = 4, 5  # of the bundled model; tokens generated
SKIP = {"score": "random", "seed": 3}

#: (site, method, K, options); several are placed one behind the other
SCHEDULES = {
    "in front of all": [("llm:0", "random", 16, {})],
    "one token": [("llm:1", "random", 1, {"seed": 4})],
    "all but one": [("llm:3", "random", 63, {})],
    "three sites": [
        ("llm:1", "random", 24, {}),
        ("llm:2", "fastv", 9, {}),
        ("llm:3", "v2drop", 4, {}),
    ],
    "none behind the horizon": [("llm:2", "horizon", 0, {})],
    "none at all": [("llm:0", "horizon", 0, {})],
    "few, then none": [("llm:1", "transprune", 16, {}), ("llm:3", "horizon", 0, {})],
    "behind the connector too": [("connector-out", "dart", 32, {}), ("llm:2", "v2drop", 8, {})],
    "renumbered in front": [("connector-out", "dart", 32, {}), ("llm:1", "fastv", 8, {})],
    "every layer its own": [(f"llm:{i}", "alvts", 16, SKIP) for i in range(LAYERS)],
    "every layer, another K": [(f"llm:{i}", "alvts", 20 - 4 * i, SKIP) for i in range(LAYERS)],
    "one layer without any": [("llm:1", "alvts", 0, SKIP)],
    "mixed": [
        ("llm:0", "alvts", 16, SKIP),
        ("llm:2", "random", 20, {}),
        ("llm:3", "alvts", 5, SKIP),
    ],
}
#: gather-early leaves the last layer one row, so what a site there cuts is another region
CASES = [("cleaned", name) for name in SCHEDULES]
CASES += [("as exported", name) for name in ("all but one", "three sites", "mixed")]
#: words in front of the image and behind it; the capacity is 32
PROMPTS = {"image first": (0, 7), "longest": (5, 27), "image last": (6, 0)}
#: where tokens return, no word at the end means that whose logits are read depends on what is kept
TRIALS = [
    (*case, words)
    for case in CASES
    for words in PROMPTS
    if words != "image last" or "alvts" not in str(SCHEDULES[case[1]])
]


@pytest.fixture(scope="module")
def reference(llama):
    return llama.Llama.of_checkpoint(CHECKPOINT)


@pytest.fixture(scope="module")
def sources(tiny_model):
    cleaned = tiny_model
    for step in (FoldConstants, MergeDuplicates, DropZeroMasks, GatherEarly):
        cleaned = step()(cleaned).model
    return {"as exported": tiny_model, "cleaned": cleaned}


@pytest.fixture(scope="module")
def placed(sources):
    """placed(state, name): the pruned model of one schedule; its name says where it renumbers."""

    @functools.cache
    def make(state, name):
        model = sources[state]
        for at, method, keep, options in SCHEDULES[name]:
            first = name.startswith("renumbered") and at == "connector-out"
            position = "renumber" if first else "original"
            step = KeepTokens(keep=keep, method=method, at=at, options=options, position=position)
            model = step(model).model
        return model

    return make


def say(model, image, before, after):
    """(tokens, logits of each step, outputs of prefill), by ONNX Runtime."""
    parts, logits = ReferenceParts(model.parts), []
    given = (model.contract, parts, image, before, after)
    said = list(generate(*given, (), max_new=NEW, on_logits=logits.append))
    return said, logits, parts.call("prefill", _prompt(*given))


def masks(llama, contract, chosen, image, start, rows):
    """(who sees whom, who works) in each layer, for a whole prompt of so many rows."""
    sees, works, left = [], [], image.index
    for layer in range(contract.layers):
        here = left
        for site in contract.sites:
            if site.layer == layer:
                here = left[chosen[f"image_index_{layer}"]] if site.tokens else left[:0]
                left = left if site.returns else here
        off = start + np.setdiff1d(np.arange(contract.image_tokens), here)
        sees.append(llama.causal(rows, off))
        works.append(~np.isin(np.arange(rows), off))
    return sees, works


def whole_rows(source, every, before, text):
    """[L,D] and positions: words, all image tokens, words and what was generated behind them."""
    parts, chunks = ReferenceParts(source.parts), []
    for at in range(0, len(text), source.contract.prompt_capacity):
        ids = np.resize(text[at:], (1, source.contract.prompt_capacity))
        chunks.append(parts.call("embed", {"input_ids": ids})["text_embeds"][0])
    rows = np.concatenate(chunks)[: len(text)]
    x = np.concatenate([rows[:before], every.embeds[0], rows[before:]])
    return x, np.arange(len(x))


def renumbered(positions, kept, before):
    """Positions that close up where tokens left in front of the language model."""
    behind = before + 64
    rank = before + np.searchsorted(kept, np.arange(64))
    late = positions[behind:] - (64 - len(kept))
    return np.concatenate([positions[:before], rank, late])


@pytest.mark.parametrize(("state", "name", "words"), TRIALS)
def test_prefill_and_decode_are_the_whole_prompt_masked(
    llama, reference, sources, placed, tiny_probes, state, name, words
):
    source, model = sources[state], placed(state, name)
    ids = np.random.default_rng(len(words)).integers(4, source.contract.vocabulary, 32).tolist()
    front, back = PROMPTS[words]
    before, after = ids[:front], ids[front : front + back]
    pixels = tiny_probes[len(words)].pixel_values
    every = encode_image(source.contract, ReferenceParts(source.parts), pixels)
    kept = encode_image(model.contract, ReferenceParts(model.parts), pixels)
    said, logits, out = say(model, kept, before, after)

    x, positions = whole_rows(source, every, front, [*before, *after, *said])
    if name.startswith("renumbered"):
        positions = renumbered(positions, kept.index, front)
    sees, works = masks(llama, model.contract, out, kept, front, len(x))
    want = reference(x, positions, sees, works).logits
    behind = front + 64 + back  # the first word generated; the row in front is the last that works
    read = [np.flatnonzero(works[-1][:behind])[-1], *range(behind, behind + NEW - 1)]
    for got, row in zip(logits, read, strict=True):
        assert np.abs(got[0] - want[row]).max() < 3e-5 * np.abs(want[row]).max(), f"row {row}"
    assert said == want[read].argmax(-1).tolist()


@pytest.mark.parametrize(("state", "name"), CASES)
def test_caches_are_as_long_as_the_contract_says(placed, tiny_probes, state, name):
    model = placed(state, name)
    image = encode_image(model.contract, ReferenceParts(model.parts), tiny_probes[0].pixel_values)
    feeds = _prompt(model.contract, ReferenceParts(model.parts), image, [5], [6, 7])
    out = ReferenceParts(model.parts).call("prefill", feeds)
    kept = [model.contract.tokens_at(layer) for layer in range(LAYERS)]
    for layer, tokens in enumerate(kept):
        assert out[f"key_{layer}"].shape[2] == tokens + model.contract.prompt_capacity
    if name == "mixed":
        assert kept == [16, 64, 20, 5]
    if name == "every layer, another K":
        assert kept == [20, 16, 12, 8] and len(model.contract.masks) == 4


def test_it_can_fail(llama, reference, tiny_model, tiny_probes):
    """The mask of the layer in front, or of the layer behind, is plainly another function."""
    model = KeepTokens(keep=8, method="random", at="llm:2")(tiny_model).model
    parts = ReferenceParts(model.parts)
    image = encode_image(model.contract, parts, tiny_probes[0].pixel_values)
    _, logits, out = say(model, image, [5, 6], [7, 8, 9])
    text = parts.call("embed", {"input_ids": np.resize([5, 6, 7, 8, 9], (1, 32))})["text_embeds"][0]
    x = np.concatenate([text[:2], image.embeds[0], text[2:5]])
    off = 2 + np.setdiff1d(np.arange(64), out["image_index_2"])
    for first, close in ((1, False), (2, True), (3, False)):
        sees = [llama.causal(len(x), off if layer >= first else ()) for layer in range(LAYERS)]
        want = reference(x, np.arange(len(x)), sees).logits[-1]
        assert (np.abs(logits[0][0] - want).max() / np.abs(want).max() < 3e-5) == close

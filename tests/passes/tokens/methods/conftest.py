"""For methods inside the language model: what they decide, beside what ../llama.py computes.

in_micro(method, at, keep, seed=0, before=2, after=3, asked=0, idle=0.0, **options)
                 `Decided` on random rows of the miniature; `asked` is the seed of the words, `idle`
                 what unused rows hold
in_tiny(prune, tokens, at)                      `Decided` on probes of the bundled model, all passes

For methods in front of it:

spied(method, at, keep, seed=0, rows=None, grid=(4, 5), **options)
                 what it was shown (float64 [N,D]), what it chose and its content, in the miniature
in_tower(prune, tokens, at)                     the bundled model, and for some probes the unpruned
                                                features and embeddings, and the pruned ImageTokens
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest

from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.generate import _prompt, encode_image
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.models.zoo import bundled_folder
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.passes.tokens.schedule import parse_asked


@dataclass
class Decided:
    """One prompt: the reference's own model, its rows, and every output of the pruned prefill."""

    reference: ModuleType  # llama.py
    llama: object
    prompt: object
    out: dict[str, np.ndarray]

    def index(self, depth: int) -> np.ndarray:
        return self.out[f"image_index_{depth}"]

    @functools.cached_property
    def trace(self):
        """Of the whole prompt, nothing dropped: what holds up to the first site."""
        return self.llama(self.prompt.x, self.prompt.positions)

    def trace_behind(self, *depths: int):
        """As the prompt is where sites have dropped tokens: their keys hidden from there on."""
        rows, place = len(self.prompt.x), np.arange(self.prompt.count)
        sees, hidden = [], []
        for layer in range(len(self.llama.layers)):
            if layer in depths:
                place = place[self.index(layer)]
                hidden = self.prompt.start + np.setdiff1d(np.arange(self.prompt.count), place)
            sees.append(self.reference.causal(rows, hidden))
        return self.llama(self.prompt.x, self.prompt.positions, sees)


def layout(model, rows, before, after, asked, idle):
    """Feeds of prefill: words | image | words | idle rows, as the token loop lays them out."""
    contract, words = model.contract, np.random.default_rng([asked, 7])
    text = words.normal(size=(contract.prompt_capacity, contract.width))
    x = np.full((contract.prefill_length, contract.width), idle)
    used = before + len(rows) + after
    x[:used] = np.concatenate([text[:before], rows, text[before : before + after]])
    return {
        "inputs_embeds": x[None].astype(np.float32),
        "position_ids": np.arange(len(x))[None],
        "last_index": np.array([used - 1]),
        "image_start": np.array([before]),
    }


@pytest.fixture(scope="session")
def in_micro(small, put_in, llama):
    """Random rows in a miniature of random weights: 20 image tokens, six words at most."""

    @functools.cache
    def placed(method, at, keep, options, sizes):
        model = small(**dict(sizes))
        kept = keep if isinstance(keep, tuple) else (keep,)
        for site, budget in zip(at.split(","), kept, strict=True):
            made = put_in(model, method, site, budget, **dict(options))
            model = made.model
        return small(**dict(sizes)), made

    def decide(
        method,
        at,
        keep,
        seed=0,
        rows=None,
        before=2,
        after=3,
        asked=0,
        idle=0.0,
        sizes=(),
        **options,
    ):
        whole, made = placed(method, at, keep, tuple(sorted(options.items())), tuple(sizes))
        rows = np.random.default_rng(seed).normal(size=(64, made.width)) if rows is None else rows
        feeds = layout(whole, rows[: whole.contract.image_tokens], before, after, asked, idle)
        names = [v.name for v in made.session.get_outputs()]
        taken = {v.name for v in made.session.get_inputs()}
        fed = {name: value for name, value in feeds.items() if name in taken}
        out = dict(zip(names, made.session.run(names, fed), strict=True))
        prompt = llama.Prompt.of(feeds, whole.contract.image_tokens)
        return Decided(llama, llama.Llama.of_micro(whole), prompt, out)

    return decide


@pytest.fixture(scope="session")
def decided(llama):
    """decided(model, probes): the bundled model, pruned, beside its checkpoint in float64."""
    model64 = llama.Llama.of_checkpoint(bundled_folder("easyvqa-tiny").parent / "checkpoint")

    def of(model, probes):
        parts = ReferenceParts(model.parts)
        for probe in probes:
            image = encode_image(model.contract, parts, probe.pixel_values)
            feeds = _prompt(model.contract, parts, image, probe.before, probe.after)
            prompt = llama.Prompt.of(feeds, model.contract.kept_image_tokens)
            yield Decided(llama, model64, prompt, parts.call("prefill", feeds))

    return of


@pytest.fixture(scope="session")
def some_probes(tiny_probes):
    return tiny_probes[::4]


@pytest.fixture(scope="session")
def compiled(tiny_model, tiny_probes, some_probes):
    """compiled(prune, tokens, at): as it is compiled; it answered all of some probes.

    A method that is calibrated sees all of them.
    """

    @functools.cache
    def cleaned():
        model = tiny_model
        for step in make_passes(compose("host-cpu", "ort", Flags(), tiny_model)):
            model = step(model).model
        return model

    @functools.cache
    def make(prune, tokens, at):
        asked = parse_asked(tokens, prune, at)
        steps = make_passes(compose("host-cpu", "ort", Flags(asked), tiny_model))
        steps = [step for step in steps if step.name == "keep-tokens"]
        calibrated = any(step.method.calibrated for step in steps)
        probes = tiny_probes if calibrated else some_probes
        made, record, seen = run_passes(cleaned(), steps, probes)
        assert record and all(a.changed for a in record) and all(map(len, seen.answers))
        return made

    return make


@pytest.fixture(scope="session")
def in_tiny(compiled, some_probes, decided):
    """As it is compiled, then some probes: (model, [Decided]); it answered all of them."""

    @functools.cache
    def decide(prune, tokens="16", at=None):
        made = compiled(prune, tokens, at)
        return made, list(decided(made, some_probes))

    return decide


@pytest.fixture(scope="session")
def spied(small, put_in):
    @functools.cache
    def placed(method, at, keep, grid, options):
        return put_in(small(grid), method, at, keep, spy=True, **dict(options))

    def decide(method, at, keep, seed=0, rows=None, grid=(4, 5), **options):
        made = placed(method, at, keep, grid, tuple(sorted(options.items())))
        out = made.run(made.rows(seed) if rows is None else rows)
        return out["spy/tokens"].astype(np.float64), out["spy/index"], out.get("spy/content")

    return decide


@pytest.fixture(scope="session")
def in_tower(compiled, tiny_model, some_probes):
    @functools.cache
    def decide(prune, tokens="16", at=None):
        made = compiled(prune, tokens, at)
        whole, parts, found = ReferenceParts(tiny_model.parts), ReferenceParts(made.parts), []
        for probe in some_probes:
            features = whole.call("vision", {"pixel_values": probe.pixel_values})
            embeds = whole.call("connector", features)["image_embeds"]
            kept = encode_image(made.contract, parts, probe.pixel_values)
            found.append((features["image_features"][0], embeds[0], kept))
        return made, found

    return decide

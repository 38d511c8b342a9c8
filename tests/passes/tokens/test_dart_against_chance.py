"""T11: on the bundled model and held-out scenes, dart against stride and against random choices.

All choices share one pruned model (K = 16 of 64): the selector is the only thing that differs, and
each question is asked of all of them, so the comparison is paired.
"""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.generate import ImageTokens, encode_image, generate
from edgevlm.models.answer import Answerer
from edgevlm.models.datasets import load_dataset
from edgevlm.models.datasets.scoring import exact_match
from edgevlm.passes.tokens.keep_tokens import KeepTokens
from edgevlm.passes.tokens.pieces.select import spread_index

QUESTIONS, KEEP, SEEDS = 400, 16, range(5)


@pytest.fixture(scope="module")
def right(tiny_model):
    """For every way to choose: which of the questions were answered rightly."""
    pruned = KeepTokens(keep=KEEP)(tiny_model).model
    whole, parts = ReferenceParts(tiny_model.parts), ReferenceParts(pruned.parts)
    asker = Answerer(tiny_model.contract, tiny_model.processor, tiny_model.tokenizer, whole)
    count = tiny_model.contract.image_tokens
    found: dict[str, list[bool]] = {}
    for place, row in enumerate(load_dataset("easy-scenes", "test", limit=QUESTIONS).rows):
        pixels = asker.images(row.image)
        image = encode_image(tiny_model.contract, whole, pixels)
        features = whole.call("vision", {"pixel_values": pixels})
        choices = {
            "all": None,
            "dart": parts.call("connector", features)["image_index"],
            "stride": spread_index(count, KEEP),
        }
        for seed in SEEDS:
            rng = np.random.default_rng([seed, place])
            choices[f"random {seed}"] = np.sort(rng.choice(count, KEEP, replace=False))
        prompt = asker.text.encode(row.question, tiny_model.contract.prompt_capacity)
        for name, index in choices.items():
            model, runs, tokens = tiny_model, whole, image
            if index is not None:
                model, runs, tokens = pruned, parts, ImageTokens(image.embeds[:, index], index)
            said = generate(
                model.contract, runs, tokens, prompt.before, prompt.after, asker.text.eos_ids
            )
            answer = asker.text.decode(list(said))
            found.setdefault(name, []).append(exact_match(answer, row.answer))
    return {name: np.array(hits) for name, hits in found.items()}


def standard_errors(difference):
    """How many of its own standard errors a mean of paired differences is above 0."""
    return difference.mean() / (difference.std(ddof=1) / np.sqrt(len(difference)))


def test_dart_beats_random_choices(right):
    """Each question is its own control: dart's answer against the mean of five random ones."""
    randoms = np.array([right[f"random {seed}"] for seed in SEEDS])
    chance = randoms.mean(axis=1)
    z = standard_errors(right["dart"] - randoms.mean(axis=0))
    print(
        f"\nT11, {KEEP} of 64 tokens, {QUESTIONS} questions of easy-scenes: "
        f"all {right['all'].mean():.3f}, dart {right['dart'].mean():.3f}, "
        f"stride {right['stride'].mean():.3f}, random {chance.mean():.3f} "
        f"+- {chance.std(ddof=1):.3f} ({len(chance)} seeds); dart over random: {z:.1f} sigma"
    )
    assert right["dart"].mean() > chance.max()
    assert z > 3


def test_dart_beats_stride(right):
    z = standard_errors(right["dart"] - right["stride"].astype(float))
    print(f"\nT11, dart over stride: {z:.1f} sigma")
    assert z > 3


def test_dart_loses_little_against_all_tokens(right):
    """No claim, a floor: a quarter of the tokens keeps 19 right answers of 20."""
    assert right["dart"].mean() > 0.95 * right["all"].mean()


def test_tokens_matter_at_all(right):
    """Else nothing above could fail: most tokens dropped at random is plainly worse than none."""
    assert standard_errors(right["all"] - right["random 0"].astype(float)) > 3

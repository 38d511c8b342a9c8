"""T1 in float64, by a Llama of numpy (llama.py) that shares no code with the compiler.

The bundled checkpoint's own weights are read from its safetensors file. In float64 the identity
"gather with original positions = mask the dropped keys" holds to rounding of doubles; the pruned
ONNX prefill agrees with the same masked reference to rounding of float32.
"""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.generate import _prompt, encode_image
from edgevlm.models.zoo import bundled_folder
from edgevlm.passes.tokens.keep_tokens import KeepTokens

CHECKPOINT = bundled_folder("easyvqa-tiny").parent / "checkpoint"
KEEP = 16


@pytest.fixture(scope="module")
def causal(llama):
    return llama.causal


@pytest.fixture(scope="module")
def logits_of(llama):
    """logits_of(x, positions, sees) -> [L,V]"""
    model = llama.Llama.of_checkpoint(CHECKPOINT)
    return lambda *given: model(*given).logits


@pytest.fixture(scope="module")
def cases(tiny_model, tiny_probes):
    """Per probe: the whole prompt, the pruned one, each with ONNX's logits, and the kept rows."""
    pruned = KeepTokens(keep=KEEP)(tiny_model).model
    whole, short = ReferenceParts(tiny_model.parts), ReferenceParts(pruned.parts)
    made = []
    for probe in tiny_probes[::3]:
        sides = []
        for model, parts in ((tiny_model, whole), (pruned, short)):
            image = encode_image(model.contract, parts, probe.pixel_values)
            feeds = _prompt(model.contract, parts, image, probe.before, probe.after)
            rows = int(feeds["last_index"][0]) + 1
            logits = parts.call("prefill", feeds)["logits"][0]
            sides.append(
                (feeds["inputs_embeds"][0, :rows], feeds["position_ids"][0, :rows], logits)
            )
        rows = sides[1][1]  # original positions: the places of the kept rows in the whole prompt
        made.append((*sides, rows))
    return made


def far(a, b):
    """Largest difference relative to the largest logit."""
    return float(np.abs(a - b).max() / np.abs(b).max())


def test_the_reference_is_the_model_that_was_exported(logits_of, causal, cases):
    """Unpruned, unmasked: numpy in float64 against ONNX Runtime in float32."""
    for (x, positions, logits), _, _ in cases:
        assert far(logits, logits_of(x, positions, causal(len(x)))[-1]) < 2e-5


def test_gather_at_original_positions_is_masking(logits_of, causal, cases):
    errors = []
    for (x, positions, _), (fewer, kept_positions, _), rows in cases:
        assert np.array_equal(x[rows], fewer) and np.array_equal(positions[rows], kept_positions)
        dropped = np.setdiff1d(np.arange(len(x)), rows)
        assert len(dropped) == 64 - KEEP
        masked = logits_of(x, positions, causal(len(x), dropped))[rows]
        gathered = logits_of(fewer, kept_positions, causal(len(fewer)))
        errors.append(far(gathered, masked))
    print(f"T1, float64: {max(errors):.1e}")
    assert max(errors) < 1e-12


def test_the_pruned_onnx_prefill_is_that_masked_reference(logits_of, causal, cases):
    for (x, positions, _), (_, _, logits), rows in cases:
        dropped = np.setdiff1d(np.arange(len(x)), rows)
        assert far(logits, logits_of(x, positions, causal(len(x), dropped))[-1]) < 2e-5


@pytest.mark.parametrize("wrong", ["renumbered", "unsorted", "not masked", "shifted by one"])
def test_any_other_way_to_drop_tokens_is_not(logits_of, causal, cases, wrong):
    """What the identity rules out: each of these is seen, by five orders of magnitude and more."""
    for (x, positions, _), (fewer, kept, _), rows in cases:
        dropped = np.setdiff1d(np.arange(len(x)), rows)
        masked = logits_of(x, positions, causal(len(x), dropped))[rows[-1]]
        if wrong == "renumbered":
            got = logits_of(fewer, np.arange(len(fewer)), causal(len(fewer)))
        elif wrong == "unsorted":
            order = np.arange(len(fewer))
            order[4:12] = order[4:12][::-1]
            got = logits_of(fewer[order], kept[order], causal(len(fewer)))
        elif wrong == "not masked":
            got = logits_of(x, positions, causal(len(x)))
        else:  # only relative positions matter to RoPE, so only the image is shifted
            got = logits_of(fewer, kept + (kept > kept[10]), causal(len(fewer)))
        assert far(got[-1], masked) > 1e-7

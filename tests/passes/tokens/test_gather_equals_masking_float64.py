"""T1 in float64, by a Llama of forty lines of numpy that shares no code with the compiler.

The bundled checkpoint's own weights are read from its safetensors file. In float64 the identity
"gather with original positions = mask the dropped keys" holds to rounding of doubles; the pruned
ONNX prefill agrees with the same masked reference to rounding of float32.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.generate import _prompt, encode_image
from edgevlm.models.zoo import bundled_folder
from edgevlm.passes.tokens.keep_tokens import KeepTokens

CHECKPOINT = bundled_folder("easyvqa-tiny").parent / "checkpoint"
KEEP = 16


def read_safetensors(path):
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    assert {row["dtype"] for row in header.values()} == {"F16"}
    return {
        name.removeprefix("language_model.model."): np.frombuffer(
            data[start + row["data_offsets"][0] : start + row["data_offsets"][1]], np.float16
        ).reshape(row["shape"]).astype(np.float64)
        for name, row in header.items()
    }  # fmt: skip


class Llama:
    """Rows in, logits of every row out; which row sees which is given, and so is every position."""

    def __init__(self, folder):
        self.w = read_safetensors(folder / "model.safetensors")
        self.c = json.loads((folder / "config.json").read_text())["text_config"]

    def __call__(self, x, positions, sees):
        c, w, x = self.c, self.w, x.astype(np.float64)
        half = c["head_dim"] // 2
        speed = c["rope_parameters"]["rope_theta"] ** (-np.arange(half) / half)
        angle = np.asarray(positions, np.float64)[:, None] * speed
        turn = (np.tile(np.cos(angle), 2), np.tile(np.sin(angle), 2))
        for i in range(c["num_hidden_layers"]):
            at = f"layers.{i}."
            h = self.norm(x, at + "input_layernorm.weight")
            q, k, v = (self.heads(h @ w[f"{at}self_attn.{n}_proj.weight"].T) for n in "qkv")
            q, k = self.rotate(q, turn), self.rotate(k, turn)
            group = len(q) // len(k)
            scores = q @ np.repeat(k, group, 0).transpose(0, 2, 1) / np.sqrt(c["head_dim"])
            scores = np.where(sees, scores, -np.inf)
            share = np.exp(scores - scores.max(-1, keepdims=True))
            share /= share.sum(-1, keepdims=True)
            mixed = (share @ np.repeat(v, group, 0)).transpose(1, 0, 2).reshape(len(x), -1)
            x = x + mixed @ w[at + "self_attn.o_proj.weight"].T
            h = self.norm(x, at + "post_attention_layernorm.weight")
            gate = h @ w[at + "mlp.gate_proj.weight"].T
            wide = gate / (1 + np.exp(-gate)) * (h @ w[at + "mlp.up_proj.weight"].T)
            x = x + wide @ w[at + "mlp.down_proj.weight"].T
        return self.norm(x, "norm.weight") @ w["embed_tokens.weight"].T

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.c["rms_norm_eps"]) * self.w[name]

    def heads(self, x):
        return x.reshape(len(x), -1, self.c["head_dim"]).transpose(1, 0, 2)

    def rotate(self, x, turn):
        first, second = np.split(x, 2, -1)
        return x * turn[0] + np.concatenate([-second, first], -1) * turn[1]


def causal(rows, hidden=()):
    sees = np.tril(np.ones((rows, rows), bool))
    sees[:, list(hidden)] = False
    return sees | np.eye(rows, dtype=bool)


@pytest.fixture(scope="module")
def llama():
    return Llama(CHECKPOINT)


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


def test_the_reference_is_the_model_that_was_exported(llama, cases):
    """Unpruned, unmasked: numpy in float64 against ONNX Runtime in float32."""
    for (x, positions, logits), _, _ in cases:
        assert far(logits, llama(x, positions, causal(len(x)))[-1]) < 2e-5


def test_gather_at_original_positions_is_masking(llama, cases):
    errors = []
    for (x, positions, _), (fewer, kept_positions, _), rows in cases:
        assert np.array_equal(x[rows], fewer) and np.array_equal(positions[rows], kept_positions)
        dropped = np.setdiff1d(np.arange(len(x)), rows)
        assert len(dropped) == 64 - KEEP
        masked = llama(x, positions, causal(len(x), dropped))[rows]
        gathered = llama(fewer, kept_positions, causal(len(fewer)))
        errors.append(far(gathered, masked))
    print(f"T1, float64: {max(errors):.1e}")
    assert max(errors) < 1e-12


def test_the_pruned_onnx_prefill_is_that_masked_reference(llama, cases):
    for (x, positions, _), (_, _, logits), rows in cases:
        dropped = np.setdiff1d(np.arange(len(x)), rows)
        assert far(logits, llama(x, positions, causal(len(x), dropped))[-1]) < 2e-5


@pytest.mark.parametrize("wrong", ["renumbered", "unsorted", "not masked", "shifted by one"])
def test_any_other_way_to_drop_tokens_is_not(llama, cases, wrong):
    """What the identity rules out: each of these is seen, by five orders of magnitude and more."""
    for (x, positions, _), (fewer, kept, _), rows in cases:
        dropped = np.setdiff1d(np.arange(len(x)), rows)
        masked = llama(x, positions, causal(len(x), dropped))[rows[-1]]
        if wrong == "renumbered":
            got = llama(fewer, np.arange(len(fewer)), causal(len(fewer)))
        elif wrong == "unsorted":
            order = np.arange(len(fewer))
            order[4:12] = order[4:12][::-1]
            got = llama(fewer[order], kept[order], causal(len(fewer)))
        elif wrong == "not masked":
            got = llama(x, positions, causal(len(x)))
        else:  # only relative positions matter to RoPE, so only the image is shifted
            got = llama(fewer, kept + (kept > kept[10]), causal(len(fewer)))
        assert far(got[-1], masked) > 1e-7

"""A Llama in float64 that shares no code with the compiler, and shows all it computed.

conftest.py loads this file. Which row sees which is given, layer by layer, and so is every position
and which rows a layer works on at all; so whatever a pruned prompt means can be said without
pruning.

    llama = Llama.of_checkpoint(folder) | Llama.of_micro(model)
    trace = llama(x, positions)                       causal
    trace.layers[2].share                             float64 [heads,L,L], and all before and behind
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Llama", "Prompt", "Seen", "Trace", "causal", "is_top", "softmax"]


@dataclass
class Seen:
    """One layer: rows [L,D], and by head [heads,L,head_dim]; key heads are repeated."""

    entry: np.ndarray
    normed: np.ndarray
    plain_q: np.ndarray  # in front of the rotation
    plain_k: np.ndarray
    q: np.ndarray
    k: np.ndarray
    share: np.ndarray  # [heads,L,L] attention
    attended: np.ndarray  # what attention adds
    mlp_normed: np.ndarray
    mlp_out: np.ndarray  # what the MLP adds


@dataclass
class Trace:
    layers: list[Seen]
    logits: np.ndarray  # [L,V]


@dataclass
class Layer:
    w: dict[str, np.ndarray]  # q, k, v, o: [in,out]
    norms: tuple[np.ndarray, np.ndarray]
    mlp: Callable[[np.ndarray], np.ndarray]


class Llama:
    def __init__(self, layers, speed, eps, norm, head):
        self.layers, self.speed, self.eps, self.last, self.head = layers, speed, eps, norm, head
        self.dim = 2 * len(speed)

    @classmethod
    def of_checkpoint(cls, folder):
        w, c = (
            _read_safetensors(folder / "model.safetensors"),
            json.loads((folder / "config.json").read_text())["text_config"],
        )
        layers = []
        for i in range(c["num_hidden_layers"]):
            at = f"layers.{i}."
            sides = {n: w[f"{at}self_attn.{n}_proj.weight"].T for n in "qkvo"}
            gate, up, down = (w[f"{at}mlp.{n}_proj.weight"].T for n in ("gate", "up", "down"))
            norms = w[at + "input_layernorm.weight"], w[at + "post_attention_layernorm.weight"]
            layers.append(Layer(sides, norms, _gated(gate, up, down)))
        half = c["head_dim"] // 2
        speed = c["rope_parameters"]["rope_theta"] ** (-np.arange(half) / half)
        return cls(layers, speed, c["rms_norm_eps"], w["norm.weight"], w["embed_tokens.weight"].T)

    @classmethod
    def of_micro(cls, model):
        held = model.parts["prefill"].graph.initializers
        w = {
            str(name): np.asarray(value.const_value.numpy(), np.float64)
            for name, value in held.items()
        }
        ones, layers = w["ones"], []
        for i in range(model.contract.layers):
            sides = {n: w[f"w{n}_{i}"] for n in "qkvo"}
            up = w[f"up_{i}"]
            layers.append(Layer(sides, (ones, ones), _gated(up, up, w[f"down_{i}"])))
        return cls(layers, w["inv_freq"], 1e-6, ones, w["head"])

    def __call__(self, x, positions, sees=None, works=None):
        """sees: bool [L,L], or one a layer; works: rows bool [L] a layer works on, one a layer."""
        rows, x = len(x), np.asarray(x, np.float64)
        angle = np.asarray(positions, np.float64)[:, None] * self.speed
        turn = (np.tile(np.cos(angle), 2), np.tile(np.sin(angle), 2))
        seen = []
        for i, layer in enumerate(self.layers):
            allowed = causal(rows) if sees is None else sees[i] if isinstance(sees, list) else sees
            made = self._layer(layer, x, turn, allowed)
            seen.append(made)
            after = x + made.attended + made.mlp_out
            x = after if works is None else np.where(works[i][:, None], after, x)
        return Trace(seen, self.norm(x, self.last) @ self.head)

    def _layer(self, layer, x, turn, allowed):
        normed = self.norm(x, layer.norms[0])
        q, k, v = (self.heads(normed @ layer.w[n]) for n in "qkv")
        k, v = (np.repeat(each, len(q) // len(each), 0) for each in (k, v))
        rq, rk = self.rotate(q, turn), self.rotate(k, turn)
        logits = rq @ rk.transpose(0, 2, 1) / np.sqrt(self.dim)
        share = softmax(np.where(allowed, logits, -np.inf))
        attended = (share @ v).transpose(1, 0, 2).reshape(len(x), -1) @ layer.w["o"]
        mlp_normed = self.norm(x + attended, layer.norms[1])
        out = layer.mlp(mlp_normed)
        return Seen(x, normed, q, k, rq, rk, share, attended, mlp_normed, out)

    def norm(self, x, weight):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * weight

    def heads(self, x):
        return x.reshape(len(x), -1, self.dim).transpose(1, 0, 2)

    def rotate(self, x, turn):
        first, second = np.split(x, 2, -1)
        return x * turn[0] + np.concatenate([-second, first], -1) * turn[1]


@dataclass
class Prompt:
    """The rows of a prefill that hold something, and where the image is among them."""

    x: np.ndarray  # [L,D]
    positions: np.ndarray  # [L]
    start: int
    count: int

    @classmethod
    def of(cls, feeds, count):
        """Idle rows behind the last are left out: nothing may depend on them."""
        used = int(feeds["last_index"][0]) + 1
        x, positions = feeds["inputs_embeds"][0, :used], feeds["position_ids"][0, :used]
        return cls(x.astype(np.float64), positions, int(feeds["image_start"][0]), count)

    @property
    def image(self):
        return slice(self.start, self.start + self.count)

    @property
    def words(self):
        """Rows behind the image; its own last where there is none."""
        return np.arange(min(self.start + self.count, len(self.x) - 1), len(self.x))


def causal(rows, hidden=()):
    """Who sees whom; hidden columns are seen by themselves only."""
    sees = np.tril(np.ones((rows, rows), bool))
    sees[:, list(hidden)] = False
    return sees | np.eye(rows, dtype=bool)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def is_top(index, score, slack=1e-5):
    """Whether places `index` hold the largest scores, up to what float32 can tell apart."""
    rest = np.setdiff1d(np.arange(len(score)), index)
    edge = slack * np.abs(score).max()
    ordered = (np.diff(index) > 0).all() and len(rest) + len(index) == len(score)
    return bool(ordered and (len(rest) == 0 or score[index].min() >= score[rest].max() - edge))


def _gated(gate, up, down):
    def mlp(x):
        opened = x @ gate
        return opened / (1 + np.exp(-opened)) * (x @ up) @ down

    def micro(x):
        wide = x @ up
        return wide / (1 + np.exp(-wide)) @ down

    return micro if gate is up else mlp


def _read_safetensors(path):
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

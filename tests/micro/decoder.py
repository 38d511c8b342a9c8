"""Prefill and decode, Llama-like; each layer computes its Cos and Sin, as exported."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.contract import Contract
from micro.graph import parse_graph

__all__ = ["Decoder"]


class Decoder:
    """Text and weights of the language model.

    mask: None, "zeros" or "trues": a constant that masks nothing, on every Attention of prefill.
    """

    def __init__(self, contract: Contract, heads: int, mask: str | None, seed: int) -> None:
        self.c, self.heads, self.mask = contract, heads, mask
        rng = np.random.default_rng(seed)
        d, q, kv = contract.width, heads * contract.head_dim, contract.kv_heads * contract.head_dim
        sizes = {
            "wq": (d, q),
            "wk": (d, kv),
            "wv": (d, kv),
            "wo": (q, d),
            "up": (d, d),
            "down": (d, d),
        }
        self.arrays = {
            f"{name}_{i}": (rng.normal(size=size) * 0.7).astype(np.float32)
            for i in range(contract.layers)
            for name, size in sizes.items()
        }
        half = contract.head_dim // 2
        self.arrays |= {
            "inv_freq": (10.0 ** -np.arange(half)).astype(np.float32),
            "ones": np.ones(d, np.float32),
            "head": rng.normal(size=(d, contract.vocabulary)).astype(np.float32),
            "last": np.array([-1]),
            "flat": np.array([1, contract.vocabulary]),
        }

    def part(self, rows: int, past: bool) -> ir.Model:
        """prefill (past = False) or decode."""
        c = self.c
        used = {
            "to_q": np.array([1, rows, self.heads, c.head_dim]),
            "to_kv": np.array([1, rows, c.kv_heads, c.head_dim]),
            "to_d": np.array([1, rows, self.heads * c.head_dim]),
        }
        lines = [
            "p = Unsqueeze(position_ids, last)",
            "pf = Cast<to = 1>(p)",
            "t = Mul(pf, inv_freq)",
        ]
        hidden, mask = "inputs_embeds", "attention_mask" if past else ""
        for i in range(c.layers):
            if self.mask and not past:
                mask = f"idle_{i}"
                fill = np.zeros if self.mask == "zeros" else np.ones
                used[mask] = fill((1, 1, rows, rows), np.float32 if self.mask == "zeros" else bool)
            lines += self._layer(i, hidden, mask, past)
            hidden = f"y_{i}"
        if not past:
            lines.append(f"row = Gather<axis = 1>({hidden}, last_index)")
            hidden = "row"
        lines += [
            f"normed = RMSNormalization<axis = -1, epsilon = 0.000001>({hidden}, ones)",
            "scores = MatMul(normed, head)",
            "logits = Reshape(scores, flat)",
        ]
        role = "decode" if past else "prefill"
        ports = [
            ", ".join(f"{p.dtype.lower()}{list(p.shape)} {p.name}" for p in side(role))
            for side in (c.inputs, c.outputs)
        ]
        body = "\n".join(f"[n{k}] {line}" for k, line in enumerate(lines))
        return parse_graph(f"({ports[0]}) => ({ports[1]}) {{ {body} }}", **self.arrays, **used)

    def _layer(self, i: int, x: str, mask: str, past: bool) -> list[str]:
        lines = [f"a_{i} = RMSNormalization<axis = -1, epsilon = 0.000001>({x}, ones)"]
        for kind, shape in (("q", "to_q"), ("k", "to_kv"), ("v", "to_kv")):
            out = f"value_{i}" if kind == "v" else f"{kind}4_{i}"
            lines += [
                f"{kind}_{i} = MatMul(a_{i}, w{kind}_{i})",
                f"{kind}3_{i} = Reshape({kind}_{i}, {shape})",
                f"{out} = Transpose<perm = [0, 2, 1, 3]>({kind}3_{i})",
            ]
        for kind, out in (("q", f"rq_{i}"), ("k", f"key_{i}")):
            lines += [f"c{kind}_{i} = Cos(t)", f"s{kind}_{i} = Sin(t)"]
            lines.append(f"{out} = RotaryEmbedding({kind}4_{i}, c{kind}_{i}, s{kind}_{i})")
        keys = (f"key_{i}", f"value_{i}")
        if past:
            lines += [f"all_{k} = Concat<axis = 2>(past_{k}, {k})" for k in keys]
            keys = tuple(f"all_{k}" for k in keys)
        operands = ", ".join(filter(None, (f"rq_{i}", *keys, mask)))
        return [
            *lines,
            f"o4_{i} = Attention<is_causal = {int(not past)}>({operands})",
            f"o3_{i} = Transpose<perm = [0, 2, 1, 3]>(o4_{i})",
            f"o_{i} = Reshape(o3_{i}, to_d)",
            f"p_{i} = MatMul(o_{i}, wo_{i})",
            f"x_{i} = Add({x}, p_{i})",
            f"b_{i} = RMSNormalization<axis = -1, epsilon = 0.000001>(x_{i}, ones)",
            f"u_{i} = MatMul(b_{i}, up_{i})",
            f"g_{i} = Sigmoid(u_{i})",
            f"h_{i} = Mul(u_{i}, g_{i})",
            f"d_{i} = MatMul(h_{i}, down_{i})",
            f"y_{i} = Add(x_{i}, d_{i})",
        ]

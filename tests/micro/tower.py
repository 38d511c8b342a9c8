"""Vision: a pre-norm ViT, its nodes in the order in which an exporter writes them; a projector."""

from __future__ import annotations

import functools

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.contract import Contract
from micro.graph import normal, parse_graph

__all__ = ["projector_part", "tower_part"]


def tower_part(c: Contract, blocks: int, places: bool, rng: np.random.Generator) -> ir.Model:
    """[class token |] N patches through `blocks` blocks of two heads; behind the last no norm."""
    count, rows, w = c.image_tokens, c.vision_tokens, c.vision_width
    weight = functools.partial(normal, rng)
    arrays = {
        "patch": weight(w, 3, 2, 2),
        "flat": np.array([1, w, count]),
        "class": weight(1, 1, w),
        "place": weight(1, rows, w) * np.float32(places),
        "gain": np.ones(w, np.float32),
        "shift": np.zeros(w, np.float32),
        "split": np.array([1, rows, 2, w // 2]),
        "join": np.array([1, rows, w]),
    }
    if rows == count:
        del arrays["class"]
    lines = [
        "conv = Conv<strides = [2, 2]>(pixel_values, patch)",
        "turned = Reshape(conv, flat)",
        "patches = Transpose<perm = [0, 2, 1]>(turned)",
        f"tokens = {'Concat<axis = 1>(class, patches)' if rows > count else 'Identity(patches)'}",
        "s_0 = Add(tokens, place)",
    ]
    for i in range(blocks):
        arrays |= {f"w{kind}_{i}": weight(w, w) * np.float32(0.7) for kind in "qkvo"}
        arrays |= {f"b{kind}_{i}": weight(w) * np.float32(0.3) for kind in "qkvo"}
        arrays |= {f"up_{i}": weight(w, 2 * w), f"down_{i}": weight(2 * w, w) * np.float32(0.5)}
        lines.append(f"n_{i} = LayerNormalization<axis = -1>(s_{i}, gain, shift)")
        for kind in "qkv":
            lines += [
                f"{kind}0_{i} = MatMul(n_{i}, w{kind}_{i})",
                f"{kind}1_{i} = Add({kind}0_{i}, b{kind}_{i})",
                f"{kind}2_{i} = Reshape({kind}1_{i}, split)",
                f"{kind}3_{i} = Transpose<perm = [0, 2, 1, 3]>({kind}2_{i})",
            ]
        lines += [
            f"a4_{i} = Attention(q3_{i}, k3_{i}, v3_{i})",
            f"a3_{i} = Transpose<perm = [0, 2, 1, 3]>(a4_{i})",
            f"a_{i} = Reshape(a3_{i}, join)",
            f"o0_{i} = MatMul(a_{i}, wo_{i})",
            f"o1_{i} = Add(o0_{i}, bo_{i})",
            f"m_{i} = Add(s_{i}, o1_{i})",
            f"h_{i} = LayerNormalization<axis = -1>(m_{i}, gain, shift)",
            f"u_{i} = MatMul(h_{i}, up_{i})",
            f"g_{i} = Gelu(u_{i})",
            f"d_{i} = MatMul(g_{i}, down_{i})",
            f"s_{i + 1} = Add(m_{i}, d_{i})",
        ]
    lines[-1] = lines[-1].replace(f"s_{blocks} =", "image_features =")
    size = f"1,3,{c.image_height},{c.image_width}"
    head = f"(float[{size}] pixel_values) => (float[1,{rows},{w}] image_features)"
    body = "\n".join(f"[v{k}] {line}" for k, line in enumerate(lines))
    return parse_graph(f"{head} {{ {body} }}", **arrays)


def projector_part(c: Contract, rng: np.random.Generator) -> ir.Model:
    """Two layers with a GELU between; the class token, if there is one, is left out first."""
    weight, w, d = functools.partial(normal, rng), c.vision_width, c.width
    lead = c.vision_tokens - c.image_tokens
    text = f"""(float[1,{c.vision_tokens},{w}] image_features)
        => (float[1,{c.image_tokens},{d}] image_embeds) {{
        [cut] a = Slice(image_features, start, stop, along)
        [one] b = MatMul(a, first) [bias_1] c = Add(b, beta) [act] e = Gelu(c)
        [two] f = MatMul(e, second) [bias_2] image_embeds = Add(f, bias) }}"""
    arrays = {"first": weight(w, 2 * d), "beta": weight(2 * d), "second": weight(2 * d, d) / 2}
    arrays |= {"bias": weight(d), "along": np.array([1])}
    return parse_graph(text, **arrays, start=np.array([lead]), stop=np.array([c.vision_tokens]))

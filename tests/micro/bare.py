"""A ViT as a bare ONNX file, of a few hundred weights: as exporters write it, at any opset.

picture [B,3,H,W] -> patches of 4 x 4 -> class token -> positions -> blocks -> logits [B,5]
                                                                            -> map [B,2,H,W]
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from micro.graph import normal

__all__ = ["bare_model", "bare_vit"]

WIDTH, HEADS, PATCH, CLASSES, CHANNELS, SIDE = 8, 2, 4, 5, 2, 16  # 16 patches and a class token
IR_VERSIONS = {7: 3, 11: 6, 13: 7, 17: 8, 20: 9, 23: 10}

HEAD = {
    "classifier": """cls = Gather<axis = 1>(norm, zero)
        logits = Gemm<transB = 1>(cls, head_w, head_b)""",
    "dense": """rest = Slice(norm, one_, end_, one_) turned = Transpose<perm = [0, 2, 1]>(rest)
        back = Reshape(turned, grid_shape) small = Conv(back, head_w, head_b)
        map = ConvTranspose<strides = [4, 4]>(small, up_w)""",
}
BLOCK = """
    {n1} qkv{i} = MatMul(n1_{i}, qkv_w) f{i} = Reshape(qkv{i}, five)
    t{i} = Transpose<perm = [2, 0, 3, 1, 4]>(f{i})
    q{i} = Gather<axis = 0>(t{i}, zero) k{i} = Gather<axis = 0>(t{i}, one)
    v{i} = Gather<axis = 0>(t{i}, two) qs{i} = Mul(q{i}, scale)
    kt{i} = Transpose<perm = [0, 1, 3, 2]>(k{i}) l{i} = MatMul(qs{i}, kt{i})
    a{i} = Softmax<axis = -1>(l{i}) o{i} = MatMul(a{i}, v{i})
    ot{i} = Transpose<perm = [0, 2, 1, 3]>(o{i}) of{i} = Reshape(ot{i}, three)
    op{i} = MatMul(of{i}, proj_w) h{i} = Add(x{i}, op{i})
    {n2} u{i} = MatMul(n2_{i}, up) g{i} = Div(u{i}, root) e{i} = Erf(g{i}) e1{i} = Add(e{i}, unit)
    w{i} = Mul(u{i}, e1{i}) m{i} = Mul(w{i}, half) d{i} = MatMul(m{i}, down) x{j} = Add(h{i}, d{i})
"""


def bare_model(text: str, opset: int = 17, **arrays: np.ndarray) -> onnx.ModelProto:
    """`(inputs) => (outputs) { nodes }` in ONNX's text syntax, with initializers; not checked."""
    domains = f'"" : {opset}' + (', "own" : 1' if "own." in text else "")
    head = f"<ir_version: {IR_VERSIONS.get(opset, 10)}, opset_import: [{domains}]> main_graph"
    model = onnx.parser.parse_model(f"{head} {text}")
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    model.graph.initializer.extend(tensors)
    if model.ir_version < 4:  # weights were inputs with a default
        make = onnx.helper.make_tensor_value_info
        model.graph.input.extend(make(t.name, t.data_type, t.dims) for t in tensors)
    return model


def bare_vit(
    kind: str = "classifier",
    opset: int = 17,
    layers: int = 2,
    picture: str = "B,3,H,W",
    resize: bool = False,
    more: str = "",
    seed: int = 0,
    width: int = WIDTH,
) -> onnx.ModelProto:
    """`picture`: its dims; `resize`: positions stretched to the grid; `more`: a further output.

    width: channels; there are twice as many hidden units, and all blocks share one set of weights.
    """
    rng = np.random.default_rng(seed)
    arrays = _weights(rng, kind, layers, width)
    if resize:  # of a table of 2 x 2
        arrays["pos"] = normal(rng, 1, width, 2, 2)
        positions = """hw = Slice(grid, two_, four_) ends = Concat<axis = 0>(one_c, hw)
            stretched = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">
                (pos, none, none, ends)
            flatpos = Reshape(stretched, posflat) post = Transpose<perm = [0, 2, 1]>(flatpos)
            patchpos = Add(patches, post) x0 = Concat<axis = 1>(first, patchpos)"""
    else:
        positions = "bare = Concat<axis = 1>(first, patches) x0 = Add(bare, pos)"
    out = {"classifier": f"float[B,{CLASSES}] logits", "dense": f"float[B,{CHANNELS},Ho,Wo] map"}
    last = f"x{layers}"
    text = f"""(float[{picture}] picture) => ({out[kind]}{more}) {{
        conv = Conv<strides = [{PATCH}, {PATCH}]>(picture, patch_w, patch_b)
        grid = Shape(conv) b = Gather<axis = 0>(grid, zero_) hw2 = Slice(grid, two_, four_)
        grid_shape = Concat<axis = 0>(b, wide, hw2)
        flat_shape = Concat<axis = 0>(b, wide, open)
        flat = Reshape(conv, flat_shape) patches = Transpose<perm = [0, 2, 1]>(flat)
        cls_size = Concat<axis = 0>(b, one_, one_)
        first = Expand(token, cls_size)
        five = Concat<axis = 0>(b, open, heads) three = Concat<axis = 0>(b, open, wide)
        {positions}
        {"".join(_block(i, opset) for i in range(layers))}
        {_norm("norm", last, "final", opset)}
        {HEAD[kind]}
    }}"""
    return bare_model(text, opset, **{n: a for n, a in arrays.items() if _named(n, text)})


def _named(name: str, text: str) -> bool:
    return any(f"{before}{name}{after}" in text for before in "( " for after in "),")


def _block(i: int, opset: int) -> str:
    norms = {f"n{k}": _norm(f"n{k}_{i}", f"{'xh'[k - 1]}{i}", f"l{k}", opset) for k in (1, 2)}
    return BLOCK.format(i=i, j=i + 1, **norms)


def _norm(out: str, x: str, weights: str, opset: int) -> str:
    """A layer norm, written out where the opset has none (it came with 17)."""
    gain, bias = f"{weights}_g", f"{weights}_b"
    if opset >= 17:
        return f"{out} = LayerNormalization<epsilon = 1e-5>({x}, {gain}, {bias})"
    return f"""{out}m = ReduceMean<axes = [-1], keepdims = 1>({x}) {out}d = Sub({x}, {out}m)
        {out}s = Mul({out}d, {out}d) {out}v = ReduceMean<axes = [-1], keepdims = 1>({out}s)
        {out}e = Add({out}v, eps) {out}r = Sqrt({out}e) {out}n = Div({out}d, {out}r)
        {out}g = Mul({out}n, {gain}) {out} = Add({out}g, {bias})"""


def _weights(rng: np.random.Generator, kind: str, layers: int, width: int) -> dict[str, Any]:
    tokens, integers = (SIDE // PATCH) ** 2 + 1, {
        "zero": 0, "one": 1, "two": 2, "zero_": [0], "one_": [1], "two_": [2], "four_": [4],
        "end_": [2**31], "wide": [width], "open": [-1], "heads": [3, HEADS, width // HEADS],
        "one_c": [1, width], "posflat": [1, width, -1],
    }  # fmt: skip
    made = {name: np.array(value, np.int64) for name, value in integers.items()}
    numbers = {
        "scale": (width // HEADS) ** -0.5,
        "root": 2**0.5,
        "unit": 1,
        "half": 0.5,
        "eps": 1e-5,
    }
    made["none"] = np.zeros(0, np.float32)  # a region and scales that are not given, at opset 11
    made |= {name: np.float32(value) for name, value in numbers.items()}
    shapes = {
        "patch_w": (width, 3, PATCH, PATCH), "patch_b": (width,), "token": (1, 1, width),
        "pos": (1, tokens, width), "qkv_w": (width, 3 * width), "proj_w": (width, width),
        "up": (width, 2 * width), "down": (2 * width, width),
        "head_w": (CLASSES, width) if kind == "classifier" else (CHANNELS, width, 1, 1),
        "head_b": (CLASSES if kind == "classifier" else CHANNELS,),
        "up_w": (CHANNELS, CHANNELS, 4, 4),
        **{f"{n}_{x}": (width,) for n in ("l1", "l2", "final") for x in "gb"},
    }  # fmt: skip
    return made | {name: 0.3 * normal(rng, *shape) for name, shape in shapes.items()}

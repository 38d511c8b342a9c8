"""A ViT in float64 that shares no code with the compiler, and miniatures of plain ViTs.

conftest.py loads this file. What happens between attention and MLP of a block is given from
outside, and so is how many tokens each row stands for.

    vit = Vit.of_micro(model) | Vit.of_checkpoint(weights)
    seen = vit(pixels, between={0: halve})        a `Seen` for each block
    exit = seen[-1].exit                          [L,W]

plain_vit("classifier" | "dense", lead=1)         class token, 4 x 4 patches, three blocks, a head
shortened(model, method, {"vision:0": 12}, ...)   by the pass, site after site
asking(model)(picture(model, seed))               outputs of its vision part, and the last stream
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from micro.tower import tower_part

from edgevlm.compiler.beside import Probe, Processor, Source
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.contract import Contract
from edgevlm.compiler.executor import open_session
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.passes.tokens.keep_tokens import KeepTokens

__all__ = ["Seen", "Vit", "asking", "picture", "plain_vit", "shortened", "softmax"]

CLASSES = 5


@dataclass
class Seen:
    """One block: rows [L,W], and by head [heads,L,head_dim]."""

    entry: np.ndarray
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    share: np.ndarray  # [heads,L,L] attention
    middle: np.ndarray  # behind attention, before anything was merged
    exit: np.ndarray  # of the rows that are left
    sizes: np.ndarray  # [L] of the rows that came in

    def looked_at(self, first: int) -> np.ndarray:
        """[N] what the class token pays patches; without one, what 16 spread patches pay."""
        rows = len(self.entry)
        few = min(16, rows)
        spread = [int((n + 0.5) * rows / few) for n in range(few)]
        return self.share[:, [0] if first else spread, first:].mean((0, 1))


Between = Callable[[Seen, np.ndarray], tuple[np.ndarray, np.ndarray]]  # -> (rows, sizes)


@dataclass
class Block:
    w: dict[str, tuple[np.ndarray, np.ndarray]]  # q, k, v, o, up, down: ([in,out], bias)
    norms: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass
class Vit:
    patch: np.ndarray  # [W,3,h,w]
    lead: np.ndarray  # [lead,W]
    places: np.ndarray  # [L,W]
    norm_first: tuple[np.ndarray, np.ndarray] | None
    blocks: list[Block]
    heads: int

    @property
    def first(self) -> int:
        return len(self.lead)

    @classmethod
    def of_micro(cls, model: ExportedModel) -> Vit:
        held = model.parts["vision"].graph.initializers
        w = {str(n): np.asarray(v.const_value.numpy(), np.float64) for n, v in held.items()}
        width, norm = w["patch"].shape[0], (w["gain"], w["shift"])
        blocks = []
        for i in range(sum(name.startswith("wq_") for name in w)):
            sides = {n: (w[f"w{n}_{i}"], w[f"b{n}_{i}"]) for n in "qkvo"}
            sides |= {n: (w[f"{n}_{i}"], np.zeros(w[f"{n}_{i}"].shape[1])) for n in ("up", "down")}
            blocks.append(Block(sides, (norm, norm)))
        lead = w["class"][0] if "class" in w else np.zeros((0, width))
        return cls(w["patch"], lead, w["place"][0], None, blocks, 2)

    @classmethod
    def of_checkpoint(cls, weights: dict[str, np.ndarray], heads: int) -> Vit:
        w = {n.removeprefix("vision_tower."): v for n, v in weights.items()}
        e, blocks = "embeddings.", []
        for i in range(sum(n.endswith("q_proj.weight") and n.startswith("encoder") for n in w)):
            at = f"encoder.layers.{i}."
            names = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj"}
            names |= {"o": "self_attn.out_proj", "up": "mlp.fc1", "down": "mlp.fc2"}
            sides = {s: (w[f"{at}{n}.weight"].T, w[f"{at}{n}.bias"]) for s, n in names.items()}
            norms = [(w[f"{at}layer_norm{n}.weight"], w[f"{at}layer_norm{n}.bias"]) for n in (1, 2)]
            blocks.append(Block(sides, tuple(norms)))
        first = (w["pre_layrnorm.weight"], w["pre_layrnorm.bias"])
        lead, places = w[e + "class_embedding"][None], w[e + "position_embedding.weight"]
        return cls(w[e + "patch_embedding.weight"], lead, places, first, blocks, heads)

    def __call__(self, pixels: np.ndarray, between: dict[int, Between] | None = None) -> list[Seen]:
        """pixels: [3,H,W]."""
        return self.through(self.embed(pixels), self.blocks, between)

    def through(
        self, rows: np.ndarray, blocks: list[Block], between: dict[int, Between] | None = None
    ) -> list[Seen]:
        sizes, found = np.ones(len(rows)), []
        for i, block in enumerate(blocks):
            seen = self.attend(block, rows, sizes)
            rows = seen.middle
            if between and i in between:
                rows, sizes = between[i](seen, rows)
            up = _linear(_normed(rows, block.norms[1]), block.w["up"])
            rows = rows + _linear(_gelu(up), block.w["down"])
            seen.exit = rows
            found.append(seen)
        return found

    def reduced(
        self, pixels: np.ndarray, depth: int, rule: Callable[[Seen, int], tuple]
    ) -> tuple[np.ndarray, np.ndarray]:
        """(last stream, index) where a rule gives (index, content) behind the first blocks."""
        seen = self.through(self.embed(pixels), self.blocks[:depth])[-1]
        index, content = rule(seen, self.first)
        rows = np.concatenate([seen.exit[: self.first], content])
        behind = self.through(rows, self.blocks[depth:])
        return (behind[-1].exit if behind else rows), index

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        width, _, high, wide = self.patch.shape
        grid = (pixels.shape[1] // high, pixels.shape[2] // wide)
        cut = pixels.reshape(3, grid[0], high, grid[1], wide).transpose(1, 3, 0, 2, 4)
        patches = cut.reshape(math.prod(grid), -1) @ self.patch.reshape(width, -1).T
        rows = np.concatenate([self.lead, patches]) + self.places
        return rows if self.norm_first is None else _normed(rows, self.norm_first)

    def attend(self, block: Block, rows: np.ndarray, sizes: np.ndarray) -> Seen:
        normed = _normed(rows, block.norms[0])
        q, k, v = (self._by_head(_linear(normed, block.w[n])) for n in "qkv")
        share = softmax(q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1]) + np.log(sizes))
        out = (share @ v).transpose(1, 0, 2).reshape(len(rows), -1)
        return Seen(rows, q, k, v, share, rows + _linear(out, block.w["o"]), rows, sizes)

    def _by_head(self, rows: np.ndarray) -> np.ndarray:
        return rows.reshape(len(rows), self.heads, -1).transpose(1, 0, 2)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _linear(rows: np.ndarray, side: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return rows @ side[0] + side[1]


def _normed(rows: np.ndarray, norm: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    away = rows - rows.mean(-1, keepdims=True)
    return away / np.sqrt((away**2).mean(-1, keepdims=True) + 1e-5) * norm[0] + norm[1]


def _gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def plain_vit(
    kind: str = "classifier",
    *,
    lead: int = 1,
    grid: tuple[int, int] = (4, 4),
    blocks: int = 3,
    seed: int = 0,
) -> ExportedModel:
    """2 x 2 pixels a patch, 16 channels, 2 heads; classes by the first row, or a map by all."""
    count, (rows, columns) = math.prod(grid), grid
    size = {"map_channels": CLASSES, "map_height": rows, "map_width": columns}
    one = dict.fromkeys(("prompt_capacity", "kv_capacity", "width", "layers", "kv_heads"), 1)
    c = Contract(
        kind=kind, family="micro", image_height=2 * rows, image_width=2 * columns, grid=grid,
        vision_tokens=count + lead, vision_width=16, image_tokens=count, kept_image_tokens=count,
        head_dim=1, vocabulary=CLASSES, **one, **(size if kind == "dense" else {}),
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    part = tower_part(c, blocks, True, rng)
    build, out = GraphBuilder(part, "head"), part.graph.outputs[0]
    weight = build.const(rng.normal(size=(16, CLASSES)), np.float32)
    ends = (0, 1) if kind == "classifier" else (lead, lead + count)
    rows_read = build("Slice", out, *(build.const([n]) for n in (*ends, 1)))
    made = build("MatMul", rows_read, weight)
    if kind == "classifier":
        made = build("Reshape", made, build.const([1, CLASSES]))
    else:
        turned = build("Transpose", made, perm=[0, 2, 1])
        made = build("Reshape", turned, build.const([1, CLASSES, rows, columns]))
    out.name, made.name = "features", "logits" if kind == "classifier" else "map"
    made.dtype = ir.DataType.FLOAT
    part.graph.outputs[0] = made
    build.finish()
    pictures = rng.integers(0, 256, (3, 2 * rows, 2 * columns, 3), np.uint8)
    image = {"height": 2 * rows, "width": 2 * columns, "resample": "nearest"}
    processor = Processor(
        image=image, template="<image>{question}", image_token="<image>", eos_ids=()
    )
    source = Source(name="micro", digest="sha256:" + "0" * 64)
    probes = tuple(Probe(image=picture, question="") for picture in pictures)
    return ExportedModel(c, {"vision": part}, processor, b"", source, probes)


def shortened(
    model: ExportedModel, method: str, budgets: dict[str, int], **options: object
) -> ExportedModel:
    for at, keep in budgets.items():
        model = KeepTokens(keep=keep, at=at, method=method, options=options)(model).model
    return model


def picture(model: ExportedModel, seed: int = 0) -> np.ndarray:
    """float32 [3,H,W]."""
    c = model.contract
    size = (3, c.image_height, c.image_width)
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def asking(model: ExportedModel) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The vision part, ready to be asked; what goes into the head of a plain ViT is `features`."""
    part, c = model.parts["vision"].clone(), model.contract
    names = [v.name for v in part.graph.outputs]
    if c.kind != "vlm":
        value = part.graph.outputs[0]
        while value.producer().op_type in ("Reshape", "Transpose", "MatMul", "Slice"):
            value = value.producer().inputs[0]
        part.graph.outputs.append(value)
        names.append("features")
    session = open_session(part)

    def ask(pixels: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(None, {"pixel_values": pixels[None]}), strict=True))

    return ask

"""What many tests need: the bundled model, a micro VLM of a few hundred weights, graphs from text.

    tiny_model, tiny_probes    the bundled model and its probes as tensors; real, 50 ms a probe
    micro_model, micro_probes  a whole VLM written by hand; 1 ms a probe
    make_micro(layers=30)      the same with other sizes
    graph, solo, ort           ONNX text -> ir.Model -> a model of one part; outputs of ONNX Runtime

Models are shared by all tests of a session and must not be edited: clone a part first.
"""

from __future__ import annotations

import functools
import os
import signal
import tempfile

import numpy as np
import onnx_ir as ir
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from edgevlm.compiler.contract import Contract
from edgevlm.compiler.executor import open_session
from edgevlm.compiler.exported_model import ExportedModel, Probe, Processor, Source, load_model
from edgevlm.compiler.shapes import infer_shapes
from edgevlm.compiler.verify import ProbeInput
from edgevlm.models.answer import probe_inputs
from edgevlm.models.zoo import bundled_folder

WORDS = ["<unk>", "<s>", "</s>", "<image>", "what", "colour", "is", "it",
         "red", "blue", "green", "one", "two", "three", "yes", "no"]  # fmt: skip
DIGEST = "sha256:" + "0" * 64


def parse_graph(text: str, opset: int = 23, **arrays: np.ndarray) -> ir.Model:
    """`(inputs) => (outputs) { nodes }` in ONNX's own text syntax; arrays become initializers."""
    head = f'<ir_version: 10, opset_import: ["" : {opset}]> main_graph'
    tensors = [ir.tensor(np.asarray(array), name=name) for name, array in arrays.items()]
    return infer_shapes(ir.from_onnx_text(f"{head} {text}", initializers=tensors))


def run_part(part: ir.Model, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    """All outputs of a graph, computed by ONNX Runtime with its optimiser off."""
    names = [str(v.name) for v in part.graph.outputs]
    return dict(zip(names, open_session(part).run(names, feeds), strict=True))


class Decoder:
    """Text and weights of a Llama-like decoder; each layer computes its Cos and Sin, as exported.

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


def micro_vlm(
    layers: int = 1, mask: str | None = None, seed: int = 0, width: int = 8, heads: int = 2
) -> ExportedModel:
    """6 x 6 pixels -> 9 image tokens, 6 text tokens, 5 rows for the answer, 16 words."""
    c = Contract(
        family="micro", image_height=6, image_width=6, grid=(3, 3), vision_tokens=9, vision_width=4,
        image_tokens=9, kept_image_tokens=9, prompt_capacity=6, kv_capacity=20, width=width,
        layers=layers, kv_heads=1, head_dim=width // heads, vocabulary=len(WORDS),
    )  # fmt: skip
    rng = np.random.default_rng(seed + 1)
    weight = functools.partial(_normal, rng)
    decoder = Decoder(c, heads, mask, seed)
    vision = """(float[1,3,6,6] pixel_values) => (float[1,9,4] image_features) {
        [conv] a = Conv<strides = [2, 2]>(pixel_values, patch)
        [rows] b = Reshape(a, rows) [turn] image_features = Transpose<perm = [0, 2, 1]>(b) }"""
    connector = f"""(float[1,9,4] image_features) => (float[1,9,{width}] image_embeds) {{
        [project] a = MatMul(image_features, projector) [act] b = Gelu(a)
        [shift] image_embeds = Add(b, bias) }}"""
    embed = f"""(int64[1,6] input_ids) => (float[1,6,{width}] text_embeds) {{
        [lookup] text_embeds = Gather(table, input_ids) }}"""
    parts = {
        "vision": parse_graph(vision, patch=weight(4, 3, 2, 2), rows=np.array([1, 4, 9])),
        "connector": parse_graph(connector, projector=weight(4, width), bias=weight(width)),
        "embed": parse_graph(embed, table=weight(len(WORDS), width)),
        "prefill": decoder.part(c.prefill_length, past=False),
        "decode": decoder.part(1, past=True),
    }
    image = {"height": 6, "width": 6, "resample": "nearest"}
    template = "<s> <image> {question}"
    processor = Processor(image=image, template=template, image_token="<image>", eos_ids=(2,))
    source = Source(name="micro", digest=DIGEST)
    questions = ("what colour is it", "is it red", "what is it")
    probes = tuple(
        Probe(image=rng.integers(0, 256, (6, 6, 3), np.uint8), question=text) for text in questions
    )
    return ExportedModel(c, parts, processor, _words(), source, probes)


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def _words() -> bytes:
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.add_special_tokens(WORDS[:4])
    return words.to_str().encode()


def _inputs(model: ExportedModel) -> list[ProbeInput]:
    return probe_inputs(model.contract, model.processor, model.tokenizer, model.probes)


def pytest_configure() -> None:
    """A cache of our own; and children that can be stopped, where nohup or `&` started the run."""
    os.environ["EDGEVLM_CACHE"] = tempfile.mkdtemp(prefix="edgevlm-tests-")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            own = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, own)


@pytest.fixture(scope="session")
def tiny_model() -> ExportedModel:
    return load_model(bundled_folder("easyvqa-tiny"))


@pytest.fixture(scope="session")
def tiny_probes(tiny_model: ExportedModel) -> list[ProbeInput]:
    return _inputs(tiny_model)


@pytest.fixture(scope="session")
def make_micro():
    return micro_vlm


@pytest.fixture(scope="session")
def micro_model() -> ExportedModel:
    return micro_vlm()


@pytest.fixture(scope="session")
def micro_probes(micro_model: ExportedModel) -> list[ProbeInput]:
    return _inputs(micro_model)


@pytest.fixture(scope="session")
def graph():
    return parse_graph


@pytest.fixture(scope="session")
def ort():
    return run_part


@pytest.fixture(scope="session")
def solo(micro_model: ExportedModel):
    """A graph as a model of one part, for a pass that looks at graphs only."""

    def wrap(part: ir.Model, role: str = "vision") -> ExportedModel:
        return ExportedModel(
            micro_model.contract, {role: part}, micro_model.processor, b"", micro_model.source
        )

    return wrap

"""ViTs with fused projections as torch exports them: what the passes find, and what is left."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from edgevlm.passes import PASSES

KINDS = ["timm", "indexed", "chunked", "interleaved", "grouped", "multihead"]
MOBILE = ("separate-qkv", "unfold-patches", "one-hot-tokens", "four-axes")
#: sums of as many terms, in another order
NEAR = {"rtol": 1e-5, "atol": 1e-5}


def counts(part) -> Counter:
    return Counter(node.op_type for node in part.graph)


def rank(part) -> int:
    values = [v for n in part.graph for v in (*n.inputs, *n.outputs) if v is not None]
    return max(len(v.shape) for v in values if v.shape is not None)


def through(solo, part, *names):
    model, notes = solo(part), []
    for name in names:
        result = PASSES[name]()(model)
        model, notes = result.model, [*notes, *result.notes]
    return model.parts["vision"], notes


@pytest.fixture(scope="session")
def vit(exported, solo):
    """vit(kind, exporter) -> (clean graph, an image); each is exported once."""
    made = {}

    def make(kind, exporter):
        if (kind, exporter) not in made:
            model = exported.TinyVit(kind, blocks=2 if kind == "timm" else 1)
            part = getattr(exported, f"by_{exporter}")(model)
            part, _ = through(solo, part, "fold-constants", "merge-duplicates", "drop-dead")
            made[kind, exporter] = part, {"pixel_values": model.example.numpy()}
        return made[kind, exporter]

    return make


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_family_ends_with_four_axes_and_a_product_each(kind, exporter, vit, solo, ort):
    part, fed = vit(kind, exporter)
    made, notes = through(solo, part, *MOBILE)
    assert not [n for n in notes if n.kind == "skipped"]
    assert rank(made) <= 4
    assert counts(made)["Conv"] == 0 and not set(counts(made)) & {"Split", "Gather", "Squeeze"}
    fused = {72} if kind != "grouped" else {48}
    widths = [n.outputs[0].shape[-1] for n in made.graph if n.op_type in ("MatMul", "Gemm")]
    assert not fused & set(widths[:-1]) or kind == "grouped"
    (before,), (after,) = ort(part, **fed).values(), ort(made, **fed).values()
    np.testing.assert_allclose(after, before, **NEAR)


def test_what_a_fused_timm_vit_was_and_is(vit, solo):
    """Two blocks of four heads: five axes and twelve cuts go, a product more a piece comes."""
    part, _ = vit("timm", "dynamo")
    before, after = counts(part), counts(through(solo, part, *MOBILE)[0])
    assert before["Slice"] == before["Squeeze"] == 6 and rank(part) == 5
    assert before["MatMul"] == 8 and before["Conv"] == 1
    assert after == Counter(
        {
            "Add": 18,  # 2 x (3 biases of q, k, v; out; 2 of the MLP; 2 sums), patch, place
            "MatMul": 13,  # 2 x (q, k, v, out, 2 of the MLP), patches
            "Reshape": 10,  # 2 x (q, k, v, out), 2 of the unfolding
            "Transpose": 9,  # 2 x (q, k, v, out), the unfolding
            "LayerNormalization": 5,
            "Attention": 2,
            "Gelu": 2,
        }
    )


@pytest.mark.parametrize("kind", ["timm", "interleaved"])
def test_four_axes_alone_does_without_the_weights(kind, vit, solo, ort):
    """A fused product that nobody may take apart: its output is cut on four axes instead."""
    part, fed = vit(kind, "dynamo")
    made, _ = through(solo, part, "four-axes")
    assert rank(made) == 4 and counts(made)["MatMul"] == counts(part)["MatMul"]
    for (name, before), after in zip(
        ort(part, **fed).items(), ort(made, **fed).values(), strict=True
    ):
        np.testing.assert_array_equal(after, before, err_msg=name)


def test_blocks_are_found_in_what_comes_out(vit, solo):
    from edgevlm.compiler.axes import analyse
    from edgevlm.compiler.blocks import find_blocks

    made, _ = through(solo, vit("timm", "dynamo")[0], *MOBILE)
    assert len(find_blocks(made.graph)) == 2
    assert analyse(made.graph).names(made.graph.outputs[0]) == ("1", "token*token", "channel")


CHOICES = {  # how a ViT may keep 5 of its 16 tokens by a score
    "gather": lambda x, best: x.gather(1, best[..., None].expand(-1, -1, x.shape[-1])),
    "index_select": lambda x, best: x.index_select(1, best[0]),
    "by a list": lambda x, best: x[:, best[0]],
    "take_along_dim": lambda x, best: x.take_along_dim(best[..., None], 1),
    "batched": lambda x, best: x[[[0]], best],
}


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize("how", CHOICES)
def test_tokens_chosen_in_torch_need_no_index(how, exporter, exported, solo, ort):
    import torch

    if (how, exporter) == ("take_along_dim", "torchscript"):
        return  # that exporter does not know it

    class Choosing(exported.TinyVit):
        def __init__(self):
            super().__init__("timm", blocks=1)
            self.score = torch.nn.Linear(24, 1)

        def forward(self, pixel_values):
            x = super().forward(pixel_values)
            best = self.score(x)[..., 0].topk(5, dim=1).indices.sort(dim=1).values
            return CHOICES[how](x, best)

    part = getattr(exported, f"by_{exporter}")(model := Choosing())
    part, _ = through(solo, part, "fold-constants", "merge-duplicates", "drop-dead")
    assert set(counts(part)) & {"TopK", "Gather", "GatherElements", "GatherND"}
    made, notes = through(solo, part, "one-hot-tokens")
    left = {"TopK", "Gather", "GatherElements", "GatherND", "ScatterElements"} & set(counts(made))
    assert not left and not [n for n in notes if n.kind == "skipped"]
    fed = {"pixel_values": model.example.numpy()}
    for before, after in zip(ort(part, **fed).values(), ort(made, **fed).values(), strict=True):
        np.testing.assert_array_equal(after, before)

"""A ViT of transformers, exported here: K of N tokens behind block L, against torch to 1e-5."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.axes import analyse, resize
from edgevlm.compiler.axes.axis import expand
from edgevlm.compiler.axes.cut import cut, join
from edgevlm.compiler.axes.equations import parts_of
from edgevlm.compiler.errors import JobFault

torch = pytest.importorskip("torch", reason="exports a torch model; install edgevlm[torch]")
transformers = pytest.importorskip("transformers", reason="the ViT is transformers' own")

LAYERS, HEADS, HIDDEN, PATCHES = 4, 4, 64, 16
KEEP = [1, 2, 5, 6, 11, 15]
CLASSES = 5


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=96,
        image_size=32,
        patch_size=8,
        num_labels=CLASSES,
        attn_implementation="sdpa",
    )
    return transformers.ViTForImageClassification(config).eval()


@pytest.fixture(scope="module")
def pixels():
    return torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def exported(vit, pixels) -> ir.Model:
    class Scores(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vit = vit

        def forward(self, pixel_values):
            return self.vit(pixel_values).logits

    program = torch.onnx.export(
        Scores().eval(), (pixels,), dynamo=True, opset_version=23, input_names=["pixel_values"],
        output_names=["logits"], verbose=False,
    )  # fmt: skip
    return program.model


SIGNATURE = {"pixel_values": ("batch", None, "pixel", "pixel"), "logits": ("batch", "class")}


def blocks(vit):
    return vit.vit.encoder.layer if hasattr(vit.vit, "encoder") else vit.vit.layers


def in_torch(vit, pixels, behind: int, keep) -> np.ndarray:
    """The model by hand: embeddings, blocks, tokens picked behind one of them."""
    with torch.no_grad():
        x = vit.vit.embeddings(pixels)
        for i, block in enumerate(blocks(vit)):
            if i == behind:
                x = x[:, [0, *(k + 1 for k in keep)]]
            x = block(x)
            x = x[0] if isinstance(x, tuple) else x
        return vit.classifier(vit.vit.layernorm(x)[:, 0]).numpy()


def block_input(part: ir.Model, index: int) -> ir.Value:
    """What the first norm of a block reads, the residual stream; a block has two norms."""
    norms = [n for n in part.graph if n.op_type == "LayerNormalization"]
    assert len(norms) == 2 * LAYERS + 1
    return norms[2 * index].inputs[0]


def test_the_export_is_what_torch_computes(vit, exported, pixels, run):
    everything = range(PATCHES)
    expected = in_torch(vit, pixels, 0, everything)
    with torch.no_grad():
        np.testing.assert_allclose(vit(pixels).logits.numpy(), expected, atol=1e-6)
    (got,) = run(exported, {"pixel_values": pixels.numpy()}).values()
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_what_the_axes_of_a_vit_are_called(exported):
    found = analyse(exported.graph, SIGNATURE)
    attentions = [n for n in exported.graph if n.op_type == "Attention"]
    assert len(attentions) == LAYERS
    for node in attentions:
        assert found.names(node.outputs[0]) == ("1", "head", "token", "head_dim")
    hidden = [v for n in exported.graph if n.op_type in ("Gelu", "Erf") for v in n.outputs]
    assert hidden and all(found.names(v) == ("1", "token", "hidden") for v in hidden)
    for i in range(LAYERS):
        assert found.names(block_input(exported, i)) == ("1", "token", "channel")
    assert found.names(exported.graph.outputs[0]) == ("1", "class")


@pytest.mark.parametrize("behind", range(1, LAYERS))
def test_k_of_n_tokens_behind_a_block(behind, vit, exported, pixels, run, agrees):
    part = exported.clone()
    stream = block_input(part, behind)
    stand_in = cut(part.graph, stream, list(stream.uses()))
    found = analyse(part.graph, SIGNATURE)
    one, patches = parts_of(found.of(stand_in)[1])
    assert one == () and [axis.size for axis in expand(patches)] == [PATCHES]
    masks = {v.name for v in part.graph.initializers.values() if list(v.shape)[-2:] == [17, 17]}
    if masks:  # transformers writes a mask of zeros, one for all layers; it lies along the tokens
        with pytest.raises(JobFault, match="must be known when compiling") as caught:
            resize(found, patches, len(KEEP))
        assert any(name in caught.value.what for name in masks)
    resize(found, patches, len(KEEP), KEEP)
    cut_masks = [v for v in part.graph.initializers.values() if list(v.shape)[-2:] == [7, 7]]
    assert len(cut_masks) == len(masks)  # one for all layers behind, not one for each

    index = ir.tensor(np.array([0, *(k + 1 for k in KEEP)]), name="kept")
    kept = ir.Value(name="kept", const_value=index, shape=ir.Shape(index.shape),
                    type=ir.TensorType(index.dtype))  # fmt: skip
    part.graph.register_initializer(kept)
    gather = ir.node("Gather", [stream, kept], {"axis": 1}, name="keep_tokens")
    gather.outputs[0].shape, gather.outputs[0].dtype = stand_in.shape, stand_in.dtype
    part.graph.append(gather)
    join(part.graph, stand_in, gather.outputs[0])
    part.graph.sort()

    feeds = {"pixel_values": pixels.numpy()}
    (got,) = run(part, feeds).values()
    np.testing.assert_allclose(got, in_torch(vit, pixels, behind, KEEP), atol=1e-5)
    agrees(part, analyse(part.graph, SIGNATURE), feeds)


def test_heads_of_a_block_against_torch(vit, exported, pixels, run):
    """Heads 0 and 2 of the third block leave; in torch their rows of the projection are zero."""
    import copy

    part = exported.clone()
    found = analyse(part.graph, SIGNATURE)
    node = [n for n in part.graph if n.op_type == "Attention"][2]
    resize(found, found.of(node.inputs[0])[1], 2, [1, 3])
    (got,) = run(part, {"pixel_values": pixels.numpy()}).values()

    twin = copy.deepcopy(vit)
    block = blocks(twin)[2]
    projections = [
        m for name, m in block.named_modules()
        if isinstance(m, torch.nn.Linear) and ("output.dense" in name or "o_proj" in name)
        and m.in_features == HIDDEN
    ]  # fmt: skip
    (projection,) = projections
    with torch.no_grad():
        projection.weight.view(HIDDEN, HEADS, -1)[:, [0, 2]] = 0
    np.testing.assert_allclose(got, in_torch(twin, pixels, 0, range(PATCHES)), atol=1e-5)

"""A bare ONNX file from end to end: whatever wrote it, the part computes what the file does."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.exported_model import load_model, save_model
from edgevlm.models.onnx import frontend

OPSETS = (11, 13, 17, 20, 23)
LABELS = 'labels = ["ant", "bee", "cat", "dog", "eel"]\n'


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("kind", ["classifier", "dense"])
@pytest.mark.parametrize("resize", [False, True])
def test_a_vit_with_open_sizes_keeps_its_function(vit, same, opset, kind, resize):
    """Batch, height and width are open; shapes are computed, positions stretched to the grid."""
    model = same(vit(kind=kind, opset=opset, resize=resize))
    c = model.contract
    assert (c.kind, c.family, c.image_height, c.image_width) == (kind, "onnx", 16, 16)
    assert (c.grid, c.vision_tokens, c.vision_width, c.image_tokens) == ((4, 4), 17, 8, 16)
    ops = {n.op_type for n in model.parts["vision"].graph}
    assert not ops & {"Shape", "Resize", "Expand"}
    assert (c.map_channels, c.map_height, c.map_width) == (
        (2, 16, 16) if kind == "dense" else (None,) * 3
    )
    assert c.vocabulary == (5 if kind == "classifier" else 2)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 20), (32, 16)])
def test_another_size_than_it_was_trained_at(vit, same, height, width):
    toml = f"[image]\nheight = {height}\nwidth = {width}\n"
    c = same(vit(toml, kind="dense", resize=True)).contract
    assert c.grid == (height // 4, width // 4)
    assert (c.map_height, c.map_width) == (height, width)


def test_a_file_of_fixed_size_needs_no_sidecar(vit, same):
    model = same(vit(None, picture="1,3,16,16"))
    (note,) = model.source.notes
    assert "no vit.toml beside vit.onnx: a picture is stretched to 16 x 16" in note
    assert "ImageNet mean" in note and model.processor.class_names == ()
    assert model.processor.image["mean"] == [0.485, 0.456, 0.406]
    assert (model.source.name, model.probes, model.tokenizer) == ("vit", (), b"")


def test_the_sidecar_says_how_a_picture_becomes_a_tensor_and_names_the_classes(vit, same):
    image = 'resample = "bicubic"\nshortest_edge = 20\nmean = [0.5, 0.5, 0.5]\nstd = [1, 1, 1]\n'
    model = same(vit(LABELS + "[image]\nheight = 16\nwidth = 16\n" + image))
    processor = model.processor
    assert processor.class_names == ("ant", "bee", "cat", "dog", "eel")
    assert processor.image["resample"] == "bicubic" and processor.image["shortest_edge"] == 20
    assert processor.image["mean"] == [0.5] * 3 and model.source.notes == ()


def test_what_the_sidecar_leaves_out_is_told(vit, same):
    (note,) = same(vit('[image]\nheight = 16\nwidth = 16\nresample = "nearest"\n')).source.notes
    assert note.startswith("vit.toml leaves out, and so was taken: mean (0.485")
    assert "std" in note and "resample" not in note


def test_a_convolutional_net_is_a_classifier_of_one_token(write, same):
    rng = np.random.default_rng(0)
    path = write(
        """(float[N,3,16,16] x) => (float[N,4] y) {
        c = Conv<pads = [1, 1, 1, 1], kernel_shape = [3, 3]>(x, w) r = Relu(c)
        p = GlobalAveragePool(r) f = Flatten(p) y = Gemm(f, head) }""",
        w=rng.normal(size=(6, 3, 3, 3)).astype(np.float32),
        head=rng.normal(size=(6, 4)).astype(np.float32),
    )
    c = same(path).contract
    assert (c.kind, c.grid, c.vision_tokens, c.vocabulary) == ("classifier", (1, 1), 1, 4)


def test_an_import_is_deterministic_and_can_be_saved_and_loaded(vit, same, tmp_path):
    path, files = vit(), []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        save_model(same(path), tmp_path / name)
        files.append({f.name: f.read_bytes() for f in (tmp_path / name).iterdir()})
    assert files[0] == files[1]
    again = load_model(tmp_path / "one")
    assert again.contract == same(path).contract and again.source == same(path).source


@pytest.mark.parametrize("count", [1, 4, 6])
def test_labels_must_be_as_many_as_the_classes(vit, refused, count):
    toml = f"labels = {['x'] * count}\n[image]\nheight = 16\nwidth = 16\n"
    refused(vit(toml), "EV141", f"it has {count} labels, vit.onnx gives 5 classes", "vit.toml")
    refused(vit(toml, kind="dense"), "EV141", "gives 2 channels")


def test_labels_of_a_map_are_its_channels(vit, same):
    toml = 'labels = ["road", "sky"]\n[image]\nheight = 16\nwidth = 16\n'
    assert same(vit(toml, kind="dense")).processor.class_names == ("road", "sky")


def test_a_part_that_computes_something_else_is_never_handed_out(vit, refused, monkeypatch):
    """As a faulty converter would: one weight is half of what it was."""
    convert = frontend.to_opset

    def faulty(path, model):
        convert(path, model)
        weight = model.graph.initializers["qkv_w"]
        weight.const_value = ir.tensor(weight.const_value.numpy() / 2, name="qkv_w")

    monkeypatch.setattr(frontend, "to_opset", faulty)
    fault = refused(
        vit(), "EV143", "computes something else once it is imported", "opset_version=23"
    )
    assert "SQNR" in fault.why and "under 80 dB" in fault.why


def test_what_onnx_runtime_cannot_run_is_told_in_its_words(write, refused):
    """A Gather beyond the end: the graph is sound, and only running it tells."""
    path = write(
        """(float[1,3,4,4] x) => (float[1,4] y) { m = ReduceMax<axes = [1, 2, 3], keepdims = 0>(x)
        s = Mul(m, many) i = Cast<to = 7>(s) j = Add(i, far) f = Reshape(x, flat)
        g = Gather<axis = 1>(f, j) h = Add(g, four) y = Cast<to = 1>(h) }""",
        many=np.float32(0), far=np.array([1000]), flat=np.array([1, 48]),
        four=np.zeros((1, 4), np.float32),
    )  # fmt: skip
    refused(path, "EV142", "does not run in ONNX Runtime", "export the model again")

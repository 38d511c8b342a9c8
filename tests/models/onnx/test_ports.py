"""The ends of the graph: what is no picture, or no classes and no map, is refused and named."""

from __future__ import annotations

import numpy as np
import pytest
from micro.bare import bare_model

CHECKPOINT = "edgevlm compile CHECKPOINT_FOLDER"


def flat(dims: str = "1,3,4,6", dtype: str = "float", more: str = "", body: str = "") -> str:
    """A graph of a picture with these dims."""
    body = body or "s = ReduceSum<keepdims = 0>(f, rest) y = Mul(s, w)"
    cast = "f = Cast<to = 1>(x)" if dtype != "float" else "f = Neg(x)"
    return f"({dtype}[{dims}] x{more}) => (float[N,5] y) {{ {cast} {body} }}"


ARRAYS = {"rest": np.array([2, 3]), "w": np.float32([[1], [2], [3]]).T}


@pytest.fixture
def reads(write):
    """A file that reads a picture with these dims and gives [1,3]."""

    def make(*args, toml=None, **options):
        return write(flat(*args, **options).replace("[N,5]", "[N,3]"), toml, **ARRAYS)

    return make


@pytest.mark.parametrize(
    ("dims", "dtype", "said"),
    [
        ("1,3,4", "float", "it reads x float[1,3,4]"),
        ("3,4,6", "float", "a float picture [1,3,H,W] is taken"),
        ("1,3,2,4,6", "float", "it reads x float[1,3,2,4,6]"),
        ("1,3,4,6", "int64", "it reads x int64[1,3,4,6]"),
        ("1,3,4,6", "uint8", "a float picture [1,3,H,W] is taken"),
        ("4,3,4,6", "float", "it reads 4 pictures at once"),
        ("1,1,4,6", "float", "a picture has 3 channels: [1,3,H,W]"),
        ("N,4,4,6", "float", "it reads x float[N,4,4,6]"),
        ("1,4,6,3", "float", "channels come first here"),
        ("1,3,5000,6", "float", "4096 pixels are the limit"),
        ("1,3,0,6", "float", "4096 pixels are the limit"),
    ],
)
def test_what_is_no_picture_is_refused_and_told(reads, refused, dims, dtype, said):
    refused(reads(dims, dtype), "EV140", said, "edgevlm compile --help")


def test_a_model_of_text_is_sent_to_its_checkpoint(reads, refused):
    path = reads(more=", int64[1,7] input_ids")
    fault = refused(path, "EV140", "it reads x float[1,3,4,6], input_ids int64[1,7]", CHECKPOINT)
    assert "a language model needs its tokenizer" in fault.why


def test_no_input_at_all(write, refused):
    path = write("() => (float[1,3] y) { y = Identity(w) }", w=np.ones((1, 3), np.float32))
    refused(path, "EV140", "it reads no inputs", CHECKPOINT)


@pytest.mark.parametrize("dims", ["N,3,H,W", "1,3,4,W", "N,C,H,6"])
def test_an_open_size_must_be_stated(reads, refused, same, dims):
    fault = refused(reads(dims), "EV141", "leaves the size of its picture open", "vit.toml")
    assert "[image] height = 224, width = 224" in fault.why and "README.md" in fault.fix
    c = same(reads(dims, toml="[image]\nheight = 4\nwidth = 6\n")).contract
    assert (c.image_height, c.image_width) == (4, 6)


def test_half_a_size_is_enough_where_the_file_has_the_other(reads, same):
    c = same(reads("1,3,H,6", toml="[image]\nheight = 8\n")).contract
    assert (c.image_height, c.image_width) == (8, 6)


def test_a_size_that_contradicts_the_file_is_refused(reads, refused):
    path = reads(toml="[image]\nheight = 4\nwidth = 8\n")
    refused(path, "EV141", "it says 4 x 8 pixels, vit.onnx reads x float[1,3,4,6]", "vit.toml")


@pytest.mark.parametrize("dtype", ["float16", "double"])
def test_ends_of_another_type_become_float32(write, same, dtype):
    """And the weights between them stay what they are."""
    number = {"float16": np.float16, "double": np.float64}[dtype]
    path = write(
        f"""({dtype}[N,3,4,6] x) => ({dtype}[N,3] y) {{
        s = ReduceMean<axes = [2, 3], keepdims = 0>(x) y = Mul(s, w) }}""",
        "[image]\nheight = 4\nwidth = 6\n", w=number([[1, 2, 3]]),
    )  # fmt: skip
    part = same(path, atol=2e-3).parts["vision"]
    assert [n.op_type for n in part.graph] == ["Cast", "ReduceMean", "Mul", "Cast"]
    assert {v.dtype.name for v in (*part.graph.inputs, *part.graph.outputs)} == {"FLOAT"}
    assert part.graph.node(1).outputs[0].dtype.name == {"double": "DOUBLE"}.get(dtype, "FLOAT16")


@pytest.mark.parametrize(("x", "y"), [("pixel_values", "logits"), ("logits", "pixel_values")])
def test_ends_of_another_type_may_have_the_names_of_the_contract(write, same, x, y):
    path = write(f"""(float16[1,3,4,6] {x}) => (float16[1,72] {y}) {{
        a = Neg({x}) {y} = Flatten(a) }}""")  # fmt: skip
    graph = same(path, atol=2e-3).parts["vision"].graph
    assert [v.name for v in (*graph.inputs, *graph.outputs)] == ["pixel_values", "logits"]
    assert [n.op_type for n in graph] == ["Cast", "Neg", "Flatten", "Cast"]


@pytest.mark.parametrize(
    ("out", "said"),
    [
        (
            "float[1,3,4] y) { y = ReduceMean<axes = [3], keepdims = 0>(x)",
            "it gives y float[1,3,4]",
        ),
        ("float y) { y = ReduceMean<keepdims = 0>(x)", "(classes) or [1,channels,H,W] (a map)"),
        ("float[3,24] y) { y = Reshape(x, flat)", "it gives y float[3,24]"),
        ("int64[1,4,6] y) { y = ArgMax<axis = 1, keepdims = 0>(x)", "it gives y int64[1,4,6]"),
        ("bool[1,3,4,6] y) { y = IsNaN(x)", "it gives y bool[1,3,4,6]"),
    ],
)
def test_what_is_neither_classes_nor_a_map_is_refused(write, refused, out, said):
    arrays = {"flat": np.array([3, 24])} if "flat" in out else {}
    refused(write(f"(float[1,3,4,6] x) => ({out} }}", **arrays), "EV140", said)


@pytest.mark.parametrize("line", ["y = Cast<to = 1>(s)", "t = Cast<to = 1>(s) y = Sqrt(t)"])
def test_an_output_that_no_picture_reaches_is_refused(write, refused, line):
    text = f"(float[1,3,4,6] x) => (float[1,4] y) {{ z = Shape(x) s = Reshape(z, two) {line} }}"
    refused(write(text, two=np.array([1, 4])), "EV140", "y is computed from no picture")


def test_a_picture_that_is_handed_through_is_refused(write, refused):
    model = write("(float[1,3,4,6] x) => (float[1,3,4,6] x) { }")
    refused(model, "EV140", "x is computed from no picture")


SEVERAL = """(float[1,3,4,6] x) => (float[1,72] logits, float[1,3,4,6] heat, int64[1] best)
    { heat = Neg(x) logits = Flatten(heat) best = ArgMax<axis = 1, keepdims = 0>(logits) }"""


def test_of_several_outputs_one_must_be_chosen(write, refused):
    fault = refused(write(SEVERAL), "EV140", "it has 3 outputs (logits float[1,72], heat float")
    assert fault.fix == 'write into vit.toml beside it: output = "logits"'


def test_what_the_chosen_output_does_not_need_is_gone(write, same):
    model = same(write(SEVERAL, 'output = "logits"\n'), "logits")
    assert [n.op_type for n in model.parts["vision"].graph] == ["Neg", "Flatten"]
    assert same(write(SEVERAL, 'output = "heat"\n'), "heat").contract.kind == "dense"


def test_an_output_that_is_none_is_refused_with_those_there_are(write, refused):
    path = write(SEVERAL, 'output = "probs"\n')
    refused(path, "EV141", "output 'probs' is none of logits, heat, best", "vit.toml")
    refused(write(SEVERAL, 'output = "best"\n'), "EV140", "it gives best int64[1]")


@pytest.mark.parametrize(
    ("picture", "inner", "out"),
    [("x", "pixel_values", "logits"), ("logits", "pixel_values", "y"),
     ("pixel_values", "logits", "y"), ("logits", "map", "pixel_values"),
     ("x", "pixel_values", "logits/inner")],
)  # fmt: skip
def test_names_of_the_file_may_be_those_of_the_contract(write, same, picture, inner, out):
    model = bare_model("""(float[1,3,4,6] p) => (float[1,72] o) {
        i = Neg(p) a = Exp(i) b = Abs(a) c = Neg(b) o = Flatten(c) }""")  # fmt: skip
    names = {"p": picture, "i": inner, "o": out, "a": "pixel_values/inner", "b": "logits/inner_"}
    for names_of in [model.graph.input, model.graph.output]:
        names_of[0].name = names[names_of[0].name]
    for node in model.graph.node:
        node.input[0], node.output[0] = (names.get(n, n) for n in (node.input[0], node.output[0]))
    graph = same(write(model)).parts["vision"].graph
    assert [v.name for v in (*graph.inputs, *graph.outputs)] == ["pixel_values", "logits"]
    names = [v.name for n in graph for v in n.outputs]
    assert len(set(names)) == len(names) and "pixel_values" not in names


def test_a_weight_may_be_called_as_the_output_is(write, same):
    path = write("(float[1,3,4,6] x) => (float[1,72] y) { f = Flatten(x) y = Mul(f, logits) }",
                 logits=np.float32(3))  # fmt: skip
    assert list(same(path).parts["vision"].graph.initializers) == ["logits/inner"]

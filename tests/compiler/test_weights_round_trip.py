"""What is saved is what is loaded: bit for bit, each tensor once, the same bytes every time."""

from __future__ import annotations

import hashlib

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.weights import (
    ALIGNMENT,
    INLINE_BYTES,
    WEIGHTS_FILE,
    WeightWriter,
    load_graph,
    save_graph,
)

RNG = np.random.default_rng(0)
TEXT = "(float[1,32] x) => (float[1,32] y) {{ [{name}] y = MatMul(x, w) }}"


@pytest.fixture
def linear(graph):
    def make(weight, name="n"):
        return graph(TEXT.format(name=name), w=weight)

    return make


def save(folder, **parts):
    folder.mkdir()
    with WeightWriter(folder) as writer:
        for name, part in parts.items():
            save_graph(part, folder / f"{name}.onnx", writer)
    return folder


def digests(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


SPECIAL = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, 3.4e38, 1.0] * 64, np.float32)


@pytest.mark.parametrize(
    "array",
    [
        SPECIAL,
        RNG.normal(size=(16, 17)),
        RNG.normal(size=300).astype(np.float16),
        RNG.normal(size=600).astype(ml_dtypes.bfloat16),
        RNG.integers(-128, 128, (40, 30), np.int8),
        RNG.integers(-8, 8, (64, 64)).astype(ml_dtypes.int4),
        RNG.integers(-(2**62), 2**62, 200),
        RNG.integers(0, 2, 2000).astype(bool),
        RNG.normal(size=(20, 30)).astype(np.float32).T,
        np.float32(3.5),
        np.zeros((0, 4), np.float32),
        RNG.normal(size=INLINE_BYTES // 4).astype(np.float32),
        RNG.normal(size=INLINE_BYTES // 4 - 1).astype(np.float32),
    ],
    ids=lambda a: f"{a.dtype}{list(a.shape)}",
)
def test_a_tensor_comes_back_bit_for_bit(tmp_path, graph, array):
    dtype = ir.DataType.from_numpy(np.asarray(array).dtype).name.lower()
    part = graph(f"({dtype}{list(np.shape(array))} x) => (bool n) {{ y = Add(x, w) }}", w=array)
    part.graph.outputs.clear()
    part.graph.outputs.append(part.graph.node(0).outputs[0])
    loaded = load_graph(save(tmp_path / "m", a=part) / "a.onnx")
    tensor = loaded.graph.initializers["w"].const_value
    got = tensor.numpy()
    assert got.dtype == np.asarray(array).dtype and got.shape == np.shape(array)
    assert got.tobytes() == np.ascontiguousarray(array).tobytes()
    assert isinstance(tensor, ir.ExternalTensor) == (tensor.nbytes >= INLINE_BYTES)


def test_a_tensor_that_parts_share_is_stored_once(tmp_path, linear):
    weight = RNG.normal(size=(32, 32)).astype(np.float32)
    once = save(tmp_path / "one", a=linear(weight))
    both = save(tmp_path / "two", a=linear(weight), b=linear(weight.copy()))
    other = save(tmp_path / "three", a=linear(weight), b=linear(weight + 1))
    size = [(f / WEIGHTS_FILE).stat().st_size for f in (once, both, other)]
    assert size == [weight.nbytes, weight.nbytes, 2 * weight.nbytes]
    a, b = (load_graph(both / f"{n}.onnx").graph.initializers["w"].const_value for n in "ab")
    assert (a.offset, a.length) == (b.offset, b.length)
    assert np.array_equal(a.numpy(), weight) and np.array_equal(b.numpy(), weight)


def test_tensors_are_aligned(tmp_path, graph):
    arrays = {f"w{i}": RNG.normal(size=257 + i).astype(np.float32) for i in range(4)}
    body = " ".join(f"y{i} = Add(w{i}, x)" for i in range(4))
    part = graph(
        f"(float[1] x) => ({', '.join(f'float[{257 + i}] y{i}' for i in range(4))}) {{ {body} }}",
        **arrays,
    )
    loaded = load_graph(save(tmp_path / "m", a=part) / "a.onnx")
    for name, array in arrays.items():
        tensor = loaded.graph.initializers[name].const_value
        assert tensor.offset % ALIGNMENT == 0
        assert np.array_equal(tensor.numpy(), array)


def test_two_saves_are_equal_byte_for_byte(tmp_path, micro_model, make_micro):
    first = save(tmp_path / "a", **micro_model.parts)
    assert digests(first) == digests(save(tmp_path / "b", **micro_model.parts))
    assert digests(first) == digests(save(tmp_path / "c", **make_micro().parts))
    assert digests(first) != digests(save(tmp_path / "d", **make_micro(seed=1).parts))


def test_saving_what_was_loaded_gives_the_same_bytes(tmp_path, tiny_model):
    first = save(tmp_path / "a", **tiny_model.parts)
    again = {p.stem: load_graph(p) for p in sorted(first.glob("*.onnx"))}
    order = {role: again[role] for role in tiny_model.parts}
    assert digests(first) == digests(save(tmp_path / "b", **order))


def test_saving_leaves_the_model_as_it_was(tmp_path, tiny_model):
    before = {
        (role, name): value.const_value
        for role, part in tiny_model.parts.items()
        for name, value in part.graph.initializers.items()
    }
    save(tmp_path / "a", **tiny_model.parts)
    assert all(
        tiny_model.parts[role].graph.initializers[name].const_value is tensor
        for (role, name), tensor in before.items()
    )

"""The module around a part: taps, wanted values, parameters, storing them."""

from __future__ import annotations

import copy
import weakref

import numpy as np
import onnx_ir as ir
import pytest

torch = pytest.importorskip("torch", reason="the bridge needs: pip install 'edgevlm[torch]'")

from edgevlm.compiler.to_torch import to_torch  # noqa: E402
from edgevlm.compiler.weights import WeightWriter, load_graph, save_graph  # noqa: E402

#: y = relu(x w.a) w.a + t, where w.a and w/a are two names that torch would not have
TEXT = "a = MatMul(x, w.a); h = Relu(a); b = MatMul(h, w.a); y = Add(b, w/a)"
X = torch.arange(-4.0, 4.0).reshape(2, 4)


@pytest.fixture
def part(graph_of):
    rng = np.random.default_rng(0)
    weights = {n: rng.normal(size=s).astype(np.float32) for n, s in (("w_a", (4, 4)), ("w", 4))}
    # ONNX's text knows no dots: names are given afterwards
    text = TEXT.replace("w.a", "w_a").replace("w/a", "w")
    made = graph_of("float[2,4] x", text, weights)
    for old, new in (("w_a", "w.a"), ("w", "w/a")):
        value = made.graph.initializers.pop(old)
        value.name = value.const_value.name = new
        made.graph.register_initializer(value)
    return made


def test_parameters_are_the_float_initializers_once_each_and_frozen(part):
    net = to_torch(part)
    assert len(list(net.parameters())) == 2 and not any(p.requires_grad for p in net.parameters())
    for name, value in part.graph.initializers.items():
        np.testing.assert_array_equal(net.parameter(name).numpy(), value.const_value.numpy())
    with pytest.raises(KeyError, match=r"w\.b"):
        net.parameter("w.b")


def test_a_shared_parameter_gets_the_gradients_of_all_who_read_it(part):
    net = to_torch(part)
    weight = net.parameter("w.a").requires_grad_()
    net({"x": X})["y"].sum().backward()
    own = weight.detach().clone().requires_grad_()
    ((X @ own).relu() @ own).sum().backward()
    torch.testing.assert_close(weight.grad, own.grad)


def test_integers_are_no_parameters_and_shapes_no_tensors_at_all(graph_of):
    """Nor is a float that torch takes as a number."""
    constants = {"i": np.array([2, 0]), "s": np.array([-1]), "v": np.float32(1)}
    nodes = "g = Gather(x, i); p = Pad(g, i2, v); y = Reshape(p, s)"
    part = graph_of("float[3,2] x", nodes, constants | {"i2": np.array([0, 0, 1, 0])})
    net = to_torch(part)
    assert net({"x": torch.zeros(3, 2)})["y"].tolist() == [0, 0, 0, 0, 1, 1]
    assert list(net.parameters()) == [] and list(net.state_dict()) == []
    assert [buffer.tolist() for buffer in net.buffers()] == [[2, 0]]


def test_what_hangs_on_constants_alone_is_computed_once(graph_of):
    nodes = "s = Shape(x); n = Gather(s, i); t = Concat<axis = 0>(n, o); y = Reshape(x, t)"
    net = to_torch(graph_of("float[3,2,2] x", nodes, {"i": np.array([0]), "o": np.array([-1])}))
    assert len(net.steps) == 1 and list(net.buffers()) == []
    assert net({"x": torch.zeros(3, 2, 2)})["y"].shape == (3, 4)


def test_what_is_computed_of_weights_is_not_a_constant(graph_of):
    weights = {"w": np.float32([1, 2])}
    net = to_torch(graph_of("float[2] x", "n = Neg(w); y = Add(x, n)", weights))
    with torch.no_grad():
        net.parameter("w").copy_(torch.tensor([5.0, 6.0]))
    assert net({"x": torch.zeros(2)})["y"].tolist() == [-5, -6]


def test_a_tap_replaces_a_value_for_all_who_read_it(part):
    net = to_torch(part)
    plain = net({"x": X}, wanted=("h", "b"))
    got = net({"x": X}, taps={"h": torch.zeros_like}, wanted=("h", "b"))
    assert not got["h"].any() and not got["b"].any() and plain["h"].any()
    torch.testing.assert_close(got["y"], net.parameter("w/a").expand(2, 4))


def test_inputs_outputs_and_parameters_may_be_tapped(part):
    net = to_torch(part)
    torch.testing.assert_close(
        net({"x": X}, taps={"x": lambda t: 2 * t})["y"], net({"x": 2 * X})["y"]
    )
    assert not net({"x": X}, taps={"y": torch.zeros_like})["y"].any()
    double = net({"x": X}, taps={"w/a": lambda t: 2 * t})["y"]
    torch.testing.assert_close(double, net({"x": X})["y"] + net.parameter("w/a"))


def test_a_mask_behind_a_tap_is_trained(part):
    """What taps are for: gates of channels that are no weights of the part."""
    net, gate = to_torch(part), torch.ones(4, requires_grad=True)
    seen = net({"x": X}, taps={"h": lambda t: t * gate}, wanted=("h",))
    seen["y"].sum().backward()
    want = (seen["h"].detach() * net.parameter("w.a").sum(1)).sum(0)
    torch.testing.assert_close(gate.grad, want)


def test_wanted_values_are_there_by_name_behind_the_outputs(part):
    net = to_torch(part)
    got = net({"x": X}, wanted=("a", "x", "w.a"))
    assert list(got) == ["y", "a", "x", "w.a"] and got["x"] is X
    torch.testing.assert_close(got["a"], X @ net.parameter("w.a"))


@pytest.mark.parametrize("how", [{"taps": {"none": torch.neg}}, {"wanted": ("none",)}])
def test_a_name_that_is_no_value_is_no_silence(part, how):
    with pytest.raises(KeyError, match="'none' is no value"):
        to_torch(part)({"x": X}, **how)


def test_values_are_let_go_when_nobody_needs_them_any_more(part):
    net, alive = to_torch(part), {}

    def watch(value):
        alive["a"] = weakref.ref(value)
        return value

    def look(value):
        alive["then"] = alive["a"]() is not None
        return value

    with torch.no_grad():
        for wanted in ((), ("a",)):
            net({"x": X}, taps={"a": watch, "b": look}, wanted=wanted)
            assert alive["then"] == bool(wanted)


def test_an_output_may_be_an_input_or_a_weight(graph_of):
    nodes = "g = Gather(w, i); n = Neg(x); y = Add(n, g)"
    part = graph_of("float[2] x", nodes, {"w": np.float32([1, 2]), "i": np.array([1])})
    part.graph.outputs.extend([part.graph.inputs[0], *part.graph.initializers.values()])
    got = to_torch(part)({"x": torch.ones(2)})
    assert {n: t.tolist() for n, t in got.items()} == {
        "y": [1, 1], "x": [1, 1], "w": [1, 2], "i": [1]}  # fmt: skip


def test_stored_parameters_run_in_onnx_runtime_as_the_net_does(part, ort):
    net, other = to_torch(part), part.clone()
    before = ort(other, x=X.numpy())["y"]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.5).add_(0.25)
        want = net({"x": X})["y"].numpy()
    net.store(other)
    np.testing.assert_allclose(ort(other, x=X.numpy())["y"], want, rtol=1e-5, atol=1e-5)
    assert np.abs(want - before).max() > 0.1
    np.testing.assert_array_equal(ort(part, x=X.numpy())["y"], before)  # the clone alone changed


def test_what_did_not_change_stays_in_its_file(part, tmp_path, monkeypatch):
    big = ir.tensor(np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32), name="w.a")
    part.graph.initializers["w.a"].const_value = big
    monkeypatch.setattr("edgevlm.compiler.weights.INLINE_BYTES", 1)
    with WeightWriter(tmp_path) as writer:
        save_graph(part, tmp_path / "p.onnx", writer)
    stored = load_graph(tmp_path / "p.onnx")
    net = to_torch(stored)
    with torch.no_grad():
        net.parameter("w/a").add_(1)
    net.store(stored)
    kinds = {n: type(v.const_value) for n, v in stored.graph.initializers.items()}
    assert kinds == {"w.a": ir.ExternalTensor, "w/a": ir.Tensor}


def test_constants_of_a_file_are_what_they_are_in_memory(graph_of, equal):
    """Numbers that come from a file are of a byte order that numpy tells from its own."""
    ends = {"a": np.array([1]), "b": np.array([2**63 - 1]), "c": np.array([0])}
    part = graph_of("float[4,2] x", "y = Slice(x, a, b, c)", ends)
    equal(ir.from_proto(ir.to_proto(part)), {"x": np.ones((4, 2), np.float32)})


def test_a_part_of_other_shapes_is_no_place_to_store(part, graph_of):
    other = graph_of("float[2] x", "y = Add(x, w)", {"w": np.zeros(2, np.float32)})
    with pytest.raises(KeyError):
        to_torch(part).store(other)
    net = to_torch(graph_of("float[1] x", "y = Add(x, w)", {"w": np.zeros(1, np.float32)}))
    with pytest.raises(ValueError, match=r"'w' is \(2,\) there, \(1,\) here"):
        net.store(other)


@pytest.mark.parametrize("kind", [ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE])
def test_weights_of_other_formats_come_back_in_theirs(kind, graph_of):
    name = {"FLOAT16": "float16", "BFLOAT16": "bfloat16", "DOUBLE": "double"}[kind.name]
    array = np.array([1.5, -0.25, 3.0]).astype(kind.numpy())
    weight = ir.tensor(array, dtype=kind, name="w")
    part = graph_of(f"{name}[3] x", "y = Mul(x, w)", {"w": array})
    part.graph.initializers["w"].const_value = weight
    net = to_torch(part)
    with torch.no_grad():
        net.parameter("w").mul_(2)
    net.store(part)
    stored = part.graph.initializers["w"].const_value
    assert stored.dtype == kind and stored.numpy().astype(float).tolist() == [3.0, -0.5, 6.0]


def test_it_may_be_copied_and_moved(part):
    net = copy.deepcopy(to_torch(part))
    assert net.to(torch.float64)({"x": X.double()})["y"].dtype == torch.float64

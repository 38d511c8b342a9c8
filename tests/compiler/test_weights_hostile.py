"""A model file is hostile input: every bad reference and every cut is EV101, unread."""

from __future__ import annotations

import os

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.weights import WEIGHTS_FILE, WeightWriter, load_graph, save_graph

SIZE = 4096  # bytes of the honest tensor, at offset 64


def external(name="w", location=WEIGHTS_FILE, offset=64, length=SIZE, dims=(32, 32)):
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    return tensor


def write(folder, *tensors, nodes=(), functions=(), **model):
    """A model with these initializers and an honest weights.bin."""
    folder.mkdir(exist_ok=True)
    (folder / WEIGHTS_FILE).write_bytes(bytes(range(256)) * 17)
    (folder.parent / "secret.bin").write_bytes(b"s" * 8192)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 32])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 32])
    nodes = nodes or [helper.make_node("MatMul", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", [x], [y], initializer=tensors)
    proto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10, functions=functions
    )
    (folder / "a.onnx").write_bytes(proto.SerializeToString())
    return folder / "a.onnx"


def refused(path):
    with pytest.raises(JobFault) as caught:
        load_graph(path)
    assert caught.value.code == "EV101"
    return caught.value.why


def test_the_honest_one_loads(tmp_path):
    loaded = load_graph(write(tmp_path / "m", external()))
    want = np.frombuffer(bytes(range(256)) * 16, np.float32)
    got = loaded.graph.initializers["w"].const_value.numpy()
    assert got.tobytes() == np.roll(want.view(np.uint8), -64).tobytes()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"location": "../secret.bin"}, "outside"),
        ({"location": "sub/../../secret.bin"}, "outside"),
        ({"location": "/etc/passwd"}, "outside"),
        ({"location": "sub/x.bin"}, "outside"),
        ({"location": ".."}, "does not exist"),
        ({"location": ""}, "does not exist"),
        ({"location": "a\0b"}, ""),
        ({"location": "none.bin"}, "does not exist"),
        ({"offset": -64}, ""),
        ({"offset": 4096}, "ends at byte 8192"),
        ({"offset": 2**62}, "ends at byte"),
        ({"offset": "ten"}, ""),
        ({"length": 8}, "8 bytes"),
        ({"length": -1}, ""),
        ({"length": SIZE + 4}, "4100 bytes"),
        ({"length": None, "dims": (64, 64)}, "ends at byte"),
        ({"dims": (2**31, 2**31)}, "bytes"),
        ({"dims": (-32, 32)}, ""),
        ({"dims": (-32, -32)}, ""),
        ({"location": None}, ""),
    ],
    ids=str,
)
def test_a_reference_that_is_not_into_the_weights_is_refused(tmp_path, change, why):
    assert why in refused(write(tmp_path / "m", external(**change)))


def test_a_link_is_refused(tmp_path):
    path = write(tmp_path / "m", external(location="link.bin"))
    (path.parent / "link.bin").symlink_to(tmp_path / "secret.bin")
    assert "outside" in refused(path)


def test_a_folder_and_a_pipe_are_no_weights(tmp_path):
    path = write(tmp_path / "m", external(location="odd"))
    (path.parent / "odd").mkdir()
    assert "does not exist" in refused(path)
    (path.parent / "odd").rmdir()
    os.mkfifo(path.parent / "odd")
    assert "does not exist" in refused(path)


def test_a_pipe_in_place_of_the_graph_is_refused_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "a.onnx")
    refused(tmp_path / "a.onnx")


def test_a_folder_in_place_of_the_graph_and_nothing_at_all(tmp_path):
    (tmp_path / "a.onnx").mkdir()
    refused(tmp_path / "a.onnx")
    refused(tmp_path / "b.onnx")


def hidden_in_node(tensor):
    constant = helper.make_node("Constant", [], ["w"], value=TensorProto(data_type=1, dims=[1]))
    constant.attribute[0].t.CopyFrom(tensor)
    return {"nodes": [constant, helper.make_node("MatMul", ["x", "w"], ["y"])]}


def hidden_in_subgraph(tensor):
    out = helper.make_tensor_value_info("w2", TensorProto.FLOAT, [1, 32])
    body = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["w2"])], "b", [], [out], initializer=[tensor]
    )
    choose = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    flag = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("c", 9, [], [True]))
    return {"nodes": [flag, choose]}


def hidden_in_function(tensor):
    nodes = hidden_in_node(tensor)["nodes"]
    imports = [helper.make_opsetid("", 23)]
    made = helper.make_function("own", "f", ["x"], ["y"], nodes, imports)
    return {"nodes": [helper.make_node("f", ["x"], ["y"], domain="own")], "functions": [made]}


@pytest.mark.parametrize("hide", [hidden_in_node, hidden_in_subgraph, hidden_in_function])
@pytest.mark.parametrize("location", ["../secret.bin", WEIGHTS_FILE])
def test_external_data_belongs_to_initializers_and_nowhere_else(tmp_path, hide, location):
    """A pass that folds constants would read it, and a save elsewhere would leave it behind."""
    tensor = external(location=location)
    assert "w" in refused(write(tmp_path / "m", **hide(tensor)))


@pytest.mark.parametrize("size", [0, 4, SIZE - 1, SIZE + 1])
def test_a_tensor_inside_the_file_has_as_many_bytes_as_its_shape_says(tmp_path, size):
    tensor = TensorProto(
        name="w", data_type=TensorProto.FLOAT, dims=(32, 32), raw_data=b"\0" * size
    )
    refused(write(tmp_path / "m", tensor))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, make_micro):
    folder = tmp_path_factory.mktemp("whole")
    with WeightWriter(folder) as writer:
        save_graph(make_micro(width=32).parts["prefill"], folder / "a.onnx", writer)
    return folder / "a.onnx"


def test_a_graph_cut_at_any_length_is_refused(whole, tmp_path):
    data = whole.read_bytes()
    (tmp_path / WEIGHTS_FILE).write_bytes((whole.parent / WEIGHTS_FILE).read_bytes())
    lengths = [*range(24), *range(24, len(data) - 24, 61), *range(len(data) - 24, len(data))]
    for length in lengths:
        (tmp_path / "a.onnx").write_bytes(data[:length])
        refused(tmp_path / "a.onnx")


def test_cut_weights_are_refused(whole, tmp_path):
    (tmp_path / "a.onnx").write_bytes(whole.read_bytes())
    data = (whole.parent / WEIGHTS_FILE).read_bytes()
    for length in (0, 1, len(data) // 2, len(data) - 1):
        (tmp_path / WEIGHTS_FILE).write_bytes(data[:length])
        refused(tmp_path / "a.onnx")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@pytest.mark.filterwarnings("ignore:Ignoring unknown external data key")
@given(st.data())
def test_flipped_bytes_load_or_are_refused_and_never_crash(whole, data):
    """What loads after a flip must be usable: every tensor can be read."""
    content = bytearray(whole.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] ^= data.draw(st.integers(1, 255))
    path = whole.with_name("flipped.onnx")
    path.write_bytes(content)
    try:
        part = load_graph(path)
    except JobFault as fault:
        assert fault.code == "EV101"
        return
    for value in part.graph.initializers.values():
        value.const_value.numpy()


def test_the_message_has_three_lines_and_no_protobuf_page(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"not a model" * 1000)
    with pytest.raises(JobFault) as caught:
        load_graph(tmp_path / "a.onnx")
    assert all(len(line) < 400 for line in caught.value.lines())
    assert onnx.__version__ not in caught.value.what

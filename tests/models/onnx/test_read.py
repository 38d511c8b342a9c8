"""Reading one ONNX file: what is broken, hostile or not for this compiler is told, not run."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import onnxscript
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from micro.bare import bare_model, bare_vit
from onnx import helper
from onnxscript import opset18 as op

from edgevlm.compiler.errors import EdgeError
from edgevlm.models.onnx import read
from edgevlm.models.onnx.frontend import import_onnx
from edgevlm.models.onnx.read import read_onnx

PLAIN = "(float[1,3,4,4] x) => (float[1,48] y) { y = Flatten(x) }"
AGAIN = "export the model again"


@pytest.mark.parametrize("data", [b"", b"\x08\x0a", b"not onnx at all", b"\0" * 999, b"\xff" * 99])
def test_garbage_is_told(write, refused, data):
    refused(write(data), "EV101", "vit.onnx", "copy the model again")


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9, 0.999])
def test_a_file_that_ends_early_is_told(write, refused, share):
    whole = bare_vit(picture="1,3,16,16").SerializeToString()
    refused(write(whole[: int(len(whole) * share)]), "EV101", "vit.onnx", "again")


def test_a_file_that_is_not_there_is_told(tmp_path, refused):
    refused(tmp_path / "vit.onnx", "EV101", "there is no such file")
    (tmp_path / "vit.onnx").mkdir()
    refused(tmp_path / "vit.onnx", "EV101", "there is no such file")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_flipped_bytes_end_as_a_fault_or_as_a_model_that_is_proved(write, data):
    """Never as an exception of somebody else."""
    whole = bytearray(bare_model(PLAIN.replace("y = ", "f = Neg(x) y = ")).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        import_onnx(write(bytes(whole)))
    except EdgeError as fault:
        assert fault.code in {"EV101", "EV106", "EV140", "EV141", "EV142", "EV143"}


@pytest.fixture
def beside(write, proto, tmp_path):
    """beside(location): the ViT with its weights in another file, which it calls `location`."""

    def make(location: str = "vit.bin"):
        model = bare_vit(picture="1,3,16,16")
        onnx.save(model, tmp_path / "vit.onnx", save_as_external_data=True, location="vit.bin",
                  size_threshold=200)  # fmt: skip
        model = onnx.load(tmp_path / "vit.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        return write(model)

    return make


def test_weights_may_lie_beside_the_file(beside, same):
    assert same(beside()).contract.vocabulary == 5


@pytest.mark.parametrize(
    "location",
    ["../vit.bin", "/etc/hostname", "sub/../../vit.bin", "C:\\vit.bin", "missing.bin", "."],
)
def test_weights_elsewhere_are_never_read(beside, refused, tmp_path, location):
    path = beside(location)
    (tmp_path.parent / "vit.bin").write_bytes((tmp_path / "vit.bin").read_bytes())
    refused(path, "EV101", "", "again")


def test_a_link_out_of_the_folder_is_never_followed(beside, refused, tmp_path):
    path = beside()
    outside = tmp_path.parent / f"{tmp_path.name}.bin"
    (tmp_path / "vit.bin").rename(outside)
    (tmp_path / "vit.bin").symlink_to(outside)
    refused(path, "EV101", "weights of", "again")


def test_weights_that_end_early_are_told(beside, refused, tmp_path):
    path = beside()
    (tmp_path / "vit.bin").write_bytes((tmp_path / "vit.bin").read_bytes()[:-500])
    refused(path, "EV101", "weights of", "again")


def test_the_digest_is_over_all_that_is_read(beside, same, tmp_path):
    path = beside()
    seen = [same(path).source.digest]
    for name, text in {
        "vit.toml": b"output = 'logits'",
        "other.txt": b"x",
        "vit.bin": None,
    }.items():
        file = tmp_path / name
        file.write_bytes(file.read_bytes() + b"\0" if text is None else text)
        seen.append(same(path).source.digest)
    assert seen[0] != seen[1] == seen[2] != seen[3]


def test_an_op_that_does_not_exist_is_told(write, refused):
    refused(
        write(PLAIN.replace("Flatten", "Flatted")), "EV101", "vit.onnx is not valid ONNX", AGAIN
    )


@pytest.mark.parametrize("domain", ["com.microsoft", "own"])
def test_ops_of_a_runtime_are_refused_and_named(write, refused, domain):
    model = bare_model(PLAIN.replace("y = Flatten(x)", "f = Flatten(x) [act] y = own.FusedGelu(f)"))
    model.opset_import[1].domain = model.graph.node[1].domain = domain
    fault = refused(
        write(model), "EV140", f"node act is {domain}::FusedGelu", "before it was optimised"
    )
    assert "no op of ONNX" in fault.why


def test_control_flow_is_refused_and_named(write, refused):
    branch = [
        helper.make_graph([helper.make_node(o, ["f"], ["z"])], o, [],
                          [helper.make_tensor_value_info("z", 1, [1, 48])])
        for o in ("Neg", "Abs")
    ]  # fmt: skip
    model = bare_model(PLAIN.replace("y = Flatten(x)", "f = Flatten(x) y = Neg(f)"))
    sums = [helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
            helper.make_node("Cast", ["s"], ["c"], to=9)]  # fmt: skip
    model.graph.node.pop()
    model.graph.node.extend(sums)
    chosen = helper.make_node("If", ["c"], ["y"], "which", then_branch=branch[0],
                              else_branch=branch[1])  # fmt: skip
    model.graph.node.append(chosen)
    refused(write(model), "EV140", "node which is If", "dynamo=True")


def test_loops_are_refused_and_named(write, refused):
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["more"], ["on"]), helper.make_node("Neg", ["a"], ["b"])],
        "body", [info("i", 7, []), info("more", 9, []), info("a", 1, [1, 48])],
        [info("on", 9, []), info("b", 1, [1, 48])],
    )  # fmt: skip
    model = bare_model(PLAIN.replace("y = Flatten", "f = Flatten"), times=[3])
    model.graph.initializer[0].CopyFrom(helper.make_tensor("times", 7, [], [3]))
    model.graph.node.append(helper.make_node("Loop", ["times", "", "f"], ["y"], "again", body=body))
    refused(write(model), "EV140", "node again is Loop", "dynamo=True")


@pytest.mark.parametrize("opset", [1, 5, 6, 24])
def test_an_opset_that_is_too_old_or_too_new_is_refused(write, refused, opset):
    model = bare_model(PLAIN, 7)
    model.opset_import[0].version = opset
    model.ir_version = 10
    refused(write(model), "EV140", f"opset {opset}", "opset_version=23")


def test_more_nodes_than_a_model_has_are_refused(vit, refused, monkeypatch):
    monkeypatch.setattr(read, "MAX_NODES", 20)
    refused(vit(), "EV140", "20 are the limit")


own = onnxscript.values.Opset("own", 1)


@onnxscript.script(own, default_opset=op)
def scaled(x, factor: float):
    return x * factor


@onnxscript.script(own, default_opset=op)
def block(x):
    return scaled(op.Relu(x), factor=3.0) + scaled(x, factor=0.5)


@onnxscript.script(default_opset=op)
def net(x: onnxscript.FLOAT[1, 3, 4, 4]) -> onnxscript.FLOAT[1, 48]:
    return op.Flatten(block(block(x)))


def test_local_functions_are_inlined(write, same):
    model = same(write(net.to_model_proto()))
    kinds = [n.op_type for n in model.parts["vision"].graph]
    assert kinds.count("Relu") == 2 and not model.parts["vision"].functions


def nested(depth: int, calls: int, recursive: bool = False):
    """Functions of functions: calls ** depth nodes, of a file of a few hundred bytes."""
    model = bare_model(PLAIN.replace("y = Flatten(x)", f"f = Flatten(x) y = own.f{depth}(f)"))
    for i in range(depth + 1):
        inner = f"f{i - 1}" if i else "Neg"
        if recursive and not i:
            inner = f"f{depth}"
        nodes = [
            helper.make_node(inner, [f"v{j}"], [f"v{j + 1}"],
                             domain="" if inner == "Neg" else "own")
            for j in range(calls)
        ]  # fmt: skip
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        model.functions.append(
            helper.make_function("own", f"f{i}", ["v0"], [f"v{calls}"], nodes, imports)
        )
    return model


def test_functions_that_would_become_a_hundred_million_nodes_are_refused(write, refused):
    """Inlined, they would fill the memory before anybody counted."""
    refused(write(nested(8, 10)), "EV140", "100000 are the limit")
    refused(write(nested(60, 2)), "EV140", "100000 are the limit")


def test_functions_that_call_themselves_are_refused(write, refused):
    refused(write(nested(0, 1, recursive=True)), "EV101", "vit.onnx")
    refused(write(nested(3, 2, recursive=True)), "EV101", "vit.onnx")


def test_recursion_is_found_without_the_checker_as_well(write):
    """Older versions of onnx let it through."""
    path = write(nested(3, 2, recursive=True))
    with pytest.raises(EdgeError, match=r"EV140 .*calls itself"):
        read._check_calls(path, ir.load(path))


def test_functions_of_functions_are_counted_right(write, monkeypatch):
    path = write(nested(2, 3))
    monkeypatch.setattr(read, "MAX_NODES", 28)
    assert len(read_onnx(path).graph) == 28

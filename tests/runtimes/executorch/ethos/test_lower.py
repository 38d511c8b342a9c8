"""The real Vela and the real TOSA reference model, once: conftest.py."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.workshop.arrays import read_arrays
from edgevlm.compiler.workshop.tools import find_tool
from edgevlm.compiler.workshop.worker import open_worker
from edgevlm.runtimes.executorch.ethos.tosa import dequantise, quantise
from edgevlm.runtimes.executorch.ethos.vela import read_layers, read_summary, whole_time_ms


def sqnr_db(signal: np.ndarray, other: np.ndarray) -> float:
    error = np.square(signal - other, dtype=np.float64).sum()
    return 200.0 if error == 0 else 10 * np.log10(np.square(signal, dtype=np.float64).sum() / error)


def tables(lowered, name: str) -> list[tuple]:
    found = []
    for row in lowered.parts[name]["delegates"]:
        summary = read_summary(lowered.folder / row["summary"])
        found.append((summary, read_layers(lowered.folder / row["layers"], summary.clock_hz)))
    return found


def test_a_float_block_goes_to_the_npu_whole(lowered):
    part = lowered.parts["block"]
    assert part["quantised"] is True and part["outside"] == {}
    assert len(part["delegates"]) == 1 and part["delegates"][0]["nodes"] > 50


def test_what_the_npu_lacks_cuts_a_part_and_is_named_with_its_reason(lowered):
    part = lowered.parts["cut"]
    assert part["quantised"] is False  # it came as int8
    assert len(part["delegates"]) == 2 and part["signature"] is None
    assert {name.split(".")[1] for name in part["outside"]} == {
        "squeeze_copy", "topk", "unsqueeze_copy", "expand_copy", "gather",
    }  # fmt: skip
    topk = part["outside"]["aten.topk.default"]
    assert topk["nodes"] == 1 and "BaseTOSASupportList" in topk["why"]


@pytest.mark.parametrize("name", ["block", "cut"])
def test_a_program_file_holds_velas_stream_and_no_path(lowered, name):
    data = (lowered.folder / lowered.parts[name]["pte"]).read_bytes()
    assert len(data) == lowered.parts[name]["bytes"] and data[4:6] == b"ET"
    assert data.count(b"vela_bin_stream") == len(lowered.parts[name]["delegates"])
    assert str(lowered.folder).encode() not in data and b"an ethos" not in data


def test_versions_are_those_that_are_pinned(lowered):
    pins = dict(
        text.split("==") for text in (*find_tool("ethos").first, *find_tool("ethos").packages)
    )
    for name, found in lowered.versions.items():
        assert found.partition("+")[0] == pins.get(name, found.partition("+")[0])
    assert {"ethos-u-vela", "tosa-tools", "executorch"} <= set(lowered.versions)


def test_nothing_of_the_work_is_left_in_the_folder(lowered):
    suffixes = {path.suffix for path in lowered.folder.iterdir()}
    assert suffixes == {".pt2", ".npz", ".pte", ".tosa", ".csv"}


# numbers


@pytest.mark.parametrize("name", ["block", "cut"])
def test_the_tosa_graphs_compute_what_torch_computes(lowered, name):
    """But for ties: an integer that is rounded the other way early moves many later, by a step."""
    same = []
    for tosa, qdq in lowered.checks(name):
        assert tosa.dtype == qdq.dtype == np.float32 and tosa.shape == qdq.shape
        assert sqnr_db(qdq, tosa) > 30
        same.append(np.isclose(tosa, qdq, rtol=0, atol=1e-6))
        assert len(np.unique(tosa)) > 20  # and it is no constant
    assert np.mean(same) > 0.95


def test_integers_stay_near_the_float_block(lowered):
    for (tosa, _), exact in zip(lowered.checks("block"), lowered.floats, strict=True):
        assert 20 < sqnr_db(exact, tosa) < 60


def test_one_check_is_not_another(lowered):
    (first, _), (second, _), *_ = lowered.checks("block")
    assert sqnr_db(first, second) < 10


# estimates


def test_velas_macs_are_those_that_a_person_counts(lowered):
    from micro.ethos import BLOCK_MACS, CUT_MACS

    ((_, layers),) = tables(lowered, "block")
    counted = {op: sum(row.macs for row in layers if row.op == op) for op in ("Conv2D", "MatMul")}
    assert tuple(counted.values()) == BLOCK_MACS
    assert tuple(summary.macs for summary, _ in tables(lowered, "cut")) == CUT_MACS


@pytest.mark.parametrize("name", ["block", "cut"])
def test_layers_add_up_to_their_own_summary(lowered, name):
    """So each delegate has its tables, though Vela writes all under one name."""
    for summary, layers in tables(lowered, name):
        assert (summary.accelerator, summary.how) == ("Ethos_U85_256", "estimated-vela")
        assert sum(row.cycles for row in layers) == summary.cycles["total"]
        assert sum(row.ms for row in layers) == pytest.approx(summary.ms)
        assert {row.unit for row in layers} == {"NPU"}
    both = [summary for summary, _ in tables(lowered, name)]
    assert whole_time_ms(both) == pytest.approx(sum(s.cycles["total"] for s in both) / 1e6)


# again, from the files


def one(told):
    return {"pieces": {"run": told}}


@pytest.fixture(scope="module")
def reopened(lowered):
    part = lowered.parts["block"]
    request = one({"tosa": part["delegates"][0]["tosa"], "signature": part["signature"]})
    with open_worker("edgevlm.runtimes.executorch.ethos.tosa:open_pieces", request, what="a graph",
                     tool="ethos", folder=lowered.folder, within_s=120) as worker:  # fmt: skip
        yield worker


def test_a_graph_that_is_opened_again_computes_the_same(lowered, reopened):
    feeds = read_arrays(lowered.folder / "inputs.npz")
    for i, (tosa, _) in enumerate(lowered.checks("block")):
        found = reopened.call("run", {"0": feeds[f"{i}.0"]})
        np.testing.assert_array_equal(found["0"], tosa)


def test_its_signature_is_that_of_integers(lowered):
    told = lowered.parts["block"]["signature"]
    (source,), (result,) = told["inputs"], told["outputs"]
    assert (source["position"], result["delegate_output"]) == (0, 0)
    for row in (source, result):
        assert (row["dtype"], row["low"], row["high"]) == ("int8", -128, 127) and row["scale"] > 0
    for tosa, _ in lowered.checks("block"):
        steps = quantise(tosa, result)
        np.testing.assert_allclose(dequantise(steps, result), tosa, rtol=0, atol=1e-6)


def test_an_input_of_another_shape_is_told(reopened):
    with pytest.raises(JobFault, match="EV307 the TOSA reference model did not run a graph"):
        reopened.call("run", {"0": np.zeros((1, 16, 40), np.float32)})
    assert reopened.call("run", {"0": np.zeros((1, 16, 48), np.float32)})["0"].shape == (1, 16, 64)


@pytest.mark.parametrize("spoil", [lambda b: b[: len(b) // 2], lambda b: b"\0" * len(b)])
def test_a_graph_that_is_broken_is_three_lines(lowered, tmp_path, spoil):
    """Whether the reference model says so or falls over it."""
    part = lowered.parts["block"]
    data = (lowered.folder / part["delegates"][0]["tosa"]).read_bytes()
    (tmp_path / "a.tosa").write_bytes(spoil(data))
    request = one({"tosa": "a.tosa", "signature": part["signature"]})
    with (
        pytest.raises(JobFault) as told,
        open_worker("edgevlm.runtimes.executorch.ethos.tosa:open_pieces", request, what="a graph",
                    tool="ethos", folder=tmp_path, within_s=60) as worker,
    ):  # fmt: skip
        worker.call("run", {"0": np.zeros((1, 16, 48), np.float32)})
    assert told.value.code in ("EV307", "EV372", "EV373") and all(told.value.lines())


RAW = dict.fromkeys(("scale", "zero_point", "low", "high", "dtype"))


def test_the_first_product_is_that_of_the_integers(lowered, tmp_path):
    """By hand: (x w + b) s_x s_w / s_y, rounded. And what runs is the file: other weights, other
    numbers."""
    from micro.ethos import Cut, export_to

    module = export_to(tmp_path / "again.pt2", Cut)
    w, b = module.patch.w.numpy(), module.patch.b.numpy()
    x = np.random.default_rng(3).integers(-128, 128, (1, 16, 48)).astype(np.int8)
    exact = (x.astype(np.int64) @ w.T.astype(np.int64) + b) * module.patch.b_scale.numpy() / 0.04
    by_hand = np.clip(np.rint(exact), -128, 127)

    data = (lowered.folder / lowered.parts["cut"]["delegates"][0]["tosa"]).read_bytes()
    assert data.count(w.tobytes()) == 1
    (tmp_path / "as it is.tosa").write_bytes(data)
    (tmp_path / "other.tosa").write_bytes(data.replace(w.tobytes(), (-w).tobytes()))
    made = {}
    for name in ("as it is", "other"):
        outputs = [{**RAW, "delegate_output": i} for i in range(2)]  # of x and of the scores
        told = {"inputs": [{**RAW, "position": 0}], "outputs": outputs}
        request = one({"tosa": f"{name}.tosa", "signature": told})
        with open_worker("edgevlm.runtimes.executorch.ethos.tosa:open_pieces", request, what="a",
                         tool="ethos", folder=tmp_path, within_s=60) as worker:  # fmt: skip
            found = worker.call("run", {"0": x})
        made[name] = next(array for array in found.values() if array.size == 16 * 64)
    difference = np.abs(made["as it is"].reshape(by_hand.shape) - by_hand)
    assert difference.max() <= 1 and np.mean(difference == 0) > 0.98
    assert np.abs(made["other"].reshape(by_hand.shape) - by_hand).max() > 50

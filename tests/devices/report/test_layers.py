"""The strip of nodes and their sums: nothing is lost, the order stays, and it stays small."""

from __future__ import annotations

import pytest
from micro.subject import make_profile

from edgevlm.devices.report.layers import FAMILIES, NODES, PIECES, family, layer_view


def layers(*rows, role="vision"):
    return [
        {"role": role, "node": f"n{i}", "op": op, "unit": "CPU", "ms": ms, "how": "measured-host"}
        for i, (op, ms) in enumerate(rows)
    ]


def view(rows):
    return layer_view(make_profile(layers=rows))


@pytest.mark.parametrize(
    ("op", "letter"),
    [("MatMul", "P"), ("MatMulIntegerToFloat", "P"), ("FusedMatMul", "P"), ("Conv", "P"),
     ("FullyConnected brgemm_avx512_i8", "P"), ("Attention", "A"), ("GroupQueryAttention", "A"),
     ("SkipLayerNormalization", "N"), ("BiasGelu", "N"), ("Softmax", "N"),
     ("DynamicQuantizeLinear", "Q"), ("DequantizeLinear", "Q"), ("Reshape", "M"),
     ("Unsqueeze", "M"), ("ReorderOutput", "M"), ("Add", "E"), ("TopK", "E"), ("", "E"),
     ("Subgraph jit_avx512_f32", "E"),
     ("bmm", "P"), ("mm", "P"), ("addmm", "P"), ("baddbmm", "P"), ("linear", "P"),
     ("FullyConnected (QS8, QC8W)", "P"), ("InnerProduct", "P"), ("convolution", "P"),
     ("Convert (F32, QD8)", "Q"), ("quantize_per_tensor", "Q"), ("choose_qparams", "Q"),
     ("dequantize_affine", "Q"), ("native_layer_norm", "N"), ("_softmax", "N"), ("rsqrt", "N"),
     ("Square", "N"), ("view_copy", "M"), ("permute_copy", "M"), ("index_put", "M"),
     ("_to_dim_order_copy", "M"), ("_clone_dim_order", "M"), ("embedding", "M"), ("copy_", "M"),
     ("constant_pad_nd", "M"), ("cat", "M"), ("Pad (X32)", "M"), ("XnnpackBackend call", "R"),
     ("QnnBackend call", "R"), ("where", "E"), ("add", "E"), ("Multiply", "E"), ("comm", "E")],
)  # fmt: skip
def test_kinds_of_ops(op, letter):
    assert FAMILIES[family(op)][0] == letter


def test_a_strip_keeps_the_order_and_the_shares():
    (strip,) = view(layers(("Conv", 3.0), ("Add", 1.0), ("Attention", 4.0)))["strips"]
    assert [p["kind"] for p in strip["pieces"]] == ["P", "E", "A"]
    assert [float(p["grow"]) for p in strip["pieces"]] == [0.375, 0.125, 0.5]
    assert [p["letter"] for p in strip["pieces"]] == ["P", "E", "A"]
    assert strip["pieces"][0]["title"] == "Conv n0: 3.00 ms"
    assert (strip["nodes"], strip["ms"], strip["width"]) == ("3 nodes", "8.00", "100.00%")


def test_parts_share_one_scale():
    rows = layers(("Conv", 8.0)) + layers(("MatMul", 2.0), role="decode")
    assert [s["width"] for s in view(rows)["strips"]] == ["100.00%", "25.00%"]


def test_small_neighbours_share_a_piece_and_no_time_is_lost():
    rows = layers(*[("Add", 0.0001)] * 5000, ("MatMul", 1.0), *[("Cast", 0.0001)] * 3)
    (strip,) = view(rows)["strips"]
    assert len(strip["pieces"]) <= 2 * PIECES
    assert sum(float(p["grow"]) for p in strip["pieces"]) == pytest.approx(1, abs=1e-3)
    assert "small nodes from Add n0" in strip["pieces"][0]["title"]
    assert [p["kind"] for p in strip["pieces"]][-1] == "M"


def test_very_many_nodes_without_a_time_are_one_piece():
    """OpenVINO counts whole microseconds: a small part may take none at all."""
    found = view(layers(*[("Add", 0.0)] * 50_000))
    (piece,) = found["strips"][0]["pieces"]
    assert piece["title"] == "50,000 small nodes from Add n0: 0 ms"
    assert found["families"] == []


def test_sums_by_kind_and_by_op():
    found = view(layers(("Conv", 3.0), ("MatMul", 3.0), ("Add", 2.0), ("Conv", 2.0)))
    assert [(f["letter"], f["ms"], f["share"]) for f in found["families"]] == [
        ("P", "8.00", "80.0"), ("E", "2.00", "20.0"),
    ]  # fmt: skip
    assert [(r["op"], r["nodes"], r["ms"]) for r in found["ops"]["rows"]] == [
        ("Conv", 2, "5.00"), ("MatMul", 1, "3.00"), ("Add", 1, "2.00"),
    ]  # fmt: skip
    assert found["ops"]["rest"] == 0


def test_the_table_says_how_many_rows_it_leaves_out():
    (table,) = view(layers(*[("Add", 0.5)] * (NODES + 7)))["tables"]
    assert (len(table["rows"]), table["left_out"], table["left_out_ms"]) == (NODES, 7, "3.50")


def test_sums_alone_have_no_strips():
    ops = [{"role": "vision", "op": "Conv", "nodes": 2, "ms": 1.0, "how": "measured-host"}]
    found = layer_view(make_profile(ops=ops))
    assert found["strips"] == [] and found["ops"]["rows"][0]["op"] == "Conv"


def test_no_ops_no_view():
    assert layer_view(make_profile()) is None

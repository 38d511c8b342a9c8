"""Which unit ran what, against what was expected."""

from __future__ import annotations

import pytest

from edgevlm.devices.report.measured import Layer
from edgevlm.devices.report.placement import SHOWN, kind_of, placement_view


def layer(unit, ms=1.0, op="Conv", node="n", role="vision"):
    return Layer(role=role, node=node, op=op, unit=unit, ms=ms, how="measured-device")


@pytest.mark.parametrize(
    ("unit", "kind"),
    [("CPUExecutionProvider", "cpu"), ("CPU", "cpu"), ("GPU.0", "gpu"), ("ANE", "npu"),
     ("Neural Engine", "npu"), ("TensorrtExecutionProvider", "gpu"), ("DLA:1", "dla"),
     ("XNNPACK", "cpu"), ("ExecuTorch", "cpu"), ("Vulkan", "gpu"), ("HTP", "npu"),
     (None, None), ("", None), ("warp drive", None)],
)  # fmt: skip
def test_words_of_runtimes(unit, kind):
    assert kind_of(unit) == kind


def test_all_as_expected():
    view = placement_view([layer("CPU"), layer("CPU", 3.0)], "cpu")
    assert view["sentence"] == "All 2 nodes ran on the CPU, as expected."
    assert view["elsewhere"] == [] and view["units"] == [
        {"unit": "CPU", "kind": "CPU", "as_expected": "yes", "nodes": 2, "ms": "4.00",
         "share": "100.0"}
    ]  # fmt: skip


def test_what_ran_elsewhere_is_first_the_slowest_on_top():
    rows = [layer("NPU", 6.0), layer("CPU", 1.0, "TopK", "t"), layer("CPU", 3.0, "Gather", "g")]
    view = placement_view(rows, "npu")
    assert view["sentence"] == "2 of 3 nodes ran elsewhere than on the NPU: 40.0 % of the time."
    assert [(r["op"], r["unit"], r["first"]) for r in view["elsewhere"]] == [
        ("Gather", "CPU", "g"), ("TopK", "CPU", "t"),
    ]  # fmt: skip
    assert [u["as_expected"] for u in view["units"]] == ["no", "yes"]
    assert view["wrong"] == 2


def test_a_unit_that_is_not_said_is_no_fault_and_no_proof():
    view = placement_view([layer(None), layer("CPU")], "cpu")
    assert view["wrong"] == 0
    assert view["sentence"] == "Of 1 of 2 nodes the runtime does not say which unit ran them."
    assert [u["as_expected"] for u in view["units"]] == ["cannot be told", "yes"]


def test_nothing_is_expected_where_the_device_file_names_no_unit():
    view = placement_view([layer("CPU")], None)
    assert "nothing is expected" in view["sentence"] and view["elsewhere"] == []


def test_very_many_kinds_of_ops_are_counted():
    view = placement_view([layer("CPU", op=f"Op{i}") for i in range(SHOWN + 5)], "gpu")
    assert len(view["elsewhere"]) == SHOWN and view["more"] == 5


def test_no_layers_no_view():
    assert placement_view([], "cpu") is None

"""What the instructions of a .pte are: recorded ones, and files that are none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.executorch import program as module
from edgevlm.runtimes.executorch.flatbuffer import BadFlatbuffer, root
from edgevlm.runtimes.executorch.program import PLAN_CHAINS, PLAN_NAME, PLANS, read_program


def test_a_delegated_block(recorded):
    made = read_program(recorded("fp32.program"))["forward"]
    calls = [(each.kind, each.calls) for each in made.values()]
    xnnpack, expand = ("delegate", "XnnpackBackend"), ("kernel", "aten::expand_copy.out")
    assert calls == [
        ("kernel", "aten::native_layer_norm.out"),
        xnnpack,
        expand,
        expand,
        xnnpack,
        expand,
        expand,
        xnnpack,
    ]


def test_without_a_delegate(recorded):
    made = read_program(recorded("portable.program"))["forward"]
    assert {each.kind for each in made.values()} == {"kernel"}
    assert sum(each.calls == "aten::addmm.out" for each in made.values()) == 6


def test_two_methods(recorded):
    made = read_program(recorded("two.program"))
    assert set(made) == {"prefill", "decode"} and made["prefill"] == made["decode"]


@settings(max_examples=200, suppress_health_check=[])
@given(data=st.data())
def test_a_changed_byte_is_read_or_refused(data, recorded, tmp_path_factory):
    whole = recorded("fp32.program").read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    path = tmp_path_factory.getbasetemp() / "changed.pte"
    path.write_bytes(whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :])
    try:
        read_program(path)
    except JobFault as fault:
        assert fault.code == "EV360" and len(fault.lines()) == 3


def test_other_files(recorded, tmp_path):
    for path in (recorded("fp32.etdp"), tmp_path / "none.pte"):
        with pytest.raises(JobFault, match="EV360"):
            read_program(path)


def test_more_instructions_than_any_program_has(recorded, monkeypatch):
    monkeypatch.setattr(module, "MOST_INSTRUCTIONS", 5)
    with pytest.raises(JobFault, match="more than 5 instructions"):
        read_program(recorded("fp32.program"))


@pytest.mark.parametrize("read", ["tables", "numbers", "text"])
def test_the_same_bytes_are_not_read_without_end(read, recorded):
    """As where all places of a list are one table, and all of its places another's."""
    whole = root(recorded("fp32.program").read_bytes(), b"ET12")
    (plan,) = whole.tables(PLANS)
    calls = {
        "tables": lambda: list(plan.tables(PLAN_CHAINS)),
        "numbers": lambda: plan.numbers(3, "i"),
        "text": lambda: plan.text(PLAN_NAME),
    }
    with pytest.raises(BadFlatbuffer, match="the same bytes over and over"):
        for _ in range(10**7):
            calls[read]()

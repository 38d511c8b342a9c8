"""Rows of an ETDump: synthetic runs whose times are known, and recorded ones whose sums are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from micro.etdump import dump, inside, op, span, whole

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.executorch.etdump import parse_etdump, read_etdump
from edgevlm.runtimes.executorch.nodes import Node
from edgevlm.runtimes.executorch.op_rows import rows_of
from edgevlm.runtimes.executorch.program import Instruction, read_program

MS = 1_000_000  # ticks
XNNPACK = {
    (0, 0): Instruction("kernel", "aten::add.out"),
    (0, 1): Instruction("delegate", "XnnpackBackend"),
}


def run(add: int, gelu: int, call: int, more: int = 0):
    """One op, then one delegate call with one kernel; times in ms, `more` between and behind."""
    begin = 10 * MS
    then = begin + add * MS
    return [
        *op("add.out", 0, begin, then),
        inside("GELU (NC) #1", 1, then + 1, then + 1 + gelu * MS),
        span("DELEGATE_CALL", 1, then, then + call * MS),
        whole(begin, then + (call + more) * MS),
    ]


def rows(*runs, program=None, **how):
    return rows_of(parse_etdump(dump([("Execute", each) for each in runs])), program, **how)


def row(profile, event):
    return next(r for r in profile.methods[0].rows if r.event == event)


def test_times_of_each_over_all_runs():
    found = rows(run(1, 2, 4), run(3, 2, 6), run(2, 5, 8), program={"forward": XNNPACK})
    (method,) = found.methods
    assert (method.name, method.runs) == ("forward", 3)
    assert (method.operators, method.delegates) == (1, 1)
    add, gelu = row(found, "add.out"), row(found, "GELU (NC) #1")
    assert (add.spread.p50, add.spread.least, add.spread.mean) == (2, 1, 2) and add.calls == 3
    assert (gelu.spread.p50, gelu.spread.mean, gelu.backend) == (2, 3, "XnnpackBackend")
    assert add.backend is None and add.spread.p90 == pytest.approx(2.8)
    assert method.execute.mean == pytest.approx(8) and method.delegate_ms == pytest.approx(6)
    assert method.delegated == pytest.approx(0.75)


def test_a_name_for_every_run_is_no_dump(monkeypatch):
    """Rows are of all runs: names by runs, of a file that grows with names alone."""
    runs = [run(1, 2, 4) for _ in range(30)]
    for i, events in enumerate(runs):
        events[-3] = inside(f"K{i}", 1, 11 * MS + 1, 12 * MS)
    made = rows(*runs, program={"forward": XNNPACK}).methods[0].rows
    assert len(made) == 32
    monkeypatch.setattr("edgevlm.runtimes.executorch.op_rows.MOST_TIMES", 32 * 30 - 1)
    with pytest.raises(JobFault, match="EV360 the ETDump has too many names"):
        rows(*runs, program={"forward": XNNPACK})


def test_first_runs_do_not_count():
    found = rows(run(9, 9, 9), run(1, 2, 4), run(1, 2, 4), skip=1)
    assert found.methods[0].runs == 2 and row(found, "add.out").spread.mean == 1


def test_no_run_is_left():
    with pytest.raises(JobFault, match=r"EV360 .*1 came to their end, 1 are for warming up"):
        rows(run(1, 1, 1), skip=1)
    with pytest.raises(JobFault, match=r"EV360 .*0 came to their end"):
        rows()


def test_a_run_without_an_end_is_left_out_and_told():
    found = rows(run(1, 2, 4), run(50, 2, 60)[:-1])
    assert found.broken == 1 and found.methods[0].runs == 1


def test_loads_are_told():
    load = span("Program::load_method", 0, MS, 4 * MS, -1)
    found = rows_of(parse_etdump(dump([("Default", [load]), ("Execute", run(1, 1, 1))])))
    assert found.loads_ms == (3.0,) and found.broken == 0


def test_methods_of_other_calls_are_kept_apart():
    """vision is an op and a delegate, embed an op alone: one file has both, in any order."""
    embed = {(0, 0): Instruction("kernel", "aten::embedding.out")}
    alone = [*op("embedding.out", 0, 0, 2 * MS), whole(0, 2 * MS)]
    found = rows(
        alone, run(1, 2, 4), alone, program={"get_len": {}, "vision": XNNPACK, "embed": embed}
    )
    assert {m.name: (m.runs, m.execute.mean) for m in found.methods} == {
        "embed": (2, 2.0),
        "vision": (1, 5.0),
    }


def test_without_a_program_they_are_kept_apart_too():
    alone = [*op("embedding.out", 0, 0, 2 * MS), whole(0, 2 * MS)]
    found = rows(alone, run(1, 2, 4), alone)
    assert [(m.name, m.runs) for m in found.methods] == [("method 1", 2), ("method 2", 1)]


def test_methods_of_the_same_calls_are_never_mixed():
    program = {"prefill": XNNPACK, "decode": XNNPACK}
    with pytest.raises(JobFault, match=r"EV360 .*they fit prefill and decode alike"):
        rows(run(9, 9, 9), run(1, 1, 1), program=program)
    found = rows(
        run(9, 9, 9),
        run(1, 1, 1),
        run(1, 1, 1),
        program=program,
        method=["prefill", *["decode"] * 2],
    )
    assert {m.name: (m.runs, m.execute.mean) for m in found.methods} == {
        "prefill": (1, 18.0),
        "decode": (2, 2.0),
    }
    with pytest.raises(ValueError):
        rows(run(1, 1, 1), method=["prefill", "decode"])


def test_of_those_that_are_told_apart_the_rest_is_told():
    alone = [*op("embedding.out", 0, 0, 2 * MS), whole(0, 2 * MS)]
    program = {
        "a": XNNPACK,
        "b": XNNPACK,
        "embed": {(0, 0): Instruction("kernel", "aten::embedding.out")},
    }
    found = rows(alone, run(1, 1, 1), program=program)
    assert [m.name for m in found.methods] == ["embed"] and found.untold == {("a", "b"): 1}


def test_a_method_that_jumps_may_leave_out_calls():
    program = {"f": {**XNNPACK, (0, 2): Instruction("jump", ""), (0, 3): XNNPACK[0, 0]}}
    assert rows(run(1, 2, 4), program=program).methods[0].name == "f"


def test_another_program():
    other = {"f": {(0, 0): Instruction("kernel", "aten::sub.out")}}
    with pytest.raises(JobFault, match="they are of another program"):
        rows(run(1, 2, 4), program=other)


def test_a_delegate_that_counts_cycles():
    """QNN's profiler hands numbers over, as spans from 0: cycles, microseconds and counts."""
    program = {"f": {(0, 0): Instruction("delegate", "QnnBackend")}}
    events = [
        inside("Number of HVX threads used", 0, 0, 4),
        inside("RPC (execute) time", 0, 0, 3011),
        inside("Accelerator (execute) time (cycles)", 0, 0, 29239),
        inside("aten_linear_default:OpId_17 (cycles)", 0, 0, 6137),
        span("DELEGATE_CALL", 0, MS, 5 * MS),
        whole(MS, 5 * MS),
    ]
    found = {r.event: r for r in rows(events, events, program=program).methods[0].rows}
    units = {name: (r.unit, r.spread.mean, r.kind) for name, r in found.items()}
    assert units["Number of HVX threads used"] == ("count", 4, "figure")
    assert units["RPC (execute) time"] == ("ms", 3.011, "figure")
    assert units["Accelerator (execute) time (cycles)"] == ("cycles", 29239, "figure")
    assert units["aten_linear_default:OpId_17 (cycles)"] == ("cycles", 6137, "inside")
    assert units["DELEGATE_CALL"] == ("ms", 4.0, "delegate")
    assert {r.backend for r in found.values()} == {"QnnBackend"}


def test_numbers_of_another_delegate_are_no_times():
    """Such as the performance monitor of an Ethos-U."""
    program = {"f": {(0, 0): Instruction("delegate", "EthosUBackend")}}
    events = [
        inside("ETHOSU_PMU_CYCLE", 0, 0, 999),
        span("DELEGATE_CALL", 0, 1, MS),
        whole(1, MS),
    ]
    row = rows(events, program=program).methods[0].rows[0]
    assert (row.kind, row.unit, row.spread.mean) == ("figure", "count", 999)


def test_a_method_that_calls_nothing_is_a_run_as_well():
    found = rows([whole(0, MS)], run(1, 2, 4), run(1, 2, 4)[:-1])
    assert [m.runs for m in found.methods] == [1, 1] and found.broken == 1


def test_nodes_of_ops_and_of_kernels():
    nodes = {"forward": {0: (Node("add", "/a"), Node("add", "/a")), 1: (Node("gelu", "/g"),)}}
    found = rows(run(1, 2, 4), program={"forward": XNNPACK}, nodes=nodes)
    assert row(found, "add.out").nodes == ("/a",)
    assert row(found, "GELU (NC) #1").nodes == ("/g",) == row(found, "DELEGATE_CALL").nodes


@pytest.mark.parametrize("kind", ["fp32", "int8-static", "int8-dynamic", "int4-block", "portable"])
def test_recorded_parts_are_within_the_whole(profile_of, kind):
    """Every op and delegate is within its run; every kernel within its delegate's call."""
    (method,) = profile_of(kind).methods
    assert (method.name, method.runs) == ("forward", 3)
    assert 0 < method.operator_ms + method.delegate_ms <= method.execute.mean
    calls = {r.at: r.spread.mean for r in method.rows if r.kind == "delegate"}
    for at, ms in calls.items():
        spent = sum(r.spread.mean for r in method.rows if r.kind == "inside" and r.at == at)
        assert spent <= ms + 1e-3  # XNNPACK's are whole microseconds
    assert method.delegates == len(calls) == {"int8-dynamic": 10, "portable": 0}.get(kind, 3)
    assert all(r.calls == 3 for r in method.rows)


def test_recorded_kernels_have_their_nodes(profile_of):
    (method,) = profile_of("fp32").methods
    products = {r.event: r.nodes for r in method.rows if r.at == (0, 7) and "GEMM" in r.event}
    assert products == {
        "Batch Matrix Multiply (NC, F32) GEMM #1": ("/attention",),
        "Fully Connected (NC, F32) GEMM #1": ("/add_1",),
        "Fully Connected (NC, F32) GEMM #2": ("/up",),
        "Fully Connected (NC, F32) GEMM #3": ("/down",),
    }
    norm = next(r for r in method.rows if r.event == "native_layer_norm.out")
    assert norm.nodes == ("/norm",)


def test_recorded_methods_that_are_alike(recorded):
    program = read_program(recorded("two.program"))
    blocks = read_etdump(recorded("two-decode.etdp"))
    with pytest.raises(JobFault, match=r"fit (prefill and decode|decode and prefill) alike"):
        rows_of(blocks, program)
    assert rows_of(blocks, program, method="decode").methods[0].runs == 3


@given(st.lists(st.tuples(*[st.integers(1, 50)] * 3), min_size=1, max_size=8))
def test_means_add_up(times):
    """execute = operators + delegates, where nothing is between them."""
    (method,) = rows(*(run(add, min(gelu, call), call) for add, gelu, call in times)).methods
    assert method.execute.mean == pytest.approx(method.operator_ms + method.delegate_ms)
    for each in method.rows:
        spread = each.spread
        assert spread.least <= spread.p50 <= spread.p90 and spread.least <= spread.mean + 1e-12

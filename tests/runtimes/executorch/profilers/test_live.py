"""Against ExecuTorch itself: lowered, run and read here, and read again by its own Inspector."""

from __future__ import annotations

import pytest

from edgevlm.runtimes.executorch.etdump import parse_etdump
from edgevlm.runtimes.executorch.host_profile import profile_here, trace_here
from edgevlm.runtimes.executorch.kernels import kernel_counts
from edgevlm.runtimes.executorch.op_rows import rows_of
from edgevlm.runtimes.executorch.program import read_program


def test_the_inspector_sees_the_same(block, tmp_path):
    """Its mean and least of every event, by instruction; it knows nothing of the program."""
    from executorch.devtools import Inspector

    path = tmp_path / "run.etdp"
    path.write_bytes(trace_here(block.path, block.inputs["forward"], 6, "forward"))
    (method,) = rows_of(parse_etdump(path.read_bytes()), read_program(block.path)).methods
    blocks = {each.name: each for each in Inspector(etdump_path=str(path)).event_blocks}
    events = {
        (event._instruction_id, event.name.removeprefix("native_call_")): event.perf_data
        for event in blocks["Execute"].events
    }
    whole = next(data for (_, name), data in events.items() if name == "Method::execute")
    assert method.runs == len(whole.raw) == 6
    assert method.execute.mean == pytest.approx(whole.avg)
    assert method.execute.p50 == pytest.approx(whole.p50)
    inside = [row for row in method.rows if row.kind != "operator"]
    assert len(inside) == 23
    for row in inside:
        data = events[row.at[1], row.event]
        assert row.spread.mean == pytest.approx(data.avg, abs=1e-9)
        assert row.spread.p90 == pytest.approx(data.p90, abs=1e-9)
        assert row.spread.least == pytest.approx(data.min, abs=1e-9)
    kernels = [row for row in method.rows if row.kind == "operator"]
    assert all(row.spread.mean >= events[row.at[1], row.event].avg for row in kernels)


def test_instructions_are_those_that_executorch_reads(block):
    from executorch.exir._serialize._program import deserialize_pte_binary

    (plan,) = deserialize_pte_binary(block.path.read_bytes()).program.execution_plan
    expected = []
    for each in plan.chains[0].instructions:
        call = each.instr_args
        if type(call).__name__ == "KernelCall":
            op = plan.operators[call.op_index]
            expected.append(("kernel", f"{op.name}.{op.overload}"))
        else:
            expected.append(("delegate", plan.delegates[call.delegate_index].id))
    made = read_program(block.path)["forward"].values()
    assert [(each.kind, each.calls) for each in made] == expected


def test_a_kernel_is_that_of_its_node(lowered, tmp_path):
    """Two products beside each other, one 256 times as large; quantised, which changes their order.

    The quickest of many runs is compared: a busy machine makes all of them longer.
    """
    made = lowered("pair")
    path = tmp_path / "pair.pte"
    path.write_bytes(made.pte)
    profile = profile_here(path, made.inputs["forward"], 50, "forward", nodes=made.nodes)
    (method,) = profile.methods
    assert kernel_counts(method.rows) == {"int8-static": 2}
    told = {row.nodes: row.spread for row in method.rows if "Fully Connected" in row.event}
    assert set(told) == {("/small",), ("/large",)}
    assert told["/large",].least > 3 * told["/small",].least

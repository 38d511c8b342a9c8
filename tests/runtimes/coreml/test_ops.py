"""Every op of the table, in every form it takes: emitted, saved, read back, against numpy."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

pytest.importorskip("torch", reason="the evaluator needs: pip install 'edgevlm[coreml]'")
pytest.importorskip("coremltools", reason="Core ML needs: pip install 'edgevlm[coreml]'")

from edgevlm.runtimes.coreml.mil_evaluator import MilProgram
from edgevlm.runtimes.coreml.ops import OPS

#: no row builds them alone: test_states.py runs them
STATES = {"read_state", "write_state"}


def within(found, want, kind) -> None:
    """One rounding to the type that is stored; sums themselves are of float32."""
    assert found.shape == np.shape(want)
    step = 2.0**-11 if found.dtype == np.float16 else 2.0**-24
    more = 0 if found.dtype == np.float16 else 40 * step * float(np.abs(want).max(initial=0))
    tiny = 2.0**-25 if found.dtype == np.float16 else 0
    want = np.asarray(want, np.float64)
    if kind == "f":
        error = np.abs(found.astype(np.float64) - want)
        assert (error <= 1.02 * step * np.abs(want) + more + tiny).all(), error.max()
    else:
        np.testing.assert_array_equal(found, want)


def test_it_computes_what_numpy_does(case, emit):
    op, row, kind = case
    feeds = {
        n: a.astype(kind) if a.dtype.kind == "f" else np.asarray(a, np.int32)
        for n, a in row.feeds.items()
    }

    def build(mb, **variables):
        return row.build(mb, lambda n: np.asarray(n).astype(kind)[()], **variables)

    program = MilProgram(emit(build, feeds, row.ios))
    main = program.functions["main"]
    assert op in {each.type for each in main.ops}, "coremltools made something else of it"
    found = program.call("main", feeds)
    wide = {n: a.astype(np.float64) for n, a in feeds.items()}
    more = {n: np.asarray(a).astype(kind).astype(np.float64) for n, a in row.more.items()}
    want = row.want(*wide.values(), *more.values())
    want = want if isinstance(want, tuple) else (want,)
    assert [f"out{i}" for i in range(len(want))] == list(found)
    for name, right in zip(found, want, strict=True):
        within(found[name], right, found[name].dtype.kind)


def test_every_op_has_a_row_and_every_row_an_op(table):
    assert set(table) | STATES == set(OPS)
    assert all(rows for rows in table.values())


def _defaults(op, spec, types):
    """What coremltools fills in for inputs that are left out, of an op on [2, 3, 4, 5]."""
    instance = object.__new__(spec)

    class Variable:
        rank, shape, dtype, val = 4, (2, 3, 4, 5), types.fp32, None

    for name in ("x", "weight", "data", "values", "indices", "boxes"):
        setattr(instance, name, Variable())
    instance.return_indices = None
    return spec.default_inputs(instance)._default_inputs


#: a default here -> what coremltools writes out for the same
SAME_AS_NONE = {"strides", "pad", "dilations", "axes", "bias", "output_shape"}


@pytest.mark.parametrize("op", sorted(set(OPS) - {"write_state"}))
def test_parameters_are_those_of_mil(op, tools):
    from coremltools.converters.mil.mil import types
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    taken = inspect.signature(OPS[op]).parameters
    ours = {name for name in taken if name != "ios"}
    theirs, needed = set(), []
    for spec in SSAOpRegistry.core_ops[op].values():
        inputs = spec.input_spec.input_types
        theirs |= set(inputs)
        needed.append({name for name, kind in inputs.items() if not kind.optional})
        for name, value in _defaults(op, spec, types):
            if name in SAME_AS_NONE:
                assert taken[name].default is None
            else:
                assert taken[name].default == pytest.approx(value), (name, value)
    assert ours == theirs
    always = set.intersection(*needed)
    assert {n for n in ours if taken[n].default is inspect.Parameter.empty} <= always

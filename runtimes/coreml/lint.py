"""Which ops of a package are likely not run on the Neural Engine. A prediction, and labelled so.

    lint("model.mlpackage").lines()
    predicted for the Neural Engine, prefill: 3 of 412 ops likely leave it, with 0.0% of ...
      prefill  topk  topk_0: left it in published compute plans (measured: https://...)

Rules are data (ane_rules.py), with who says so. Nothing is run and no device is asked; where ops
really run is told by compute_plan.py on a Mac.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from edgevlm.runtimes.coreml.ane_rules import FORM_RULES, OP_RULES, Known, Rule
from edgevlm.runtimes.coreml.macs import macs_of
from edgevlm.runtimes.coreml.mil_functions import Function, Op, read_functions
from edgevlm.runtimes.coreml.mil_types import TensorType
from edgevlm.runtimes.coreml.mlpackage import open_mlpackage

__all__ = ["Finding", "Lint", "lint"]


@dataclass(frozen=True)
class Finding:
    """One op and one reason. macs_share: of its function's products, 0 to 1."""

    function: str
    op: str
    type: str
    effect: str
    why: str
    known: Known
    source: str
    macs_share: float


@dataclass(frozen=True)
class Lint:
    """all_ops: (function, type, name) of each that runs, so of no constant."""

    label: ClassVar[str] = "predicted"
    functions: tuple[str, ...]
    all_ops: tuple[tuple[str, str, str], ...]
    findings: tuple[Finding, ...]

    def leaving(self) -> dict[tuple[str, str], Finding]:
        """(function, op) -> the first reason for which it leaves."""
        found: dict[tuple[str, str], Finding] = {}
        for finding in self.findings:
            if finding.effect == "leaves":
                found.setdefault((finding.function, finding.op), finding)
        return found

    def share_leaving(self, function: str) -> float:
        """Of the function's products, 0 to 1."""
        return sum(f.macs_share for (name, _), f in self.leaving().items() if name == function)

    def as_json(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "functions": {
                name: {"ops": sum(name == of for of, _, _ in self.all_ops),
                       "leaving": sum(name == of for of, _ in self.leaving()),
                       "macs_share_leaving": round(self.share_leaving(name), 6)}
                for name in self.functions
            },
            "findings": [asdict(finding) for finding in self.findings],
        }  # fmt: skip

    def lines(self, most: int = 20) -> list[str]:
        """For a person: a line a function, then the ops that leave, heaviest first."""
        told = [
            f"{self.label} for the Neural Engine, {name}: {entry['leaving']} of {entry['ops']} ops "
            f"likely leave it, with {entry['macs_share_leaving']:.1%} of the products"
            for name, entry in self.as_json()["functions"].items()
        ]
        leaving = sorted(self.leaving().values(), key=lambda f: -f.macs_share)
        told += [
            f"  {f.function}  {f.type}  {f.op}: {f.why} ({f.known}: {f.source})"
            for f in leaving[:most]
        ]
        return told + [f"  and {len(leaving) - most} more"] * (len(leaving) > most)


def lint(folder: Path | str, chip: int | None = None) -> Lint:
    """chip: the generation of an A-chip (15 for A15); None for all. Raises EV302, EV304."""
    functions = read_functions(open_mlpackage(folder))
    findings: list[Finding] = []
    all_ops = []
    for function in functions.values():
        run = [op for op in function.ops if not op.type.startswith("constexpr_")]
        all_ops += [(function.name, op.type, _name(op)) for op in run]
        macs = {_name(op): macs_of(function, op) for op in run}
        total = sum(macs.values()) or 1
        ported = {*function.inputs, *function.outputs}
        for op in function.ops:
            for rule in _rules(function, op, ported):
                if rule.until is None or chip is None or chip <= rule.until:
                    share = macs.get(_name(op), 0) / total
                    findings.append(
                        Finding(function.name, _name(op), op.type, rule.effect, rule.why,
                                rule.known, rule.source, share)
                    )  # fmt: skip
    return Lint(tuple(functions), tuple(all_ops), tuple(findings))


def _name(op: Op) -> str:
    """Of its first output, as compute plans name it."""
    return op.gives[0][0] if op.gives else op.name


def _rules(function: Function, op: Op, ported: set[str]) -> Iterator[Rule]:
    if op.type in OP_RULES:
        yield OP_RULES[op.type]
    if op.type.startswith("constexpr_"):
        return
    given = [type_ for _, type_ in op.gives if type_ is not None]
    taken = [t for arguments in op.takes.values() for t in _computed(function, arguments)]
    tensors = [*given, *taken]
    if op.type != "cast":
        if any(t.dtype.name == "fp32" for t in tensors):
            yield FORM_RULES["float32"]
        if any(t.dtype.kind == "int" and t.dtype.bits > 8 for t in tensors):
            yield FORM_RULES["integers"]
    if any(None in t.shape for t in given):
        yield FORM_RULES["dynamic"]
    rank = max((len(t.shape) for t in tensors), default=0)
    if rank == 5:
        yield FORM_RULES["rank5" if op.type in ("linear", "matmul") else "rank5moved"]
    if rank > 5:
        yield FORM_RULES["rank6"]
    longest = max((n or 0 for t in tensors for n in t.shape), default=0)
    if longest > 16384:
        yield FORM_RULES["extent65536" if longest > 65536 else "extent16384"]
    yield from _special(function, op, taken)
    names = {a for arguments in op.takes.values() for a in arguments if isinstance(a, str)}
    names |= {name for name, _ in op.gives}
    if any(_ragged(function.types[name]) for name in names & ported):
        yield FORM_RULES["ragged"]


def _special(function: Function, op: Op, taken: list[TensorType]) -> Iterator[Rule]:
    if op.type in ("reduce_argmax", "reduce_argmin") and any(
        (n or 0) > 2048 for t in taken for n in t.shape
    ):
        yield FORM_RULES["argument"]
    if op.type == "conv":
        weight = next(iter(_types(function, op.takes.get("weight", ()))), None)
        width = weight.shape[-1] if weight is not None and len(weight.shape) > 2 else 0
        if width and width > 13:
            yield FORM_RULES["kernel16" if width > 16 else "kernel13"]


def _ragged(type_: TensorType) -> bool:
    """A last axis that does not fill 64 bytes."""
    last = type_.shape[-1] if type_.shape else 1
    return type_.dtype.kind == "float" and bool(last) and last * type_.dtype.bits % 512 != 0


def _types(function: Function, arguments: tuple) -> list[TensorType]:
    names = [a for a in arguments if isinstance(a, str)]
    return [function.types[name] for name in names if name in function.types]


def _computed(function: Function, arguments: tuple) -> list[TensorType]:
    """Types of what is no constant of the program."""
    names = tuple(a for a in arguments if isinstance(a, str) and a not in function.constants)
    return _types(function, names)

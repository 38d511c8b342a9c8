"""What the instructions of a .pte are: by method, the kernel or the delegate that each one calls.

An ETDump says which instruction took how long and not whose: the program says that. Nothing of it
is run here, and no package of ExecuTorch is needed. Schema: schema/program.fbs of executorch 1.5.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.executorch.flatbuffer import BadFlatbuffer, Table, root

__all__ = ["Instruction", "Methods", "read_program"]

IDENTIFIER = b"ET12"
#: the graph is in front; constants and delegates' data lie in segments behind it
MOST_GRAPH = 256 * 2**20  # bytes
MOST_INSTRUCTIONS = 1_000_000
#: of program.fbs, in its order
KINDS = ("none", "kernel", "delegate", "move", "jump", "free")
# fields of the tables, by their place in the schema
PLANS, PLAN_NAME, PLAN_CHAINS, PLAN_OPS, PLAN_DELEGATES = 1, 0, 5, 6, 7
CHAIN_INSTRUCTIONS, OP_NAME, OP_OVERLOAD, DELEGATE_ID = 2, 0, 1, 0


@dataclass(frozen=True)
class Instruction:
    """`calls`: the op with its overload, or the delegate's id; "" for what only moves values."""

    kind: Literal["kernel", "delegate", "move", "jump", "free", "none"]
    calls: str


#: method -> (chain, instruction) -> what it is; methods in the order of the file
Methods = Mapping[str, Mapping[tuple[int, int], Instruction]]


def read_program(path: Path) -> Methods:
    """Of a .pte file. Raises JobFault EV360.

    Constant methods, which give a number back, have no instruction.
    """
    try:
        with path.open("rb") as file:
            return _methods(root(file.read(MOST_GRAPH), IDENTIFIER))
    except BadFlatbuffer as error:
        why = f"it is no program of ExecuTorch, or is cut off: {error}"
    except OSError as error:
        why = error.strerror or str(error)
    raise JobFault(
        "EV360", f"{path.name} cannot be read", why, "compile the bundle again: edgevlm compile"
    )


def _methods(program: Table) -> dict[str, dict[tuple[int, int], Instruction]]:
    found: dict[str, dict[tuple[int, int], Instruction]] = {}
    total = 0
    for plan in program.tables(PLANS):
        ops = [_op(each) for each in plan.tables(PLAN_OPS)]
        delegates = [each.text(DELEGATE_ID) or "" for each in plan.tables(PLAN_DELEGATES)]
        made: dict[tuple[int, int], Instruction] = {}
        for chain, table in enumerate(plan.tables(PLAN_CHAINS)):
            total += table.count(CHAIN_INSTRUCTIONS)
            if total > MOST_INSTRUCTIONS:
                raise BadFlatbuffer(f"more than {MOST_INSTRUCTIONS} instructions")
            for place, each in enumerate(table.tables(CHAIN_INSTRUCTIONS)):
                made[chain, place] = _instruction(each, ops, delegates)
        found[plan.text(PLAN_NAME) or ""] = made
    return found


def _op(table: Table) -> str:
    name, overload = table.text(OP_NAME) or "", table.text(OP_OVERLOAD) or ""
    return f"{name}.{overload}" if overload else name


def _instruction(table: Table, ops: list[str], delegates: list[str]) -> Instruction:
    kind = table.number(0, "B")
    call = table.table(1)
    if kind >= len(KINDS) or call is None:
        return Instruction("none", "")
    names = {"kernel": ops, "delegate": delegates}.get(KINDS[kind])
    if names is None:
        return Instruction(KINDS[kind], "")
    index = call.number(0, "i")
    if not 0 <= index < len(names):
        raise BadFlatbuffer(f"instruction calls {KINDS[kind]} {index} of {len(names)}")
    return Instruction(KINDS[kind], names[index])

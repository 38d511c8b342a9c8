"""What a person reads of a payoff: ms a stage before and after, and from where on it pays."""

from __future__ import annotations

from typing import Any

from edgevlm.commands.output import Speaker
from edgevlm.compiler.bundle import RECORD, Bundle
from edgevlm.compiler.errors import JobFault

__all__ = ["payoff_table", "stored_payoff"]


def stored_payoff(bundle: Bundle) -> dict[str, Any] | None:
    """What compile measured, from the bundle's record; None where it dropped no tokens.

    Raises EV322 for a record that cannot be read.
    """
    found = bundle.record().get("payoff")
    try:
        if found is not None:
            _rows(found)
            _sentence(found)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise JobFault(
            "EV322",
            f"{RECORD} of {bundle.folder.name} is broken",
            f"{type(error).__name__}: {error}",
            "compile or copy the bundle again",
        ) from error
    return found


def payoff_table(speaker: Speaker, payoff: dict[str, Any] | None) -> None:
    """Nothing for a bundle that keeps all its tokens."""
    if payoff is None:
        return
    speaker.table(
        "pruned against unpruned, turn about when it was compiled",
        ["stage", "before ms", "after ms", "n", "how"],
        [[*row, payoff["n"], payoff["how"]] for row in _rows(payoff)],
    )
    for line in _sentence(payoff):
        speaker.say(line)


def _rows(payoff: dict[str, Any]) -> list[list[str]]:
    return [
        [str(name), f"{s['before_ms']:.3f}", f"{s['after_ms']:.3f}"]
        for name, s in payoff["stages"].items()
    ]


def _sentence(payoff: dict[str, Any]) -> list[str]:
    ratio = payoff["first_token_ratio"]
    verdict = "it pays" if payoff["pays"] else "slower" if payoff["slower"] else "no clear gain"
    lines = [
        f"time to first token {ratio['median']:.2f}x of no pruning "
        f"(95 % {ratio['low']:.2f} - {ratio['high']:.2f}): {verdict}"
    ]
    crossover = payoff["crossover"]
    if crossover is None:
        lines.append("from how many tokens on it pays: not measured; compile with --payoff full")
    elif crossover["reason"]:
        lines.append(f"from how many tokens on it pays: not measured; {crossover['reason']}")
    else:
        found = crossover["pays_from"]
        tried = ", ".join(
            f"{r['tokens']}: {r['ratio']:.2f}x" if "ratio" in r else f"{r['tokens']}: refused"
            for r in crossover["sizes"]
        )
        lines.append(
            f"behind the encoder it pays from {found or 'no measured'} tokens on ({tried})"
        )
    return lines

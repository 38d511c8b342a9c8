"""The table of facts as lines for `edgevlm doctor`: what holds for one chip and one release."""

from __future__ import annotations

from edgevlm.runtimes.tensorrt.aim import Aim
from edgevlm.runtimes.tensorrt.facts import facts

__all__ = ["known_facts"]

#: how a fact is known -> for people
HOW = {
    "run": "seen with tensorrt-rtx 1.7.1",
    "documented": "read in NVIDIA's documents or source",
    "memory": "from memory, checked by nobody",
}


def known_facts(aim: Aim) -> list[tuple[str, str, str]]:
    """(what, what is known of it, how)."""
    release, _ = facts().release(aim.tensorrt)
    brought = f", of JetPack {aim.jetpack}" if aim.jetpack else ""
    lacks = ", ".join(sorted(aim.lacks))
    found = [
        (
            f"TensorRT {aim.tensorrt}",
            f"as {release.version} or later{brought}: opset {aim.opset}; it lacks {lacks}",
            HOW[release.how],
        )
    ]
    if aim.chip:
        stands = f"; {aim.chip.proxy} stands in for it in a preflight" if aim.chip.proxy else ""
        types = ", ".join(aim.chip.types)
        what = f"{aim.chip.name}, sm_{aim.chip.sm}"
        found.append((what, f"multiplies {types}{stands}", HOW[aim.chip.how]))
    found += [(f"limit {each.name}", each.text, HOW[each.how]) for each in facts().limits]
    return found

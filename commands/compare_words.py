"""What `compare` says in sentences: each difference, its 95 % interval, and whether it is sure.

Where nothing can be told the sentence says from how much on it could have been: "no difference"
from ten requests and from a thousand are two findings.
"""

from __future__ import annotations

from typing import Any

from edgevlm.commands.compare_gates import gated_stages
from edgevlm.commands.compare_speed import LEAST

__all__ = ["accuracy_words", "gate_words", "kept_words", "p_value", "speed_words"]


def speed_words(speed: dict[str, Any]) -> list[str]:
    """Of the first token and the whole answer, or of a picture."""
    vlm = speed["answer_tokens"] is not None
    names = {
        "first_token": "to the first token",
        "end_to_end": "for a whole answer" if vlm else "for a picture",
    }
    lines = [
        _speed(names[stage], speed["stages"][stage]) for stage in gated_stages(speed["stages"])
    ]
    tokens = speed["answer_tokens"]
    if tokens and tokens["a"] != tokens["b"]:
        lines.append(
            f"answers have {tokens['a']:.2f} tokens in the mean from A and {tokens['b']:.2f} from "
            "B: whole answers are not of one length"
        )
    return lines


def _speed(of: str, found: dict[str, Any]) -> str:
    n = f"n = {found['n']} pairs"
    if found["low"] is None:
        return f"{of}, nothing can be told: {n} are too few, {LEAST} the least"
    ratio, low, high = (found[key] for key in ("ratio", "low", "high"))
    if found["verdict"] == "faster":
        return (
            f"{of}, B is {_times(1 / ratio)} times as fast "
            f"(95 %: {_times(1 / high)} to {_times(1 / low)}, {n})"
        )
    inner = f"95 %: {_times(low)} to {_times(high)}, {n}"
    if found["verdict"] == "slower":
        return f"{of}, B takes {_times(ratio)} times as long ({inner})"
    return (
        f"{of}, no difference can be told: B takes {_times(ratio)} times as long ({inner}); "
        f"from about {100 * found['told_from']:.1f} % on it could have been"
    )


def accuracy_words(found: dict[str, Any]) -> list[str]:
    """Of all rows together, and how often which of the two was right."""
    alone = found["only_a"] + found["only_b"]
    line = f"B {_points(found)}; p = {p_value(found['p'])}, n = {found['n']} rows): "
    if found["verdict"] != "none":
        line += "significant"
    else:
        line += "no difference can be told"
        if found["low"] > 0 or found["high"] < 0:
            line += " (the exact test is stricter than the interval)"
        elif found["told_from"] is None:
            line += f"; {_rows(alone)} right by one alone, and six on one side are the least"
        else:
            line += (
                f"; from {found['told_from']:.2f} points on it could have been, with "
                f"{_rows(alone)} right by one alone"
            )
    return [
        line,
        f"right: both on {found['both']}, A alone on {found['only_a']}, B alone on "
        f"{found['only_b']}, neither on {found['neither']}",
    ]


def kept_words(found: dict[str, Any]) -> str:
    """Of one evaluation that each bundle had before."""
    sure = "no difference can be told" if found["verdict"] == "none" else "significant"
    return (
        f"{found['dataset']} {found['split']}, as eval found before: A right on "
        f"{100 * found['a']['accuracy']:.2f} %, B on {100 * found['b']['accuracy']:.2f} %; "
        f"B {_points(found)}, n = {found['n']} rows, unpaired): {sure}; --dataset "
        f"{found['dataset']} asks both the same rows, which tells smaller differences"
    )


def gate_words(gate: dict[str, Any]) -> str:
    """Of one gate, passed or not."""
    unit, worse, better = ("%", "slower", "faster")
    if gate["unit"] == "points":
        unit, worse, better = ("points", "lost", "gained")
    end = "there is no interval"
    if (worst := gate["worst"]) is not None:
        end = f"the interval ends at {abs(worst):.2f} {unit} {worse if worst > 0 else better}"
    state = "passed" if gate["ok"] else "failed"
    of = gate["of"].replace("_", " ")
    return f"gate {of}, at most {gate['margin']:g} {unit} {worse}: {state}, {end}"


def _points(found: dict[str, Any]) -> str:
    """How much B gains or loses, and the interval; the bracket stays open."""
    points, low, high = found["points"], found["low"], found["high"]
    said = f"{'gains' if points > 0 else 'loses'} {abs(points):.2f} points"
    if points == 0:
        said = "is right as often as A"
    if low < 0 < high:
        return f"{said} (95 %: between {-low:.2f} lost and {high:.2f} gained"
    near, far = sorted((abs(low), abs(high)))
    return f"{said} (95 %: {near:.2f} to {far:.2f}"


def _times(ratio: float) -> str:
    """Three digits near 1, so that an interval which leaves 1 out is seen to."""
    return format(ratio, ".3f" if 0.9 < ratio < 1.1 else ".2f")


def _rows(count: int) -> str:
    return f"{count} row{'s' * (count != 1)}"


def p_value(value: float) -> str:
    """Two digits, or one where it is below any doubt."""
    return f"{value:.2g}" if value >= 1e-4 else f"{value:.0e}"

"""What a person reads of a prediction: never in one column with what was measured."""

from __future__ import annotations

from typing import Any

from edgevlm.commands.output import Speaker

__all__ = ["predict_table"]

SHOWN = 12  # layers, the slowest ones


def predict_table(speaker: Speaker, report: dict[str, Any]) -> None:
    device, here = report["device"], report["this_machine"]
    checked = here["stages"] if here else {}
    rows = [
        [
            name,
            stage["kernels"],
            _ms(stage["ms"]),
            stage["bound"] or "-",
            *_checked(checked.get(name)),
        ]
        for name, stage in report["stages"].items()
    ]
    sure = f", confidence {report['confidence']}" if report["confidence"] else ""
    flag = " (not verified)" if report["confidence"] == "C" else ""
    least = " at least" if report["at_least"] else ""
    speaker.table(
        f"{report['bundle']} on {device['name']}, {device['unit']}: predicted{least}{sure}{flag}",
        [
            "stage",
            "kernels",
            "predicted ms",
            "bound by",
            "this machine: predicted ms",
            "measured ms",
            "measured / predicted",
        ],
        rows,
    )
    told = _told(report)
    nothing = "nothing: neither a rate nor a bandwidth of it is published"
    speaker.say(f"predicted: {told or nothing}")
    if report["used"]:
        speaker.say(f"from: {'; '.join(map(_fact, report['used']))}")
    speaker.say(f"memory: {report['memory']['text']}")
    if here is None:
        speaker.say(f"not checked on this machine: {report['this_machine_note']}")
    for note in report["notes"]:
        speaker.say(f"note: {note}")
    if report["estimated"]:
        _estimated(speaker, report["estimated"])
    if "layers" in report:
        _layers(speaker, report["layers"])


def _estimated(speaker: Speaker, told: dict[str, Any]) -> None:
    """What the device's own compiler says: another kind of figure, in a table of its own."""
    title = "; ".join(filter(None, (told["label"], told["note"])))
    if "table" in told:
        speaker.table(title, **told["table"])
    if rows := told.get("layers"):
        slowest = sorted(rows, key=lambda row: -row["ms"])[:SHOWN]
        speaker.table(
            f"{len(slowest)} of {len(rows)} steps of its schedule, the slowest",
            ["part", "step", "op", "on", "ms", "how"],
            [
                [r["role"], r["node"], r["op"], r["unit"] or "-", f"{r['ms']:.4f}", r["how"]]
                for r in slowest
            ],
        )


def _layers(speaker: Speaker, layers: list[dict[str, Any]]) -> None:
    slowest = sorted(layers, key=lambda row: -(row["ms"] or 0))[:SHOWN]
    speaker.table(
        f"layers: {len(slowest)} of {len(layers)}, those predicted slowest",
        ["layer", "op", "fused", "dtype", "MMAC", "kB", "bound by", "predicted ms"],
        [
            [
                f"{row['role']}/{row['node']}",
                row["op"],
                " ".join(row["fused"]),
                row["dtype"],
                f"{row['macs'] / 1e6:.2f}",
                f"{row['bytes'] / 1e3:.1f}",
                row["bound"] or "-",
                _ms(row["ms"]),
            ]
            for row in slowest
        ],
    )


def _told(report: dict[str, Any]) -> str:
    """The figures; a time that is a lower bound makes a rate an upper one."""
    above, below = ("at most ", "at least ") if report["at_least"] else ("", "")
    named = [
        (report["fps"], above + "{:.0f} images/s"),
        (report["ttft_ms"], "first token after " + below + "{:.3g} ms"),
        (report["tokens_per_s"], above + "{:.0f} tokens/s"),
    ]
    return ", ".join(text.format(value) for value, text in named if value is not None)


def _fact(used: dict[str, Any]) -> str:
    note = f", {used['note']}" if used["note"] else ""
    return f"{used['what']} {used['value']:.3g} {used['unit']} ({used['confidence']}{note})"


def _checked(stage: dict[str, Any] | None) -> list[str]:
    if stage is None:
        return ["-", "-", "-"]
    return [_ms(stage["predicted_ms"]), _ms(stage["measured_ms"]), f"{stage['ratio']:.2f}"]


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if value < 0.1 else f"{value:.3f}"

"""What a person reads of `edgevlm passes`: two lists, and the card of one pass or method."""

from __future__ import annotations

from typing import Any

from edgevlm.commands.output import Speaker

__all__ = ["card_of", "lists"]


def lists(speaker: Speaker, passes: list[dict[str, Any]], methods: list[dict[str, Any]]) -> None:
    """The passes, and the methods of `--prune`."""
    keys = ("name", "effect", "summary")
    speaker.table("passes", keys, [[row[key] for key in keys] for row in passes])
    speaker.table(
        "token reduction methods (--prune NAME)",
        ["name", "sites", "class", "text", "paper", "summary"],
        [
            [
                m["name"],
                ", ".join(m["sites"]) or "a pass of its own",
                m["lowering"],
                "yes" if m["text_aware"] else "",
                m["paper"] or "",
                m["summary"],
            ]
            for m in methods
        ],
    )
    speaker.say("edgevlm passes show NAME prints the card of any of them")


def card_of(speaker: Speaker, card: dict[str, Any]) -> None:
    """A pass or a method, its facts and its options."""
    method = card["kind"] == "method"
    speaker.say(f"{card['name']} ({'method' if method else card['effect']})", "bold")
    speaker.say(card["card"])
    if method:
        speaker.table("what it is", ["fact", "value"], _facts(card))
    rows = [
        [name, spec.get("default", "required"), _range(spec), spec.get("description", "")]
        for name, spec in card["options"].items()
    ]
    if rows:
        speaker.table("options", ["option", "default", "range", "what"], rows)
    else:
        speaker.say("it has no options")


def _facts(card: dict[str, Any]) -> list[list[object]]:
    example, forms = card["example"], card["forms"]
    falls = f"--tokens {example['keep']} of {example['tokens']}: " + ", ".join(
        f"{keep} at {site}" if site else str(keep)
        for site, keep in zip(example["sites"] or [""], example["budgets"], strict=True)
    )
    sites = ", ".join(card["sites"]) or f"none: it is the pass {card['as_pass']}"
    least = {kind: n for kind, n in card["least"].items() if n > 1}
    rows = [
        ["sites", sites],
        ["where one number goes", falls if card["budgeted"] else "it takes none; all tokens stay"],
        ["smallest budget", ", ".join(f"{n} at {kind}" for kind, n in least.items()) or 1],
        ["chooses", card["permutation"]["words"]],
        ["looks at the question", "yes" if card["text_aware"] else "no"],
        ["made of", f"{card['lowering']['class']}: {card['lowering']['words']}"],
        ["written for", ", ".join(name for name, why in forms.items() if why is None)],
    ]
    rows += [["not for " + name, why] for name, why in forms.items() if why is not None]
    if card["stand_in"]:
        rows.append(["stands in for it", card["stand_in"]])
    rows.append(["known from", f"{card['evidence']['tag']}: {card['evidence']['words']}"])
    rows.append(["paper", f"arXiv {card['paper']}" if card["paper"] else "see the card"])
    return rows


def _range(spec: dict[str, Any]) -> str:
    """Of a JSON schema: a choice, limits, or the type."""
    for each in (spec, *spec.get("anyOf", ())):
        if "enum" in each:
            return ", ".join(map(str, each["enum"]))
        words = {"minimum": "from", "exclusiveMinimum": "over", "maximum": "to"}
        words["exclusiveMaximum"] = "under"
        limits = [f"{word} {each[key]}" for key, word in words.items() if key in each]
        if limits:
            return " ".join(limits)
    return str(spec.get("type", ""))

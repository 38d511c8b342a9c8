"""The names of classes, as models, folders, data sets and people write them.

"Ankle boot", "ankle-boot" and "ANKLE_BOOT" are one name. A name with commas is a list of synonyms,
as ImageNet has them ("tabby, tabby cat"): each of them will do, and the whole name goes first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.exported_model import ExportedModel

__all__ = ["chosen", "find", "names_of", "nearest", "plain"]

SHOWN = 10  # names that a fault lists


def names_of(model: ExportedModel) -> tuple[str, ...]:
    """Of a classifier's classes; their numbers where they have no names."""
    count = model.contract.vocabulary
    names = model.processor.class_names
    return names if len(names) == count else tuple(map(str, range(count)))


def plain(name: str) -> str:
    """What two spellings of one name have in common."""
    return re.sub(r"[\s_-]+", " ", name.casefold()).strip()


def find(names: Sequence[str], asked: str) -> tuple[int, ...]:
    """The classes of this name: one, none, or several that are called the same."""
    wanted = plain(asked)
    whole = tuple(i for i, name in enumerate(names) if plain(name) == wanted)
    return whole or tuple(
        i for i, name in enumerate(names) if wanted in map(plain, name.split(",")) and wanted
    )


def nearest(names: Sequence[str], asked: str, count: int = 3) -> list[str]:
    """The names that are spelt most alike; [] where none is near."""
    spelt = {plain(name): name for name in reversed(names)}
    near = get_close_matches(plain(asked)[:200], list(spelt), n=count, cutoff=0.6)
    return [spelt[name] for name in near]


def chosen(
    names: Sequence[str],
    asked: str | Sequence[str],
    *,
    all_allowed: bool = True,
    option: str = "--classes",
) -> tuple[int, ...]:
    """The classes asked for, ascending. A text is split at its commas.

    Raises UsageFault EV135: a name that is none of `names` (the nearest are told), or that several
    classes have, or that is given twice; fewer than two classes; all of them, unless allowed.
    """
    words = asked.split(",") if isinstance(asked, str) else list(asked)
    what = f"{option} {','.join(words)[:120]}"
    if not names:
        raise UsageFault(
            "EV135",
            what,
            "the model has no class names",
            "labels = [...] in the sidecar of its ONNX",
        )
    found: set[int] = set()
    for i, word in enumerate(words):
        if plain(word) in map(plain, words[:i]):
            raise UsageFault("EV135", what, f"{word.strip()!r} is there twice", "name it once")
        found.add(_one(names, word, what))
    if len(found) < 2:
        raise UsageFault(
            "EV135",
            what,
            "there is nothing to tell apart: two classes are the least",
            f"{option} {','.join(_others(names, found))}",
        )
    if len(found) == len(names) and not all_allowed:
        raise UsageFault(
            "EV135",
            what,
            f"these are all {len(names)} classes of the model, so nothing is left out",
            "leave a class out, or the option",
        )
    return tuple(sorted(found))


def _one(names: Sequence[str], word: str, what: str) -> int:
    match find(names, word):
        case (only,):
            return only
        case ():
            near = nearest(names, word)
            rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            raise UsageFault(
                "EV135",
                what,
                f"the model has no class {word.strip()[:60]!r}"
                + (f"; the nearest: {', '.join(near)}" if near else ""),
                f"did you mean {near[0]}?"
                if near
                else f"its classes are {', '.join(names[:SHOWN])}{rest}",
            )
        case several:
            raise UsageFault(
                "EV135",
                what,
                f"{len(several)} classes are called {word.strip()[:60]!r}: "
                f"numbers {', '.join(map(str, several[:SHOWN]))}",
                "name another class",
            )


def _others(names: Sequence[str], found: set[int]) -> list[str]:
    """A call that would do: what was named, and as much more as two take."""
    return [names[i] for i in [*found, *(i for i in range(len(names)) if i not in found)][:2]]

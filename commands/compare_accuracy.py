"""Which of two bundles is right more often: the same rows asked of both, paired row by row.

Of classifiers the rows are those of classes that both know, and both choose among these alone:
a model derived for three classes has to beat the base that is held to the same three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevlm.commands.evaluate import check_kinds, tally_answers
from edgevlm.commands.evaluate_classes import known_names, tally_classes
from edgevlm.commands.session import open_for_answers, open_for_looks
from edgevlm.compiler.bundle import Bundle
from edgevlm.compiler.class_names import chosen
from edgevlm.compiler.errors import UsageFault
from edgevlm.models.datasets import CLASSIFIED, Dataset, few, load_dataset
from edgevlm.models.datasets.paired import Pairs, holm
from edgevlm.models.datasets.scoring import Tally

__all__ = ["Asked", "compare_accuracy"]

Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Asked:
    """A data set, and which of its rows: arguments as of `eval`."""

    dataset: str
    split: str = "test"
    limit: int | None = None
    data_dir: Path | None = None
    classes: str | None = None


def compare_accuracy(
    a: Bundle, b: Bundle, asked: Asked, advance: Advance = lambda done, total: None
) -> dict[str, Any]:
    """The `accuracy` of the report.

    Raises EV130-EV133 (data set), EV135, EV220 (classes), EV136 (a bundle and a data set that do
    not go together, or bundles without two classes in common).
    """
    for bundle in (a, b):
        check_kinds(bundle.folder, bundle.manifest.contract.kind, asked.dataset, asked.classes)
    classified = asked.dataset in CLASSIFIED
    tallies, classes = (_classes if classified else _answers)(a, b, asked, advance)
    pairs = Pairs.of(*([right for _, right in tally.rows] for tally in tallies))
    kinds = {
        kind: Pairs.of(*([r for k, r in tally.rows if k == kind] for tally in tallies))
        for kind in tallies[0].by_kind
    }
    raised = holm({kind: found.p for kind, found in kinds.items()})
    told_from = pairs.told_from
    return {
        "dataset": asked.dataset,
        "split": asked.split,
        **pairs.as_json(),
        "a": tallies[0].overall.as_json(),
        "b": tallies[1].overall.as_json(),
        "verdict": _verdict(pairs),
        "told_from": None if told_from is None else 100 * told_from,
        "kinds": {
            kind: {
                "n": found.n,
                "only_a": found.only_a,
                "only_b": found.only_b,
                "a": tallies[0].by_kind[kind].accuracy,
                "b": tallies[1].by_kind[kind].accuracy,
                "points": 100 * found.difference,
                "p": raised[kind],
            }
            for kind, found in kinds.items()
        },
        "classes": classes,
        "metric": "top-1 among the classes asked for"
        if classified
        else "exact match of the greedy answer",
        "test": "McNemar's exact test, two-sided",
        "how": "measured-host",
    }


def _verdict(pairs: Pairs) -> str:
    """`better` or `worse` is B, where that is significant; else `none`."""
    if not pairs.significant:
        return "none"
    return "better" if pairs.difference > 0 else "worse"


def _answers(a: Bundle, b: Bundle, asked: Asked, advance: Advance) -> tuple[list[Tally], None]:
    rows = load_dataset(asked.dataset, asked.split, limit=asked.limit, data_dir=asked.data_dir)
    return [
        tally_answers(open_for_answers(bundle).answerer, rows, _half(advance, i))
        for i, bundle in enumerate((a, b))
    ], None


def _classes(
    a: Bundle, b: Bundle, asked: Asked, advance: Advance
) -> tuple[list[Tally], dict[str, Any]]:
    every = load_dataset(asked.dataset, asked.split, data_dir=asked.data_dir)
    known = [known_names(bundle, every) for bundle in (a, b)]
    wanted = set(known[0]) & set(known[1])
    if asked.classes is not None:
        for bundle, names in zip((a, b), known, strict=True):
            places = chosen(bundle.manifest.processor.class_names, asked.classes)
            wanted &= {names[place] for place in places}
    if len(wanted) < 2:
        raise UsageFault(
            "EV136",
            f"{a.folder.name} and {b.folder.name} on dataset {asked.dataset}",
            f"the classes that both know are {', '.join(sorted(wanted)) or 'none'}: "
            "two are needed to be right or wrong",
            "edgevlm eval BUNDLE --dataset NAME  for each by itself",
        )
    rows = few(every, asked.limit, wanted)
    tallies = [
        _held(bundle, names, wanted, rows, _half(advance, i))
        for i, (bundle, names) in enumerate(zip((a, b), known, strict=True))
    ]
    asked_for = [kind for kind in every.kinds if kind in wanted]
    return tallies, {"asked": asked_for, "of_a": len(known[0]), "of_b": len(known[1])}


def _held(
    bundle: Bundle, names: list[str], wanted: set[str], rows: Dataset, advance: Advance
) -> Tally:
    """One bundle, held to the classes that are wanted."""
    among = [place for place, name in enumerate(names) if name in wanted]
    return tally_classes(open_for_looks(bundle), rows, names, among, advance)[1]


def _half(advance: Advance, which: int) -> Advance:
    """The progress of the first or of the second of two."""
    return lambda done, total: advance(which * total + done, 2 * total)

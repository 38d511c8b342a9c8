"""Of a classifier: how often its likeliest class is the picture's.

Only pictures of classes that the bundle knows are shown: no others could be told rightly. Where
some classes are asked for, there are two figures on the same pictures: the likeliest of all the
bundle's classes, and the likeliest of those asked for. A model derived for these classes has to be
held against the second, which any classifier gives without being made smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from edgevlm.commands.session import open_for_looks
from edgevlm.compiler.bundle import Bundle
from edgevlm.compiler.class_names import chosen, find, nearest
from edgevlm.compiler.errors import UsageFault
from edgevlm.models.answer import Viewer
from edgevlm.models.datasets import Dataset, few
from edgevlm.models.datasets.scoring import Tally

__all__ = ["known_names", "measure_classes", "names_in", "score_classes", "tally_classes"]


def measure_classes(
    bundle: Bundle,
    dataset: Dataset,
    limit: int | None,
    asked: str | None,
    advance: Callable[[int, int], None],
) -> dict[str, Any]:
    """The part of the report that is about the pictures shown.

    asked: names of classes with commas. Raises EV132 (limit), EV135 (asked), EV136, EV3xx.
    """
    manifest = bundle.manifest
    names = manifest.processor.class_names
    known = known_names(bundle, dataset)
    among = None if asked is None else chosen(names, asked)
    wanted = {known[i] for i in (range(len(names)) if among is None else among)}
    every = few(dataset, None, wanted)
    rows = few(every, limit)
    viewer = open_for_looks(bundle)
    start = perf_counter()
    base, masked = score_classes(viewer, rows, known, among, advance)
    return {
        "n": len(rows.rows),
        **base,
        "classes": {
            "asked": [kind for kind in dataset.kinds if kind in wanted],
            "of_bundle": len(names),
            "of_dataset": len(dataset.kinds),
            "rows": len(every.rows),
            "rows_of_split": len(dataset.rows),
        },
        **({} if masked is None else {"masked": masked}),
        "seconds": round(perf_counter() - start, 2),
    }


def score_classes(
    viewer: Viewer,
    dataset: Dataset,
    known: Sequence[str],
    among: Sequence[int] | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """As `eval` tells it: of all classes, and `among` some; arguments as of `tally_classes`."""
    tallies = tally_classes(viewer, dataset, known, among, advance)
    told = [{"accuracy": t.overall.accuracy, **t.as_json()} for t in tallies]
    return told[0], None if among is None else told[1]


def tally_classes(
    viewer: Viewer,
    dataset: Dataset,
    known: Sequence[str],
    among: Sequence[int] | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Tally, Tally]:
    """Every row, by the likeliest of all classes, and by the likeliest `among` some.

    known: what the data set calls each class of the model. The second is empty without `among`.
    """
    base, masked = Tally(), Tally()
    for done, row in enumerate(dataset.rows):
        logits = viewer.look(row.rgb)[0]
        base.add(known[int(logits.argmax())], row.answer, row.kind)
        if among is not None:
            masked.add(known[among[int(logits[list(among)].argmax())]], row.answer, row.kind)
        advance(done + 1, len(dataset.rows))
    return base, masked


def names_in(names: Sequence[str], dataset: Dataset) -> list[str | None]:
    """What the data set calls each class; None where it has none of the name."""
    found = (find(dataset.kinds, name) for name in names)
    return [dataset.kinds[at[0]] if len(at) == 1 else None for at in found]


def known_names(bundle: Bundle, dataset: Dataset) -> list[str]:
    """Raises EV136 for a bundle whose classes are not among those of the data set."""
    names, count = bundle.manifest.processor.class_names, bundle.manifest.contract.vocabulary
    what = f"{bundle.folder.name} on dataset {dataset.name}"
    if len(names) != count:
        raise UsageFault(
            "EV136",
            what,
            f"the bundle gives {count} classes and has names of {len(names)}",
            "compile it again with labels = [...] in the sidecar of its ONNX file",
        )
    known = names_in(names, dataset)
    strange = [name for name, kind in zip(names, known, strict=True) if kind is None]
    if strange:
        near = nearest(dataset.kinds, strange[0])
        more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        raise UsageFault(
            "EV136",
            what,
            f"classes of the bundle that the data set does not have: "
            f"{', '.join(name[:60] for name in strange[:3])}{more}; "
            + (f"nearest to {strange[0][:60]}: {', '.join(near)}" if near else "none is near"),
            f"name the bundle's classes as the data set does: {', '.join(dataset.kinds[:10])}",
        )
    return known

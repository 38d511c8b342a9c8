"""What the words of a noun phrase name, against counting by hand."""

import pytest

torch = pytest.importorskip("torch", reason="the trainers need: pip install 'edgevlm[torch]'")
pytest.importorskip("transformers", reason="needs: pip install 'edgevlm[torch]'")

from edgevlm.models.zoo.scenes import data, questions, scenes  # noqa: E402
from edgevlm.models.zoo.scenes.config import SPEC  # noqa: E402
from edgevlm.models.zoo.scenes.phrases import Phrases  # noqa: E402
from edgevlm.models.zoo.training.processor import build_tokenizer  # noqa: E402

SAID = {
    "small": ("size", "small"),
    "circle": ("shape", "circle"),
    "circles": ("shape", "circle"),
    "squares": ("shape", "square"),
    "red": ("colour", "red"),
}


@pytest.fixture(scope="module")
def tokenizer():
    colours = [f"is there a small {c} {s}?" for c in questions.COLOURS for s in questions.SHAPES]
    sizes = [f"how many {z} {s}s are there?" for z in questions.SIZES for s in questions.SHAPES]
    asked = [*colours, *sizes] * 5
    return build_tokenizer(SPEC, asked, list(questions.COLOURS))


@pytest.mark.parametrize("question", ["is there a small red circle?", "more circles than squares"])
def test_a_word_names_what_the_phrase_fits_so_far(tokenizer, question):
    drawn = data.Drawn(scenes.TRAIN, 30, easy=4)
    batch = drawn.all([[] for _ in drawn.things])
    ids = torch.tensor([tokenizer.encode(f" {question}")] * len(drawn.things))
    named = Phrases(tokenizer, len(tokenizer)).find(ids, batch.things)
    words = [tokenizer.decode([i]).strip() for i in ids[0].tolist()]
    expected = []
    for row, things in enumerate(drawn.things):
        left = things
        for column, word in enumerate(words):
            if word not in SAID:
                left = things
                continue
            name, value = SAID[word]
            left = [t for t in left if getattr(t, name) == value]
            which = things.index(left[0]) if len(left) == 1 else None
            expected.append((row, column, len(left), which))
    found = [
        (int(r), int(c), int(n), int(t) if one else None)
        for r, c, n, one, t in zip(
            named.row, named.column, named.count, named.single, named.thing, strict=True
        )
    ]
    assert found == expected and len({n for _, _, n, _ in found}) > 1

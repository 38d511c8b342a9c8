"""CDPruner: greedy log-determinant of diag(r) S diag(r), against determinants themselves."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.keep_tokens import KeepTokens


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def relevance(prompt, sign=1):
    """minmax of the cosine of each image token and the mean of the words behind the image."""
    image = prompt.x[prompt.image]
    words = prompt.x[prompt.words]
    match = sign * unit(image) @ unit(words.mean(0))
    return (match - match.min()) / (match.max() - match.min()) + 1e-6


def kernel(prompt, sign=1):
    r, image = relevance(prompt, sign), unit(prompt.x[prompt.image])
    return r[:, None] * (image @ image.T) * r[None, :]


def greedy(matrix, keep):
    """The next token is the one with the largest determinant together with those taken."""
    taken = []
    for _ in range(keep):
        rest = [i for i in range(len(matrix)) if i not in taken]
        taken.append(
            max(rest, key=lambda i: np.linalg.slogdet(matrix[np.ix_(*[[*taken, i]] * 2)])[1])
        )
    return sorted(taken)


@pytest.mark.parametrize(
    ("keep", "sign"), [(1, "plus"), (2, "plus"), (13, "plus"), (6, "plus"), (6, "minus")]
)
def test_it_is_the_cards(in_micro, keep, sign):
    for seed in range(5):
        got = in_micro("cdpruner", "llm:0", keep, seed, asked=seed, sign=sign)
        matrix = kernel(got.prompt, 1 if sign == "plus" else -1)
        assert got.index(0).tolist() == greedy(matrix, keep)


def test_the_whole_set_is_not_far_from_the_best_of_all_subsets(in_micro):
    """T6: 12 tokens, four of them; greedy reaches 1 - 1/e of the best volume's excess over 1."""
    for seed in range(6):
        got = in_micro("cdpruner", "llm:0", 4, seed, sizes=(("grid", (3, 4)),))
        matrix = kernel(got.prompt)

        def volume(chosen, matrix=matrix):
            block = np.eye(len(chosen)) + matrix[np.ix_(chosen, chosen)]
            return np.linalg.slogdet(block)[1]

        best = max(volume(list(s)) for s in combinations(range(12), 4))
        assert volume(got.index(0)) >= (1 - 1 / np.e) * best


def test_one_of_each_planted_cluster(in_micro):
    """T7: duplicates of a few directions; the least relevant one of all is of no worth."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        kinds, label = rng.normal(size=(5, 16)), rng.permutation(np.arange(20) % 5)
        got = in_micro("cdpruner", "llm:0", 4, rows=kinds[label])
        assert len(set(label[got.index(0)])) == 4


def test_lengths_do_not_matter_and_the_question_does(in_micro):
    rows = np.random.default_rng(0).normal(size=(20, 16))
    long = rows * np.random.default_rng(1).uniform(0.1, 9, size=(20, 1))
    kept = in_micro("cdpruner", "llm:0", 6, rows=rows).index(0)
    assert in_micro("cdpruner", "llm:0", 6, rows=long).index(0).tolist() == kept.tolist()
    asked = {tuple(in_micro("cdpruner", "llm:0", 6, asked=n).index(0)) for n in range(5)}
    assert len(asked) > 1


def test_idle_rows_are_no_words(in_micro):
    kept = in_micro("cdpruner", "llm:0", 6, idle=40.0).index(0)
    assert kept.tolist() == in_micro("cdpruner", "llm:0", 6).index(0).tolist()


def test_the_bundled_model_at_its_default_site(in_tiny):
    """Its tokens span few directions: what is left behind those is below what float32 rounds."""
    model, found = in_tiny("cdpruner")
    assert [s.layer for s in model.contract.sites] == [0]
    for got in found:
        matrix, index, taken, volume = kernel(got.prompt), got.index(0), [], 0.0
        assert len(set(index)) == 16
        while len(taken) < 16:
            gains = {
                i: np.linalg.slogdet(matrix[np.ix_(*[[*taken, i]] * 2)])[1] - volume
                for i in range(64)
                if i not in taken
            }
            best = max(gains, key=gains.get)
            if gains[best] < np.log(1e-5):
                break
            mine = max((i for i in gains if i in index), key=gains.get)
            assert gains[mine] > gains[best] - 0.02
            taken, volume = [*taken, mine], volume + gains[mine]
        assert len(taken) >= 6


def test_what_it_says_and_refuses(tiny_model):
    notes = KeepTokens(keep=9, method="cdpruner", at="llm:0")(tiny_model).notes
    assert any("no CLIP text encoder" in n.why for n in notes)
    for at, why in (("connector-out", "no text is seen there"), ("vision-out", "no text")):
        with pytest.raises(UsageFault, match=why) as caught:
            KeepTokens(keep=9, method="cdpruner", at=at)(tiny_model)
        assert caught.value.code == "EV230"
    for form in ("fpga", "coreml"):
        with pytest.raises(UsageFault, match="the nearest that runs there is dart"):
            KeepTokens(keep=9, method="cdpruner", at="llm:0", form=form)(tiny_model)

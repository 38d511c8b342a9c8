"""Prompts are cut at the image, questions cannot smuggle control tokens."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from micro.texts import (
    BOS,
    IMAGE,
    LEVEL,
    LLAVA,
    SPECIALS,
    UNK,
    byte_level,
    ids_of,
    processor,
    word_level,
)
from pydantic import ValidationError
from tokenizers import (
    AddedToken,
    normalizers,
)

from edgevlm.compiler.errors import UsageFault
from edgevlm.models.processing.text import Prompt, PromptTemplate


def test_template_replaces_literally():
    assert LLAVA.fill("{question} {0} %s {", "<image>") == (
        "USER: <image>\n{question} {0} %s { ASSISTANT:"
    )
    other = PromptTemplate(text="{question} [IMG]", image="[IMG]")
    assert other.fill("what [IMG]", "<image>") == "what [IMG] <image>"


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": "USER: {question}"},
        {"text": "<image>"},
        {"text": "<image><image>{question}"},
        {"text": "<image>{question}{question}"},
        {"text": "<image> {question}", "image": "{question}"},
        {"text": "{question} q", "image": "q"},
        {"text": "<image>{question}", "image": ""},
        {"text": "<image>{question}" + "x" * 70_000},
        {"text": "<image>{question}", "extra": 1},
    ],
)
def test_templates_that_are_refused(wrong):
    with pytest.raises(ValidationError):
        PromptTemplate(**wrong)


@settings(deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
        lambda q: q.strip() and not any(s in q for s in SPECIALS)
    )
)
def test_the_halves_are_the_whole_prompt_cut_at_the_image(question):
    prompt = LEVEL.encode(question, 1000)
    whole = ids_of(f"USER: <image>\n{question} ASSISTANT:")
    assert (*prompt.before, IMAGE, *prompt.after) == whole
    assert prompt.before[0] == BOS and IMAGE not in prompt.before + prompt.after


def test_the_bos_is_put_in_front_once():
    bare = byte_level(post_processor=False)
    assert processor(bare).encode("what?", 100).before[0] != BOS
    assert processor(bare, bos_id=BOS).encode("what?", 100) == LEVEL.encode("what?", 100)
    assert processor(bos_id=BOS).encode("what?", 100) == LEVEL.encode("what?", 100)


def test_image_first_and_image_last():
    first = processor(byte_level(False), PromptTemplate(text="<image>{question}"))
    last = processor(byte_level(False), PromptTemplate(text="{question}<image>"))
    assert first.encode("yes", 9).before == () and last.encode("yes", 9).after == ()
    assert first.encode("yes", 9).after == last.encode("yes", 9).before


def test_a_placeholder_other_than_the_token():
    template = PromptTemplate(text="USER: [img]\n{question} ASSISTANT:", image="[img]")
    assert processor(template=template).encode("what?", 100) == LEVEL.encode("what?", 100)


def test_settings_left_over_from_training_are_undone():
    tokenizer = byte_level()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=64)
    assert processor(tokenizer).encode("what is it?", 100) == LEVEL.encode("what is it?", 100)


def test_too_long():
    exact = LEVEL.encode("what is the red shape?", 1000)
    n = len(exact.before) + len(exact.after)
    assert LEVEL.encode("what is the red shape?", n) == exact
    with pytest.raises(UsageFault) as caught:
        LEVEL.encode("what is the red shape?", n - 1)
    assert caught.value.code == "EV120"
    assert f"{n} text tokens" in caught.value.why and f"capacity is {n - 1}" in caught.value.why


@pytest.mark.parametrize(
    ("question", "code"),
    [
        ("", "EV121"),
        (" \n\t", "EV121"),
        ("x" * 70_000, "EV120"),
        ("a\ud800b", "EV123"),
        ("what <image>", "EV122"),
        ("</s>what", "EV122"),
        ("a<s>b", "EV122"),
        ("<unk>", "EV122"),
    ],
)
def test_questions_that_are_refused(question, code):
    with pytest.raises(UsageFault) as caught:
        LEVEL.encode(question, 10**6)
    assert caught.value.code == code
    if code == "EV122":
        assert any(token in caught.value.why for token in SPECIALS)


def test_what_only_looks_like_a_token_is_allowed():
    assert LEVEL.encode("is < image > or <image or </ s> there?", 1000).after


def test_a_token_that_only_the_normaliser_brings_about():
    lower = word_level(normalizers.Lowercase(), [AddedToken("</s>", normalized=True, special=True)])
    plain = processor(lower, PromptTemplate(text="<image> {question}"))
    assert plain.encode("WHAT is the", 9) == Prompt((), (5, 6, 7))
    with pytest.raises(UsageFault) as caught:
        plain.encode("what </S> is", 9)
    assert caught.value.code == "EV122" and "</s>" in caught.value.why


def test_a_question_that_destroys_the_image_token():
    # U+0338 behind ">" composes to one character, and <image> is then no longer there.
    composing = word_level(
        normalizers.NFC(), [AddedToken("<image>", normalized=True, special=True)]
    )
    with pytest.raises(UsageFault) as caught:
        processor(composing, PromptTemplate(text="<image>{question}")).encode("\u0338what", 9)
    assert caught.value.code == "EV122" and "<image>" in caught.value.why


def test_an_unknown_word_is_no_attack():
    plain = processor(word_level(), PromptTemplate(text="<image> {question}"))
    assert plain.encode("what is zebra ?", 9) == Prompt((), (5, 6, UNK, 8))


@pytest.mark.parametrize(
    ("template", "space"),
    [
        (LLAVA.text, " "),  # behind a colon
        ("<image>{question}\n", ""),
        ("<image> {question}</s>", ""),
        ("<image> {question}", " "),
    ],
)
def test_an_answer_continues_the_prompt(template, space):
    made = processor(template=PromptTemplate(text=template))
    prompt = template.replace("{question}", "what is it?")
    whole, bare = ids_of(prompt + f"{space}circle yes"), ids_of(prompt)
    assert whole[: len(bare)] == bare, "the tokenizer merges them"
    assert made.answer_ids("what is it?", " circle yes ") == whole[len(bare) :] != ()


def test_an_answer_that_merges_with_the_prompt_has_no_tokens_of_its_own():
    made = processor(template=PromptTemplate(text="<image>{question} |"))
    assert made.answer_ids("a", "x")
    made._ids = lambda question, answer="": [1, 7, 8] if answer else [1, 2]
    assert made.answer_ids("a", "x") == ()

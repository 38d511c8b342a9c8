"""Prompts are cut at the image, questions cannot smuggle control tokens, streams add up."""

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.models.processing import text as text_module
from edgevlm.models.processing.text import Prompt, PromptTemplate, StreamDecoder, TextProcessor

SPECIALS = ["<s>", "</s>", "<unk>", "<image>"]
BOS, EOS, UNK, IMAGE = range(4)
CORPUS = ["USER: what is the red shape? ASSISTANT: circle", "is there a teal triangle? yes no"] * 4
LLAVA = PromptTemplate(text="USER: <image>\n{question} ASSISTANT:")


def byte_level(post_processor=True):
    """A byte-level BPE of a few hundred tokens, whose post-processor puts <s> in front."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=SPECIALS,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    if post_processor:
        tokenizer.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", BOS)])
    return tokenizer


def byte_fallback():
    """SentencePiece style: words with a lower bar for the space, single bytes for all else."""
    pieces = [*SPECIALS, *(f"<0x{b:02X}>" for b in range(256)), "▁", *"abcdefgh", "▁ab", "▁cd"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.add_special_tokens(SPECIALS)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


def word_level(normalizer=None, added=()):
    """Whole words, with an unknown token, and lower case if asked for."""
    words = [*SPECIALS, "user", "what", "is", "the", "?"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "<unk>"))
    tokenizer.add_special_tokens([*added, *(t for t in SPECIALS if t not in map(str, added))])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if normalizer:
        tokenizer.normalizer = normalizer
    return tokenizer


def processor(tokenizer=None, template=LLAVA, bos_id=None):
    data = (tokenizer or byte_level()).to_str().encode()
    return TextProcessor(data, template, "<image>", (EOS,), bos_id)


@functools.cache
def ids_of(text, post_processor=True):
    """What the tokenizer itself makes of a text."""
    return tuple(trained(post_processor).encode(text).ids)


@functools.cache
def trained(post_processor=True):
    """The byte-level tokenizer to look at, not to change."""
    return byte_level(post_processor)


LEVEL, FALLBACK = processor(), processor(byte_fallback())


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
    "data",
    [b"", b"{}", b"[]", b"\xff\xfe", b"[" * 100_000, b"null", b'{"model": {"type": "Pickle"}}'],
)
def test_a_broken_tokenizer(data):
    with pytest.raises(JobFault) as caught:
        TextProcessor(data, LLAVA, "<image>", (1,))
    assert caught.value.code == "EV104" and "broken" in caught.value.why


def test_a_tokenizer_cut_short_or_too_big(monkeypatch):
    data = byte_level().to_str().encode()
    for tenth in range(10):
        with pytest.raises(JobFault):
            TextProcessor(data[: len(data) * tenth // 10], LLAVA, "<image>", (EOS,))
    monkeypatch.setattr(text_module, "MAX_TOKENIZER_BYTES", 100)
    with pytest.raises(JobFault) as caught:
        TextProcessor(data, LLAVA, "<image>", (EOS,))
    assert caught.value.code == "EV104" and "bigger" in caught.value.why


@pytest.mark.parametrize(
    ("image_token", "eos", "bos", "named"),
    [
        ("<picture>", EOS, None, "<picture>"),
        ("e", EOS, None, "e"),
        ("<image>", 10**6, None, "1000000"),
        ("<image>", -1, None, "-1"),
        ("<image>", EOS, 10**6, "bos"),
    ],
)
def test_tokens_that_the_tokenizer_lacks(image_token, eos, bos, named):
    template = PromptTemplate(text="[img] {question}", image="[img]")
    with pytest.raises(JobFault) as caught:
        TextProcessor(byte_level().to_str().encode(), template, image_token, (eos,), bos)
    assert caught.value.code == "EV104" and named in caught.value.why


def test_a_template_that_names_the_image_token_twice():
    template = PromptTemplate(text="<image> [img] {question}", image="[img]")
    with pytest.raises(JobFault) as caught:
        processor(template=template)
    assert caught.value.code == "EV104"


@settings(deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(
        lambda t: not any(s in t for s in SPECIALS)
    )
)
def test_decode_undoes_encode(text):
    ids = ids_of(text)
    assert LEVEL.decode([*ids, EOS, 10**6]) == text.strip()


def test_decode_drops_an_end_token_that_is_not_special():
    data = byte_level().to_str().encode()
    end = byte_level().token_to_id("!")
    ids = ids_of("yes!")
    assert TextProcessor(data, LLAVA, "<image>", (EOS, end)).decode(ids) == "yes"


@settings(deadline=None)
@given(st.lists(st.integers(0, 330), max_size=40), st.sampled_from([LEVEL, FALLBACK]))
def test_streamed_pieces_are_the_decoded_whole(ids, used):
    stream = StreamDecoder(used)
    pieces = [stream.push(i) for i in ids]
    assert "".join(pieces) + stream.flush() == used.decode(ids)
    assert stream.flush() == ""


@settings(deadline=None)
@given(
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), max_size=20
    ).filter(lambda t: not any(s in t for s in SPECIALS))
)
def test_valid_text_is_never_streamed_in_halves(text):
    stream = StreamDecoder(LEVEL)
    pieces = [stream.push(i) for i in ids_of(text, False)]
    assert "\ufffd" not in "".join(pieces)
    assert "".join(pieces) == text.strip()  # nothing is left for flush but white space
    assert stream.flush() == ""


def test_streamed_words_come_at_once_and_characters_whole():
    stream = StreamDecoder(LEVEL)
    ids = ids_of("yes 🦊 no", False)
    pieces = [piece for piece in map(stream.push, ids) if piece]
    assert any("🦊" in piece for piece in pieces) and len(pieces) >= 3
    assert "".join(pieces) == "yes 🦊 no"


def test_word_pieces_stream_as_well():
    words = [*SPECIALS, "it", "'", "s", "red", "##der", ".", "n't"]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.add_special_tokens(SPECIALS)
    tokenizer.decoder = decoders.WordPiece(cleanup=True)
    used = processor(tokenizer, PromptTemplate(text="<image>{question}"))
    stream, ids = StreamDecoder(used), [4, 5, 6, 7, 8, 10, 9, EOS]
    pieces = [stream.push(i) for i in ids]
    assert "".join(pieces) + stream.flush() == used.decode(ids)
    assert pieces[0] == "it"

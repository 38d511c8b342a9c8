"""Broken tokenizers are refused; what is decoded and streamed adds up."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from micro.texts import EOS, FALLBACK, LEVEL, LLAVA, SPECIALS, byte_level, ids_of, processor
from tokenizers import (
    Tokenizer,
    decoders,
    models,
)

from edgevlm.compiler.errors import JobFault
from edgevlm.models.processing import text as text_module
from edgevlm.models.processing.text import PromptTemplate, StreamDecoder, TextProcessor


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

"""Turn a question into the token ids before and behind the image, and token ids into an answer.

The whole prompt is tokenised once, as Hugging Face does, and cut at the image token: two halves
tokenised on their own would differ at the seam. A question is untrusted: it may hold no text that
the tokenizer reads as one of its control tokens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator
from tokenizers import Tokenizer

from edgevlm.compiler.errors import JobFault, UsageFault

__all__ = ["Prompt", "PromptTemplate", "StreamDecoder", "TextProcessor"]

MAX_TOKENIZER_BYTES = 64 * 2**20
MAX_QUESTION_CHARACTERS = 65_536
SLOT = "{question}"
BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")  # one byte of a character, in SentencePiece style
UNKNOWN_TO_ALL = "\U0010fffd"  # private use: no vocabulary has it, so it shows the unknown token


@dataclass(frozen=True)
class Prompt:
    """Token ids of one prompt; the image embeddings go between the two."""

    before: tuple[int, ...]
    after: tuple[int, ...]


class PromptTemplate(BaseModel):
    """A prompt with one {question} and one image placeholder, both replaced literally."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: Annotated[str, Field(max_length=65_536)]
    image: Annotated[str, Field(min_length=1, max_length=256)] = "<image>"

    @model_validator(mode="after")
    def _one_of_each(self) -> PromptTemplate:
        if self.image in SLOT or SLOT in self.image:
            raise ValueError(f"the image placeholder {self.image!r} overlaps with {SLOT}")
        for part in (SLOT, self.image):
            if self.text.count(part) != 1:
                raise ValueError(f"exactly one {part} is needed, not {self.text.count(part)}")
        return self

    def fill(self, question: str, image_token: str) -> str:
        """The prompt as text; braces in the question mean nothing."""
        parts = (part.replace(self.image, image_token) for part in self.text.split(SLOT))
        return question.join(parts)


class TextProcessor:
    """One tokenizer with one template. Immutable in use, so threads may share it.

    `bos_id` is put in front unless the tokenizer's own post-processor has put it there. Raises
    JobFault EV104: tokenizer.json broken or over 64 MB, or without one of the named tokens.
    """

    def __init__(
        self,
        tokenizer_json: bytes,
        template: PromptTemplate,
        image_token: str,
        eos_ids: tuple[int, ...],
        bos_id: int | None = None,
    ) -> None:
        self.template, self.image_token = template, image_token
        self.eos_ids, self.bos_id = tuple(eos_ids), bos_id
        self._tokenizer = _read(tokenizer_json)
        added = self._tokenizer.get_added_tokens_decoder()
        image_id = self._tokenizer.token_to_id(image_token)
        if image_id not in added:
            raise _unusable(f"it has no added token {image_token}")
        self.image_id: int = image_id
        for name, token in [("eos", i) for i in self.eos_ids] + [("bos", bos_id)]:
            if token is not None and (token < 0 or self._tokenizer.id_to_token(token) is None):
                raise _unusable(f"it has no token {token}, named as {name}")
        special = {i for i, token in added.items() if token.special}
        control = special | {self.image_id, *self.eos_ids} | ({bos_id} - {None})
        self._dropped = frozenset(special | set(self.eos_ids))
        self._control_texts = sorted(self._tokenizer.id_to_token(i) for i in control)
        # A character out of the vocabulary is no attack, though its token is a special one.
        unknown = self._tokenizer.encode(UNKNOWN_TO_ALL, add_special_tokens=False).ids
        unknown.append(
            self._tokenizer.token_to_id(getattr(self._tokenizer.model, "unk_token", None) or "")
        )
        self._control = frozenset(control.difference(unknown) | {self.image_id})
        self._of_template = self._controls(self._ids("x"))
        if self._of_template[self.image_id] != 1:
            raise _unusable(f"it does not read {image_token} in the template as one token")

    def encode(self, question: str, capacity: int) -> Prompt:
        """The ids in front of and behind the image, at most `capacity` of them together.

        Raises UsageFault: EV120 too long, EV121 empty, EV122 the question holds a control token,
        EV123 the question is not valid Unicode.
        """
        _check(question)
        for text in self._control_texts:
            if text and text in question:
                raise _injected(question, text)
        ids = self._ids(question)
        # A normaliser may make a control token out of harmless text, or destroy one at a seam.
        found = self._controls(ids)
        if found != self._of_template:
            changed = (found - self._of_template) + (self._of_template - found)
            raise _injected(question, self._tokenizer.id_to_token(min(changed)))
        if len(ids) - 1 > capacity:
            raise _too_long(question, f"the prompt has {len(ids) - 1} text tokens", capacity)
        place = ids.index(self.image_id)
        return Prompt(tuple(ids[:place]), tuple(ids[place + 1 :]))

    def answer_ids(self, question: str, answer: str) -> tuple[int, ...]:
        """The tokens of an answer as they follow the prompt; () where prompt and answer merge.

        Behind a word or a colon an answer begins with a space, behind a line or a control token
        with itself.
        """
        prompt, tail = self._ids(question), self.template.fill("x", self.image_token)[-1:]
        space = "" if tail.isspace() or tail in (">", "]", "|") else " "
        whole = self._ids(question, space + answer.strip())
        return tuple(whole[len(prompt) :]) if whole[: len(prompt)] == prompt else ()

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, stripped; special and end tokens and unknown ids are dropped."""
        return self._text(i for i in ids if self._has_text(i)).strip()

    def _ids(self, question: str, answer: str = "") -> list[int]:
        ids = self._tokenizer.encode(self.template.fill(question, self.image_token) + answer).ids
        if self.bos_id is not None and ids[:1] != [self.bos_id]:
            ids = [self.bos_id, *ids]
        return ids

    def _controls(self, ids: list[int]) -> Counter[int]:
        return Counter(i for i in ids if i in self._control)

    def _has_text(self, token: int) -> bool:
        return token not in self._dropped and self._tokenizer.id_to_token(token) is not None

    def _text(self, ids: Iterable[int]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)


class StreamDecoder:
    """Text while it is generated: the pieces put together are `TextProcessor.decode` of the whole.

    Held back until it is settled: a character of which bytes are missing, a run of single-byte
    tokens (one wrong byte changes the whole run) and white space that may turn out to be the end.
    """

    def __init__(self, processor: TextProcessor) -> None:
        self._processor = processor
        self._ids: list[int] = []
        self._given = ""

    def push(self, token: int) -> str:
        """The text that `token` completes, often "" and never half a character."""
        if not self._processor._has_text(token):
            return ""
        self._ids.append(token)
        if BYTE_TOKEN.fullmatch(self._processor._tokenizer.id_to_token(token)):
            return ""
        return self._new(self._processor._text(self._ids).rstrip("\ufffd").strip())

    def flush(self) -> str:
        """The text still held back; the decoder is then ready for another answer."""
        rest = self._new(self._processor.decode(self._ids))
        self._ids, self._given = [], ""
        return rest

    def _new(self, text: str) -> str:
        # Decoded from the start each time: answers are short, and decoders look back.
        new = text[len(self._given) :]
        self._given += new
        return new


def _read(tokenizer_json: bytes) -> Tokenizer:
    if len(tokenizer_json) > MAX_TOKENIZER_BYTES:
        raise _unusable(f"it is bigger than {MAX_TOKENIZER_BYTES // 2**20} MB")
    try:
        tokenizer = Tokenizer.from_buffer(tokenizer_json)
    except Exception as error:  # the Rust library raises ValueError and bare Exception
        raise _unusable(f"it is broken: {error}") from error
    # Files often carry the settings of the last training run; Hugging Face resets them as well.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _check(question: str) -> None:
    if not question.strip():
        raise UsageFault(
            "EV121",
            "the question is empty",
            "there is nothing to answer",
            'give one: --prompt "What is this?"',
        )
    if len(question) > MAX_QUESTION_CHARACTERS:
        raise _too_long(question, f"it has {len(question)} characters", MAX_QUESTION_CHARACTERS)
    try:
        question.encode()
    except UnicodeEncodeError as error:
        raise UsageFault(
            "EV123",
            "the question is not valid Unicode",
            str(error),
            "check the encoding of the terminal or file it comes from",
        ) from error


def _too_long(question: str, why: str, capacity: int) -> UsageFault:
    return UsageFault(
        "EV120",
        f"question {question[:40]!r}",
        f"{why}, the capacity is {capacity}",
        "shorten the question, or compile with a larger prompt capacity",
    )


def _injected(question: str, text: str) -> UsageFault:
    return UsageFault(
        "EV122",
        f"question {question[:40]!r}",
        f"it contains or alters the control token {text}",
        f"remove {text}, and what reads like it, from the question",
    )


def _unusable(why: str) -> JobFault:
    return JobFault(
        "EV104",
        "tokenizer.json",
        why[:300],
        "take the tokenizer.json of the checkpoint, and the tokens its config names",
    )

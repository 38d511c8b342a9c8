"""Small tokenizers of three kinds, and prompts for them."""

import functools

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from edgevlm.models.processing.text import PromptTemplate, TextProcessor

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

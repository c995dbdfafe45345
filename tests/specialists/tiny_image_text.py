"""Image-text models of the real transformers classes, small and random, saved as folders."""

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

_SENTENCE = "a an the dog cat bus red brown blue on in of and two sits person woman street"
_WORDS = _SENTENCE.split()
_MAX_TOKENS = 12
_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.5,
}


def save_clip(folder: Path) -> Path:
    """CLIP: a text's vector is that of its end token."""
    tokenizer = _tokenizer("</s>")
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": _MAX_TOKENS}
    text |= {"bos_token_id": 1, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
    torch.manual_seed(14)
    config = transformers.CLIPConfig(
        text_config={**_SIZES, **text},
        vision_config={**_SIZES, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    model = transformers.CLIPModel(config)
    _look_closely(model)
    square = {"height": 32, "width": 32}
    pictures = transformers.CLIPImageProcessor(size=square, crop_size=square)
    return _save(folder, model, transformers.CLIPProcessor(pictures, tokenizer))


def save_siglip(folder: Path) -> Path:
    """SigLIP: a text's vector is that of its last place, padding included."""
    tokenizer = _tokenizer("</s>")
    torch.manual_seed(15)
    config = transformers.SiglipConfig(
        text_config={**_SIZES, **_siglip_text(len(tokenizer))},
        vision_config={**_SIZES, "image_size": 32, "patch_size": 8},
    )
    model = transformers.SiglipModel(config)
    _look_closely(model)
    pictures = transformers.SiglipImageProcessor(size={"height": 32, "width": 32})
    return _save(folder, model, transformers.SiglipProcessor(pictures, tokenizer))


def save_siglip2(folder: Path) -> Path:
    """SigLIP 2 of native shape: a picture keeps its aspect and fills a list of patches."""
    letters = [
        "<pad>",
        "<eos>",
        "<bos>",
        "<unk>",
        "<mask>",
        "\u2581",
        *"abcdefghijklmnopqrstuvwxyz",
    ]
    tokenizer = transformers.Siglip2Tokenizer({letter: i for i, letter in enumerate(letters)}, [])
    torch.manual_seed(16)
    config = transformers.Siglip2Config(
        text_config={**_SIZES, **_siglip_text(len(tokenizer))},
        vision_config={**_SIZES, "num_patches": 256, "patch_size": 16},
    )
    model = transformers.Siglip2Model(config)
    _look_closely(model)
    pictures = transformers.Siglip2ImageProcessor(patch_size=16, max_num_patches=256)
    return _save(folder, model, transformers.Siglip2Processor(pictures, tokenizer))


def _siglip_text(vocab_size: int) -> dict[str, int]:
    return {
        "vocab_size": vocab_size,
        "max_position_embeddings": _MAX_TOKENS,
        "projection_size": 32,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def _look_closely(model: torch.nn.Module) -> None:
    """Loud weights: vectors then differ from picture to picture and from text to text."""
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(std=0.3)


def _tokenizer(end: str) -> transformers.PreTrainedTokenizerFast:
    special = ["<pad>", "<s>", end, "<unk>"]
    vocabulary = {word: i for i, word in enumerate([*special, *_WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = [(token, vocabulary[token]) for token in ("<s>", end)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"<s> $A {end}", special_tokens=ends
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token=end,
        unk_token="<unk>",
    )


def _save(folder: Path, model: torch.nn.Module, processor: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder

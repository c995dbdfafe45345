"""Zero-shot detectors of the real transformers classes, small and random, saved as folders."""

import string
from pathlib import Path

import torch
import transformers

_SENTENCE = "a an the man woman dog cat bus red blue little two of in on person player"
_WORDS = _SENTENCE.split()
_BERT_SPECIAL = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
# Grounding DINO knows the end of a phrase by BERT's own numbers for these.
_BERT_STOPS = {1012: ".", 1029: "?"}


def save_grounding_dino(folder: Path, name: str = "GroundingDino") -> Path:
    """Grounding DINO or its kin MMGroundingDino: Swin, BERT and the deformable decoder."""
    folder.mkdir(parents=True, exist_ok=True)
    words = dict(enumerate([f"[unused{i}]" for i in range(1040)]))
    words |= _BERT_SPECIAL | _BERT_STOPS | dict(enumerate(_WORDS, start=200))
    words |= dict(enumerate(string.ascii_lowercase, start=300))
    words |= {500: "'", 501: "-"}
    words |= {400 + i: f"##{letter}" for i, letter in enumerate(string.ascii_lowercase)}
    (folder / "vocab.txt").write_text("\n".join(words[i] for i in range(1040)), encoding="utf-8")
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"))
    backbone = transformers.SwinConfig(
        image_size=64,
        patch_size=4,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=2,
        out_indices=[2, 3, 4],
        initializer_range=0.3,
    )
    text = transformers.BertConfig(
        vocab_size=1040,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    config = getattr(transformers, f"{name}Config")(
        backbone_config=backbone,
        text_config=text,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=12,
        max_text_len=24,
        init_std=0.3,
    )
    torch.manual_seed(7)
    model = getattr(transformers, f"{name}ForObjectDetection")(config)
    with torch.no_grad():  # a fresh model places every box alike and is sure of nothing
        for head in model.bbox_embed:
            for layer in head.layers:
                torch.nn.init.normal_(layer.weight, std=0.1)
        torch.nn.init.normal_(model.model.text_projection.weight, std=0.1)
    model.save_pretrained(folder)
    pictures = transformers.GroundingDinoImageProcessor(
        size={"shortest_edge": 96, "longest_edge": 192}
    )
    transformers.GroundingDinoProcessor(pictures, tokenizer).save_pretrained(folder)
    return folder


def save_owl(folder: Path, name: str = "Owlv2") -> Path:
    """OWLv2 or OwlViT: a CLIP with a box and a class head on its patches."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = string.ascii_lowercase + string.digits + string.punctuation.replace("!", "")
    pieces = ["!", *letters, *(f"{letter}</w>" for letter in letters), "!</w>"]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = transformers.CLIPTokenizer(
        vocab=vocabulary, merges=[], pad_token="!", model_max_length=16
    )
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "initializer_range": 0.1,
        "initializer_factor": 1.0,
    }
    config = getattr(transformers, f"{name}Config")(
        text_config={
            **sizes,
            "vocab_size": len(pieces),
            "max_position_embeddings": 16,
            "pad_token_id": 0,
            "bos_token_id": len(pieces) - 2,
            "eos_token_id": len(pieces) - 1,
        },
        vision_config={**sizes, "image_size": 32, "patch_size": 8},
        projection_dim=32,
        initializer_factor=1.0,
    )
    torch.manual_seed(8)
    model = getattr(transformers, f"{name}ForObjectDetection")(config)
    with torch.no_grad():  # else every box is as large as the picture, or as a line
        model.box_head.dense2.weight.mul_(0.05)
    model.save_pretrained(folder)
    pictures = getattr(transformers, f"{name}ImageProcessor")(size={"height": 32, "width": 32})
    getattr(transformers, f"{name}Processor")(pictures, tokenizer).save_pretrained(folder)
    return folder

"""Captioners of the real transformers classes, small and randomly initialised, saved as folders."""

from pathlib import Path

import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

_SENTENCE = "a an the dog cat bus red blue on in of and sits runs stands near two describe image"
_WORDS = _SENTENCE.split()
_CHAT_TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %} {{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %} a{% endif %}"
)


def save_blip(folder: Path) -> Path:
    """BLIP: an image encoder and a BERT-like decoder that ends with its separator; no prompt."""
    folder.mkdir(parents=True, exist_ok=True)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"]
    (folder / "vocab.txt").write_text("\n".join([*special, *_WORDS]), encoding="utf-8")
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"), bos_token="[DEC]")
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "image_size": 32}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "encoder_hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "bos_token_id": 5,
        "sep_token_id": 3,
        "eos_token_id": 3,
        "pad_token_id": 0,
        "initializer_range": 0.5,
    }
    config = transformers.BlipConfig(
        vision_config={
            **vision,
            "num_attention_heads": 2,
            "patch_size": 8,
            "initializer_range": 0.5,
        },
        text_config=text,
        projection_dim=16,
    )
    torch.manual_seed(3)
    model = transformers.BlipForConditionalGeneration(config)
    _end_sometimes(model.text_decoder.get_output_embeddings(), 3, -3.0)
    model.save_pretrained(folder)
    pictures = transformers.BlipImageProcessor(size={"height": 32, "width": 32})
    transformers.BlipProcessor(pictures, tokenizer).save_pretrained(folder)
    return folder


def save_florence2(
    folder: Path,
    tokenizer_folder: Path,
    *,
    points: bool = False,
    init_std: float = 0.5,
    side: int = 64,
    vision: dict | None = None,
) -> Path:
    """Florence-2, native: DaViT and BART, with the real tokenizer; its prompts are task tokens.

    With `points` it says little but a few words and location tokens, three of four, so that many
    an answer holds boxes; without, a location is one word in fifty. Pictures are scaled to `side`
    pixels, a multiple of 32; `vision` makes its tower other than tiny.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        tokenizer_folder, extra_special_tokens={"image_token": "<image>"}
    )
    text = transformers.BartConfig(
        vocab_size=len(tokenizer),
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=512,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        init_std=init_std,
    )
    sizes = {"embed_dim": (8, 8, 16, 16), "depths": (1, 1, 1, 1), "window_size": 4}
    tower = transformers.models.florence2.Florence2VisionConfig(
        **(sizes | (vision or {})),
        num_heads=(1, 1, 2, 2),
        num_groups=(1, 1, 2, 2),
        projection_dim=32,
    )
    config = transformers.Florence2Config(
        text_config=text.to_dict(),
        vision_config=tower.to_dict(),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=32,
        tie_word_embeddings=False,  # so that what it says can be chosen apart from what it reads
    )
    torch.manual_seed(4)
    model = transformers.Florence2ForConditionalGeneration(config)
    model.generation_config.forced_bos_token_id = 0  # as in the released checkpoints
    model.generation_config.forced_eos_token_id = 2
    if points:
        model.generation_config.no_repeat_ngram_size = 3  # also theirs; and no loops without end
        _speak_only(model.get_output_embeddings(), tokenizer)
    _end_sometimes(model.get_output_embeddings(), 2, 1.3 if points else 1.7)
    model.save_pretrained(folder)
    pictures = transformers.CLIPImageProcessor(
        size={"height": side, "width": side}, crop_size={"height": side, "width": side}
    )
    pictures.image_seq_length = (side // 32) ** 2 + 1  # cells of 32 pixels, and their mean
    transformers.Florence2Processor(pictures, tokenizer).save_pretrained(folder)
    return folder


def teach_florence2(
    folder: Path, answers: dict[str, str], picture: Image.Image, num_steps: int = 60
) -> Path:
    """Trains a saved Florence-2 until it answers these sentences on this picture in these words.

    Only the words of the answers are learnt, and the others silenced, which keeps a step cheap.
    """
    model = transformers.Florence2ForConditionalGeneration.from_pretrained(folder)
    processor = transformers.AutoProcessor.from_pretrained(folder)

    def tokens(texts):
        marked = [f"<s>{text}</s>" for text in texts]
        return processor.tokenizer(
            marked, add_special_tokens=False, padding=True, return_tensors="pt"
        )

    read, said = tokens(answers), tokens(answers.values())
    with torch.no_grad():
        pixels = processor.image_processor(picture, return_tensors="pt")["pixel_values"]
        features = model.get_image_features(pixels).pooler_output.expand(len(answers), -1, -1)
    mask = torch.cat([read.attention_mask.new_ones(features.shape[:2]), read.attention_mask], 1)
    words, places = said.input_ids.unique(return_inverse=True)
    start = torch.full((len(answers), 1), model.config.text_config.decoder_start_token_id)
    before = torch.cat([start, said.input_ids[:, :-1]], 1)
    output = model.lm_head.weight.detach()[words].clone().requires_grad_()
    optimizer = torch.optim.Adam([*model.model.language_model.parameters(), output], lr=4e-3)
    for _ in range(num_steps):
        inputs = torch.cat([features, model.get_input_embeddings()(read.input_ids)], 1)
        states = model.model(inputs_embeds=inputs, attention_mask=mask, decoder_input_ids=before)
        logits = (states.last_hidden_state @ output.T).flatten(0, 1)
        losses = torch.nn.functional.cross_entropy(logits, places.flatten(), reduction="none")
        loss = losses[said.attention_mask.flatten() == 1].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[words] = 3 * output  # sure of itself, as a trained model is
    model.save_pretrained(folder)
    return folder


def save_idefics3(folder: Path) -> Path:
    """Idefics3, kin of SmolVLM: a chat model whose prompts vary in length: it tiles pictures."""
    marks = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"]
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
    tokenizer = _word_tokenizer([*marks, *tiles])
    config = transformers.Idefics3Config(
        text_config={"model_type": "llama", **_decoder_sizes(len(tokenizer))},
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    torch.manual_seed(5)
    model = transformers.Idefics3ForConditionalGeneration(config)
    _end_sometimes(model.get_output_embeddings(), 2, 1.7)
    model.generation_config.suppress_tokens = [config.image_token_id]  # a trained one never says it
    model.save_pretrained(folder)
    pictures = transformers.Idefics3ImageProcessor(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 32}, do_image_splitting=True
    )
    template = _CHAT_TEMPLATE.replace("IMAGE", "<image>")
    transformers.Idefics3Processor(
        pictures, tokenizer, image_seq_len=4, chat_template=template
    ).save_pretrained(folder)
    return folder


def save_qwen2_vl(folder: Path) -> Path:
    """Qwen2-VL: a chat model whose picture takes as many tokens as it has pixels."""
    marks = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    tokenizer = _word_tokenizer(marks, pad=None)  # many decoders have none and end twice instead
    ids = {mark: tokenizer.convert_tokens_to_ids(mark) for mark in marks}
    config = transformers.Qwen2VLConfig(
        text_config={
            **_decoder_sizes(len(tokenizer)),
            "pad_token_id": None,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [2, 3, 3],
                "rope_theta": 10000.0,
            },
        },
        vision_config={
            "depth": 1,
            "embed_dim": 32,
            "hidden_size": 32,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 4,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    torch.manual_seed(6)
    model = transformers.Qwen2VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = [2, 3]  # a list, as in the released checkpoints
    _end_sometimes(model.get_output_embeddings(), 2, 3.0)
    model.save_pretrained(folder)
    pictures = transformers.Qwen2VLImageProcessor(
        patch_size=4, min_pixels=16 * 16, max_pixels=48 * 48
    )
    template = _CHAT_TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    videos = transformers.Qwen2VLVideoProcessor(patch_size=4)
    transformers.Qwen2VLProcessor(
        pictures, tokenizer, videos, chat_template=template
    ).save_pretrained(folder)
    return folder


def _end_sometimes(output: torch.nn.Module, end: int, factor: float) -> None:
    """Makes the end token so loud that some captions, but not all, end before they are cut."""
    with torch.no_grad():
        output.weight[end] *= factor


def _speak_only(output: torch.nn.Module, tokenizer: transformers.PreTrainedTokenizerBase) -> None:
    """Silences every token but the end, some words, and locations, the words about as likely."""
    words = [token for token, i in tokenizer.get_vocab().items() if token.strip("\u0120") in _WORDS]
    words = sorted(tokenizer.convert_tokens_to_ids(words))
    places = [tokenizer.convert_tokens_to_ids(f"<loc_{bin_}>") for bin_ in range(1000)]
    with torch.no_grad():
        kept = output.weight[[2, *words, *places]].clone()
        output.weight.zero_()
        output.weight[[2, *words, *places]] = kept
        output.weight[words] *= 1.2


def _decoder_sizes(vocab_size: int) -> dict:
    return {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "initializer_range": 0.5,
        "tie_word_embeddings": False,
    }


def _word_tokenizer(
    added: list[str], pad: str | None = "<pad>"
) -> transformers.PreTrainedTokenizerFast:
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    vocabulary = {word: i for i, word in enumerate([*special, *_WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    tokenizer.decoder = decoders.Fuse()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )
    fast.add_special_tokens({"additional_special_tokens": added})
    return fast

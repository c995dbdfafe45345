"""Detectors of the real transformers classes, small and randomly initialised, saved as folders."""

from pathlib import Path

import torch
import transformers

CLASSES = {0: "cat", 1: "dog", 2: "bus"}
_RESNET = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
_STAGES = ["stage2", "stage3", "stage4"]
_RT_DETR = {
    "encoder_hidden_dim": 16,
    "encoder_in_channels": [8, 16, 16],
    "encoder_ffn_dim": 16,
    "encoder_attention_heads": 2,
    "d_model": 16,
    "num_queries": 12,
    "decoder_in_channels": [16, 16, 16],
    "decoder_ffn_dim": 16,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "num_denoising": 0,
    "id2label": CLASSES,
}


def save_rt_detr_v2(folder: Path) -> Path:
    """RT-DETRv2 over a small ResNet; it scores each class of a box by itself."""
    resnet = {"model_type": "rt_detr_resnet", "layer_type": "basic", "out_features": _STAGES}
    torch.manual_seed(7)
    config = transformers.RTDetrV2Config(backbone_config={**resnet, **_RESNET}, **_RT_DETR)
    model = transformers.RTDetrV2ForObjectDetection(config)
    _look_closely(model)
    return _save(folder, model, transformers.RTDetrImageProcessor(size=_square(64)))


def save_d_fine(folder: Path) -> Path:
    """D-FINE over a small HGNetV2."""
    hgnet = {
        "model_type": "hgnet_v2",
        "stem_channels": [3, 8, 8],
        "stage_in_channels": [8, 8, 8, 16],
        "stage_mid_channels": [8, 8, 8, 8],
        "stage_out_channels": [8, 8, 16, 16],
        "stage_num_blocks": [1, 1, 1, 1],
        "stage_numb_of_layers": [1, 1, 1, 1],
        "out_features": _STAGES,
    }
    torch.manual_seed(8)
    config = transformers.DFineConfig(backbone_config={**_RESNET, **hgnet}, **_RT_DETR)
    model = transformers.DFineForObjectDetection(config)
    _look_closely(model)
    return _save(folder, model, transformers.RTDetrImageProcessor(size=_square(64)))


def save_detr(folder: Path) -> Path:
    """DETR: its inputs keep their shape, and one class of many is the box's."""
    resnet = {"model_type": "resnet", "layer_type": "basic", "out_features": ["stage4"]}
    torch.manual_seed(9)
    config = transformers.DetrConfig(
        backbone_config={**_RESNET, **resnet},
        num_queries=12,
        encoder_layers=1,
        decoder_layers=2,
        d_model=16,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        init_std=0.5,
        id2label=CLASSES,
    )
    model = transformers.DetrForObjectDetection(config)
    _look_closely(model)
    pictures = transformers.DetrImageProcessor(size={"shortest_edge": 48, "longest_edge": 96})
    return _save(folder, model, pictures)


def save_yolos(folder: Path) -> Path:
    """YOLOS: a plain vision transformer with tokens that become boxes."""
    torch.manual_seed(10)
    config = transformers.YolosConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=[32, 48],
        patch_size=8,
        num_detection_tokens=10,
        id2label=CLASSES,
        initializer_range=0.3,
    )
    model = transformers.YolosForObjectDetection(config)
    _look_closely(model)
    pictures = transformers.YolosImageProcessor(size={"shortest_edge": 48, "longest_edge": 96})
    return _save(folder, model, pictures)


def _look_closely(model: torch.nn.Module) -> None:
    """Larger heads and queries: boxes then differ from image to image and from one another."""
    loud = ("class", "bbox", "enc_score", "query_position", "detection_tokens")
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.dim() > 1 and any(part in name for part in loud):
                weights.normal_(std=0.5)
            elif "class" in name or "bbox" in name:
                weights.zero_()


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def _save(folder: Path, model: torch.nn.Module, processor: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder

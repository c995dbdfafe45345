"""Vision models of the real transformers classes, small and random, saved as folders."""

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


def save_sam(folder: Path) -> Path:
    """SAM: a vision transformer at one scale; its processor keeps the shape and pads."""
    torch.manual_seed(11)
    config = transformers.SamConfig(
        vision_config={
            "hidden_size": 16,
            "output_channels": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 8,
            "window_size": 4,
            "global_attn_indexes": [1],
            "num_pos_feats": 8,
            "mlp_dim": 16,
            "initializer_range": 0.3,
        },
        prompt_encoder_config=_prompt_encoder(16, patch_size=8),
        mask_decoder_config=_mask_decoder(16),
    )
    model = transformers.SamModel(config)
    _draw_boldly(model)
    pictures = transformers.SamImageProcessor(
        size={"longest_edge": 64},
        pad_size=_square(64),
        mask_size={"longest_edge": 16},
        mask_pad_size=_square(16),
    )
    return _save(folder, model, transformers.SamProcessor(pictures))


def save_sam2(folder: Path) -> Path:
    """SAM 2: a hierarchical transformer; its processor squeezes every image into a square."""
    torch.manual_seed(12)
    model = transformers.Sam2Model(transformers.Sam2Config(**_sam2()))
    _draw_boldly(model)
    pictures = transformers.Sam2ImageProcessor(size=_square(64), mask_size=_square(16))
    return _save(folder, model, transformers.Sam2Processor(pictures, target_size=64))


def save_sam2_video(folder: Path) -> Path:
    """SAM 2 with its memory of earlier frames: the form in which checkpoints are released."""
    torch.manual_seed(13)
    config = transformers.Sam2VideoConfig(
        **_sam2(),
        image_size=64,
        memory_attention_hidden_size=32,
        memory_encoder_hidden_size=32,
        memory_encoder_output_channels=8,
        memory_attention_feed_forward_hidden_size=16,
        memory_attention_num_layers=1,
        memory_attention_num_attention_heads=1,
        memory_attention_rope_feat_sizes=[4, 4],
        mask_downsampler_embed_dim=32,
        memory_fuser_embed_dim=32,
        memory_fuser_intermediate_dim=32,
    )
    model = transformers.Sam2VideoModel(config)
    _draw_boldly(model)
    pictures = transformers.Sam2ImageProcessor(size=_square(64), mask_size=_square(16))
    videos = transformers.Sam2VideoVideoProcessor(size=_square(64))
    return _save(folder, model, transformers.Sam2VideoProcessor(pictures, videos, target_size=64))


def _sam2() -> dict[str, dict]:
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [64, 64],
        "blocks_per_stage": [1, 1, 1, 1],
        "embed_dim_per_stage": [8, 16, 24, 32],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [8, 4, 2, 1],
        "global_attention_blocks": [],
        "window_positional_embedding_background_size": [4, 4],
        "mlp_ratio": 1.0,
    }
    vision = {
        "backbone_config": backbone,
        "backbone_channel_list": [32, 24, 16, 8],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": 32,
    }
    return {
        "vision_config": vision,
        "prompt_encoder_config": _prompt_encoder(32, patch_size=16),
        "mask_decoder_config": _mask_decoder(32),
    }


def _prompt_encoder(hidden_size: int, patch_size: int) -> dict[str, int]:
    return {
        "hidden_size": hidden_size,
        "image_size": 64,
        "patch_size": patch_size,
        "mask_input_channels": 4,
    }


def _mask_decoder(hidden_size: int) -> dict[str, int]:
    return {
        "hidden_size": hidden_size,
        "mlp_dim": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 16,
        "iou_head_depth": 2,
    }


def _draw_boldly(model: torch.nn.Module) -> None:
    """A louder decoder: masks and their scores then differ from box to box."""
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.dim() > 1 and ("mask_decoder" in name or "prompt_encoder" in name):
                weights.normal_(std=0.5)


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

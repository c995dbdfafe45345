"""Specialists, one model per file behind `engine.protocols.Specialist`; this import loads none."""

from engine.registry import Registry

SPECIALISTS = Registry(
    "specialist",
    {
        "caption": "specialists.caption:Caption",
        "composer": "specialists.composer:Composer",
        "consensus": "specialists.consensus:Consensus",
        "detr": "specialists.detr:Detr",
        "easyocr": "specialists.easyocr:EasyOcr",
        "grounding": "specialists.grounding:Grounding",
        "florence2": "specialists.florence2:Florence2",
        "matcher": "specialists.matcher:Matcher",
        "null": "specialists.null:Null",
        "openai": "specialists.openai:OpenAi",
        "region_caption": "specialists.region_caption:RegionCaption",
        "region_text": "specialists.region_text:RegionText",
        "segmenter": "specialists.segmenter:Segmenter",
        "yolo": "specialists.yolo:Yolo",
    },
    group="fld.specialists",
)

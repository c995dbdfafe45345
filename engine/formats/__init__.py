"""Label formats other people use: each is read into our tables and written from them."""

from engine.registry import Registry

# In the order in which `auto` asks them whether they know a file: the most particular first.
FORMATS = Registry(
    "source.kind",
    {
        "visual_genome": "engine.formats.visual_genome:VisualGenome",
        "coco": "engine.formats.coco:Coco",
        "label_studio": "engine.formats.label_studio:LabelStudio",
        "florence2": "engine.formats.florence2:Florence2Lines",
        "openimages": "engine.formats.openimages:OpenImages",
        "conceptual_captions": "engine.formats.conceptual_captions:ConceptualCaptions",
        "laion": "engine.formats.laion:Laion",
        "webdataset": "engine.formats.webdataset:WebDatasetTar",
        "cvat": "engine.formats.cvat:Cvat",
        "labelme": "engine.formats.labelme:LabelMe",
        "voc": "engine.formats.voc:Voc",
        "imagenet": "engine.formats.imagenet:ImageNet",
        "icdar": "engine.formats.icdar:Icdar",
        "flickr30k": "engine.formats.flickr30k:Flickr30k",
        "yolo": "engine.formats.yolo:Yolo",
        "huggingface": "engine.formats.huggingface:HuggingFace",
        "fiftyone": "engine.formats.fiftyone:FiftyOne",
    },
    group="fld.formats",
)

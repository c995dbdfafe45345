"""Rules that reject annotations, each found by name; importing this package loads none of them."""

from engine.registry import Registry

RULES = Registry(
    "rule",
    {
        "invalid_box": "filters.region_boxes:InvalidBox",
        "min_score": "filters.region_scores:MinScore",
        "min_area": "filters.region_boxes:MinArea",
        "max_area_fraction": "filters.region_boxes:MaxAreaFraction",
        "aspect_ratio": "filters.region_boxes:AspectRatio",
        "border_sliver": "filters.region_boxes:BorderSliver",
        "class_list": "filters.region_classes:ClassList",
        "duplicate_region": "filters.region_duplicates:DuplicateRegion",
        "contained_region": "filters.region_duplicates:ContainedRegion",
        "max_regions": "filters.region_scores:MaxRegions",
        "image_size": "filters.image:ImageSize",
        "image_aspect": "filters.image:ImageAspect",
        "blank": "filters.image:Blank",
        "blurred": "filters.image:Blurred",
        "exact_duplicate": "filters.image_duplicates:ExactDuplicate",
        "near_duplicate": "filters.image_duplicates:NearDuplicate",
        "decontaminate": "filters.image_hashes:Decontaminate",
        "agreement": "filters.agreement:Agreement",
        "unsupported_nouns": "filters.crosscheck:UnsupportedNouns",
        "unnamed_region": "filters.crosscheck:UnnamedRegion",
        "phrase_blacklist": "filters.grounding:PhraseBlacklist",
        "best_region_text": "filters.region_text:BestRegionText",
        "orphan": "filters.lineage:Orphan",
    },
    group="fld.rules",
)

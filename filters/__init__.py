"""Rules that reject annotations, each found by name; importing this package loads none of them."""

from engine.registry import Registry

RULES = Registry(
    "rule",
    {
        "invalid_box": "filters.region:InvalidBox",
        "min_score": "filters.region:MinScore",
        "min_area": "filters.region:MinArea",
        "duplicate_region": "filters.region:DuplicateRegion",
        "phrase_blacklist": "filters.grounding:PhraseBlacklist",
        "best_region_text": "filters.region_text:BestRegionText",
        "orphan": "filters.lineage:Orphan",
    },
    group="fld.rules",
)

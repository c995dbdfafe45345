"""Rules that reject annotations, each found by name; importing this package loads none of them."""

from engine.registry import Registry

RULES = Registry(
    "rule",
    {
        "invalid_box": "filters.region:InvalidBox",
        "min_score": "filters.region:MinScore",
        "min_area": "filters.region:MinArea",
        "duplicate_region": "filters.region:DuplicateRegion",
        "min_text_height": "filters.ocr:MinTextHeight",
        "min_legibility": "filters.ocr:MinLegibility",
        "duplicate_reading": "filters.ocr:DuplicateReading",
        "min_tokens": "filters.text_length:MinTokens",
        "max_tokens": "filters.text_length:MaxTokens",
        "repeated_ngram": "filters.text_length:RepeatedNgram",
        "boilerplate": "filters.text_noise:Boilerplate",
        "noisy_alt": "filters.text_noise:NoisyAlt",
        "non_language": "filters.text_language:NonLanguage",
        "wrong_language": "filters.text_language:WrongLanguage",
        "max_objects": "filters.text_parse:MaxObjects",
        "min_object_complexity": "filters.text_parse:MinObjectComplexity",
        "min_action_complexity": "filters.text_parse:MinActionComplexity",
        "repeats_ocr": "filters.text_repeats:RepeatsOcr",
        "near_duplicate_text": "filters.text_repeats:NearDuplicateText",
        "frequent_text": "filters.text_frequent:FrequentText",
        "min_phrase_score": "filters.grounding_spans:MinPhraseScore",
        "phrase_blacklist": "filters.grounding:PhraseBlacklist",
        "span_equals_phrase": "filters.grounding_spans:SpanEqualsPhrase",
        "duplicate_triplet": "filters.grounding_spans:DuplicateTriplet",
        "max_boxes_per_phrase": "filters.grounding_spans:MaxBoxesPerPhrase",
        "best_region_text": "filters.region_text:BestRegionText",
        "orphan": "filters.lineage:Orphan",
    },
    group="fld.rules",
)

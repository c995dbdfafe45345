"""Tiny Florence-2 checkpoints and what they are asked about; the models come from conftest."""

from specialist_photos import noise

from engine.formats.florence2_codec import decode_bins
from engine.schema import empty_claims
from specialists.florence2 import Florence2
from tests.builders import rows

ALONE = (  # tasks that need nothing but the image
    *("caption", "detailed_caption", "more_detailed_caption"),
    *("od", "dense_region_caption", "region_proposal", "ocr_with_region"),
)
SIZES = [(64, 48), (40, 64), (100, 30), (32, 32)]
IMAGES = [noise(f"image-{i}", *size, seed=i) for i, size in enumerate(SIZES)]
# The one picture that the taught model knows, under two keys.
KNOWN = [noise("a", 64, 48), noise("b", 64, 48)]
DOG_BINS, BUS_BINS = (10, 20, 300, 400), (500, 100, 900, 999)
QUAD_BINS = (10, 20, 300, 20, 300, 40, 10, 40)
RING_BINS, OTHER_RING_BINS = (20, 30, 290, 30, 290, 390), (510, 110, 890, 110, 890, 990)


def spelt(bins):
    return "".join(f"<loc_{n}>" for n in bins)


def pixels(bins):
    return decode_bins([bins], (64, 48))[0].tolist()


DOG, BUS, QUAD = spelt(DOG_BINS), spelt(BUS_BINS), spelt(QUAD_BINS)
RING, OTHER_RING = spelt(RING_BINS), spelt(OTHER_RING_BINS)
SMALL_RING = spelt((20, 30, 290, 30, 290, 100))  # within the first
ANSWERS = {
    "<CAPTION>": "a dog and a dog",
    "<DETAILED_CAPTION>": "two dogs run near a red bus.",
    "<OD>": f"dog{DOG}{BUS}bus{BUS}",
    "<DENSE_REGION_CAPTION>": f"brown dog{DOG}",
    "<REGION_PROPOSAL>": DOG + BUS,
    "<OCR_WITH_REGION>": f"STOP{QUAD}",
    "<CAPTION_TO_PHRASE_GROUNDING>a dog and a dog": f"a dog{DOG}a dog{BUS}a cat{BUS}",
    f"<REGION_TO_CATEGORY>{DOG}": f"dog{DOG}",
    f"<REGION_TO_CATEGORY>{BUS}": f"bus{BUS}",
    f"<REGION_TO_DESCRIPTION>{DOG}": f"a brown dog{DOG}",
    f"<REGION_TO_DESCRIPTION>{BUS}": f"a red bus{BUS}",
    f"<REGION_TO_OCR>{DOG}": f"STOP{DOG}",
    f"<REGION_TO_SEGMENTATION>{DOG}": RING,
    f"<REGION_TO_SEGMENTATION>{BUS}": RING,
    "<REFERRING_EXPRESSION_SEGMENTATION>dog": f"<poly>{OTHER_RING}</poly><poly>{RING}</poly>",
    "<REFERRING_EXPRESSION_SEGMENTATION>bus": OTHER_RING,
    "<REFERRING_EXPRESSION_SEGMENTATION>cat": f"<poly>{SMALL_RING}</poly><poly>{RING}</poly>",
}


_LOADED = {}  # one checkpoint serves all tests of its folder: it holds no state of an answer


def load(folder, *tasks, **options):
    specialist = Florence2(
        model=str(folder), **({"tasks": tasks or ALONE, "max_new_tokens": 60} | options)
    )
    key = (folder, specialist.dtype)
    if key not in _LOADED:
        specialist.load()
        _LOADED[key] = specialist._checkpoint
    specialist._checkpoint = _LOADED[key]
    return specialist


def annotated(specialist, images, kept=None):
    return specialist.annotate(images, empty_claims() if kept is None else kept).rows


def kept_regions(**columns):
    """Regions of two images as earlier specialists left them, the dog first."""
    defaults = {
        "image_key": ["a", "a", "b"],
        "annotation_id": ["dog-a", "bus-a", "bus-b"],
        "region_id": ["dog-a", "bus-a", "bus-b"],
        "text": ["dog", "bus", "bus"],
        "box": [pixels(DOG_BINS), pixels(BUS_BINS), pixels(BUS_BINS)],
    }
    return rows(**{**defaults, **columns})


def kept_captions(*texts, image_key="a"):
    return rows(
        image_key=[image_key] * len(texts),
        annotation_id=[f"text-{n}" for n in range(len(texts))],
        kind="text",
        role="alt",
        text=list(texts),
    )

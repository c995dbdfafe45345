"""Rules on texts that describe no picture: what machines and web pages say instead."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.protocols import Context
from engine.schema import Tables, Verdicts
from filters.columns import Floats, one_chunk
from filters.text_limits import CAPTIONS, check_places, judge_terms, measure_texts, of_places
from filters.text_phrases import PHRASES, TEXTS
from filters.text_words import normalised


@dataclass(frozen=True, kw_only=True)
class Boilerplate:
    """Reject refusals, leavings of models and boilerplate of web pages.

    Judges rows of kind `text`, and region captions (role `brief`). A text that holds one of
    `phrases` or `extra_phrases`, as whole words one after another, or is one of `texts`, is
    rejected; case and punctuation do not count. `against` names the phrase, the first of several;
    nothing is measured. `filters.text_phrases` holds the defaults; `extra_phrases` adds to them.
    """

    phrases: tuple[str, ...] = PHRASES
    texts: tuple[str, ...] = TEXTS
    extra_phrases: tuple[str, ...] = ()
    name: ClassVar[str] = "boilerplate"
    applies_to: ClassVar[tuple[str, ...]] = ("text", "region")

    def __post_init__(self) -> None:
        for option in ("phrases", "texts", "extra_phrases"):
            terms = getattr(self, option)
            for term, plain in zip(terms, _plain(terms), strict=True):
                if not plain:
                    raise ConfigError(
                        f"rule 'boilerplate': {option} holds {term!r}; it has no word"
                    )
        if not (self.phrases or self.texts or self.extra_phrases):
            raise ConfigError(
                "rule 'boilerplate': no phrases and no texts; name some, or leave the rule out"
            )

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        return judge_terms(tables, CAPTIONS, self._find)

    def _find(self, texts: pa.Array) -> pa.Array:
        plain = normalised(texts)
        whole = pc.index_in(plain, pa.array(_plain(self.texts), pa.string()))
        found = pa.array(self.texts, pa.string()).take(whole)
        terms = (*self.phrases, *self.extra_phrases)
        if not terms:
            return found
        plain_terms = dict(zip(reversed(_plain(terms)), reversed(terms), strict=True))
        inside = pc.extract_regex(plain, rf"\b(?P<phrase>{'|'.join(plain_terms)})\b")
        phrase = pc.struct_field(inside, "phrase")
        named = pc.index_in(phrase, pa.array(list(plain_terms), pa.string()))
        return pc.coalesce(found, pa.array(list(plain_terms.values()), pa.string()).take(named))


def _plain(terms: tuple[str, ...]) -> list[str]:
    found: list[str] = normalised(pa.array(terms, pa.string())).to_pylist()
    return found


_EXTENSIONS = "jpe?g|png|gif|webp|bmp|tiff?|heic|heif|svg|raw|cr2|nef|arw|dng|psd|pdf|html?|php"
_DATE = r"\d{1,4}[-/._]\d{1,2}[-/._]\d{1,4}"
_MAX_CHARS = 4_000  # of a text; a megabyte made for it keeps these patterns busy for minutes
# What is noise, by name, in RE2; the order is that in which `against` names them.
NOISE: dict[str, str] = {
    "email": r"\b[\w.+-]+@[\w-]+\.[\w.]+",
    "url": r"(?:https?://|ftp://|www\.)\S+|\b[a-z0-9-]+(?:\.[a-z0-9-]+)*"
    r"\.(?:com|org|net|edu|gov|info|biz|co\.uk|de|fr|ru|io|shop)\b(?:/\S*)?",
    "markup": r"</?[a-z][^<>]{0,200}>|&(?:amp|nbsp|quot|lt|gt|#\d+);|\{\{[^{}]{0,200}\}\}"
    r"|%[0-9a-f]{2}",
    "file_name": rf"(?:[\w-]+[/\\])*[\w()+-]+\.(?:{_EXTENSIONS})\b",
    "camera": r"\b_?(?:dscn?|dscf|dsc|img|imgp|imag|pict|pano|gopr|sam|hpim|mvi|vid|pxl|wp|p)"
    r"[-_ ]?\d{3,}(?:[-_]\d+)*\w{0,4}\b|\bscreen ?shot \d[\d .:-]*",
    "date": rf"\b{_DATE}(?:[ t]\d{{1,2}}[:.]\d{{2}}(?:[:.]\d{{2}})?)?\b",
    "resolution": r"\b\d{2,5} ?(?:x|"
    "\u00d7"
    r") ?\d{2,5}(?: ?px)?\b|\b\d{3,4}[pi]\b|\b\d+ ?(?:px|dpi|[km]b)\b",
    "code": r"\b(?:[0-9a-f]{8,}(?:-[0-9a-f]{4,})*|\d{5,})\b",
}


@dataclass(frozen=True, kw_only=True)
class NoisyAlt:
    """Reject alt-texts that are mostly web addresses, file names, numbers of cameras and the like.

    Judges the kinds and roles in `roles`. Measures the share of the characters, spaces apart, that
    belong to one of `NOISE`: web and mail addresses, mark-up, file names, names that cameras and
    screens give, dates, resolutions, long numbers. Kept when measured <= max_share. `against` names
    the first sort found. A text without a character is left alone. Addresses and dates are read off
    pictures too, so that by default only `alt` is judged. The default takes no caption of Flickr8k
    or Conceptual Captions, and 6 of 1,000 alt-texts as the web has them (LAION).
    """

    roles: tuple[str, ...] = ("text/alt",)
    max_share: float = 0.5
    name: ClassVar[str] = "noisy_alt"
    applies_to: ClassVar[tuple[str, ...]] = ("text", "region", "grounding")

    def __post_init__(self) -> None:
        check_places(self.name, "roles", self.roles)
        if not 0 <= self.max_share <= 1:
            raise ConfigError(
                f"rule 'noisy_alt': max_share is {self.max_share}; a share lies in 0..1"
            )

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        rows = tables.annotations
        share = measure_texts(rows, of_places(rows, self.roles), noise_share)
        rejected = pa.array(share > np.float32(self.max_share))
        terms = first_noise(one_chunk(rows["text"].filter(rejected)))
        against = pc.replace_with_mask(pa.nulls(rows.num_rows, pa.string()), rejected, terms)
        return Verdicts(
            rejected,
            measured=pa.array(share, from_pandas=True),
            limit=self.max_share,
            against=against,
        )


def noise_share(texts: pa.Array) -> Floats:
    """The share of noise in each text, shape (k,), NaN where it has no character but spaces."""
    low = pc.utf8_lower(pc.utf8_slice_codeunits(texts, 0, _MAX_CHARS))
    rest = pc.replace_substring_regex(low, "|".join(NOISE.values()), " ")
    before, after = _chars(low), _chars(rest)
    share = np.full(len(texts), np.nan, np.float32)
    np.divide(before - after, before, out=share, where=before > 0, casting="unsafe")
    return share


def _chars(texts: pa.Array) -> Floats:
    words = pc.utf8_length(pc.replace_substring_regex(texts, r"\s+", ""))
    return np.asarray(words.to_numpy(zero_copy_only=False), np.float32)


def first_noise(texts: pa.Array) -> pa.Array:
    """The name of the first sort of noise in each text, string array (k,); null for none."""
    low = pc.utf8_lower(pc.utf8_slice_codeunits(texts, 0, _MAX_CHARS))
    found = pa.nulls(len(texts), pa.string())
    for name, pattern in reversed(NOISE.items()):
        found = pc.if_else(pc.match_substring_regex(low, pattern), name, found)
    return found

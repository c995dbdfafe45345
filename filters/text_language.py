"""Rules on the language of texts: whether it is one, and whether it is the wanted one."""

import importlib
import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.protocols import Context, Need
from engine.schema import Tables, Verdicts
from filters.columns import Floats, Indices, flags
from filters.text_letters import surprise
from filters.text_limits import CAPTIONS, judge_share, measure_texts, of_places
from filters.text_words import text_words, word_counts

_CODE = re.compile(r"[a-z]{2,3}")
_MIN_WORDS = 3  # "auto" and "casa rural" are of any language
_MAX_CHARS = 4_000  # a language shows by then
_PACKAGE = "py3langid"
# Common in English captions, and no words of other languages in Latin letters; brands and titles
# make one of them stand in any language, hardly two.
_ENGLISH = (
    *("the", "with", "and", "are", "his", "their", "its", "while", "from", "this", "that"),
    *("which", "who", "through", "near", "down", "into", "onto", "another", "wearing"),
    *("standing", "sitting", "holding", "walking", "riding", "playing", "running", "looking"),
    *("jumping", "behind", "front", "during", "between", "around", "other", "there", "they"),
    *("people", "woman", "children", "young", "little", "street", "water", "grass", "field"),
    *("snow", "child", "girl"),
)
_SURELY_ENGLISH = 2


def letter_share(texts: pa.Array) -> Floats:
    """Letters among the characters that are no space, shape (k,); NaN where there are only spaces.

    Combining marks belong to their letters. Ends of sentences and commas do not count.
    """
    letters = _count(texts, r"[^\pL\pM]+")
    others = _count(texts, r"[\pL\pM\s.,;:!?'\"-]+")
    total = letters + others
    share = np.full(len(texts), np.nan, np.float32)
    np.divide(letters, total, out=share, where=total > 0, casting="unsafe")
    return share


def _count(texts: pa.Array, without: str) -> Floats:
    rest = pc.utf8_length(pc.replace_substring_regex(texts, without, ""))
    return np.asarray(rest.to_numpy(zero_copy_only=False), np.float32)


@dataclass(frozen=True, kw_only=True)
class NonLanguage:
    """Reject texts that are no language: rows of signs and numbers, letters at random.

    Judges rows of kind `text`, and region captions (role `brief`). Measures the share of letters
    among its characters; rejected below `min_letters`. Of the others that are written in letters
    a to z it measures how surprising these are in English words, in bits
    (`filters.text_letters.surprise`); rejected above `max_surprise`. `against` says which:
    `letters` or `spelling`. A text without a character is left alone.

    Both defaults lie where no caption of Flickr8k (40,460) or Conceptual Captions (15,840) is: the
    lowest share of letters is .63, the highest surprise 4.6 bits; letters at random have 6.
    """

    min_letters: float = 0.5
    max_surprise: float = 5.0
    name: ClassVar[str] = "non_language"
    applies_to: ClassVar[tuple[str, ...]] = ("text", "region")

    def __post_init__(self) -> None:
        if not 0 <= self.min_letters <= 1:
            raise ConfigError(
                f"rule 'non_language': min_letters is {self.min_letters}; a share lies in 0..1"
            )
        if not 0 < self.max_surprise < float("inf"):
            raise ConfigError(
                f"rule 'non_language': max_surprise is {self.max_surprise}; it is above 0, in bits"
            )

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        rows = tables.annotations
        judged = of_places(rows, CAPTIONS)
        letters = measure_texts(rows, judged, letter_share)
        few = letters < np.float32(self.min_letters)
        bits = measure_texts(rows, judged & ~few, surprise)
        odd = bits > np.float32(self.max_surprise)
        reason = np.where(few, 0, 1)
        return Verdicts(
            pa.array(few | odd),
            measured=pa.array(np.where(odd, bits, letters), from_pandas=True),
            limit=pa.array(np.where(odd, self.max_surprise, self.min_letters).astype(np.float32)),
            against=pa.array(["letters", "spelling"]).take(pa.array(reason, mask=~(few | odd))),
        )


@dataclass(frozen=True, kw_only=True)
class WrongLanguage:
    """Reject texts that are in none of the wanted languages.

    Judges rows of kind `text`, and region captions (role `brief`). Measures the probability that
    the text is in the likeliest of `languages` (ISO 639 codes), case ignored, by py3langid's model
    of 139 languages, which comes with the package; kept when measured >= min_probability. Texts of
    fewer than three words are left alone: their language is anyone's guess. Where English is
    wanted, a text with two words that English alone has is not asked about, and not measured.

    The default is low because captions are short: of the 40,206 distinct ones of Flickr8k it
    rejects 4, of 15,543 of Conceptual Captions 1; of 31 phrases in other languages it keeps 3.
    """

    languages: tuple[str, ...] = ("en",)
    min_probability: float = 0.02
    name: ClassVar[str] = "wrong_language"
    applies_to: ClassVar[tuple[str, ...]] = ("text", "region")

    def __post_init__(self) -> None:
        if not self.languages:
            raise ConfigError("rule 'wrong_language': languages is empty; name at least one")
        for code in self.languages:
            if not _CODE.fullmatch(code):
                raise ConfigError(
                    f"rule 'wrong_language': languages holds {code!r}; "
                    "a language is an ISO 639 code such as en, de or ace"
                )
        if not 0 <= self.min_probability <= 1:
            raise ConfigError(
                f"rule 'wrong_language': min_probability is {self.min_probability}; "
                "a probability lies in 0..1"
            )

    def needs(self) -> list[Need]:
        """The package that knows languages."""
        present = importlib.util.find_spec(_PACKAGE) is not None
        return [Need(f"package {_PACKAGE}", present, "pip install 'fld-engine[language]'")]

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        return judge_share(tables, CAPTIONS, self._measure, self.min_probability, "min")

    def _measure(self, texts: pa.Array) -> Floats:
        enough = word_counts(texts) >= _MIN_WORDS
        if "en" in self.languages:
            enough &= _english_words(texts) < _SURELY_ENGLISH
        found = np.full(len(texts), np.nan, np.float32)
        asked = pc.utf8_slice_codeunits(pc.utf8_lower(texts.filter(enough)), 0, _MAX_CHARS)
        identifier = _identifier(self.languages)
        found[enough] = [self._likeliest(identifier, text) for text in asked.to_pylist()]
        return found

    def _likeliest(self, identifier: Any, text: str) -> float:
        first, probability = identifier.classify(text)
        if first in self.languages:
            return float(probability)
        ranked = identifier.rank(text)
        return max(float(share) for code, share in ranked if code in self.languages)


def _english_words(texts: pa.Array) -> Indices:
    """How many of `_ENGLISH` each text has, shape (k,)."""
    owner, codes, vocabulary = text_words(texts)
    is_english = flags(pc.is_in(vocabulary, pa.array(_ENGLISH)))
    return np.bincount(owner[is_english[codes]], minlength=len(texts))


@cache
def _identifier(languages: tuple[str, ...]) -> Any:
    """The model, with probabilities; one per process, half a second to load.

    Raises:
        ConfigError: The package is missing, or its model does not know a language.
    """
    found = _load()
    unknown = [code for code in languages if code not in found.labels]
    if unknown:
        raise ConfigError(
            f"rule 'wrong_language': {_PACKAGE} does not know {unknown[0]!r}; "
            f"known: {', '.join(sorted(found.labels))}"
        )
    return found


@cache
def _load() -> Any:
    try:
        module = importlib.import_module(f"{_PACKAGE}.langid")
    except ImportError as err:
        raise ConfigError(
            f"rule 'wrong_language': package {_PACKAGE} is missing; "
            "pip install 'fld-engine[language]'"
        ) from err
    return module.LanguageIdentifier.from_model_file(module.MODEL_FILE, norm_probs=True)

"""Rules on the phrases that ground a caption in the picture."""

import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.protocols import Context
from engine.schema import Tables, Verdicts
from filters.columns import flags, is_word, words_of
from filters.grounding_phrases import PHRASES

_ARTICLE = re.compile(r"^(?:an?|the) ")


def normalise(phrase: str) -> str:
    """The phrase in lower case, single spaces, without a leading article unless it is nothing else.

    Example:
        >>> normalise("  The  Other objects"), normalise("A")
        ('other objects', 'a')
    """
    return _ARTICLE.sub("", " ".join(phrase.casefold().split()))


@dataclass(frozen=True, kw_only=True)
class PhraseBlacklist:
    """Reject phrases that name nothing to be seen, such as pronouns.

    Judges rows of kind `grounding`, and of kind `region` whose role is phrase, category or brief;
    what OCR reads is never a phrase. The whole phrase must be on the list, both normalised (case,
    spaces, leading article); `against` names the term, and nothing is measured. A row without text
    is left alone. The idea is the paper's (Florence-2, 4.3); `filters.grounding_phrases` says where
    the default is from. `extra_phrases` adds to it.
    """

    phrases: tuple[str, ...] = PHRASES
    extra_phrases: tuple[str, ...] = ()
    name: ClassVar[str] = "phrase_blacklist"
    applies_to: ClassVar[tuple[str, ...]] = ("region", "grounding")

    def __post_init__(self) -> None:
        if not (self.phrases or self.extra_phrases):
            raise ConfigError(
                "rule 'phrase_blacklist': phrases is empty; name at least one, or omit the rule"
            )
        for phrase in (*self.phrases, *self.extra_phrases):
            if not normalise(phrase):
                raise ConfigError(f"rule 'phrase_blacklist': phrase {phrase!r} has no word in it")

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        rows = tables.annotations
        phrases = (*self.phrases, *self.extra_phrases)
        terms = {normalise(phrase): phrase for phrase in reversed(phrases)}
        judged = is_word(rows["role"], ["phrase", "category", "brief"])
        judged &= is_word(rows["kind"], self.applies_to)
        texts = words_of(rows["text"].filter(pa.array(judged)))  # captions are long, and distinct
        found = pa.array(
            [terms.get(normalise(text)) for text in texts.words.to_pylist()], pa.string()
        )
        term = np.full(rows.num_rows, -1, np.int64)
        term[judged] = texts.indices
        against = found.take(pa.array(term, mask=term < 0))
        rejected = flags(pc.is_valid(against))
        return Verdicts(pa.array(rejected), against=against)

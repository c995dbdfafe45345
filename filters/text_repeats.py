"""Rules on texts that say what the picture shows in writing, or what another text says already."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.protocols import Context
from engine.schema import Tables, Verdicts
from filters.columns import Indices, flags, image_places, lost_against, words_of
from filters.text_limits import of_place
from filters.text_similar import near_duplicates
from filters.text_words import text_words


@dataclass(frozen=True, kw_only=True)
class RepeatsOcr:
    """Reject texts that merely repeat what is written on their image.

    Judges rows of kind `text` on images with readings: rows of role `ocr` that are kept, of this or
    an earlier level. Measures the share of the text's letters and digits in words that were read
    there, case ignored; kept when measured <= max_share, or when these words have fewer than
    `min_chars` characters in all. `against` names the reading with the first such word. A text
    without a word is left alone, as is one on an image without readings.

    The idea is CAT's (DiHT), as are the five characters. CAT drops a text for these alone, and so a
    description that quotes a sign; by default half of the text must be quotation.
    """

    max_share: float = 0.5
    min_chars: int = 5
    name: ClassVar[str] = "repeats_ocr"
    applies_to: ClassVar[tuple[str, ...]] = ("text",)

    def __post_init__(self) -> None:
        if not 0 <= self.max_share <= 1:
            raise ConfigError(
                f"rule 'repeats_ocr': max_share is {self.max_share}; a share lies in 0..1"
            )
        if self.min_chars < 1:
            raise ConfigError(
                f"rule 'repeats_ocr': min_chars is {self.min_chars}; it is 1 character or more"
            )

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        rows = tables.annotations
        count = rows.num_rows
        if not of_place(rows, "region/ocr").any():
            nothing = pa.nulls(count, pa.float32())
            terms = pa.nulls(count, pa.string())
            return Verdicts(pa.array(np.zeros(count, bool)), measured=nothing, against=terms)
        said, read = _words_on_images(tables)
        first_reading = dict(zip(read.keys[::-1].tolist(), read.rows[::-1].tolist(), strict=True))
        quoted = np.isin(said.keys, read.keys)
        total = np.bincount(said.rows, said.chars, minlength=count)
        shared = np.bincount(said.rows[quoted], said.chars[quoted], minlength=count)
        judged = (total > 0) & np.isin(image_places(tables), read.images)
        share = np.full(count, np.nan, np.float32)
        np.divide(shared, total, out=share, where=judged, casting="unsafe")
        rejected = (share > np.float32(self.max_share)) & (shared >= self.min_chars)
        reading = np.full(count, -1, np.int64)
        quotes = np.flatnonzero(quoted & rejected[said.rows])
        owners, first = np.unique(said.rows[quotes], return_index=True)
        reading[owners] = [first_reading[key] for key in said.keys[quotes[first]].tolist()]
        ids = rows["annotation_id"].combine_chunks()
        return Verdicts(
            pa.array(rejected),
            measured=pa.array(share, from_pandas=True),
            limit=self.max_share,
            against=ids.take(pa.array(reading, mask=~rejected)),
        )


@dataclass(frozen=True)
class _Words:
    """Words on images, each array of shape (m,): whose, how long, and image and word as one key."""

    rows: Indices
    chars: Indices
    keys: Indices
    images: Indices


def _words_on_images(tables: Tables) -> tuple[_Words, _Words]:
    """Those of texts, and those of readings."""
    rows = tables.annotations
    is_reading = of_place(rows, "region/ocr")
    places = np.flatnonzero(
        (of_place(rows, "text") | is_reading) & flags(pc.is_valid(rows["text"]))
    )
    texts = words_of(rows["text"].take(pa.array(places)))
    words = text_words(texts.words.take(pa.array(texts.indices)))
    owner = places[words.owner]
    lengths = pc.utf8_length(words.vocabulary).to_numpy(zero_copy_only=False).astype(np.int64)
    images = image_places(tables)[owner]
    keys = images * len(words.vocabulary) + words.codes
    of_reading = is_reading[owner]
    said, read = (
        _Words(owner[chosen], lengths[words.codes[chosen]], keys[chosen], images[chosen])
        for chosen in (~of_reading, of_reading)
    )
    return said, read


@dataclass(frozen=True, kw_only=True)
class NearDuplicateText:
    """Reject a text that a better one of its image and role says in nearly the same words.

    Judges rows of kind `text` against those of the same image and role, whoever said them,
    greedily: kept rows of earlier levels win, then rows said by a person, then the higher text
    score (a row without one comes last), then the earlier row. Measures how similar the text is to
    the best kept one it resembles, which `against` names: words and pairs of neighbours both have,
    over those either has (Jaccard), case and punctuation ignored; kept when measured <=
    max_similarity. A text without a word is left alone.

    With the default one word of ten may be added or the article changed, but no word in between:
    that may be a colour. It takes 0.1 % of the captions of Flickr8k, five to an image.
    """

    max_similarity: float = 0.8
    name: ClassVar[str] = "near_duplicate_text"
    applies_to: ClassVar[tuple[str, ...]] = ("text",)

    def __post_init__(self) -> None:
        if not 0 < self.max_similarity <= 1:
            raise ConfigError(
                f"rule 'near_duplicate_text': max_similarity is {self.max_similarity}; "
                "a similarity lies above 0 and up to 1"
            )

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        rows = tables.annotations
        judged = np.flatnonzero(of_place(rows, "text") & flags(pc.is_valid(rows["text"])))
        roles = words_of(rows["role"])
        groups = (image_places(tables) + 1) * (len(roles.words) + 1) + roles.indices + 1
        scores = rows["text_score"].to_numpy()
        keys = (np.nan_to_num(-scores, nan=np.inf), ~flags(rows["human"]), context.fresh)
        order = np.lexsort([key[judged] for key in keys])  # the last key counts most
        texts = words_of(rows["text"].take(pa.array(judged)))
        worse, better, similarity = near_duplicates(
            texts.words,
            texts.indices[order],
            groups[judged][order],
            self.max_similarity,
            num_fixed=int((~context.fresh[judged]).sum()),
        )
        lost, winners = judged[order][worse], judged[order][better]
        return lost_against(rows, lost, winners, similarity, self.max_similarity)

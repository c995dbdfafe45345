"""The rule on texts that stand on too many images to describe any of them."""

import hashlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.protocols import Context
from engine.schema import Tables, Verdicts
from filters.columns import Flags, Indices, flags, image_places, is_word, words_of
from filters.text_limits import check_places, of_places
from filters.text_words import normalised

_HASH_BYTES = 8  # two of a billion texts share one: 1 in 40
_MEASURES = pa.schema([("text_hash", pa.int64()), ("images", pa.int64())])


@dataclass(frozen=True, kw_only=True)
class FrequentText:
    """Reject a text that stands on too many images of the dataset: "1920x1080", the name of a shop.

    Judges the kinds and roles in `roles`. Measures the `ok` images on which the text stands, case
    and punctuation ignored, in rows that are not rejected; kept when measured <= limit, which is
    `max_images` or the share `max_share` of all `ok` images, whichever is more. A text without a
    word is left alone. The rows are counted in the finished label version, so that the rule needs
    `fld filter`.

    The default is ALIGN's: more than 10 images share it. What a model writes repeats by itself ("a
    man standing in a field"), so that only `alt` is judged by default; give others a `max_share`.
    """

    roles: tuple[str, ...] = ("text/alt",)
    max_images: int = 10
    max_share: float = 0.0
    name: ClassVar[str] = "frequent_text"
    applies_to: ClassVar[tuple[str, ...]] = ("text", "region", "grounding")

    def __post_init__(self) -> None:
        check_places(self.name, "roles", self.roles)
        if self.max_images < 1:
            raise ConfigError(
                f"rule 'frequent_text': max_images is {self.max_images}; it is 1 image or more"
            )
        if not 0 <= self.max_share <= 1:
            raise ConfigError(
                f"rule 'frequent_text': max_share is {self.max_share}; a share lies in 0..1"
            )

    def measure(self, tables: Tables) -> pa.Table:
        """The images of each text; the row of hash null has the number of all."""
        is_ok = np.append(is_word(tables.images["status"], ["ok"]), False)
        places = image_places(tables)
        counted = is_ok[places] & self._judged(tables.annotations)
        if "status" in tables.annotations.column_names:
            counted &= ~is_word(tables.annotations["status"], ["rejected"])
        hashes = _text_hashes(tables.annotations, counted)
        counted &= hashes.valid
        pairs = np.unique(np.stack([hashes.values[counted], places[counted]], axis=1), axis=0)
        texts, images = np.unique(pairs[:, 0], return_counts=True)
        return pa.table(
            {
                "text_hash": pa.concat_arrays([pa.array([None], pa.int64()), pa.array(texts)]),
                "images": np.concatenate([[is_ok.sum()], images]),
            },
            schema=_MEASURES,
        )

    def reduce(self, measured: pa.Table) -> pa.Table:
        """The hash of each text above its limit, in order, with its images and the limit."""
        sums = measured.group_by("text_hash").aggregate([("images", "sum")])
        is_total = pc.is_null(sums["text_hash"])
        total = pc.sum(sums["images_sum"].filter(is_total)).as_py() or 0
        limit = float(max(self.max_images, self.max_share * total))
        texts = sums.filter(pc.and_(pc.invert(is_total), pc.greater(sums["images_sum"], limit)))
        texts = texts.sort_by("text_hash")
        return pa.table(
            {
                "text_hash": texts["text_hash"],
                "images": texts["images_sum"].cast(pa.float32()),
                "limit": pa.repeat(pa.scalar(limit, pa.float32()), len(texts)),
            }
        )

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        assert context.decisions is not None, "frequent_text is judged after measure and reduce"
        rows = tables.annotations
        hashes = _text_hashes(rows, self._judged(rows))
        known = context.decisions["text_hash"].combine_chunks()
        asked = pa.array(hashes.values, mask=~hashes.valid)
        place = pc.index_in(asked, known.cast(pa.int64()), skip_nulls=True)
        return Verdicts(
            pc.is_valid(place),
            measured=context.decisions["images"].combine_chunks().take(place),
            limit=context.decisions["limit"].combine_chunks().take(place),
        )

    def _judged(self, rows: pa.Table) -> Flags:
        return of_places(rows, self.roles) & flags(pc.is_valid(rows["text"]))


@dataclass(frozen=True)
class _Hashes:
    """A number per row, shape (n,), where `valid`."""

    values: Indices
    valid: Flags


def _text_hashes(rows: pa.Table, judged: Flags) -> _Hashes:
    """The same for equal words in every process and on every machine."""
    texts = words_of(rows["text"].filter(pa.array(judged)))
    plain = normalised(texts.words).to_pylist()
    numbers = np.array([_hash(text) for text in plain], np.int64)
    values, valid = np.zeros(rows.num_rows, np.int64), np.zeros(rows.num_rows, bool)
    values[judged] = numbers[texts.indices]
    valid[judged] = np.array([bool(text) for text in plain], bool)[texts.indices]
    return _Hashes(values, valid)


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=_HASH_BYTES).digest()
    return int.from_bytes(digest, "little", signed=True)

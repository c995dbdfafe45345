"""A rule in a package of its own: no text in capitals alone."""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from engine.protocols import Context
from engine.schema import Tables, Verdicts


@dataclass(frozen=True, kw_only=True)  # its fields are the options of a config entry
class NoShouting:
    """Reject texts that are written in capitals alone.

    Judges rows of kind `text`. Measures the letters of the text; rejected when it has more than
    `max_letters` and all are capitals. The default lets abbreviations pass.
    """

    max_letters: int = 5
    name: ClassVar[str] = "no_shouting"
    applies_to: ClassVar[tuple[str, ...]] = ("text",)

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """One verdict per row of `tables.annotations`, in its order: columns in, columns out."""
        texts = tables.annotations["text"].combine_chunks().fill_null("")
        letters = pc.utf8_length(pc.replace_substring_regex(texts, r"[^\pL]", ""))
        loud = pc.and_(pc.equal(texts, pc.utf8_upper(texts)), pc.greater(letters, self.max_letters))
        return Verdicts(loud, measured=letters.cast(pa.float32()), limit=float(self.max_letters))

"""The rule on what a region may be: classes allowed, classes denied, by any of their names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError
from engine.protocols import Context
from engine.schema import Tables, Verdicts
from filters.columns import flags, is_word, words_of
from specialists.synonyms import Synonyms, fold, read_synonyms


@dataclass(frozen=True, kw_only=True)
class ClassList:
    """Reject regions of a class that is denied, or not among those allowed.

    Judges rows of kind `region`, role `category`, whoever said them. A class goes by any of its
    names: case, plural and the joints of words do not matter (`Wine_Glasses` is a wine glass),
    synonyms are one class (`sofa` a couch), and a class is on a list when one that holds it is
    (`vehicle` takes cars and buses), unless `kinds` is false. `deny` overrules `allow`; an empty
    `allow` allows all that is not denied. Nothing is measured; `against` names the entry of `deny`,
    null for a class that `allow` lacks. A row without text is left alone. There are no defaults:
    which classes are wanted is the user's to say. See `specialists.synonyms` for the table.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    kinds: bool = True
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    hypernyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    name: ClassVar[str] = "class_list"
    applies_to: ClassVar[tuple[str, ...]] = ("region",)

    def __post_init__(self) -> None:
        if not self.allow and not self.deny:
            raise ConfigError(
                "rule 'class_list': allow and deny are empty; name a class, or leave the rule out"
            )
        for option in ("allow", "deny"):
            if any(not fold(label) for label in getattr(self, option)):
                raise ConfigError(f"rule 'class_list': {option} has an empty name; remove it")
        if self.hypernyms and not self.kinds:
            raise ConfigError(
                "rule 'class_list': hypernyms has no effect while kinds is false; remove one"
            )
        read_synonyms(self.synonyms, self.hypernyms)

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        rows = tables.annotations
        labels = words_of(rows["text"])
        found = [self._on_list(label) for label in labels.words.to_pylist()]
        terms = pa.array([denied for denied, _ in found], pa.string())
        refused = np.array([*(no for _, no in found), False], bool)[labels.indices]
        judged = is_word(rows["kind"], ["region"]) & is_word(rows["role"], ["category"])
        rejected = judged & refused & flags(rows["text"].is_valid())
        against = terms.take(pa.array(labels.indices, mask=~rejected))
        return Verdicts(pa.array(rejected), against=against)

    def _on_list(self, label: str) -> tuple[str | None, bool]:
        """The entry of `deny` that takes the label, and whether it is refused."""
        table, allowed, denied = self._table
        key = table.key(label)
        names = [key, *(sorted(table.kinds.get(key, ())) if self.kinds else ())]
        by = next((denied[name] for name in names if name in denied), None)
        if by is not None:
            return by, True
        return None, bool(allowed) and not any(name in allowed for name in names)

    @cached_property
    def _table(self) -> tuple[Synonyms, dict[str, str], dict[str, str]]:
        """The synonyms, and both lists by the folded name of the class; made once per rule."""
        table = read_synonyms(self.synonyms, self.hypernyms)
        allowed, denied = (
            {table.key(label): label for label in reversed(labels)}
            for labels in (self.allow, self.deny)
        )
        return table, allowed, denied

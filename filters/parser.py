"""What texts are made of by spaCy's parse: parsed once, however often and by whomever asked."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.protocols import Need
from filters.columns import Floats, Indices
from specialists.phrases import load_parser, parser_need

PARSER = "en_core_web_sm"
# What is parsed of a text, in code points: three times the longest detailed captions, and far below
# the 1,000,000 at which spaCy refuses.
MAX_CHARS = 4_000
# Of the texts it knows, each with 100 for what surrounds it: some 25 MB for 50,000 captions.
_CACHE_CHARS = 8_000_000
_ENTRY_CHARS = 100
# Words spaCy may learn for good, some 50 MB; those it meets after that it forgets again. To forget
# all of them costs an eighth of its speed.
_VOCABULARY = 200_000
_ATTRIBUTES = ["POS", "HEAD"]
# spaCy's own 256 texts are the fastest for captions; of single words 2,048 at once take 0.84 of the
# time (4,500 words of Flickr8k, one thread).
_BATCH_CHARS, _LEAST_BATCH, _MOST_BATCH = 14_000, 256, 2_048
_RULER = "attribute_ruler"

_Tree = npt.NDArray[np.int16]  # (tokens, 2): part of speech as spaCy numbers them, way to the head


class Measures(NamedTuple):
    """What each of k texts holds, every array of shape (k,), in tokens.

    `objects` are nouns, common and proper; `attributes` adjectives; `actions` verbs without
    auxiliaries. The complexity of a token is its degree in the dependency tree seen as an
    undirected graph (Florence-2, 5.2), that of a text the highest of its objects or actions, as in
    CAT (DiHT); NaN where it has none.
    """

    objects: Indices
    attributes: Indices
    actions: Indices
    proper_nouns: Indices
    object_complexity: Floats
    action_complexity: Floats


class TextParser:
    """Parses every distinct text once and remembers what it found, within bounds.

    Args:
        nlp: A spaCy pipeline with tagger and parser.
        max_chars: How much to remember, in characters of texts; what was learnt first is forgotten
            first.

    Of a text longer than `MAX_CHARS` only that much is parsed: what is counted is a lower bound
    then. A tree depends on its text alone, not on what is parsed with it (checked on 4,000 captions
    in six batchings), so what is remembered never shows.
    """

    def __init__(self, nlp: Any, max_chars: int = _CACHE_CHARS) -> None:
        self._nlp = nlp
        self._max_chars = max_chars
        self._trees: dict[str, _Tree] = {}
        self._chars = 0

    def measure(self, texts: Sequence[str]) -> Measures:
        """What is in each text; no texts, empty arrays. Equal texts are parsed once."""
        known = {text: self._trees.get(text[:MAX_CHARS]) for text in texts}
        missing = list(dict.fromkeys(text[:MAX_CHARS] for text in texts if known[text] is None))
        fresh = dict(self._parse(missing))
        trees = [
            fresh[text[:MAX_CHARS]] if (tree := known[text]) is None else tree for text in texts
        ]
        self._remember(fresh)
        return self._measure(trees)

    def _parse(self, texts: list[str]) -> Iterator[tuple[str, _Tree]]:
        is_full = len(self._nlp.vocab) > _VOCABULARY
        with self._nlp.memory_zone() if is_full else nullcontext():
            docs = self._nlp.pipe(texts, batch_size=_batch_size(texts))
            for text, doc in zip(texts, docs, strict=True):
                yield text, doc.to_array(_ATTRIBUTES).astype(np.int16)

    def _remember(self, fresh: dict[str, _Tree]) -> None:
        self._trees |= fresh
        self._chars += sum(len(text) + _ENTRY_CHARS for text in fresh)
        while self._chars > self._max_chars:
            oldest = next(iter(self._trees))
            del self._trees[oldest]
            self._chars -= len(oldest) + _ENTRY_CHARS

    def _measure(self, trees: list[_Tree]) -> Measures:
        noun, proper, adjective, verb = (
            self._nlp.vocab.strings[name] for name in ("NOUN", "PROPN", "ADJ", "VERB")
        )
        tokens = np.concatenate([np.empty((0, 2), np.int16), *trees]).astype(np.int64)
        owner = np.repeat(np.arange(len(trees)), [len(tree) for tree in trees])
        pos, way = tokens[:, 0], tokens[:, 1]
        has_head = way != 0
        heads = (np.arange(len(tokens)) + way)[has_head]
        degrees = np.bincount(heads, minlength=len(tokens)) + has_head
        is_proper, is_action = pos == proper, pos == verb
        is_object = is_proper | (pos == noun)

        def count(chosen: npt.NDArray[np.bool_]) -> Indices:
            return np.bincount(owner[chosen], minlength=len(trees))

        def highest(chosen: npt.NDArray[np.bool_]) -> Floats:
            found = np.full(len(trees), -1, np.int64)
            np.maximum.at(found, owner[chosen], degrees[chosen])
            return np.where(found < 0, np.nan, found).astype(np.float32)

        return Measures(
            objects=count(is_object),
            attributes=count(pos == adjective),
            actions=count(is_action),
            proper_nouns=count(is_proper),
            object_complexity=highest(is_object),
            action_complexity=highest(is_action),
        )


def _batch_size(texts: list[str]) -> int:
    chars = sum(map(len, texts)) // max(len(texts), 1) + 1
    return min(max(_BATCH_CHARS // chars, _LEAST_BATCH), _MOST_BATCH)


def text_parser(parser: str = PARSER) -> TextParser:
    """The one of this process, loaded when first asked for.

    Raises:
        SpecialistError: The model is not installed.
    """
    return _loaded(parser)


@cache
def _loaded(parser: str) -> TextParser:
    nlp = load_parser(parser)
    if nlp.has_pipe(_RULER):
        _forget_other_patterns(nlp.get_pipe(_RULER))
    return TextParser(nlp)


def _forget_other_patterns(ruler: Any) -> None:
    """Leaves the patterns that set a part of speech.

    Patterns are matched all at once, so that the others (lemma, morphology) change no part of
    speech; matching them too takes a seventh of all the time.
    """
    patterns = [pattern for pattern in ruler.patterns if "POS" in pattern["attrs"]]
    ruler.clear()
    ruler.add_patterns(patterns)


def text_parser_needs(parser: str = PARSER) -> list[Need]:
    """What `text_parser` loads."""
    return [parser_need(parser)]

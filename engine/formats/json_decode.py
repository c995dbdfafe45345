"""JSON records into typed ones: all at once, or one by one where one is not in order."""

import json
import re
from collections.abc import Iterable
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

T = TypeVar("T")
Codes = npt.NDArray[np.int64]

_HEAD_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)
_MAX_JOINED = 1 << 30  # bytes; an Arrow string ends at twice that
NO_ID = -(2**63)  # the code of no id
_FIRST_NAME = -(2**62)  # codes of ids that are no whole numbers count down from here


class Flaw(NamedTuple):
    """Why a record could not be taken: a cause of `engine.failures`, and a message."""

    cause: str
    message: str


class RecordDecoder(Generic[T]):
    """Decodes records of one msgspec type.

    Python's own spelling of NaN and infinity, which strict JSON lacks, is understood too.
    """

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        self._all: msgspec.json.Decoder[list[T]] = msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]
        self._one: msgspec.json.Decoder[T] = msgspec.json.Decoder(kind)
        self._raw = [
            name for name, of in getattr(kind, "__annotations__", {}).items() if of is msgspec.Raw
        ]

    def array(self, text: bytes) -> list[T] | None:
        """The records of a JSON array; null where any of them is not in order."""
        try:
            return self._all.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    def one(self, text: bytes) -> T | Flaw:
        """One record, or what is wrong with it."""
        try:
            return self._one.decode(text)
        except msgspec.ValidationError as err:
            return Flaw("bad_labels", str(err))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._leniently(text)

    def _leniently(self, text: bytes) -> T | Flaw:
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as err:
            return Flaw("not_json", str(err))
        for name in self._raw if isinstance(record, dict) else ():
            if name in record:
                record[name] = msgspec.Raw(json.dumps(record[name]).encode())
        try:
            found = msgspec.convert(record, self._kind)
            msgspec.json.encode(found)
        except msgspec.ValidationError as err:
            return Flaw("bad_labels", str(err))
        except UnicodeEncodeError:
            return Flaw("not_json", "a text that is no Unicode (half a surrogate pair)")
        return found

    def each(self, texts: pa.StringArray) -> list[T | Flaw]:
        """One record, or flaw, per text, in their order; no texts, none."""
        found = self.array(b"[" + joined(texts) + b"]") if len(texts) else []
        if found is not None and len(found) == len(texts):
            return list(found)
        return [self.one(text.encode()) for text in texts.to_pylist()]


def joined(texts: pa.StringArray, separator: str = ",") -> bytes:
    """All texts in one, UTF-8; no texts, no bytes."""
    if len(texts) == 0:
        return b""
    if texts.nbytes > _MAX_JOINED:
        return separator.join(texts.to_pylist()).encode()
    lists = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
    return bytes(pc.binary_join(lists, separator)[0].as_buffer())


class Ids:
    """Numbers for ids that may be whole numbers, texts or anything else JSON has."""

    def __init__(self) -> None:
        self._codes: dict[Any, int] = {}
        self._names: list[Any] = []

    def encode(self, ids: list[Any]) -> Codes:
        """A code per id, int64, equal for equal ids: itself for a whole number, else negative.

        Null has the code `NO_ID`.
        """
        if all(type(each) is int for each in ids):
            try:
                codes = np.fromiter(ids, np.int64, len(ids))
            except OverflowError:
                pass
            else:
                if not (codes < _FIRST_NAME).any():
                    return codes
        return np.fromiter(map(self._encode, ids), np.int64, len(ids))

    def _encode(self, one: Any) -> int:
        if one is None or (type(one) is int and one == NO_ID):
            return NO_ID
        if isinstance(one, float) and one.is_integer():
            one = int(one)
        if type(one) is int and abs(one) < -_FIRST_NAME:
            return one
        if one not in self._codes:
            self._codes[one] = _FIRST_NAME - len(self._names) - 1
            self._names.append(one)
        return self._codes[one]

    def decode(self, code: int) -> Any:
        """The id of a code, null for `NO_ID`."""
        if code == NO_ID:
            return None
        return code if code >= _FIRST_NAME else self._names[_FIRST_NAME - code - 1]


def repeats(ids: Codes) -> npt.NDArray[np.bool_]:
    """Which records bear an id that an earlier one bears; shape (n,), none for no id."""
    repeated = np.zeros(len(ids), bool)
    if len(ids) == 0 or (np.diff(ids) > 0).all():
        return repeated
    order = np.argsort(ids, kind="stable")
    same = (ids[order][1:] == ids[order][:-1]) & (ids[order][1:] != NO_ID)
    repeated[order[1:][same]] = True
    return repeated


def outline(head: bytes) -> dict[str, set[str]]:
    """Keys seen in the first bytes of a document, by where they stand.

    Returns:
        Under "" the keys of the top object, or of the first record of an array; under "[KEY]" those
        of the first record of the array KEY. An array as document has the key "[]" beside.
    """
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] not in (b"{", b"["):
        return {}
    found: dict[str, set[str]] = {"": set()}
    is_array = text[:1] == b"["
    if is_array:
        found["[]"] = set()
    _walk(_HEAD_TOKEN.finditer(text), text, found, 2 if is_array else 1)
    return found


def _walk(
    tokens: Iterable[re.Match[bytes]], text: bytes, found: dict[str, set[str]], top: int
) -> None:
    depth, key, is_second = 0, "", False
    for token in tokens:
        mark = token[0]
        if mark in (b"{", b"["):
            depth += 1
        elif mark in (b"}", b"]"):
            depth -= 1
            if top == 2 and depth == 1:  # noqa: PLR2004 (the first record of the array is over)
                return
            is_second = is_second or depth == top + 1
        elif text[token.end() : token.end() + 8].lstrip()[:1] == b":":
            name = mark[1:-1].decode("utf-8", "replace")
            if depth == top:
                found[""].add(name)
                key, is_second = name, False
            elif depth == top + 2 and not is_second:
                found.setdefault(f"[{key}]", set()).add(name)

"""Which image of the truth is which of the dataset: by uri, path or file name, never a guess."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Joined:
    """The partner of every image of the truth.

    Attributes:
        partners: Place among the uris of the dataset, shape (images of the truth,); -1 for none.
        num_by: How many were found by `uri`, by `path` (its end) and by `stem` (the file name
            without its ending).
        ambiguous: Places of the images of the truth that several images could be, in order.
        missing: Places of those that no image could be, in order.
    """

    partners: Indices
    num_by: dict[str, int]
    ambiguous: Sequence[int]
    missing: Sequence[int]


def stem_of(uri: str) -> str:
    """The file name without its last ending, as images are compared at last.

    Example:
        >>> stem_of("photos/a.b.jpg"), stem_of("a"), stem_of("https://h/c.png?w=1")
        ('a.b', 'a', 'c')
    """
    return _stem(_parts(uri))


def join_images(truth: Sequence[str], dataset: Sequence[str]) -> Joined:
    r"""Pairs images by their names.

    Equal uris first; then the longest end of the path that only one image of each side has, whole
    names only, so at least the file name; then the file name without its ending. An end or name
    that several images of one side have pairs nobody. `\` separates names as "/" does, a query of a
    web address does not count, and accents may be spelled either way (NFC).

    Args:
        truth: Names of the images as the truth spells them; "" where it has none.
        dataset: Uris of the dataset's images; those whose `stem_of` no image of the truth has may
            be left out.

    Example:
        >>> join_images(["val/1.jpg", "2.jpg"], ["x/1.jpg", "x/val/1.jpg", "2.png"]).partners
        array([1, 2])
    """
    sides = [_parts(uri) for uri in truth], [_parts(uri) for uri in dataset]
    partners = np.full(len(truth), -1, np.int64)
    num_by = {"uri": _pair(partners, *sides, "/".join)}
    depth = min((max(map(len, side), default=0) for side in sides), default=0)
    num_by["path"] = sum(_pair(partners, *sides, _end(num)) for num in range(depth, 0, -1))
    num_by["stem"] = _pair(partners, *sides, _stem)
    stems = {_stem(parts) for parts in sides[1]} - {""}
    alone = np.flatnonzero(partners < 0).tolist()
    ambiguous = [i for i in alone if _stem(sides[0][i]) in stems]
    return Joined(partners, num_by, ambiguous, sorted(set(alone) - set(ambiguous)))


def _pair(
    partners: Indices,
    truth: Sequence[list[str]],
    dataset: Sequence[list[str]],
    key: Callable[[list[str]], str],
) -> int:
    """Pairs those not yet paired whose key only they have; returns how many pairs it made."""
    open_truth = np.flatnonzero(partners < 0).tolist()
    if not open_truth:
        return 0
    theirs = [key(parts) for parts in dataset]
    num_true, num_theirs = Counter(key(parts) for parts in truth), Counter(theirs)
    place = {name: i for i, name in enumerate(theirs)}
    taken = set(partners[partners >= 0].tolist())
    made = 0
    for i in open_truth:
        name = key(truth[i])
        if name and num_true[name] == 1 == num_theirs[name] and place[name] not in taken:
            partners[i] = place[name]
            made += 1
    return made


def _end(num: int) -> Callable[[list[str]], str]:
    """The last `num` names of a path; "" of a shorter one."""
    return lambda parts: "/".join(parts[-num:]) if len(parts) >= num else ""


def _parts(uri: str) -> list[str]:
    if "://" in uri:
        uri = uri.partition("://")[2].partition("?")[0].partition("#")[0]
    plain = unicodedata.normalize("NFC", uri.replace("\\", "/"))
    return [name for name in plain.split("/") if name not in ("", ".")]


def _stem(parts: list[str]) -> str:
    if not parts:
        return ""
    stem, dot, _ = parts[-1].rpartition(".")
    return stem if dot and stem else parts[-1]

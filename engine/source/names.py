"""Image keys, and the spelling of file names that are not valid UTF-8."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable

MAX_STEM = 64  # characters; a key stays far below the 255 bytes a file name may have in a tar

_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_-]+")
_QUERY = re.compile(r"[?#]")
_MAX_SHOWN = 128  # characters of an image's own name inside a uri
_ESCAPE = re.compile(r"\\(\\|x[0-9a-f]{2})")


def image_keys(uris: Iterable[str]) -> list[str]:
    """Key of each uri: its sanitised stem, "-", 10 hex digits of a hash of the whole uri.

    The stem is the last part of the path without its extension, accents dropped (NFKD), every run
    of other characters than `[A-Za-z0-9_-]` made one "_", cut at 64 characters; "image" if nothing
    is left. The hash is BLAKE2b of the UTF-8 uri, 5 bytes: two uris of equal stem share a key with
    a chance of 1e-12, which `engine.source.plan` refuses.

    Example:
        >>> image_keys(["a/dog 1.jpg", "a/dog+1.jpg"])
        ['dog_1-c113bd404d', 'dog_1-02ac288f6c']
    """
    digest = hashlib.blake2b
    return [f"{_stem(uri)}-{digest(uri.encode(), digest_size=5).hexdigest()}" for uri in uris]


def extension(uri: str) -> str:
    """The lower-case extension of the last part of a path, without its dot; "" if there is none.

    Example:
        >>> extension("a.b/Photo.JPG"), extension("a.b/photo"), extension(".jpg")
        ('jpg', '', '')
    """
    stem, dot, ending = uri.rpartition("/")[2].rpartition(".")
    return ending.lower() if dot and stem else ""


def encode_name(name: str) -> str:
    r"""A file name as it stands in a uri: undecodable bytes as `\xff`, a backslash as two.

    Python hands such bytes over as lone surrogates, which no Arrow string can hold. Ordinary names
    come back as they are.

    Example:
        >>> encode_name("caf\udce9.jpg"), encode_name("a\\b")
        ('caf\\xe9.jpg', 'a\\\\b')
    """
    if name.isascii() and "\\" not in name:
        return name
    escaped = name.replace("\\", "\\\\").encode("utf-8", "surrogateescape")
    return escaped.decode("utf-8", "backslashreplace")


def decode_name(uri: str) -> str:
    """The name or path that `encode_name` spelled."""
    if "\\" not in uri:
        return uri
    return _ESCAPE.sub(_unescape, uri)


def shown_name(path: str) -> str:
    """The last part of a path or web address, to be shown in a uri; "" if it is not fit for it.

    Secrets of an address (a user and password, what follows "?" or "#") are left out.

    Example:
        >>> shown_name("cats/a.jpg"), shown_name("https://h/b.jpg?key=secret"), shown_name("a@b")
        ('a.jpg', 'b.jpg', '')
    """
    _, scheme, rest = path.partition("://")
    if scheme:
        path = _QUERY.split(rest.partition("/")[2], maxsplit=1)[0]
    name = path.replace("\\", "/").rpartition("/")[2]
    is_plain = len(name) <= _MAX_SHOWN and "@" not in name and name.isprintable()
    return name if is_plain else ""


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    return code if code == "\\" else bytes([int(code[1:], 16)]).decode("utf-8", "surrogateescape")


def _stem(uri: str) -> str:
    stem, dot, ending = uri.rpartition("/")[2].rpartition(".")
    stem = stem if dot and stem else ending
    if not _PLAIN.fullmatch(stem):
        ascii_only = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
        stem = _NOT_PLAIN.sub("_", ascii_only).strip("_-")
    return stem[:MAX_STEM] or "image"

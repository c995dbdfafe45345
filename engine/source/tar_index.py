"""What is in a tar file and where, told by its headers alone."""

import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import count
from typing import IO, Any, NamedTuple

from engine.source.images import EXTENSIONS
from engine.source.names import encode_name

BLOCK = 512  # bytes; a tar is made of them
LABELS = ("json", "txt", "cls", "text", "caption")
_CHUNK = 1 << 22  # bytes of one request while an archive is streamed
_MAX_FIELD = 16  # characters; a longer extension gets no count of its own


class Member(NamedTuple):
    """One member: its name as the archive spells it, where its bytes are.

    `refused` is null for an ordinary file, else the cause (of `engine.failures`) it is not read.
    """

    name: str
    offset: int
    size: int
    refused: str | None = None


BROKEN = Member("", 0, 0, "broken_archive")  # comes last where an archive ends or breaks early


def members(file: IO[bytes], *, seekable: bool, fast: bool = True) -> Iterator[Member]:
    """The members of an uncompressed stream, in its order, without its folders; never raises.

    The last is BROKEN where the archive breaks, or lacks its end mark: whoever wrote it may have
    been stopped.

    Args:
        file: Open at its start.
        seekable: Whether data can be skipped without reading it.
        fast: Whether to read much at a time; what is read together is lost together where a
            compressed stream breaks.
    """
    ends: list[str] = []

    class Header(tarfile.TarInfo):
        """Notes why the last header was none: tarfile takes most of it for an ordinary end."""

        @classmethod
        def frombuf(cls, buf: Any, encoding: Any, errors: Any) -> Any:
            try:
                return super().frombuf(buf, encoding, errors)
            except tarfile.HeaderError as err:
                ends.append(type(err).__name__)
                raise

    mode: Any = "r:" if seekable else "r|"
    chunk = _CHUNK if fast else tarfile.RECORDSIZE
    try:
        with tarfile.open(fileobj=file, mode=mode, tarinfo=Header, bufsize=chunk) as tar:
            for info in tar:
                vars(tar)["members"] = []  # it would keep every header
                if not info.isdir():
                    yield Member(info.name, info.offset_data, info.size, _refused(info))
    except (tarfile.TarError, OSError, EOFError, ValueError):
        yield BROKEN
        return
    if ends[-1:] != ["EOFHeaderError"]:
        yield BROKEN


def samples(archive: str, found: list[Member], ignored: Counter[str]) -> list[dict[str, Any]]:
    """Rows of a listing (`uri`, `size_bytes`, `place`), one per image, sorted by uri.

    Args:
        archive: Name of the tar, which starts every uri.
        found: Its members.
        ignored: Counts what is neither an image nor a label of one.
    """
    groups: dict[tuple[str, int], list[tuple[str, str, Member]]] = defaultdict(list)
    seen: Counter[str] = Counter()
    uris: set[str] = {archive}
    rows = []
    for member in found:
        name = member.name.removeprefix("./")
        folder, slash, base = name.rpartition("/")
        stem, _, field = base.partition(".")
        field = field.lower()
        if member == BROKEN:
            rows.append(refused_row(archive, "broken_archive"))
        elif member.refused is not None:
            if _is_image(field.rpartition(".")[2]):
                rows.append(refused_row(_new_uri(archive, name, uris), member.refused))
            else:
                ignored[f"member refused, {member.refused}"] += 1
        elif not stem:
            ignored["hidden file"] += 1
        else:
            seen[name] += 1
            uri = _new_uri(archive, name, uris)
            groups[folder + slash + stem, seen[name]].append((field, uri, member))
    for group in groups.values():
        rows.extend(_images_of(group, ignored))
    return sorted(rows, key=lambda row: str(row["uri"]))


def refused_row(uri: str, cause: str) -> dict[str, Any]:
    """The row of something that cannot be read: its place names the cause and no bytes."""
    place = [{"field": cause, "offset": 0, "size": None}]
    return {"uri": uri, "size_bytes": None, "place": place}


def _new_uri(archive: str, name: str, uris: set[str]) -> str:
    """A uri that no member had before: numbered from 2 where the name comes again."""
    uri = plain = f"{archive}/{encode_name(name)}"
    for number in count(2):
        if uri not in uris:
            break
        uri = f"{plain}#{number}"
    uris.add(uri)
    return uri


def _refused(info: tarfile.TarInfo) -> str | None:
    if info.name.startswith(("/", "\\")) or ".." in info.name.replace("\\", "/").split("/"):
        return "unsafe_path"
    return None if info.isreg() and not info.issparse() else "special_file"


def _images_of(group: list[tuple[str, str, Member]], ignored: Counter[str]) -> list[dict[str, Any]]:
    """A row per image of one sample; its labels go with the first plain one."""
    images = [part for part in group if _is_image(part[0])]
    labels = [(field, member) for field, _, member in group if field in LABELS]
    for field, _, _ in group:
        if field not in LABELS and not _is_image(field):
            ignored[f"field .{field}" if len(field) <= _MAX_FIELD else "other fields"] += 1
    if not images:
        ignored["sample without an image"] += 1
        return []
    plain = [part for part in images if "." not in part[0]]
    owner = (plain or images)[0]
    rows = []
    for part in images:
        field, uri, member = part
        mine = [(field, member), *(labels if part is owner else [])]
        place = [{"field": name, "offset": m.offset, "size": m.size} for name, m in mine]
        rows.append({"uri": uri, "size_bytes": member.size, "place": place})
    return rows


def _is_image(field: str) -> bool:
    return field.rpartition(".")[2] in EXTENSIONS

"""Web images with their alt texts as Parquet: metadata of LAION, COYO, DataComp, img2dataset."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import LabelsError
from engine.failures import fail
from engine.formats.arrow_json import decode_rows, decode_schema, encode_rows, encode_schema
from engine.formats.parquet_files import MAGIC, column_compression, new_parquet, open_parquet
from engine.formats.parts import Labelled, Losses, PartBuilder, Repeats, labelled_images
from engine.formats.shapes import Header, LabelSet, Part, Place, ReadOptions

# Names of columns in lower case, the first found is taken: LAION-400M and 5B write URL and TEXT,
# COYO url and text, what img2dataset wrote url and caption (txt in older ones), Datacomp as COYO.
_ADDRESSES = ("url", "image_url")
_TEXTS = ("text", "caption", "txt", "alt_text", "alt")
_SCORES = ("similarity", "clip_similarity_vitl14", "clip_l14_similarity_score")
_SCORES_B = ("clip_similarity_vitb32", "clip_b32_similarity_score")
_IDS = ("sample_id", "id", "uid", "key")
_LICENCES = ("license", "licence")
_PIXELS = {"image", "images"}  # such a column holds pictures: the file is a dataset of images
_MAX_SIDE = 1 << 31
_ROW_GROUP = 65_536  # rows, at most: they are held until they are written
_OWN = pa.schema(
    [
        ("URL", pa.string()),
        ("TEXT", pa.string()),
        ("WIDTH", pa.int32()),
        ("HEIGHT", pa.int32()),
        ("LICENSE", pa.string()),
        ("similarity", pa.float32()),
    ]
)


@dataclass(frozen=True)
class _Columns:
    """Which column says what, by the names a file has."""

    address: str
    text: str
    others: Mapping[str, str]  # of an image or row, by our name

    @classmethod
    def of(cls, schema: pa.Schema) -> "_Columns | None":
        """The columns; null where the file has no addresses with texts, or holds pictures."""
        by_name = {name.lower(): name for name in reversed(schema.names)}
        if len(set(schema.names)) < len(schema.names):
            return None
        address, text = _first(by_name, _ADDRESSES), _first(by_name, _TEXTS)
        if address is None or text is None or _PIXELS & set(by_name):
            return None
        if not all(_is_text(schema.field(name).type) for name in (address, text)):
            return None
        wanted = {"source_id": _IDS, "licence": _LICENCES, "text_score": (*_SCORES, *_SCORES_B)}
        found = {name: _first(by_name, names) for name, names in wanted.items()}
        found |= {name: _first(by_name, (name,)) for name in ("width", "height")}
        return cls(address, text, {name: col for name, col in found.items() if col is not None})


def _first(by_name: Mapping[str, str], names: Sequence[str]) -> str | None:
    return next((by_name[name] for name in names if name in by_name), None)


def _is_text(kind: pa.DataType) -> bool:
    # a file without rows may have columns without a type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)
    )


class Laion:
    """One image a row: its web address, its alt text, and any other columns, which survive.

    Texts are of role `alt`, their `text_score` the similarity of image and text where the file has
    such a column (of two models the larger's). Addresses are never fetched; one that comes again is
    another image, `#2` behind it, with the failure `duplicate_id`. Written back with the same
    schema, metadata and compression.
    """

    name: ClassVar[str] = "laion"
    is_folder: ClassVar[bool] = False

    def recognises(self, place: Place, head: bytes) -> bool:
        """Parquet with columns of addresses and texts; see `engine.formats.shapes.Format`."""
        if not place.path or not head.startswith(MAGIC):
            return False
        try:
            with open_parquet(place) as file:
                return _Columns.of(file.schema_arrow) is not None
        except LabelsError:
            return False

    def read(self, place: Place, options: ReadOptions) -> LabelSet:
        """The texts; see `engine.formats.shapes.Format`."""
        with open_parquet(place) as file:
            schema, compression = file.schema_arrow, column_compression(file)
            groups = file.metadata.num_row_groups
            group = file.metadata.row_group(0).num_rows if groups else _ROW_GROUP
        columns = _Columns.of(schema)
        if columns is None:
            found = ", ".join(schema.names[:20])
            raise LabelsError(
                f"{place}: no columns of addresses ({', '.join(_ADDRESSES)}) and texts "
                f"({', '.join(_TEXTS)}), each column with a name of its own; "
                f"found {found}"
            )
        content: dict[str, Any] = {"schema": encode_schema(schema)}
        content |= {"compression": compression, "row_group": min(max(1, group), _ROW_GROUP)}
        return LabelSet(
            Header(self.name, content=content), _read(place, columns, options.part_size)
        )

    def write(self, place: Place, labels: LabelSet) -> list[str]:
        """One row a text; see the protocol."""
        is_own = labels.header.kind == self.name and "schema" in labels.header.content
        content = labels.header.content if is_own else {}
        schema = decode_schema(str(content["schema"])) if is_own else _OWN
        group = int(content.get("row_group", _ROW_GROUP))
        losses = Losses()
        with new_parquet(place, schema, str(content.get("compression", "snappy"))) as writer:
            rows = _Rows(writer, schema, group, is_own)
            for labelled in labelled_images(labels, is_own=is_own):
                rows.add(labelled, losses)
            rows.flush()
        return losses.sentences()


def _read(place: Place, columns: _Columns, part_size: int) -> Iterator[Part]:
    repeats, number = Repeats(), 0
    with open_parquet(place) as file:
        for batch in file.iter_batches(batch_size=part_size):
            yield _part(batch, columns, repeats, number)
            number += batch.num_rows


def _part(batch: pa.RecordBatch, columns: _Columns, repeats: Repeats, first: int) -> Part:
    builder = PartBuilder()
    addresses = batch.column(columns.address).to_pylist()
    texts = batch.column(columns.text).to_pylist()
    others = {name: batch.column(column).to_pylist() for name, column in columns.others.items()}
    records = encode_rows(batch)
    counts = repeats.count([address or "" for address in addresses])
    for i, (address, text, record) in enumerate(zip(addresses, texts, records, strict=True)):
        said = {name: values[i] for name, values in others.items()}
        image: dict[str, Any] = {
            "uri": f"row {first + i}",
            "width": _side(said.get("width")),
            "height": _side(said.get("height")),
            "licence": _name(said.get("licence")),
            "source_id": _name(said.get("source_id")) or str(first + i),
        }
        failures = []
        if not address:
            failures.append(fail("labels", "bad_labels", f"row {first + i}: no address"))
        else:
            image["uri"] = f"{address}#{counts[i] + 1}" if counts[i] else address
        if address and counts[i]:
            found = f"row {first + i}: the same address stands in {counts[i]} rows before"
            failures.append(fail("labels", "duplicate_id", found))
        rows = []
        if text and text.strip():
            row = {"kind": "text", "role": "alt", "text": text, "extra": record}
            rows.append({**row, "text_score": _score(said.get("text_score"))})
        else:
            image["extra"] = record
        builder.add(image, rows, failures, "ok" if address else "failed")
    return builder.take()


def _side(value: Any) -> int | None:
    is_number = isinstance(value, (int, float)) and isfinite(value) and 0 < value < _MAX_SIDE
    return int(value) if is_number else None


def _score(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and isfinite(value) else None


def _name(value: Any) -> str | None:
    return None if value is None else str(value)


@dataclass
class _Rows:
    """Rows on their way into a file, a row group at a time."""

    writer: pq.ParquetWriter
    schema: pa.Schema
    group: int
    is_own: bool
    records: list[str] = field(default_factory=list)

    def add(self, labelled: Labelled, losses: Losses) -> None:
        image, rows = labelled
        if self.is_own and image["extra"] is not None:
            self._keep(image["extra"])
        elif not rows and not self.is_own:
            losses.note("images without a text: a row is a text")
        for row in rows:
            if self.is_own and row["extra"] is not None:
                self._keep(row["extra"])
            elif row["kind"] != "text":
                losses.note(f"rows of kind {row['kind']}: only texts have a place")
            elif self.is_own:
                losses.note("new texts: only rows of the file itself are written back")
            else:
                self._keep(_made(row, image))

    def flush(self) -> None:
        """Writes what is gathered as one row group."""
        if self.records:
            self.writer.write_batch(decode_rows(self.records, self.schema), self.group)
            self.records.clear()

    def _keep(self, record: str) -> None:
        self.records.append(record)
        if len(self.records) >= self.group:
            self.flush()


def _made(row: Mapping[str, Any], image: Mapping[str, Any]) -> str:
    values = [image["uri"], row["text"], image["width"], image["height"], image["licence"]]
    batch = pa.RecordBatch.from_pydict(
        {
            name: [value]
            for name, value in zip(_OWN.names, [*values, row["text_score"]], strict=True)
        },
        _OWN,
    )
    return encode_rows(batch)[0]

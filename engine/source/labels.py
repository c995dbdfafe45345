"""What archives and tables say of an image: fields by name become rows of the source."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.errors import ConfigError
from engine.failures import Failure, fail
from engine.schema import ROLES

# Fields that hold a text about the whole image in the layouts people publish: WebDataset's txt,
# img2dataset's caption, LAION's TEXT, Conceptual Captions' and Hugging Face's caption columns.
TEXTS = dict.fromkeys(
    ("txt", "text", "caption", "captions", "alt", "alt_text", "TEXT", "CAPTION", "title"), "alt"
)
_CLASSES = ("cls", "label")  # a class of the whole image: WebDataset's and Hugging Face's name
_LICENCES = ("license", "licence", "LICENSE")
_NESTED = ("image", "texts", "regions", "grounding")  # what `engine.nested` writes
_SAID = ("role", "text", "text_score", "prompt")
_PLACED = ("box", "polygon", "score")
_MADE_BY = ("source", "model", "revision")


class LabelError(Exception):
    """A label that cannot be taken; `cause` is one of `engine.failures` for the stage `labels`."""

    def __init__(self, cause: str, message: object) -> None:
        super().__init__(str(message))
        self.cause = cause


@dataclass
class Told:
    """What one image's fields amount to."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    licence: str | None = None


def join(parts: Sequence[Told]) -> Told:
    """What several records say of one image; a text that an earlier one gave is not taken twice."""
    joined = Told()
    for told in parts:
        joined.rows.extend(row for row in told.rows if not _is_repeated(row, joined.rows))
        joined.failures.extend(told.failures)
        joined.licence = joined.licence or told.licence
    return joined


@dataclass(frozen=True, kw_only=True)
class Labels:
    """How the fields of a source are read.

    Attributes:
        name: The `source` of the rows, and what failures name.
        licence: Of every image that names none itself.
        human: Whether a person said it.
        texts: Role by field name; null: TEXTS, all of them `alt`.
        classes: Names of numbered classes (`cls`); a number without a name stays as it is.
    """

    name: str
    licence: str | None = None
    human: bool = False
    texts: Mapping[str, str] | None = None
    classes: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, role in (self.texts or {}).items():
            if role not in ROLES["text"]:
                raise ConfigError(
                    f"source.texts.{name} is {role!r}; allowed: {', '.join(ROLES['text'])}"
                )

    @property
    def produces(self) -> dict[str, tuple[str, ...]]:
        """What may come: texts of the roles asked for, and whatever our own views hold."""
        roles = dict.fromkeys((self.texts or TEXTS).values())
        texts = dict.fromkeys([*(f"text/{role}" for role in roles), "text/alt"])
        return {self.name: (*texts, "region", "grounding")}

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that `read` takes something from; a table needs no other column."""
        texts = TEXTS if self.texts is None else self.texts
        return tuple(dict.fromkeys([*texts, *_CLASSES, *_LICENCES, "json"]))

    def read(self, fields: Mapping[str, Any]) -> Told:
        """Rows, failures and licence of one image.

        A field is a text or a list of texts, a class, or a mapping of such (the JSON of a sample:
        its text then stands in `extra` of its first row); our own nested views give back all their
        rows. Bytes are decoded by the name of their field. A text that an earlier field of the
        image gave already is not taken twice, but in a view, where other rows may name it. Fields
        without a meaning here are passed over.
        """
        told = Told(licence=self.licence)
        for name, value in fields.items():
            try:
                rows = list(self._rows(name, _decoded(name, value), told))
            except LabelError as err:
                told.failures.append(fail("labels", err.cause, f"{name}: {err}", source=self.name))
                continue
            if rows and isinstance(value, (bytes, bytearray)) and name == "json":
                rows[0].setdefault("extra", bytes(value).decode())
            told.rows.extend(row for row in rows if not _is_repeated(row, told.rows))
        if self.human:
            told.rows = [{**row, "human": True} for row in told.rows]
        return told

    def _rows(self, name: str, value: Any, told: Told) -> Iterator[dict[str, Any]]:
        if isinstance(value, dict):
            if all(isinstance(value.get(part), kind) for part, kind in _nested_types()):
                yield from _nested_rows(value)
                return
            for inner, said in value.items():
                yield from self._simple(inner, f"{name}.{inner}", said, told)
            return
        yield from self._simple(name, name, value, told)

    def _simple(self, name: str, prompt: str, value: Any, told: Told) -> Iterator[dict[str, Any]]:
        if value is None:
            return
        if name in _LICENCES and isinstance(value, str):
            told.licence = value
        role = (TEXTS if self.texts is None else self.texts).get(name)
        if role is not None:
            for text in value if isinstance(value, list) else [value]:
                if not isinstance(text, str):
                    raise LabelError("bad_labels", f"{prompt} holds {_kind(text)}, wanted a text")
                if text.strip():
                    yield {"kind": "text", "role": role, "text": text, "prompt": prompt}
        elif name in _CLASSES:
            text = self._class(prompt, value)
            yield {"kind": "text", "role": "alt", "text": text, "prompt": prompt}

    def _class(self, prompt: str, value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, (int, str)) or not str(value).strip():
            raise LabelError("bad_labels", f"{prompt} holds {_kind(value)}, wanted a class")
        text = str(value).strip()
        if not self.classes or not text.lstrip("-").isdecimal():
            return text
        if not 0 <= int(text) < len(self.classes):
            raise LabelError("bad_labels", f"{prompt} is {text}; {len(self.classes)} classes known")
        return self.classes[int(text)]


def _nested_types() -> list[tuple[str, type]]:
    return [(part, dict if part == "image" else list) for part in _NESTED]


def _decoded(name: str, value: Any) -> Any:
    if not isinstance(value, (bytes, bytearray)):
        return value
    try:
        text = bytes(value).decode("utf-8-sig")
        # a final line break ends the file and is no part of the text
        return json.loads(text) if name == "json" else text.removesuffix("\n").removesuffix("\r")
    except (ValueError, RecursionError) as err:
        raise LabelError("not_json", err) from err


def _is_repeated(row: dict[str, Any], rows: list[dict[str, Any]]) -> bool:
    if row["kind"] != "text" or "annotation_id" in row:
        return False
    said = ("text", row["role"], row["text"])
    return any(said == (other["kind"], other.get("role"), other.get("text")) for other in rows)


def _nested_rows(view: dict[str, Any]) -> Iterator[dict[str, Any]]:
    try:
        for said in view["texts"]:
            yield {"kind": "text", **_picked(said, _SAID)}
        for region in view["regions"]:
            place = {"region_id": region["region_id"], **_known(region, _PLACED)}
            for said in region["texts"]:
                yield {"kind": "region", **place, **_picked(said, _SAID)}
        for said in view["grounding"]:
            start, end = said["span"]
            span = {"text_id": said["text_id"], "span_start": start, "span_end": end}
            yield {"kind": "grounding", **span, **_picked(said, (*_PLACED, *_SAID))}
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise LabelError("bad_labels", f"a nested view of another shape ({err!r})") from err


def _picked(said: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """What a part of a nested view says, and who made it, as it stood there."""
    own = {"annotation_id": said["annotation_id"], "source_id": said["annotation_id"]}
    made_by = json.dumps(_known(said, _MADE_BY))
    return {"text": None, **_known(said, names), **own, "extra": made_by}


def _known(said: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: said[name] for name in names if name in said}


def _kind(value: Any) -> str:
    return "nothing" if value is None or value == "" else type(value).__name__

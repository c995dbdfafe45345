"""The run's configuration: strict YAML, dotted overrides, and the digest of a run's identity."""

import dataclasses
import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from engine.errors import ConfigError

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

# A location may not carry a key and a secret: it is stored in the dataset and printed.
_CREDENTIALS = re.compile(r"^[a-z0-9+]+://[^/@]+@", re.IGNORECASE)
_NAME = re.compile(r"^[A-Za-z0-9_.-]+$")
# Options that say when to stop, or how patiently a service is asked, and change no data: who lifts
# an alarm, or asks more slowly, resumes the same run.
_PATIENCE = (
    *("alarm_share", "quiet_limit", "key_variable", "concurrency", "requests_per_minute"),
    *("timeout_s", "max_tries", "max_wait_s", "batch_timeout_s"),
)
# The checks speak of JSON, their readers of YAML.
_YAML_TERMS = {"valid array": "list", "an object": "a mapping"}
_MAX_SHOWN = 80  # characters of a refused value; a message stays one line


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Place(_Strict):
    uri: str
    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False

    @field_validator("uri")
    @classmethod
    def _refuse_credentials(cls, uri: str) -> str:
        if _CREDENTIALS.match(uri):
            raise ValueError("holds a key or password; put credentials in the environment instead")
        if not uri.strip():
            raise ValueError("is empty; give a folder, or file://, s3:// or gs:// and a path")
        return uri


class PartConfig(_Place):
    """Where images are, and how what lies beside them is read; which options hold, the kind says.

    Their meaning stands at the sources themselves: `engine.source.tars`, `tables` and the others.
    """

    kind: str = "auto"
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]+$")  # `source` of the rows it gives
    licence: str | None = None
    human: bool = False
    texts: dict[str, str] | None = None
    classes: list[str] = []
    images: str | None = None
    annotations: str | None = None
    column: str | None = None
    columns: list[str] = []
    boxes: str | None = None
    num_images: int | None = Field(None, ge=1)
    version: str | None = None  # of a dataset, as the next one
    labels: bool = True  # whether its rows come along
    world: str | None = None  # of synthetic scenes, as the next two
    noise: float | None = Field(None, ge=0, le=1)
    gives: list[str] = []


class MixedConfig(PartConfig):
    """One of several sources."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    weight: float = Field(1.0, gt=0)  # its share of a `--limit`, and of a training mixture


class SourceConfig(PartConfig):
    """Where the images are, in one place or several, and how they are cut into shards."""

    uri: str = "mixed"  # of `sources`, which bring their own
    sources: list[MixedConfig] = []
    shard_size: int = Field(256, ge=1, le=100_000)  # images per shard, the unit of commit and retry

    @model_validator(mode="after")
    def _refuse_both(self) -> Self:
        # values, not what was written: a resolved config spells every default out
        given = self.model_dump(exclude={"sources", "shard_size"}, exclude_defaults=True)
        if self.sources and given:
            raise ValueError(f"holds both sources and {min(given)}; give each source its own")
        if not self.sources and "uri" not in given:
            raise ValueError("has no uri; give a folder, or file://, s3:// or gs:// and a path")
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError(f"holds two sources of one name among {', '.join(names)}")
        return self

    def identity(self) -> dict[str, Any]:
        """What makes two sources the same: everything but how a bucket is reached."""
        reach = {"endpoint", "region", "anonymous"}
        same = self.model_dump(exclude={*reach, "sources"}, exclude_defaults=True)
        parts = [source.model_dump(exclude=reach, exclude_defaults=True) for source in self.sources]
        same |= {"uri": self.uri, "kind": self.kind, "shard_size": self.shard_size}
        return same | ({"sources": parts} if parts else {})


class OutputConfig(_Place):
    """Where the dataset goes, or a set of labels of some `kind`.

    `pixels: none` leaves the image bytes out of its tars, `views: false` the nested labels too.
    """

    kind: str = "auto"
    pixels: Literal["copy", "none"] = "copy"  # unless it is set, a filter copies none
    views: bool = True


class RunnerConfig(_Strict):
    """How to run: nothing here may change a data file but `batch_size` and `threads`."""

    kind: Literal["ray", "serial"] = "ray"
    address: str | None = None
    workers: dict[str, Annotated[int, Field(ge=1)] | Literal["auto"]] = {}
    # CPU threads of each worker of a specialist; default 1
    threads: dict[str, Annotated[int, Field(ge=1)]] = {}
    batch_size: int = Field(16, ge=1)
    batch_timeout_s: float = Field(300.0, gt=0)
    load_timeout_s: float = Field(900.0, gt=0)  # a first load may read gigabytes from a slow disk
    # one shard read from, or written to, a slow bucket; only a storage that hangs takes longer
    stage_timeout_s: float = Field(1_800.0, gt=0)
    shards_in_flight: int = Field(3, ge=1)  # bounds the memory of a run, with shard_size


class LimitsConfig(_Strict):
    """What is refused as an image, and how much memory one worker may take on top of its model."""

    # beyond today's cameras, and 0.8 GB decoded
    max_pixels: int = Field(200_000_000, ge=1)
    # a file that large is a scan without compression, or no photo
    max_bytes: int = Field(500_000_000, ge=1)
    # captions and boxes of one image; what is larger is no label of it
    max_label_bytes: int = Field(10_000_000, ge=1)
    worker_memory_mb: int | None = Field(None, ge=64)


class Config(_Strict):
    """Everything a run is told; `specialists` and `rules` are checked by their own builders."""

    source: SourceConfig
    output: OutputConfig
    specialists: list[dict[str, Any]] = []
    rules: list[dict[str, Any]] = []
    runner: RunnerConfig = RunnerConfig()
    limits: LimitsConfig = LimitsConfig()
    model: str | None = None  # a Florence-2 checkpoint: hub id or folder
    refine: dict[str, Any] = {}  # checked by `refinement`
    gold: PartConfig | None = None  # labels that measure and never train
    seed: int = 0

    def digest(self) -> str:
        """16 hex digits of `identity`; equal digests may share an output."""
        spelled = json.dumps(self.identity(), sort_keys=True)
        return hashlib.blake2b(spelled.encode(), digest_size=8).hexdigest()

    def identity(self) -> dict[str, Any]:
        """What makes two runs the same run: source, specialists, rules, seed and `output.pixels`.

        Never the runner, where the output lies, or when an alarm goes off.
        """
        return {
            "source": self.source.identity(),
            "specialists": [_without(entry, _PATIENCE) for entry in self.specialists],
            "rules": [_without(entry, _PATIENCE) for entry in self.rules],
            "seed": self.seed,
            "pixels": self.output.pixels,
            **({} if self.output.views else {"views": False}),
        }


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """The config of a YAML file with `a.b=value` overrides on top.

    Values of overrides are YAML; lists go by index. Where no specialist is named, an output
    that is not given is the source itself: a filter's new version lies beside the old one.

    Raises:
        ConfigError: No such file, broken YAML, an unknown key (the nearest known one is named), or
            a value of a wrong type or range.
    """
    return parse_config(
        _read_yaml(path) if path else {}, overrides, str(path) if path else "config"
    )


def parse_config(raw: Mapping[str, Any], overrides: Sequence[str], where: str) -> Config:
    """As `load_config`, from a mapping that is already read."""
    merged = json.loads(json.dumps(raw, default=str))  # a deep copy that is plain data
    for override in overrides:
        _apply(merged, override)
    if not merged.get("specialists"):
        _put_beside(merged)
    _name_null(merged.get("specialists"))
    try:
        config = _strictly(Config, merged)
    except ValidationError as err:
        raise ConfigError(f"{where}: {_first_error(err, merged, Config)}") from err
    _check_entries(config.specialists, "specialists", "kind")
    _check_entries(config.rules, "rules", "rule")
    return config


def build(cls: type[T], options: Mapping[str, Any], where: str) -> T:
    """An instance of a dataclass from options, every name and type checked.

    Raises:
        ConfigError: An option the class does not have (the nearest is named), or a wrong value.
    """
    model = _options_model(cls)
    for name in options:
        if name not in model.model_fields:
            raise ConfigError(
                f"{where}.{name} is not an option; {nearest(name, model.model_fields)}"
            )
    try:
        values = _strictly(model, options)
    except ValidationError as err:
        raise ConfigError(f"{where}.{_first_error(err, options)}") from err
    return cls(**{name: getattr(values, name) for name in model.model_fields})


def _options_model(cls: type[Any]) -> type[BaseModel]:
    """The fields of a dataclass that its constructor takes, as a model that checks their types."""
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        if field.default_factory is not dataclasses.MISSING:
            default: Any = Field(default_factory=field.default_factory)
        else:
            default = ... if field.default is dataclasses.MISSING else field.default
        fields[field.name] = (field.type, default)
    config = ConfigDict(extra="forbid", protected_namespaces=())
    model: type[BaseModel] = create_model(cls.__name__, __config__=config, **fields)
    return model


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not known: the nearest one, then all of them."""
    names = sorted(known) or ["nothing"]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names)}"


def difference(old: Any, new: Any, path: str = "") -> list[str]:
    """The places where two configurations differ, one line each: `path: old -> new`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = [*old, *(k for k in new if k not in old)]
        return [
            line
            for key in keys
            for line in difference(
                old.get(key), new.get(key), f"{path}.{key}" if path else str(key)
            )
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = zip(old, new, strict=True)
        return [line for i, (a, b) in enumerate(pairs) for line in difference(a, b, f"{path}[{i}]")]
    return [] if old == new else [f"{path}: {_show(old)} -> {_show(new)}"]


def _show(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise ConfigError(
            f"config {path}: no such file; `fld init` writes one to start from"
        ) from err
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"config {path}: cannot be read: {err}") from err
    except yaml.YAMLError as err:
        raise ConfigError(f"config {path}: not valid YAML: {' '.join(str(err).split())}") from err
    if not isinstance(raw, dict):
        raise ConfigError(
            f"config {path}: holds {type(raw).__name__}, wanted a mapping with `source:` ..."
        )
    return raw


def _apply(raw: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    if not separator or not path:
        raise ConfigError(f"override {override!r}: wanted key.subkey=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise ConfigError(f"override {override!r}: the value is not valid YAML") from err
    node: Any = raw
    steps = path.split(".")
    for depth, step in enumerate(steps):
        if not isinstance(node, (dict, list)):
            above = ".".join(steps[:depth])
            raise ConfigError(f"override {override!r}: {above} is a value, not a mapping")
        key: Any = _index(node, step, override) if isinstance(node, list) else step
        if depth == len(steps) - 1:
            node[key] = value
        elif isinstance(node, dict) and node.get(step) is None:
            node[step] = {}
        node = node[key]


def _put_beside(raw: dict[str, Any]) -> None:
    """An output that is not given is the source itself, reached the same way."""
    source = raw.get("source")
    output = raw.get("output") or {}
    if (
        isinstance(source, dict)
        and "uri" in source
        and isinstance(output, dict)
        and "uri" not in output
    ):
        reach = {name: source[name] for name in _Place.model_fields if name in source}
        raw["output"] = {**reach, **output}


def _index(items: list[Any], step: str, override: str) -> int:
    if not step.isdigit() or int(step) >= len(items):
        raise ConfigError(
            f"override {override!r}: {step!r} is no index of a list of {len(items)}; "
            f"allowed 0 to {len(items) - 1}"
        )
    return int(step)


def _without(entry: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in names}


def _name_null(entries: Any) -> None:
    """Unquoted, YAML takes the specialist named null for nothing at all."""
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and "kind" in entry and entry["kind"] is None:
            entry["kind"] = "null"


def _check_entries(entries: list[dict[str, Any]], section: str, key: str) -> None:
    for i, entry in enumerate(entries):
        value = entry.get(key)
        if not isinstance(value, str):
            raise ConfigError(
                f"{section}[{i}].{key} is missing; `fld {section}` lists what there is"
            )
    names = [str(entry.get("name", entry[key])) for entry in entries]
    for name in names:
        if not _NAME.match(name):
            raise ConfigError(
                f"{section}: name {name!r} may hold letters, digits, '_', '-' and '.' only"
            )
        if section == "specialists" and names.count(name) > 1:
            raise ConfigError(
                f"specialists: two are named {name!r}; give one of them another `name`"
            )


def _strictly(model: type[M], raw: Mapping[str, Any]) -> M:
    """The model of plain data; as JSON, because then lists are tuples and `true` is no number."""
    return model.model_validate_json(json.dumps(dict(raw)), strict=True)


def _first_error(err: ValidationError, raw: Any, model: type[BaseModel] | None = None) -> str:
    errors = err.errors()
    first = errors[0]
    steps = _steps(first, raw)
    path = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps).lstrip(".")
    if first["type"] == "extra_forbidden" and model is not None:
        return f"{path} is not a key; {nearest(str(steps[-1]), _fields_at(model, steps[:-1]))}"
    if first["type"] == "missing":
        return f"{path} is missing"
    if first["type"] == "value_error":
        return f"{path} {first['msg'].removeprefix('Value error, ')}"
    alternatives = dict.fromkeys(e["msg"] for e in errors if _steps(e, raw) == steps)
    message = " or ".join(alternatives).replace(" or Input should be", " or")
    for theirs, ours in _YAML_TERMS.items():
        message = message.replace(theirs, ours)
    return f"{path}: {message}; found {_short(first['input'])}"


def _steps(error: Any, raw: Any) -> list[int | str]:
    """Where in the raw data an error is: its path without the names of types tried in a union."""
    steps: list[int | str] = []
    for step in error["loc"]:
        if (isinstance(raw, list) and isinstance(step, int)) or (
            isinstance(raw, Mapping) and step in raw
        ):
            raw = raw[step]
        elif error["type"] != "missing" or step != error["loc"][-1]:
            continue
        steps.append(step)
    return steps


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


def _fields_at(model: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    for step in loc:
        annotation = model.model_fields[str(step)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        model = annotation
    return list(model.model_fields)

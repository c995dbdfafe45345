"""Folders that Hugging Face `datasets` writes with `save_to_disk`: which Arrow files they hold."""

import json
from typing import Any

from engine.errors import ConfigError
from engine.source.names import encode_name
from engine.source.shapes import Location, ReadError

_DICT, _STATE = "dataset_dict.json", "state.json"
_MAX_BYTES = 10_000_000  # of either; they hold names of files and splits


def saved_files(location: Location) -> list[str] | None:
    """The Arrow files of a saved dataset, those of each split in turn; null if it is none.

    Paths are relative to the location. A split that is named and missing is an error, so that
    nobody takes a part for the whole.

    Raises:
        ConfigError: One of the files that describe it is missing, broken, or names a file
            elsewhere.
    """
    if location.exists(_DICT):
        splits = _names(location, _DICT, _load(location, _DICT).get("splits"))
        return [file for split in splits for file in _files(location, f"{split}/")]
    return _files(location, "") if location.exists(_STATE) else None


def _files(location: Location, folder: str) -> list[str]:
    path = f"{folder}{_STATE}"
    listed = _load(location, path).get("_data_files")
    if not isinstance(listed, list):
        raise ConfigError(f"{location.uri!r}: {path} lists no _data_files; save the dataset again")
    names = [item.get("filename") if isinstance(item, dict) else None for item in listed]
    return [folder + name for name in _names(location, path, names)]


def _names(location: Location, path: str, names: Any) -> list[str]:
    """Plain names, none of which leads out of the folder."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{location.uri!r}: {path} holds no list of names; save it again")
    for name in names:
        if "/" in name or "\\" in name or "\0" in name or name in ("", ".", ".."):
            raise ConfigError(f"{location.uri!r}: {path} names {name!r}, which is no plain name")
    return [encode_name(name) for name in names]


def _load(location: Location, path: str) -> dict[str, Any]:
    try:
        raw = json.loads(location.read(path, max_bytes=_MAX_BYTES).data.to_pybytes())
    except ReadError as err:
        raise ConfigError(f"{location.uri!r}: {path}: {err}; give the whole saved folder") from err
    except (ValueError, RecursionError) as err:
        raise ConfigError(f"{location.uri!r}: {path} is no JSON; save the dataset again") from err
    return raw if isinstance(raw, dict) else {}

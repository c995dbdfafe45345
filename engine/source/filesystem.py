"""Opens the places a config names: folders on this machine and buckets, for input and output."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from engine.errors import ConfigError
from engine.source.bucket import Bucket
from engine.source.local import LocalFolder
from engine.source.shapes import Location, ReadError, Sample

T = TypeVar("T")

_BUCKET_SCHEMES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}
_HERE = ("", "localhost")


def open_location(
    uri: str, *, endpoint: str | None = None, region: str | None = None, anonymous: bool = False
) -> Location:
    """The place a uri names: a local path, `file://`, `s3://bucket/prefix` or `gs://bucket/prefix`.

    Nothing is read, written or asked yet. Credentials are those of the environment, as the clients
    of Amazon and Google find them.

    Args:
        uri: Where; a relative path is taken from the current folder, `~` is the home folder.
        endpoint: `http://host:port` or `https://host` of an S3 or GCS compatible server.
        region: The bucket's region; asked of AWS when null and no endpoint is set.
        anonymous: Send no credentials, for public buckets.

    Raises:
        ConfigError: Another scheme, no bucket name, credentials inside the uri, an endpoint that is
            no address, or bucket options on a local path.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme == "file":
        _refuse_bucket_options(uri, endpoint, region, anonymous)
        return _local(uri, rest if separator else None)
    if scheme.lower() not in _BUCKET_SCHEMES:
        raise ConfigError(
            f"uri scheme {scheme!r} is not known; known: file, s3, gs, or a path without a scheme"
        )
    bucket = rest.partition("/")[0]
    if "@" in bucket:  # the uri is not repeated: what stands before the @ is a secret
        raise ConfigError(
            f"a {scheme}:// uri carries credentials; take them out and set them in the environment"
        )
    if not bucket:
        raise ConfigError(f"uri {uri!r} names no bucket; write {scheme}://bucket/prefix")
    _check_endpoint(endpoint)
    root = "/".join(part for part in rest.split("/") if part)
    return Bucket(uri, _BUCKET_SCHEMES[scheme.lower()], root, endpoint, region, anonymous)


def read_each(
    location: Location, load: Callable[[T], Sample | ReadError], items: Sequence[T]
) -> Iterator[Sample | ReadError]:
    """What `load` gives for each item, in order, as many at a time as the location answers best."""
    if location.readers == 1:
        yield from map(load, items)
        return
    with ThreadPoolExecutor(location.readers) as pool:
        yield from pool.map(load, items)


def _local(uri: str, after_scheme: str | None) -> LocalFolder:
    path = uri
    if after_scheme is not None:
        host, slash, rest = after_scheme.partition("/")
        if host not in _HERE:
            raise ConfigError(
                f"uri {uri!r} names the host {host!r}; write file:///path for this machine"
            )
        path = slash + unquote(rest)
    if not path or "\0" in path:
        raise ConfigError(f"uri {uri!r} is no path; give a folder, s3://bucket or gs://bucket")
    return LocalFolder(uri, os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 (links are kept)


def _refuse_bucket_options(
    uri: str, endpoint: str | None, region: str | None, anonymous: bool
) -> None:
    given = {"endpoint": endpoint, "region": region, "anonymous": anonymous or None}
    for name, value in given.items():
        if value is not None:
            raise ConfigError(f"{name} is set, but {uri!r} is a local path; take {name} out")


def _check_endpoint(endpoint: str | None) -> None:
    if endpoint is None:
        return
    parts = urlsplit(endpoint)
    if "@" in parts.netloc:
        raise ConfigError("endpoint carries credentials; set them in the environment instead")
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path not in ("", "/"):
        raise ConfigError(f"endpoint {endpoint!r} is no server address; write http://host:port")

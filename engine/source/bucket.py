"""A bucket, or a prefix of one, on S3 or Google Cloud Storage, as a source and for outputs."""

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from engine.errors import ConfigError, EngineError, StoppedError
from engine.source.names import decode_name, encode_name
from engine.source.shapes import Blob, Entry, Opened, ReadError

# A wrong endpoint must be told within seconds; a slow answer must not be taken for one.
_CONNECT_TIMEOUT_S = 3.0
_REQUEST_TIMEOUT_S = 30.0
_ATTEMPTS = 3
_READERS = 16  # objects read at the same time: a request takes tens of milliseconds to begin
_LISTERS = 8  # folders listed at the same time: a listing waits for the network, not for the CPU
_SECOND = 1_000_000_000  # ns
_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")

# Words of the storage's answers -> cause of `engine.failures`, what is wrong, what to do.
_ANSWERS = (
    (
        r"PERMANENTREDIRECT|HTTP STATUS 301|AUTHORIZATIONHEADERMALFORMED",
        ("unreadable", "the bucket is in another region", "set region"),
    ),
    (
        r"ACCESS_DENIED|INVALID_ACCESS_KEY|INVALID_CLIENT_TOKEN|SIGNATURE|HTTP STATUS 40[13]"
        r"|PERMISSION_DENIED|UNAUTHENTICATED|OAUTH2|ACCESS DENIED",
        (
            "permission_denied",
            "the storage refuses access",
            "check the credentials in the environment, or set anonymous=true for a public bucket",
        ),
    ),
    (
        r"NO_SUCH|RESOURCE_NOT_FOUND|NOT_FOUND|DOES NOT EXIST|HTTP STATUS 404",
        ("missing", "there is nothing of that name", "check bucket and prefix"),
    ),
    (
        r"NETWORK_CONNECTION|CURL|UNAVAILABLE|TIMED? ?OUT|ENDPOINT_RESOLUTION",
        ("unreadable", "the storage cannot be reached", "check endpoint, region and the network"),
    ),
)
_OTHER_ANSWER = ("unreadable", "the storage answered with an error", "try again later")


@dataclass(frozen=True)
class Bucket:
    """A `Location` in an object store; `root` is "bucket" or "bucket/prefix".

    Credentials come from the environment of whoever uses it, so pickling carries none.
    """

    uri: str
    scheme: str
    root: str
    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False

    def walk(self) -> Iterator[Entry]:
        """Everything below, sorted by uri; see `Location`. Modification times are whole seconds."""
        with ThreadPoolExecutor(_LISTERS) as pool:
            try:
                yield from self._walk(self._infos(""), pool)
            finally:  # a limit stops the walk early: nobody waits for listings nobody reads
                pool.shutdown(wait=True, cancel_futures=True)

    def names(self, folder: str = "") -> list[str]:
        """Names of the files in `folder`, hidden ones left out, sorted; none when it is missing."""
        infos = self._infos(folder.rstrip("/"), missing_ok=True)
        files = (info.base_name for info in infos if info.is_file)
        return sorted(encode_name(name) for name in files if not name.startswith("."))

    @property
    def readers(self) -> int:
        """Many: each request waits for the net."""
        return _READERS

    def leads_out(self, path: str) -> bool:
        """Never: a bucket has no links; see `Location`."""
        return False

    def open(self, path: str) -> Opened:
        """The object, open for reading at any place; see `Location`."""
        try:
            file = self._filesystem().open_input_file(self._key(path))
            return Opened(file, file.size(), self._modified(path, file))
        except OSError as err:
            raise self._unread(err) from err

    def read(self, path: str, *, max_bytes: int | None = None) -> Blob:
        """The whole object, in two requests; see `Location`."""
        try:
            with self._filesystem().open_input_file(self._key(path)) as file:
                size = file.size()
                if max_bytes is not None and size > max_bytes:
                    raise ReadError(
                        "too_many_bytes", f"{size} bytes, limits.max_bytes is {max_bytes}"
                    )
                return Blob(file.read_buffer(), self._modified(path, file))
        except OSError as err:
            raise self._unread(err) from err

    def read_head(self, path: str, num_bytes: int) -> bytes:
        """The first bytes of the object; see `Location`."""
        try:
            with self._filesystem().open_input_file(self._key(path)) as file:
                return bytes(file.read(num_bytes))
        except OSError as err:
            raise self._unread(err) from err

    def write(self, path: str, data: bytes | memoryview | pa.Buffer) -> None:
        """Uploads in one piece, then checks what arrived; see `Location`.

        The stream is not a context manager here: leaving one on an error would complete the upload
        of whatever came before it.
        """
        key, filesystem = self._key(path), self._filesystem()
        size = len(memoryview(data))
        try:
            stream = filesystem.open_output_stream(key)
            stream.write(data)
            stream.close()
            arrived = filesystem.get_file_info(key).size
        except OSError as err:
            raise self._refusal(err, f"cannot write {path!r}") from err
        if arrived != size:
            raise StoppedError(
                f"{self.uri!r}: wrote {size} bytes to {path!r}, {arrived} arrived; "
                "run the same command"
            )

    def exists(self, path: str) -> bool:
        """Whether there is an object of that name; see `Location`."""
        try:
            return bool(self._filesystem().get_file_info(self._key(path)).is_file)
        except OSError as err:
            raise self._refusal(err, f"cannot look for {path!r}") from err

    def delete(self, path: str) -> None:
        """Removes the object; see `Location`."""
        try:
            self._filesystem().delete_file(self._key(path))
        except FileNotFoundError:
            return
        except OSError as err:
            raise self._refusal(err, f"cannot delete {path!r}") from err

    def _filesystem(self) -> fs.FileSystem:
        bucket = self.root.partition("/")[0]
        return _connect(self.scheme, self.endpoint, self.region, self.anonymous, bucket)

    def _key(self, path: str) -> str:
        return f"{self.root}/{decode_name(path)}" if path else self.root

    def _infos(self, folder: str, *, missing_ok: bool = False) -> list[fs.FileInfo]:
        selector = fs.FileSelector(self._key(folder), allow_not_found=missing_ok)
        try:
            infos: list[fs.FileInfo] = self._filesystem().get_file_info(selector)
        except OSError as err:
            raise self._refusal(err, "cannot be listed") from err
        return infos

    def _walk(self, infos: list[fs.FileInfo], pool: ThreadPoolExecutor) -> Iterator[Entry]:
        """One folder's entries; folders below it are listed ahead, a few at a time."""
        named = sorted((self._uri(info), info) for info in infos)
        folders = [uri for uri, _ in named if uri.endswith("/") and not _is_hidden(uri)]
        below = pool.map(lambda uri: self._infos(uri.rstrip("/"), missing_ok=True), folders)
        for uri, info in named:
            if _is_hidden(uri):
                yield Entry(uri, ignored="hidden folder" if uri.endswith("/") else "hidden file")
            elif uri.endswith("/"):
                yield from self._walk(next(below), pool)
            else:
                yield Entry(uri, info.size, info.mtime_ns // _SECOND * _SECOND)

    def _uri(self, info: fs.FileInfo) -> str:
        """Relative to the root; a folder ends in "/", which sorts it where its files belong."""
        return encode_name(info.path[len(self.root) + 1 :]) + "/" * (not info.is_file)

    def _modified(self, path: str, file: pa.NativeFile) -> int | None:
        """Whole seconds: what a listing and a single answer of every store agree on."""
        stated = (file.metadata() or {}).get(b"Last-Modified")
        if stated is None:
            modified = self._filesystem().get_file_info(self._key(path)).mtime_ns
            return None if modified is None else modified // _SECOND * _SECOND
        return int(datetime.fromisoformat(stated.decode()).timestamp()) * _SECOND

    def _unread(self, err: OSError) -> ReadError:
        (cause, wrong, _), said = _explain(err)
        return ReadError(cause, f"{wrong}: {said}")

    def _refusal(self, err: OSError, what: str) -> EngineError:
        (cause, wrong, advice), said = _explain(err)
        kind = (
            StoppedError
            if what.startswith("cannot write") and cause == "unreadable"
            else ConfigError
        )
        return kind(f"{self.uri!r}: {what}: {wrong} ({said}); {advice}")


@lru_cache(maxsize=16)
def _connect(
    scheme: str, endpoint: str | None, region: str | None, anonymous: bool, bucket: str
) -> fs.FileSystem:
    """One client per process and bucket. Nothing is sent, save to find an AWS bucket's region."""
    host = urlsplit(endpoint) if endpoint else None
    try:
        if scheme == "gs":
            return fs.GcsFileSystem(
                anonymous=anonymous,
                scheme=host.scheme if host else None,
                endpoint_override=host.netloc if host else None,
                retry_time_limit=timedelta(seconds=_REQUEST_TIMEOUT_S / _ATTEMPTS),
            )
        elsewhere = (
            host or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        )
        if region is None and not elsewhere:
            region = fs.resolve_s3_region(bucket)
        return fs.S3FileSystem(
            anonymous=anonymous,
            region=region,
            scheme=host.scheme if host else None,
            endpoint_override=host.netloc if host else None,
            allow_delayed_open=True,  # a small object is then one request
            connect_timeout=_CONNECT_TIMEOUT_S,
            request_timeout=_REQUEST_TIMEOUT_S,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        )
    except OSError as err:
        (_, wrong, advice), said = _explain(err)
        raise ConfigError(f"'{scheme}://{bucket}': {wrong} ({said}); {advice}") from err


def _explain(err: OSError) -> tuple[tuple[str, str, str], str]:
    """What an answer of the storage means, and its words without secrets and random ids."""
    said = re.sub(
        r" ?\(Request ID: \w*\)|\[Errno \d+\] ", "", re.sub(r"\s+", " ", str(err)).strip()
    )
    for name in _SECRETS:
        if os.environ.get(name):
            said = said.replace(os.environ[name], f"<{name}>")
    for pattern, meaning in _ANSWERS:
        if re.search(pattern, said.upper()):
            return meaning, said[:300]
    return _OTHER_ANSWER, said[:300]


def _is_hidden(uri: str) -> bool:
    return uri.rstrip("/").rpartition("/")[2].startswith(".")

"""Which image a uri of a table means: a path below the folder of the images, or a refusal."""

import re
from dataclasses import dataclass
from urllib.parse import unquote

from engine.source.bucket import Bucket
from engine.source.images import EXTENSIONS
from engine.source.local import LocalFolder
from engine.source.names import encode_name, extension
from engine.source.shapes import Location, ReadError

# Most uris are such a path and mean what they say; there may be millions.
_PLAIN = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*/)*[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SCHEMES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "file": "file"}
_MAX_LENGTH = 4096  # characters; longer than any path, so it holds something else
_HERE = ("", "localhost")


@dataclass(frozen=True)
class Root:
    """Where the images of a table are: a scheme (`file` for a local path) and an absolute path."""

    scheme: str
    path: str

    def path_of(self, uri: str) -> str:
        """The path below the root that a uri means, spelled as `encode_name` does.

        A relative uri is looked up below the root; an absolute one has to start with it. Parts that
        are empty or "." go, so that one file has one spelling. No message repeats the uri: it may
        hold a password.

        Raises:
            ReadError: `unsafe_path` for a web address and for all that leads or may lead elsewhere,
                `missing` for what names no file.
        """
        if len(uri) <= _MAX_LENGTH and _PLAIN.fullmatch(uri):
            return uri
        uri = uri.strip(" ")
        if _CONTROL.search(uri):
            raise ReadError("unsafe_path", "the uri holds a control character; it is not followed")
        if len(uri) > _MAX_LENGTH:
            raise ReadError("unsafe_path", f"the uri is longer than {_MAX_LENGTH} characters")
        parts = [part for part in self._relative(uri).split("/") if part not in ("", ".")]
        if ".." in "/".join(parts).replace("\\", "/").split("/"):
            raise ReadError("unsafe_path", "the uri leads upwards ('..'); it is not followed")
        if not parts:
            raise ReadError("missing", "the uri names no file")
        return encode_name("/".join(parts))

    def _relative(self, uri: str) -> str:
        before, scheme, rest = uri.partition("://")
        if not scheme and not uri.startswith("/"):
            return uri
        if before.lower() in ("http", "https", "ftp"):
            raise ReadError(
                "unsafe_path",
                "the uri is a web address, and nothing is fetched; download the images first, "
                "then set source.images to their folder",
            )
        kind, path = "file", uri
        if scheme:
            kind, path = _SCHEMES.get(before.lower(), before), rest
        if scheme and kind == "file":
            host, slash, path = rest.partition("/")
            path = slash + unquote(path) if host in _HERE else ""
        inside = f"{self.path.rstrip('/')}/"
        if kind != self.scheme or not path.startswith(inside):
            raise ReadError("unsafe_path", "the uri leads out of source.images; it is not followed")
        return path[len(inside) :]


def root_of(location: Location) -> Root:
    """The root that uris of a table are looked up below."""
    if isinstance(location, Bucket):
        return Root(location.scheme, location.root)
    assert isinstance(location, LocalFolder), location  # there is no third
    return Root("file", location.root)


def is_image_uri(text: str) -> bool:
    """Whether a cell looks like the uri of an image, not like words: it tells data from a header.

    Example:
        >>> is_image_uri("https://h/a"), is_image_uri("b/c.JPG"), is_image_uri("a cat.")
        (True, True, False)
    """
    text = text.strip()
    is_address = re.match(r"[a-z0-9+]+://\S+$", text, re.IGNORECASE) is not None
    return is_address or extension(text) in EXTENSIONS

"""Why an image, or a specialist on an image, gave nothing: a fixed list of stages and causes."""

import re
from typing import NamedTuple

STAGES = ("read", "decode", "labels", "annotate")

# Every cause with its meaning. Adding one is a change of the dataset format.
CAUSES: dict[str, str] = {
    # read: the bytes never arrived
    "missing": "listed in the plan, gone when read",
    "changed": "size or modification time differ from the plan",
    "permission_denied": "no right to read it",
    "special_file": "a pipe, socket or device, not a regular file",
    "unreadable": "the storage answered with an error",
    "empty": "zero bytes",
    "too_many_bytes": "larger than limits.max_bytes",
    "unsafe_path": "a name that leads out of its archive or source; it is not followed",
    "broken_archive": "an archive or table that cannot be read past this point",
    # decode: the bytes are not an image we can read
    "not_an_image": "binary content that no image decoder knows",
    "text_file": "plain text under an image's name",
    "html_page": "a web page, usually a saved error page",
    "pointer_file": "a Git LFS or similar pointer instead of the image",
    "all_zeros": "only zero bytes, as a crash or a sparse copy leaves behind",
    "svg": "vector graphics",
    "document": "PDF or PostScript",
    "video": "a video container",
    "archive": "a zip, gzip or tar file",
    "unsupported_format": "an image format the engine does not read",
    "truncated": "the file ends before the picture does",
    "no_pixels": "a header without picture data",
    "bad_header": "a header whose fields contradict the format",
    "bad_checksum": "a chunk whose checksum does not match",
    "corrupt": "picture data the decoder cannot follow",
    "zero_size": "a width or height of zero",
    "too_many_pixels": "more than limits.max_pixels, or a decompression bomb",
    "unsupported_mode": "a pixel layout or compression the decoder lacks",
    # labels: what the source says of an image cannot be taken as rows; the image itself is fine
    "not_json": "labels that are not valid JSON or text",
    "bad_labels": "labels of another shape than their format has",
    "too_many_labels": "labels larger than limits.max_label_bytes",
    "unknown_image": "labels of an image that the set does not list",
    "unknown_category": "a label whose class the set does not list",
    "duplicate_id": "an id that another label of the set bears too",
    # annotate: one specialist failed on this image
    "raised": "the specialist raised an error",
    "timeout": "the specialist did not answer within runner.batch_timeout_s",
    "out_of_memory": "the specialist asked for more memory than it may have",
    "refused": "the service answered with an error, after all tries",
    "bad_answer": "the service answered something else than was asked for",
    "worker_died": "the process of the specialist died twice on this image",
    "bad_rows": "the specialist returned rows that break the table's rules",
}

_MAX_MESSAGE = 300  # characters; enough for any library's first line
_SCRUBBERS = (
    (re.compile(r"0x[0-9a-fA-F]+"), "0x.."),  # object addresses differ from run to run
    (re.compile(r"(?:[a-z][a-z0-9+]*://)[^\s'\"]+"), "<uri>"),  # may carry credentials
    (re.compile(r"(?<![\w.])/(?:[^\s'\"/:]+/)+"), ".../"),  # machine paths
    (re.compile(r"\s+"), " "),
)


class Failure(NamedTuple):
    """One failure of one image; `source` is the specialist's name, null before `annotate`."""

    stage: str
    source: str | None
    cause: str
    message: str


def fail(stage: str, cause: str, message: object = "", *, source: str | None = None) -> Failure:
    """A failure with a known stage and cause, its message scrubbed of paths and addresses.

    Example:
        >>> fail("decode", "corrupt", "bad marker in /home/ann/a.jpg at 0x7f3a").message
        'bad marker in .../a.jpg at 0x..'
    """
    assert stage in STAGES, stage
    assert cause in CAUSES, cause
    return Failure(stage, source, cause, scrub(str(message)))


def scrub(message: str) -> str:
    """The message without machine paths, URIs, addresses, line breaks; at most 300 characters."""
    for pattern, replacement in _SCRUBBERS:
        message = pattern.sub(replacement, message)
    return message.strip()[:_MAX_MESSAGE]

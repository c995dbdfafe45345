"""Builds a folder of files that break image pipelines, and the verdict each of them must get.

Every file is made here from code: no broken file of anybody else is needed. `build` writes the
folder, `disturb` does what happens between planning and reading.
"""

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

MAX_PIXELS = 3_000_000
MAX_BYTES = 400_000


class Verdict(NamedTuple):
    status: str
    stage: str | None = None
    cause: str | None = None


OK = Verdict("ok")
DUPLICATE = Verdict("duplicate")


def read(cause: str) -> Verdict:
    return Verdict("failed", "read", cause)


def decode(cause: str) -> Verdict:
    return Verdict("failed", "decode", cause)


def photo(width: int = 96, height: int = 64, seed: int = 0) -> Image.Image:
    """A smooth coloured picture with some noise, so that every encoder has work to do."""
    noise = np.random.default_rng(seed).integers(0, 40, (height, width, 3))
    x, y = np.linspace(0, 200, width), np.linspace(0, 200, height)[:, None]
    waves = np.stack([x + 0 * y, y + 0 * x, (x + y) / 2], axis=-1)
    return Image.fromarray((waves + noise).astype(np.uint8))


def encoded(picture: Image.Image, image_format: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, image_format, **options)
    return out.getvalue()


def png_chunk(name: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)


def png(width: int, height: int, *chunks: bytes, bits: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + b"".join(chunks)


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    return block


def jpeg_frame(jpeg: bytes) -> int:
    """Where the frame header (SOF0) starts."""
    return jpeg.index(b"\xff\xc0")


_END = png_chunk(b"IEND", b"")
_HTML = b"\n<!DOCTYPE html>\n<html><body>404</body></html>"
_SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>'
_LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
_HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def broken_files() -> dict[str, tuple[bytes, Verdict]]:
    """Files whose bytes alone decide: name -> (bytes, verdict)."""
    jpeg = encoded(photo(), "JPEG", quality=90)
    whole_png = encoded(photo(), "PNG")
    body = whole_png.index(b"IDAT") + 4
    frame = jpeg_frame(jpeg)
    bmp = encoded(photo(), "BMP")
    gif = encoded(photo(), "GIF")
    webp = encoded(photo(), "WEBP")
    tiff = encoded(photo(), "TIFF")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.jpg", jpeg)
    spoilt = patched(whole_png, body + 40, b"\xa5" * 200)
    length = struct.unpack(">I", whole_png[body - 8 : body - 4])[0]
    resealed = struct.pack(">I", zlib.crc32(spoilt[body - 4 : body + length]))
    return {
        "empty.jpg": (b"", read("empty")),
        "noise.jpg": (bytes([7, 1, 200, 3, 128, 0, 255, 9]) * 64, decode("not_an_image")),
        "audio.jpg": (b"ID3\x04\0\0\0\0\0\x23" + bytes(300), decode("not_an_image")),
        "notes.jpg": (b"To do: take photos.\n" * 9, decode("text_file")),
        "umlaut.jpg": ("Bilder f\u00fcr sp\u00e4ter\n".encode() * 300, decode("text_file")),
        "windows.jpg": ("Bilder\r\n".encode("utf-16"), decode("text_file")),
        "bm-prose.bmp": (b"BMW is a car maker in Munich.", decode("text_file")),
        "denied.png": (b"<?xml version='1.0'?><Error>AccessDenied</Error>", decode("text_file")),
        "login.jpg": (_HTML, decode("html_page")),
        "lfs.png": (_LFS, decode("pointer_file")),
        "annex.png": (b"/annex/objects/SHA256E-s9--00.png\n", decode("pointer_file")),
        "zeros.jpg": (bytes(5000), decode("all_zeros")),
        "drawing.png": (_SVG, decode("svg")),
        "paper.jpg": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", decode("document")),
        "script.jpg": (b"%!PS-Adobe-3.0\n", decode("document")),
        "clip.gif": (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2", decode("video")),
        "clip.jpg": (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01", decode("video")),
        "zip.jpg": (archive.getvalue(), decode("archive")),
        "gzip.png": (b"\x1f\x8b\x08\0\0\0\0\0", decode("archive")),
        "phone.jpg": (_HEIC, decode("unsupported_format")),
        "layers.png": (b"8BPS\0\x01" + bytes(40), decode("unsupported_format")),
        "jxl.jpg": (b"\xff\x0a\xfa\x1f\x01", decode("unsupported_format")),
        "jp2.jpg": (b"\0\0\0\x0cjP  \r\n\x87\n", decode("unsupported_format")),
        "portable.png": (b"P6\n2 2\n255\n" + bytes(12), decode("unsupported_format")),
        "raw.tif": (b"II*\0\x10\0\0\0CR\x02\0" + bytes(40), decode("unsupported_format")),
        "half.jpg": (jpeg[: len(jpeg) // 2], decode("truncated")),
        "start.jpg": (jpeg[:40], decode("truncated")),
        "three-bytes.jpg": (jpeg[:3], decode("truncated")),
        "no-end.jpg": (jpeg[:-2], decode("truncated")),
        "half.png": (whole_png[: len(whole_png) // 2], decode("truncated")),
        "start.png": (whole_png[:20], decode("truncated")),
        "half.gif": (gif[: len(gif) // 2], decode("truncated")),
        "half.bmp": (bmp[: len(bmp) // 2], decode("truncated")),
        "half.webp": (webp[: len(webp) // 2], decode("truncated")),
        "half.tif": (tiff[: len(tiff) // 2], decode("truncated")),
        "no-scan.jpg": (jpeg[: jpeg.index(b"\xff\xda")] + b"\xff\xd9", decode("no_pixels")),
        "no-data.png": (png(8, 8, _END), decode("no_pixels")),
        "no-frame.gif": (gif[:6] + b"\x08\0\x08\0\0\0\0\x3b", decode("no_pixels")),
        "no-rows.bmp": (bmp[:54], decode("no_pixels")),
        "text-mode.png": (whole_png.replace(b"\r\n", b"\n", 1), decode("bad_header")),
        "bits.png": (png(8, 8, png_chunk(b"IDAT", b"x"), _END, bits=5), decode("bad_header")),
        "segment.jpg": (patched(jpeg, 4, b"\0\x08"), decode("bad_header")),
        "flipped.png": (patched(whole_png, body + 60, b"\xa5\xa5"), decode("bad_checksum")),
        "ihdr.png": (patched(whole_png, 19, b"\x61"), decode("bad_checksum")),
        "resealed.png": (patched(spoilt, body + length, resealed), decode("corrupt")),
        "tables.jpg": (
            patched(jpeg, jpeg.index(b"\xff\xc4") + 4, b"\0" + b"\xff" * 16),
            decode("corrupt"),
        ),
        "payload.webp": (patched(webp, 30, b"\x5a" * 60), decode("corrupt")),
        "zero.png": (png(0, 8, png_chunk(b"IDAT", b"x"), _END), decode("zero_size")),
        "zero.jpg": (patched(jpeg, frame + 5, b"\0\0"), decode("zero_size")),
        "zero.gif": (b"GIF89a\0\0\0\0\0\0\0\x3b", decode("zero_size")),
        "zero.bmp": (patched(bmp, 18, bytes(4)), decode("zero_size")),
        "bomb.png": (png(60000, 60000, png_chunk(b"IDAT", b"x"), _END), decode("too_many_pixels")),
        "bomb.jpg": (patched(jpeg, frame + 5, b"\xff\xdc\xff\xdc"), decode("too_many_pixels")),
        "bomb.gif": (patched(gif, 6, b"\xff\xff\xff\xff"), decode("too_many_pixels")),
        "bomb.bmp": (patched(bmp, 18, struct.pack("<ii", 50000, 50000)), decode("too_many_pixels")),
        "bomb.webp": (
            b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xfe\x3f\0\xfe\x3f\0ANIM",
            decode("too_many_pixels"),
        ),
        "just-over.png": (encoded(Image.new("1", (1733, 1733)), "PNG"), decode("too_many_pixels")),
        "float.tif": (encoded(Image.new("F", (8, 8), 0.5), "TIFF"), decode("unsupported_mode")),
        "lab.tif": (encoded(Image.new("LAB", (8, 8)), "TIFF"), decode("unsupported_mode")),
        "twelve-bit.jpg": (patched(jpeg, frame + 4, b"\x0c"), decode("unsupported_mode")),
        "depth.bmp": (patched(bmp, 28, b"\x05"), decode("unsupported_mode")),
        "large.bmp": (encoded(photo(500, 300), "BMP"), read("too_many_bytes")),
    }


def odd_files() -> dict[str, tuple[bytes, Verdict]]:
    """Files that look wrong and are fine."""
    jpeg = encoded(photo(seed=1), "JPEG")
    wide = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    animation = [photo(32, 32, seed) for seed in range(3)]
    transparent = photo(40, 40, 5).convert("RGBA")
    transparent.putalpha(128)
    palette = photo(40, 40, 6).quantize(16)
    bad_exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"
    files = {
        "plain.jpg": jpeg,
        "UPPER.JPG": encoded(photo(seed=2), "JPEG"),
        "no-extension": encoded(photo(seed=3), "PNG"),
        "really-png.jpg": encoded(photo(seed=4), "PNG"),
        "really-webp.gif": encoded(photo(seed=4), "WEBP"),
        "trailing.jpg": jpeg + b"trailing bytes of a phone",
        "progressive.jpg": encoded(photo(seed=7), "JPEG", progressive=True),
        "grey.jpg": encoded(photo(seed=8).convert("L"), "JPEG"),
        "cmyk.jpg": encoded(photo(seed=9).convert("CMYK"), "JPEG"),
        "turned.jpg": encoded(photo(seed=10), "JPEG", exif=exif(6)),
        "turned.tif": encoded(photo(seed=10), "TIFF", exif=exif(6)),
        "turned.png": encoded(photo(seed=10), "PNG", exif=exif(8)),
        "turned.webp": encoded(photo(seed=10), "WEBP", exif=exif(3)),
        "bad-exif.jpg": encoded(photo(seed=11), "JPEG", exif=bad_exif),
        "one-pixel.png": encoded(photo(1, 1), "PNG"),
        "one-pixel.jpg": encoded(photo(1, 1), "JPEG"),
        "one-pixel.gif": encoded(photo(1, 1), "GIF"),
        "ribbon.jpg": encoded(photo(4000, 1), "JPEG"),
        "ribbon.png": encoded(photo(1, 4000), "PNG"),
        "just-under.png": encoded(Image.new("1", (1732, 1732)), "PNG"),
        "wide.png": encoded(Image.fromarray(wide), "PNG"),
        "wide.tif": encoded(Image.fromarray(wide), "TIFF"),
        "bilevel.tif": encoded(photo(seed=12).convert("1"), "TIFF", compression="group4"),
        "lzw.tif": encoded(photo(seed=13), "TIFF", compression="tiff_lzw"),
        "transparent.png": encoded(transparent, "PNG"),
        "palette.png": encoded(palette, "PNG", transparency=0),
        "palette.bmp": encoded(palette, "BMP"),
        "moving.gif": encoded(animation[0], "GIF", save_all=True, append_images=animation[1:]),
        "moving.webp": encoded(animation[0], "WEBP", save_all=True, append_images=animation[1:]),
        "moving.png": encoded(animation[0], "PNG", save_all=True, append_images=animation[1:]),
        "pages.tif": encoded(animation[0], "TIFF", save_all=True, append_images=animation[1:]),
        "with space.jpg": encoded(photo(seed=14), "JPEG"),
        "dots.in.name.jpg": encoded(photo(seed=15), "JPEG"),
        "quote'\".jpg": encoded(photo(seed=16), "JPEG"),
        "new\nline.jpg": encoded(photo(seed=17), "JPEG"),
        "back\\slash.jpg": encoded(photo(seed=18), "JPEG"),
        "per%20cent.jpg": encoded(photo(seed=19), "JPEG"),
        "r\u00e9sum\u00e9.jpg": encoded(photo(seed=20), "JPEG"),
        "\u56fe\u7247.jpg": encoded(photo(seed=21), "JPEG"),
        "\U0001f408.jpg": encoded(photo(seed=22), "JPEG"),
        os.fsdecode(b"latin-\xe9.jpg"): encoded(photo(seed=23), "JPEG"),
        "a" * 240 + ".jpg": encoded(photo(seed=24), "JPEG"),
        "x.tar.gz.jpg": encoded(photo(seed=25), "JPEG"),
        "folder.jpg/inner.jpg": encoded(photo(seed=26), "JPEG"),
        "dog.jpg": encoded(photo(seed=27), "JPEG"),
        "dog.png": encoded(photo(seed=27), "PNG"),
        "sub/dog.jpg": encoded(photo(seed=28), "JPEG"),
    }
    return {name: (data, OK) for name, data in files.items()}


def build(folder: Path) -> dict[str, Verdict]:
    """Writes the folder; returns the verdict of every candidate in it, by path.

    `permission_denied` is only there for users that permissions bind, so not for root.
    """
    expected = {}
    for name, (data, verdict) in (broken_files() | odd_files()).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        expected[name] = verdict
    jpeg = (folder / "plain.jpg").read_bytes()
    for name, verdict in {
        "plain_copy.jpg": DUPLICATE,
        "goes.jpg": read("missing"),
        "grows.jpg": read("changed"),
        "touched.jpg": read("changed"),
    }.items():
        (folder / name).write_bytes(jpeg)
        expected[name] = verdict
    os.mkfifo(folder / "pipe.jpg")
    expected["pipe.jpg"] = read("special_file")
    _build_links(folder, expected)
    if os.geteuid() != 0:
        (folder / "private.jpg").write_bytes(jpeg)
        (folder / "private.jpg").chmod(0)
        expected["private.jpg"] = read("permission_denied")
    return expected


def _build_links(folder: Path, expected: dict[str, Verdict]) -> None:
    (folder / "plain_link.jpg").symlink_to("plain.jpg")
    expected["plain_link.jpg"] = DUPLICATE
    (folder / "link-to-nothing.jpg").symlink_to("nowhere.jpg")
    expected["link-to-nothing.jpg"] = read("missing")
    (folder / "link-to-itself.jpg").symlink_to("link-to-itself.jpg")
    expected["link-to-itself.jpg"] = read("unreadable")
    (folder / "link-outside.jpg").symlink_to("/etc/hostname")
    (folder / "link-folder").symlink_to("sub")
    (folder / "sub" / "link-up").symlink_to("..")


# What is in the folder and is no candidate, by reason.
IGNORED = {
    "extension .txt": 1,
    "hidden file": 1,
    "hidden folder": 1,
    "link out of the folder": 1,
    "link to a folder": 2,
    "no extension, no image inside": 1,
    "no extension, special_file": 1,
}


def build_ignored(folder: Path) -> None:
    """Adds what IGNORED counts, beside the links of `build`."""
    (folder / "readme.txt").write_text("about these images")
    (folder / "LICENSE").write_text("public domain")
    (folder / ".hidden.jpg").write_bytes(b"x")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "thumb.jpg").write_bytes(b"x")
    os.mkfifo(folder / "pipe")


def disturb(folder: Path) -> None:
    """What happens between planning and reading."""
    (folder / "goes.jpg").unlink()
    with (folder / "grows.jpg").open("ab") as file:
        file.write(b"more")
    facts = (folder / "touched.jpg").stat()
    os.utime(folder / "touched.jpg", ns=(facts.st_atime_ns, facts.st_mtime_ns + 5_000_000_000))

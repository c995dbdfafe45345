"""Input of the benchmarks: folders of distinct pictures, made anew for each run."""

from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

_DETAIL = 8  # px per blob of colour: compresses about as a photo does (some 90 kB at 640 x 480)


def make_pictures(folder: Path, count: int, width: int, height: int) -> Path:
    """`count` distinct JPEGs of soft coloured blobs, 1,000 in a folder."""
    shape = (max(height // _DETAIL, 2), max(width // _DETAIL, 2), 3)
    rng = np.random.default_rng(0)
    for i in range(count):
        blobs = PillowImage.fromarray(rng.integers(0, 256, shape, np.uint8))
        picture = blobs.resize((width, height), PillowImage.Resampling.BILINEAR)
        path = _path(folder, i)
        picture.save(path, "JPEG", quality=90)
    return folder


def repeat_photos(photos: Path, folder: Path, count: int) -> Path:
    """The JPEGs of `photos` over and over, each with its number after the picture's end.

    Bytes after the end change no pixel, and keep repetitions from being duplicates.
    """
    contents = [path.read_bytes() for path in sorted(photos.glob("*.jpg"))]
    for i in range(count):
        _path(folder, i).write_bytes(contents[i % len(contents)] + i.to_bytes(8))
    return folder


def _path(folder: Path, number: int) -> Path:
    path = folder / f"{number // 1000:04d}" / f"{number:08d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path

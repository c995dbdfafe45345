"""Numbers about a picture that rules judge later without decoding it again."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

HASH_SIDE = 32  # px, of the picture the perceptual hash looks at
_KEPT = 8  # lowest frequencies per axis, 64 bits together
_ROUNDING = 2  # decimals; keeps the last bit of a sum of floats out of a blank picture's hash


def _cosines() -> npt.NDArray[np.float64]:
    """The lowest rows of the orthonormal DCT-II matrix of HASH_SIDE points, shape (8, 32)."""
    frequency, place = np.mgrid[0:_KEPT, 0:HASH_SIDE]
    basis = np.cos(np.pi * frequency * (2 * place + 1) / (2 * HASH_SIDE))
    scale = np.where(frequency == 0, np.sqrt(1 / HASH_SIDE), np.sqrt(2 / HASH_SIDE))
    return np.asarray(basis * scale)


_COSINES = _cosines()


def hash_picture(thumbnail: PillowImage.Image) -> npt.NDArray[np.uint8]:
    """What `perceptual_hashes` takes of a grey thumbnail: shape (32, 32), aspect not kept."""
    small = thumbnail.resize((HASH_SIDE, HASH_SIDE), PillowImage.Resampling.BILINEAR)
    return np.asarray(small)


def perceptual_hashes(pictures: Sequence[npt.NDArray[np.uint8]]) -> list[str]:
    """64-bit DCT hash of each grey 32 x 32 picture, 16 hex digits; no pictures, no hashes.

    The 8 x 8 lowest frequencies of the two-dimensional DCT-II, the constant one included; a bit is
    set where the coefficient is above the median of the 64, row by row, the highest bit first (the
    scheme of Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010).
    Small edits change few bits: compare by Hamming distance.
    """
    if not pictures:
        return []
    grey = np.stack(pictures).astype(np.float64)
    frequencies = np.round(_COSINES @ grey @ _COSINES.T, _ROUNDING).reshape(len(pictures), -1)
    bits = frequencies > np.median(frequencies, axis=1, keepdims=True)
    return [row.tobytes().hex() for row in np.packbits(bits, axis=1)]


def sharpness(thumbnail: PillowImage.Image) -> float:
    """Variance of the Laplacian (4 neighbours, inner pixels) of a grey thumbnail; 0 is flat.

    In squared grey levels, below 100 typically blurred. The measure of Pech-Pacheco et al., "Diatom
    autofocusing in brightfield microscopy", 2000. A picture under 3 px on a side has no inner
    pixels and gives 0. All sums are of whole numbers, so every CPU gives the same.
    """
    grey = np.asarray(thumbnail).astype(np.int16)
    if min(grey.shape) < 3:  # noqa: PLR2004 (the kernel's width)
        return 0.0
    inner = (
        4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    )
    values = inner.ravel().astype(np.int64)
    # Not `values @ values` in floats: a threaded BLAS costs milliseconds when the cores are taken.
    squares = int(np.einsum("i,i->", values, values))
    mean = int(values.sum()) / values.size
    return squares / values.size - mean * mean


def contrast(thumbnail: PillowImage.Image) -> float:
    """Standard deviation of the grey levels of a thumbnail, 0 (blank) to 127.5."""
    counts = np.asarray(thumbnail.histogram(), np.float64)
    levels = np.arange(counts.size)
    total = counts.sum()
    mean = counts @ levels / total
    return float(np.sqrt(max(counts @ levels**2 / total - mean * mean, 0.0)))

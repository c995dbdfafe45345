"""Detectors and segmenters that ultralytics loads (`pip install 'fld-engine[yolo]'`, AGPL-3.0).

A `.pt` file is a Python pickle and runs code when it is opened: one is loaded only when the config
names it. Exports (`.onnx`, an OpenVINO folder) run none.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.errors import ConfigError, SpecialistError
from engine.protocols import Image, Need, Replaces, Resources
from engine.schema import claims, empty_claims
from specialists.needs import cache_folder, package_need, refuse_missing, revision_of
from specialists.threads import (
    device_resources,
    onnxruntime_threads,
    openvino_threads,
    thread_count,
)

# Names that stand for weights of this project.
_OWN_WEIGHTS = {"shapes": Path(__file__).parent / "weights" / "shapes" / "shapes.onnx"}
_OPENVINO = (
    "_openvino_model"  # ultralytics knows an OpenVINO export by the end of its folder's name
)
_RUNTIMES = {".onnx": ("onnx", "onnxruntime"), _OPENVINO: ("openvino",)}
_MIN_CORNERS = 3
_TASKS = ("detect", "segment", "pose")  # those whose results have upright boxes


@dataclass(kw_only=True)
class Yolo:
    """Answers each image with a row of kind `region`, role `category`, per object it finds.

    Boxes are in pixels of the upright image, `text` is the class name, `score` the detector's. Rows
    equal those of ultralytics' own predictor on the image alone, whatever the batch. Segmenters add
    the outline as `polygon`.

    Attributes:
        model: A file or folder ultralytics loads, `shapes` for this project's own detector, or one
            of ultralytics' own names (`yolo11n.pt`), which is downloaded when it is not there.
        name: The `source` of its rows.
        imgsz: Longer side the image is scaled to, pixels; exports of fixed size keep theirs.
        min_score: Lowest score a row may have. 0.05 leaves the choice to the rules; ultralytics'
            own 0.25 throws away what `agreement` could confirm.
        iou: Overlap above which its own suppression takes two boxes of a class for one; 0.7 is
            ultralytics' default.
        max_det: Most rows per image; 300 is ultralytics' default.
        classes: Open-vocabulary models look for these; others answer only with these. Null: all.
        task: `detect`, `segment` or `pose`; null: what the weights say of themselves.
        device: As torch names it; `cpu` unless asked otherwise.
        half: Compute in 16 bits; GPUs only.
        gpus: Share of a GPU one worker takes; null: a whole one if `device` is one, else none.
        quiet_limit: Alarm when the first images, this many, gave no row. 64: exports that load and
            never detect exist, and 64 ordinary photos without one object do not.
    """

    model: str
    name: str = "yolo"
    imgsz: int = 640
    min_score: float = 0.05
    iou: float = 0.7
    max_det: int = 300
    classes: tuple[str, ...] | None = None
    task: Literal["detect", "segment", "pose"] | None = None
    device: str = "cpu"
    half: bool = False
    gpus: float | None = None
    quiet_limit: int | None = 64
    produces: tuple[str, ...] = field(init=False, default=("region/category",))
    requires: tuple[str, ...] = field(init=False, default=())
    replaces: Replaces = field(init=False, default="never")
    resources: Resources = field(init=False)
    _model: Any = field(init=False, repr=False, default=None)
    _options: dict[str, Any] = field(init=False, repr=False, default_factory=dict)
    _batch: int | None = field(init=False, repr=False, default=None)  # null: any size
    _names: Any = field(init=False, repr=False, default=None)  # class names by number, an array
    _prompt: str | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        limits = {"min_score": (self.min_score, 1), "iou": (self.iou, 1)}
        for option, (value, highest) in limits.items():
            if not 0 <= value <= highest:
                raise ConfigError(
                    f"specialist {self.name!r}: {option} {value}; allowed: 0 to {highest}"
                )
        for option, count in {
            "imgsz": self.imgsz,
            "max_det": self.max_det,
        }.items():
            if count is not None and count < 1:
                raise ConfigError(f"specialist {self.name!r}: {option} {count}; allowed: 1 or more")
        if self.classes is not None and not self.classes:
            raise ConfigError(
                f"specialist {self.name!r}: classes is empty; name some, or leave it out for all"
            )
        if self.half and self.device == "cpu":
            raise ConfigError(
                f"specialist {self.name!r}: half needs a GPU; set device=cuda:0 or half=false"
            )
        self.resources = device_resources(self.device, self.gpus)

    def needs(self) -> list[Need]:
        """ultralytics, the runtime of the export, the weights."""
        runtimes = next((r for end, r in _RUNTIMES.items() if self.model.endswith(end)), ())
        if self.model in _OWN_WEIGHTS:
            runtimes = _RUNTIMES[".onnx"]
        needs = [package_need(package, "yolo") for package in ("ultralytics", *runtimes)]
        path, downloads = self._path(), self._is_download()
        mend = "name an existing file in its option model"
        if downloads:
            mend = f"ultralytics downloads it; offline, put the file at {path}"
        elif self.model in _OWN_WEIGHTS:
            mend = "it ships with fld-engine: reinstall the package"
        return [*needs, Need(f"weights {self.model}", path.exists(), mend, downloads)]

    def prepare(self) -> str:
        """Downloads weights that ultralytics offers under that name; returns their digest.

        Raises:
            SpecialistError: A package or the weights are missing, or cannot be downloaded.
        """
        refuse_missing(self.name, self.needs())
        if not self._path().exists():
            self._download()
        return revision_of(self._path())

    def load(self) -> None:
        """Loads the model and warms it up on a blank image.

        Raises:
            SpecialistError: The model has no boxes to give, or not the wanted classes.
        """
        path, threads = self._path(), thread_count()
        import_ultralytics()
        with ExitStack() as stack:
            if path.suffix == ".onnx":
                stack.enter_context(onnxruntime_threads(threads))
            elif path.name.endswith(_OPENVINO):
                stack.enter_context(openvino_threads(threads))
            self._open(path)
        import torch

        # ultralytics has set its own count while it opened the model
        torch.set_num_threads(threads)

    def annotate(self, images: Sequence[Image], rows: pa.Table) -> pa.Table:
        """Rows in the images' order, then by falling score; see `engine.protocols.Specialist`."""
        results: list[Any] = [None] * len(images)
        for chunk in self._chunks(images):
            pixels = [_bgr(images[i]) for i in chunk]
            for i, result in zip(chunk, self._model.predict(pixels, **self._options), strict=True):
                results[i] = result
        return self._rows(images, results)

    def _path(self) -> Path:
        if self._is_download():
            return cache_folder() / self.model
        return _OWN_WEIGHTS.get(self.model, Path(self.model))

    def _is_download(self) -> bool:
        # a bare file name: anything with a folder in it is meant as a path
        bare = self.model.endswith(".pt") and Path(self.model).name == self.model
        return bare and not Path(self.model).exists()

    def _download(self) -> None:
        import_ultralytics()
        from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, attempt_download_asset

        if self.model not in GITHUB_ASSETS_NAMES:
            raise SpecialistError(
                f"specialist {self.name!r}: weights {self.model} are neither a file nor one of "
                "ultralytics' names; name an existing file in its option model"
            )
        cache_folder().mkdir(parents=True, exist_ok=True)
        try:
            attempt_download_asset(self._path())
        except OSError as err:  # the network's errors, and a full disk
            raise SpecialistError(
                f"specialist {self.name!r}: weights {self.model} could not be downloaded; "
                f"offline, put the file at {self._path()}"
            ) from err

    def _open(self, path: Path) -> None:
        if not path.exists():
            raise SpecialistError(
                f"specialist {self.name!r}: no weights at {path} on this machine; copy them there"
            )
        from ultralytics.models import YOLO

        model: Any = YOLO(path, task=self.task)
        if model.task not in _TASKS:
            raise SpecialistError(
                f"specialist {self.name!r}: {self.model} is a model for {model.task!r}, which "
                f"gives no boxes; allowed: {', '.join(_TASKS)}"
            )
        self._options = {
            "imgsz": self.imgsz,
            "conf": self.min_score,
            "iou": self.iou,
            "max_det": self.max_det,
            "device": self.device,
            "verbose": False,
            "save": False,
            **({"half": True} if self.half else {}),
        }
        if self.classes is not None and hasattr(model, "set_classes"):
            model.set_classes(list(self.classes))
            self._prompt = ", ".join(self.classes)
        model.predict(np.zeros((64, 64, 3), np.uint8), **self._options)
        self._model = model
        self._read_model(model.predictor.model)

    def _read_model(self, backend: Any) -> None:
        names = backend.names
        self._names = np.array([names[i] for i in sorted(names)], dtype=object)
        is_torch = getattr(backend, "pt", False) or getattr(backend, "format", "") == "pt"
        self._batch = None if is_torch or getattr(backend, "dynamic", False) else backend.batch
        if self.classes is None or self._prompt is not None:
            return
        missing = [name for name in self.classes if name not in self._names]
        if missing:
            raise SpecialistError(
                f"specialist {self.name!r}: {self.model} has no class {missing[0]!r}; "
                f"known: {', '.join(self._names)}"
            )
        self._options["classes"] = [
            int(np.flatnonzero(self._names == name)[0]) for name in self.classes
        ]

    def _chunks(self, images: Sequence[Image]) -> Iterator[list[int]]:
        """Positions of images that go through the model together.

        An export of fixed batch takes that many (one by one is three times faster than handing
        ultralytics a list to split: 14 against 46 ms an image, 16 photos, 2 cores). Others take
        images of one size at a time: ultralytics pads a mixed list otherwise than an image alone.
        """
        if self._batch is not None:
            for start in range(0, len(images), self._batch):
                yield list(range(start, min(start + self._batch, len(images))))
            return
        by_size: dict[tuple[int, int], list[int]] = {}
        for i, image in enumerate(images):
            by_size.setdefault((image.width, image.height), []).append(i)
        yield from by_size.values()

    def _rows(self, images: Sequence[Image], results: Sequence[Any]) -> pa.Table:
        counts = [len(result.boxes) for result in results]
        if not sum(counts):
            return empty_claims()
        found = np.concatenate(
            [r.boxes.data.float().cpu().numpy()[:, :6] for r in results if len(r.boxes)]
        )
        keys = np.repeat(np.array([image.image_key for image in images], dtype=object), counts)
        return claims(
            image_key=keys,
            kind="region",
            role="category",
            text=self._names[found[:, 5].astype(np.intp)],
            box=found[:, :4],
            score=found[:, 4],
            polygon=[p for result in results for p in _polygons(result)],
            prompt=self._prompt,
        )


def import_ultralytics() -> None:
    """Imports ultralytics so that it installs nothing, reports nothing and prints nothing.

    Its settings file goes to this project's cache folder. Variables the user has set are kept.
    """
    settings = {
        "YOLO_AUTOINSTALL": "false",
        "YOLO_OFFLINE": "true",  # no version check, no analytics, one attempt per download
        "YOLO_VERBOSE": "false",
        "YOLO_CONFIG_DIR": str(cache_folder()),
    }
    for variable, value in settings.items():
        os.environ.setdefault(variable, value)
    import ultralytics  # noqa: F401  the variables are read while it is imported


def _bgr(image: Image) -> npt.NDArray[np.uint8]:
    import cv2

    # ten times faster than a copy of [:, :, ::-1]
    pixels: Any = cv2.cvtColor(image.rgb(), cv2.COLOR_RGB2BGR)
    return cast("npt.NDArray[np.uint8]", pixels)


def _polygons(result: Any) -> list[list[list[float]] | None]:
    """The outlines of every object of a result, as `mask_rings` gives them; null without masks."""
    if result.masks is None:
        return [None] * len(result.boxes)
    masks = result.masks.data.byte().cpu().numpy()
    return [mask_rings(mask, result.orig_shape) or None for mask in masks]


def mask_rings(mask: npt.NDArray[np.uint8], shape: tuple[int, int]) -> list[list[float]]:
    """Outer outlines of a mask, one ring per connected part, clockwise from the top left.

    Args:
        mask: Shape (h, w) of the model's padded input; not zero is inside.
        shape: Height and width of the upright image, pixels; the rings are in its frame.

    Returns:
        Flat rings x0, y0, x1, y1, ... of three corners or more; an empty mask has none. The corner
        with the least x + y comes first.
    """
    import cv2
    from ultralytics.utils.ops import scale_coords

    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    rings = []
    for outline in outlines:
        if len(outline) < _MIN_CORNERS:
            continue
        corners = outline.reshape(-1, 2).astype(np.float32)
        rings.append(_clockwise(scale_coords(mask.shape, corners, shape)).ravel().tolist())
    return rings


def _clockwise(corners: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    x, y = corners.astype(np.float64).T
    doubled_area = np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))
    if doubled_area < 0:  # y points down: a positive area runs clockwise
        corners = corners[::-1]
    return np.roll(corners, -int(corners.sum(axis=1).argmin()), axis=0)

"""A specialist that breaks every promise, one per image: the name of the image says which."""

import ctypes
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from engine.errors import SpecialistError
from engine.protocols import Image, Need, Replaces, Resources
from engine.schema import claims, empty_claims

# What each trick comes to: the cause of the image's failure, None where it does no harm.
TRICKS: dict[str, str | None] = {
    "raises": "raised",
    "raises_interrupt": "raised",
    "recurses": "raised",
    "unspeakable": "raised",
    "foreign_key": "bad_rows",
    "returns_none": "bad_rows",
    "returns_list": "bad_rows",
    "drops_column": "bad_rows",
    "retypes_column": "bad_rows",
    "nan_score": "bad_rows",
    "nan_polygon": "bad_rows",
    "half_corner": "bad_rows",
    "bad_role": "bad_rows",
    "textless": "bad_rows",
    "eats_memory": "out_of_memory",
    "hangs": "timeout",
    "segfaults": "worker_died",
    "exits": "worker_died",
    "raises_exit": "worker_died",
    "forks_and_dies": "worker_died",
    "forks": None,
    "prints": None,
    "leaves_threads": None,
    "changes_folder": None,
}


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("cannot be put into words")


@dataclass(kw_only=True)
class Trickster:
    """One region per image, unless the image is named after a trick and `tricks` is on."""

    name: str = "trickster"
    tricks: bool = True
    silent: bool = False
    quiet_limit: int | None = None
    model: str = field(init=False, default="trickster")
    produces: tuple[str, ...] = field(init=False, default=("region/category",))
    requires: tuple[str, ...] = field(init=False, default=())
    resources: Resources = field(init=False, default=Resources())
    replaces: Replaces = field(init=False, default="never")

    def needs(self) -> list[Need]:
        return []

    def prepare(self) -> str:
        return "1"

    def load(self) -> None:
        how = os.environ.get("FLD_TEST_LOAD")
        if how == "raises":
            raise SpecialistError("no such weights on this machine")
        if how == "dies":
            os.kill(os.getpid(), signal.SIGSEGV)
        if how == "hangs":
            time.sleep(3600)
        if how in ("dies_once", "only_once"):
            place = Path(os.environ["FLD_TEST_LOAD_ONCE"])
            is_first = not place.exists()
            place.mkdir(exist_ok=True)
            if how == "dies_once" and is_first:
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "only_once" and not is_first:
                raise SpecialistError("no such weights on this machine")

    def annotate(self, images: Sequence[Image], rows: pa.Table) -> pa.Table:
        if self.silent or os.environ.get("FLD_TEST_SILENT"):
            return empty_claims()
        answers = [self._answer(image) for image in images]
        if len(answers) == 1:
            return answers[0]
        return pa.concat_tables(answers).unify_dictionaries()

    def _answer(self, image: Image):
        answer = claims(
            image_key=[image.image_key],
            kind="region",
            role="category",
            text=["thing"],
            box=[[0, 0, image.width / 2, image.height / 2]],
            score=[0.5],
        )
        trick = image.image_key.rpartition("-")[0]
        if not self.tricks or trick not in TRICKS:
            return answer
        return globals()[f"_{trick}"](answer)


def _replaced(answer, name, column):
    return answer.set_column(answer.schema.get_field_index(name), name, column)


def _raises(answer):
    raise ValueError("no idea what /home/ann/photos/this.jpg shows, see 0x7f00ab12")


def _raises_interrupt(answer):
    raise KeyboardInterrupt


def _recurses(answer):
    return _recurses(answer)


def _unspeakable(answer):
    raise UnspeakableError


def _foreign_key(answer):
    return _replaced(answer, "image_key", pa.array(["somebody-elses"]))


def _returns_none(answer):
    return None


def _returns_list(answer):
    return answer.to_pylist()


def _drops_column(answer):
    return answer.drop_columns(["box"])


def _retypes_column(answer):
    return _replaced(answer, "box", pa.array(["left half"]))


def _nan_score(answer):
    return _replaced(answer, "score", pa.array([float("nan")], pa.float32()))


def _nan_polygon(answer):
    return _polygon(answer, [0, 0, 9, 0, float("nan"), 9])


def _half_corner(answer):
    return _polygon(answer, [0, 0, 9, 0, 9, 9, 0])


def _polygon(answer, ring):
    return _replaced(answer, "polygon", pa.array([[ring]], pa.list_(pa.list_(pa.float32()))))


def _bad_role(answer):
    return _replaced(answer, "role", pa.array(["title"]))


def _textless(answer):
    return _replaced(answer, "text", pa.nulls(1, pa.string()))


def _eats_memory(answer):
    eaten = []
    while True:
        eaten.append(np.ones(2**25, np.uint8))


def _hangs(answer):
    while True:
        time.sleep(60)


def _segfaults(answer):
    os.kill(os.getpid(), signal.SIGSEGV)
    ctypes.string_at(0)  # were the signal ignored, this is the real thing


def _exits(answer):
    os._exit(0)


def _raises_exit(answer):
    raise SystemExit(3)


def _forks_and_dies(answer):
    _forks(answer)
    os.kill(os.getpid(), signal.SIGKILL)


def _forks(answer):
    if os.fork() == 0:
        time.sleep(3600)
        os._exit(0)
    return answer


def _prints(answer):
    print("downloading 1 of 7 ...")
    os.write(1, b"and bytes that are no text: \xff\xfe\n")
    return answer


def _leaves_threads(answer):
    for _ in range(4):
        threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
    return answer


def _changes_folder(answer):
    os.chdir("/")
    os.environ.clear()
    return answer

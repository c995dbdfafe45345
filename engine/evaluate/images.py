"""The images of a dataset and those of the truth, as they meet."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.evaluate.join import join_images, stem_of
from engine.evaluate.pairs import Flags, Indices, flags_of
from engine.evaluate.results import ImageCounts
from engine.evaluate.truth import Truth

_EXAMPLES = 5  # names that are told


class Images:
    """Which image of the dataset is which of the truth.

    Of the dataset's images only those are held whose name may be one of the truth.

    Args:
        images: Tables with `image_key`, `uri` and `status`, shard by shard.
        truth: What they are compared with.
        where: The dataset's uri, for messages.

    Raises:
        ConfigError: They share no image.
    """

    def __init__(self, images: Iterable[pa.Table], truth: Truth, where: str) -> None:
        self._truth = truth
        self._num_dataset = 0
        stems = pa.array(sorted({stem_of(uri) for uri in truth.uris} - {""}), pa.string())
        near = [pa.table({name: pa.array([], pa.string()) for name in _COLUMNS})]
        example = "none"
        for table in images:
            names = [stem_of(uri) for uri in table["uri"].to_pylist()]
            example = table["uri"][0].as_py() if names and not self._num_dataset else example
            self._num_dataset += len(names)
            near.append(
                table.select(_COLUMNS).filter(pc.is_in(pa.array(names, pa.string()), stems))
            )
        known = pa.concat_tables(near).combine_chunks()
        self._joined = join_images(truth.uris, known["uri"].to_pylist())
        self._found = np.flatnonzero(self._joined.partners >= 0)
        if not len(self._found):
            name = next((uri for uri in truth.uris if uri), "none")
            raise ConfigError(
                f"{where}: shares no image with the truth; its images are named like {example!r}, "
                f"those of the truth like {name!r}; file names must agree"
            )
        partners = known.take(pa.array(self._joined.partners[self._found]))
        self._keys = partners["image_key"].combine_chunks()
        self._states = partners["status"]
        self._missing = np.array(self._joined.missing, np.int64)

    def places(self, *, with_missing: bool) -> Indices:
        """Images of the truth that the dataset has; on demand those it has not too."""
        return np.concatenate([self._found, self._missing]) if with_missing else self._found

    def truth_of(self, keys: pa.Array) -> tuple[Flags, pa.Table]:
        """Which of those images have a truth, and the rows of it."""
        at = pc.index_in(keys, self._keys)
        places = self._found[at.drop_null().to_numpy()]
        return flags_of(at.is_valid()), self._truth.rows_of(places, keys.filter(at.is_valid()))

    def missing_truth(self) -> pa.Table:
        """The truth on images that the dataset has not."""
        # no image of a dataset has a dot in its key
        keys = pa.array([f"missing.{place}" for place in self._missing.tolist()], pa.string())
        return self._truth.rows_of(self._missing, keys)

    def counts(self) -> ImageCounts:
        """How the two sides met."""
        joined, uris = self._joined, self._truth.uris
        return ImageCounts(
            num_true=len(uris),
            num_dataset=self._num_dataset,
            num_compared=len(self._found),
            num_by=joined.num_by,
            num_ambiguous=len(joined.ambiguous),
            num_missing=len(joined.missing),
            num_extra=self._num_dataset - len(self._found),
            ambiguous=[uris[i] for i in joined.ambiguous[:_EXAMPLES]],
            missing=[uris[i] for i in joined.missing[:_EXAMPLES]],
        )

    def _names(self, places: Sequence[int]) -> str:
        """A few names, and how many more there are."""
        shown = ", ".join(repr(self._truth.uris[i]) for i in places[:_EXAMPLES])
        more = len(places) - _EXAMPLES
        return f"{shown} and {more:,} more" if more > 0 else shown

    def notes(self, *, count_missing: bool) -> Iterator[str]:
        """Images of the truth that were not found, or that the dataset has and did not take."""
        joined = self._joined
        if joined.ambiguous:
            names = self._names(joined.ambiguous)
            yield f"images of the truth that several of the dataset could be are left out: {names}"
        if joined.missing:
            how = "count as missed" if count_missing else "are left out"
            names = self._names(joined.missing)
            yield f"images of the truth that the dataset has not {how}: {names}"
        for state in sorted(set(self._states.to_pylist()) - {"ok"}):
            count = int(pc.sum(pc.equal(self._states, state)).as_py())
            yield f"{count:,} compared images are {state} in the dataset: their truth is missed"


_COLUMNS = ["image_key", "uri", "status"]

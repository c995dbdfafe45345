"""Several sources as one: each keeps its name, and every image says by its uri where it is from."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.config import LimitsConfig
from engine.source.names import image_keys
from engine.source.shapes import LISTING, Listing, ReadError, Sample, Source, check_limit


class Part(NamedTuple):
    """One of the sources; `weight` (above 0) says how much of a limit falls to it."""

    name: str
    source: Source
    weight: float = 1.0


@dataclass(frozen=True)
class Mixture:
    """Sources one after the other; the uri of an image is its source's name, "/", its own uri.

    A limit is shared out by weight, rounded so that the parts add up; what a source does not have
    falls to the others. Without a limit every image of every source is taken.
    """

    parts: Sequence[Part]
    uri: str = "mixed"

    @property
    def produces(self) -> Mapping[str, tuple[str, ...]]:
        """Of all parts; see `engine.source.shapes.Source`."""
        found: dict[str, tuple[str, ...]] = {}
        for part in self.parts:
            found |= part.source.produces
        return found

    def listing(self, limit: int | None = None) -> Listing:
        """All parts, in the order of the config; see `engine.source.shapes.Source`."""
        check_limit(limit)
        listings = [part.source.listing(limit) for part in self.parts]
        counts = [listing.images.num_rows for listing in listings]
        if limit is not None:
            counts = share_out(limit, [part.weight for part in self.parts], counts)
        ignored: Counter[str] = Counter()
        tables = [LISTING.empty_table()]
        for part, listing, count in zip(self.parts, listings, counts, strict=True):
            ignored.update({f"{part.name}: {why}": n for why, n in listing.ignored.items()})
            tables.append(_named(part.name, listing.images.slice(0, count)))
        return Listing(self.uri, pa.concat_tables(tables), dict(ignored))

    def read(self, images: pa.Table, limits: LimitsConfig) -> Iterator[Sample | ReadError]:
        """The images of each part in turn; see `engine.source.shapes.Source`."""
        sources = {part.name: part.source for part in self.parts}
        uris = images["uri"].to_pylist()
        start = 0
        for name, group in groupby(uris, lambda uri: uri.partition("/")[0]):
            own = [uri.partition("/")[2] for uri in group]
            rows = images.slice(start, len(own))
            place = rows.schema.get_field_index("uri")
            yield from sources[name].read(rows.set_column(place, "uri", [own]), limits)
            start += len(own)


def share_out(limit: int, weights: Sequence[float], counts: Sequence[int]) -> list[int]:
    """How many of `counts` each part gives, so that all give `limit` in proportion to `weights`.

    Largest remainders round; who has too little gives all, and the rest is shared out again.

    Example:
        >>> share_out(10, [1, 1, 2], [100, 1, 100])
        [3, 1, 6]
    """
    given = np.zeros(len(counts), np.int64)
    limit = min(limit, sum(counts))
    open_ = np.array(counts) > 0
    while (left := limit - int(given.sum())) > 0:
        weight = np.where(open_, weights, 0.0)
        exact = left * weight / weight.sum()
        share = np.floor(exact).astype(np.int64)
        by_remainder = np.argsort(-(exact - share), kind="stable")
        share[by_remainder[: left - int(share.sum())]] += 1
        given = np.minimum(given + np.where(open_, share, 0), counts)
        open_ &= given < counts
    return [int(count) for count in given]


def _named(name: str, images: pa.Table) -> pa.Table:
    uris = pc.binary_join_element_wise(name, images["uri"], "/")
    keys = pa.array(image_keys(uris.to_pylist()), pa.string())
    columns = {"image_key": keys, "uri": uris}
    return pa.table([columns.get(n, images[n]) for n in LISTING.names], schema=LISTING)

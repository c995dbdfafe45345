"""Which ids of a long stream were met before."""

from typing import Any

import numpy as np

from engine.formats.json_decode import NO_ID, Codes, Ids
from engine.formats.json_decode import repeats as repeats_within


class SeenIds:
    """Ids met so far, 8 bytes each, as sorted runs of growing length."""

    def __init__(self) -> None:
        self._ids = Ids()
        self._runs: list[Codes] = []

    def repeated(self, ids: list[Any]) -> list[int]:
        """Places of the ids that were met before, here or in an earlier call; null never was."""
        codes = self._ids.encode(ids)
        found = repeats_within(codes)
        for run in self._runs:
            nearest = np.minimum(np.searchsorted(run, codes), len(run) - 1)
            found |= run[nearest] == codes
        self._add(np.unique(codes[codes != NO_ID]))
        places: list[int] = np.flatnonzero(found & (codes != NO_ID)).tolist()
        return places

    def _add(self, run: Codes) -> None:
        """Runs are merged while the last is not longer: there are never more than some 30."""
        while self._runs and len(self._runs[-1]) <= len(run):
            run = np.union1d(self._runs.pop(), run)
        if len(run):
            self._runs.append(run)

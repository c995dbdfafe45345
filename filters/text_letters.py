"""How surprising the letters of a text are to one who knows English words."""

from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filters.columns import Floats

# Quarter bits that the second of two letters costs after the first, in `LEVELS`; row and column 0
# are the ends of words. Counted over the 48,805 words in the vocabulary of spaCy's en_core_web_sm
# 3.8.0 (MIT); `python -m tests.filters.letter_table` writes these lines.
LEVELS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
BITS_PER_LEVEL = 0.25
COSTS: tuple[str, ...] = (
    "Zggehijkjjonjhllgugdimolwrs",
    "gvjijvqlpjzodibtlzdgcnorxns",
    "jblvubDDydwFbuxczTekteCCToK",
    "hcDmAdEDbfRfjBAaCAhqfiJMOpD",
    "6gwymaxqvcyEnsuhBHljxkvuBpG",
    "biskdmqptoCwhldsoxacjuprorx",
    "gdCxBceCBaLAfyAdARfqjeRDIoI",
    "6fxxvcymhgzBjtmiyAfktiPAypy",
    "dauBx9wMAbKzopqcAIlokgFtMmI",
    "jhofkhnlyBBshk8fnzkefulGxzn",
    "laywuaADJ9vAJvwasJvyyaDDJAJ",
    "aeuAw8uDlbHrjsnhvQngtjDtQkD",
    "dcuulatwAaNtdrzevJBlmjtBMfF",
    "e9ipDayEDbMGvitdfPylzjECPrG",
    "bgvigepaugxpvxmkyAwfdqszDsx",
    "honklrpmuoApgh9jkEcijflkurx",
    "iczyBayAheLFfxBdhOcjjiJCIrO",
    "fiAHAqHHHcHHvHHAHtHvu2vHHAH",
    "dcqnlatnxcIpqmnerJlfikrwImC",
    "6jwkAfyCggNqootkkxzhcjFtNsF",
    "ceyqDayEg9JHnvxfAZfhjkBvMlu",
    "jhjjkiqlvjxsehbqjCccfExBvwt",
    "kbyyz4FGG9GCwDzfFQvwAuzGGrQ",
    "f9suqavBhbPsmvheyJkissPvGsP",
    "ahwhlfvKn9KKrxDmcyDuekyDfsK",
    "3gsosiAwCjFAnmmkoJpiqlDvCFy",
    "dbsAv7CFdbMworwhAAwvAkxtCoh",
)
_MIN_LETTERS = 5  # fewer say nothing: initials, units, "TV"


def surprise(texts: pa.Array) -> Floats:
    """Mean cost of a letter a to z given the one before it, bits, shape (k,).

    Case and accents do not count, ends of words do; NaN for texts of fewer than five such letters.
    Captions have 3.1 to 4.5, English words typed at random 5 to 9.
    """
    joined = _letters(texts)
    stream = np.frombuffer(joined.buffers()[2] or b"", np.uint8)[: _end(joined)]
    codes = np.where(stream == ord(" "), 0, stream.astype(np.int64) - (ord("a") - 1))
    owner = np.repeat(np.arange(len(texts)), _lengths(joined))
    inside = (owner[1:] == owner[:-1]) if len(owner) else np.empty(0, bool)
    costs = _costs()[codes[:-1], codes[1:]][inside]
    total = np.bincount(owner[1:][inside], costs, minlength=len(texts))
    steps = np.bincount(owner[1:][inside], minlength=len(texts))
    letters = np.bincount(owner[codes > 0], minlength=len(texts))
    mean = np.full(len(texts), np.nan, np.float32)
    np.divide(total, steps, out=mean, where=letters >= _MIN_LETTERS, casting="unsafe")
    return mean


@cache
def _costs() -> npt.NDArray[np.float64]:
    levels = [[LEVELS.index(char) for char in row] for row in COSTS]
    return np.array(levels) * BITS_PER_LEVEL


def _letters(texts: pa.Array) -> pa.Array:
    """Words of letters a to z, each with one space before and after it: `" a dog "`."""
    plain = pc.utf8_lower(texts)
    if not pc.all(pc.string_is_ascii(plain)).as_py():
        plain = pc.replace_substring_regex(pc.utf8_normalize(plain, form="NFKD"), r"\pM", "")
    words = pc.replace_substring_regex(plain, "[^a-z]+", " ")
    padded = pc.binary_join_element_wise(" ", words, " ", "")
    return pc.replace_substring_regex(padded, " +", " ").cast(pa.large_string())


def _lengths(joined: pa.Array) -> npt.NDArray[np.int64]:
    lengths = pc.binary_length(joined).to_numpy(zero_copy_only=False)
    return np.asarray(lengths, np.int64)


def _end(joined: pa.Array) -> int:
    return int(_lengths(joined).sum())

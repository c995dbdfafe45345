"""English nouns as labels spell them: counted, in the plural, with their article."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_IRREGULAR = {
    "child": "children",
    "elf": "elves",
    "foot": "feet",
    "goose": "geese",
    "knife": "knives",
    "leaf": "leaves",
    "loaf": "loaves",
    "man": "men",
    "mouse": "mice",
    "ox": "oxen",
    "person": "people",
    "scarf": "scarves",
    "shelf": "shelves",
    "thief": "thieves",
    "tooth": "teeth",
    "wife": "wives",
    "wolf": "wolves",
    "woman": "women",
}
_SINGULARS = {many: one for one, many in _IRREGULAR.items()}
# Compounds end in these: snowman, penknife, bookshelf, salesperson.
_COMPOUND_ENDS = ("woman", "man", "child", "knife", "shelf", "mouse", "person", "tooth")
_NOT_OF_MAN = _words("caiman german human ottoman roman shaman talisman")
_NOT_OF_MEN = _words("abdomen omen pumice ramen regimen specimen stamen")
_SAME = _words(
    """aircraft bison cod deer fish hovercraft moose reindeer salmon sheep shrimp spacecraft species
    squid trout watercraft"""
)
_MASS = _words(
    """asparagus bacon bread broccoli butter cauliflower cheese clothing cutlery equipment fire food
    footwear furniture garlic grass hair jewelry lettuce luggage meat money mud pasta popcorn rice
    salt sand seafood smoke snow soap spinach sugar sushi text toast underwear water wine wood"""
)
_PAIRS = _words(
    """binoculars boxers earphones eyeglasses glasses goggles headphones jeans leggings overalls
    pajamas pants pliers pyjamas scissors shears shorts skis sunglasses tights tongs trousers
    tweezers"""
)
_ONLY_PLURAL = _words("clothes news premises series stairs thanks")
_VESSELS = _words(
    "beer champagne cocktail drinking martini shot water wine"
)  # of glass, one by one
_IN_IE = _words(
    "bikie birdie bowtie brownie calorie cookie genie goalie hoodie movie necktie rookie selfie "
    "smoothie veggie zombie"
)
_SHORTEST_IES = 4  # pies, ties and lies end in -ie
_SINGULAR_IN_S = _words(
    "atlas bias canvas chaos christmas gas lens rhinoceros"
)  # and all in ss, us, is
_ES_AFTER_O = _words("buffalo echo hero mango mosquito potato tomato tornado torpedo volcano")
_PREPOSITIONS = _words("at by for from in of on over under with without wearing holding")

_SILENT_H = ("heir", "honest", "honor", "honour", "hour")
_LIKE_YOU_OR_ONE = (
    *("eu", "ewe", "once", "one", "ubiquit", "ufo", "ukulele", "unic", "unif", "union", "unique"),
    *("unit", "univ", "ural", "urin", "usa", "usb", "use", "usu", "utensil", "utili"),
)
_VOWEL_LETTERS = frozenset("aefhilmnorsx8")  # those whose own name begins with a vowel
_SPELLED = _words(
    "atm cd dvd led mp3 pc rv suv tv usb vr"
)  # said letter by letter, written in capitals


def count_noun(name: str, count: int) -> str:
    """A number of things in words.

    Args:
        name: A label, singular or of a thing only named in the plural; any letter case.
        count: How many, 1 or more; in words up to ten.

    Example:
        >>> [count_noun("person", 2), count_noun("skis", 1), count_noun("broccoli", 3)]
        ['two people', 'a pair of skis', 'broccoli']
    """
    assert count > 0, count
    name = " ".join(_spell(word) for word in name.split())
    head = _split(name)[1].lower()
    number = _NUMBERS[count] if count < len(_NUMBERS) else str(count)
    if head in _MASS:
        return name
    if head in _PAIRS:
        return f"a pair of {name}" if count == 1 else f"{number} pairs of {name}"
    if count == 1:
        return name if _is_plural(head) else f"{article(name)} {name}"
    return f"{number} {plural(name)}"


def plural(name: str) -> str:
    """The plural of a label; its head noun is the last word before a preposition.

    Example:
        >>> [plural(name) for name in ("mouse", "cup of coffee", "sheep", "snowman", "wine glass")]
        ['mice', 'cups of coffee', 'sheep', 'snowmen', 'wine glasses']
    """
    before, head, after = _split(name)
    return f"{before}{_plural_word(head)}{after}"


def singular(name: str) -> str:
    """The singular of a label; things only named in the plural, such as skis, stay as they are.

    Example:
        >>> [singular(name) for name in ("mice", "cups of coffee", "houses", "skis")]
        ['mouse', 'cup of coffee', 'house', 'skis']
    """
    before, head, after = _split(name)
    return f"{before}{_singular_word(head, before.strip().lower())}{after}"


def article(name: str) -> str:
    """`a` or `an`, by how the first word sounds.

    Example:
        >>> [article(name) for name in ("apple", "hour hand", "unicycle", "TV", "X-ray")]
        ['an', 'an', 'a', 'a', 'an']
    """
    word = name.split(maxsplit=1)[0].lower()
    if len(word.partition("-")[0]) == 1 or word in _SPELLED:
        return "an" if word[0] in _VOWEL_LETTERS and not word.startswith("u") else "a"
    if word.startswith((*_SILENT_H, "8", "11", "18")):
        return "an"
    return "an" if word[0] in "aeiou" and not word.startswith(_LIKE_YOU_OR_ONE) else "a"


def _split(name: str) -> tuple[str, str, str]:
    """What stands before the head noun, the head noun, and what stands after it."""
    words = name.split(" ")
    ends = [i for i, word in enumerate(words) if i and word.lower() in _PREPOSITIONS]
    place = (ends[0] if ends else len(words)) - 1
    before = "".join(f"{word} " for word in words[:place])
    after = "".join(f" {word}" for word in words[place + 1 :])
    return before, words[place], after


def _plural_word(word: str) -> str:
    low = word.lower()
    if low in _SAME or low in _MASS or _is_plural(low):
        return word
    if low in _IRREGULAR:
        return _IRREGULAR[low]
    for end in _COMPOUND_ENDS:
        if low.endswith(end) and low not in _NOT_OF_MAN:
            return word[: -len(end)] + _IRREGULAR[end]
    if low.endswith(("s", "x", "z", "ch", "sh")) or low in _ES_AFTER_O:
        return f"{word}es"
    if low.endswith("y") and low[-2:-1] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}s"


def _singular_word(word: str, before: str) -> str:
    low = word.lower()
    if low in _SINGULARS:
        return _SINGULARS[low]
    for end in _COMPOUND_ENDS:
        if low.endswith(_IRREGULAR[end]) and low not in _NOT_OF_MEN:
            return word[: -len(_IRREGULAR[end])] + end
    is_vessel = low == "glasses" and before.rpartition(" ")[2] in _VESSELS
    stays = low in _MASS or low in _PAIRS or low in _ONLY_PLURAL or not _is_plural(low)
    return word if stays and not is_vessel else _without_s(word)


def _without_s(word: str) -> str:
    low = word.lower()
    if low.endswith("ies") and len(low) > _SHORTEST_IES and low[:-1] not in _IN_IE:
        return f"{word[:-3]}y"
    return word[:-2] if low.endswith("es") and _takes_es(low[:-2]) else word[:-1]


def _takes_es(stem: str) -> bool:
    """Whether a word makes its plural with -es: box and bus, not house and vase."""
    if stem in _ES_AFTER_O or stem in _SINGULAR_IN_S:
        return True
    ends_in_us = stem.endswith("us") and not stem.endswith("ous")
    return ends_in_us or stem.endswith(("ss", "x", "zz", "ch", "sh"))


def _is_plural(word: str) -> bool:
    if word in _PAIRS or word in _IRREGULAR.values():
        return True
    is_singular = word in _SINGULAR_IN_S or word in _SAME or word.endswith(("ss", "us", "is"))
    return word.endswith("s") and len(word) > 1 and not is_singular


def _spell(word: str) -> str:
    """A word of a label in lower case, but for abbreviations, also in the plural."""
    low = word.lower()
    singular = low.removesuffix("s")
    if singular in _SPELLED:
        return singular.upper() + low[len(singular) :]
    return low

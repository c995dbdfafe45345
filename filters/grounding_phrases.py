"""What phrases point at nothing one could draw a box around.

Pronouns and bare determiners are what the list in Florence-2's released processor holds, and its
few empty nouns; time, love and freedom are the abstract ones that Kosmos-2 names for GRIT. The
paper's own list of abstract concepts was never published. What else stands here is our choice:
nouns of parts of the picture and not of things in it, of amounts, of time, of feelings and of what
happens. No noun here is a name in `specialists.synonym_table`, which holds the classes of the usual
label lists; couple, pair, pile and numbers are left out because people draw boxes around them.
"""

PRONOUNS: tuple[str, ...] = (
    *("i", "you", "he", "she", "it", "we", "they", "me", "him", "her", "us", "them", "one"),
    *("my", "your", "his", "its", "our", "their", "mine", "yours", "hers", "ours", "theirs"),
    *("myself", "yourself", "himself", "herself", "itself", "oneself", "ourselves"),
    *("yourselves", "themselves", "this", "that", "these", "those", "who", "whom", "whose"),
    *("which", "what", "each other", "one another", "someone", "somebody", "something"),
    *("anyone", "anybody", "anything", "everyone", "everybody", "everything", "no one"),
    *("nobody", "nothing", "whoever", "whatever", "whichever", "there", "here", "where"),
)
DETERMINERS: tuple[str, ...] = (
    *("a", "an", "the", "each", "both", "all", "some", "any", "none", "either", "neither"),
    *("another", "other", "others", "many", "few", "several", "much", "more", "most", "less"),
    *("all of them", "some of them", "both of them", "one of them", "the other one"),
)
COLLECTIVE: tuple[str, ...] = (
    *("group", "groups", "set", "sets", "lot", "lots", "bunch", "number", "series", "collection"),
    *("variety", "array", "assortment", "amount", "row", "rows", "piece", "pieces", "part"),
    *("parts", "type", "kind", "sort", "other object", "other objects", "thing", "things"),
    *("stuff", "majority", "rest", "various objects", "various items"),
)
OF_THE_PICTURE: tuple[str, ...] = (
    *("image", "images", "photo", "photos", "photograph", "scene", "view"),
    *("background", "foreground", "distance", "front", "back", "side", "sides", "left", "right"),
    *("bottom", "middle", "center", "centre", "edge", "end", "corner", "left side"),
    *("right side", "other side", "left hand side", "right hand side", "front of", "close up"),
    *("setting", "surroundings", "area", "place", "position", "direction", "way"),
    *("angle", "shot", "black and white photo", "color", "colour", "shape", "size", "style"),
)
ABSTRACT: tuple[str, ...] = (
    *("time", "love", "freedom", "day", "night", "morning", "afternoon", "evening", "moment"),
    *("today", "year", "season", "life", "fun", "joy", "happiness", "peace", "beauty", "hope"),
    *("fear", "anger", "pride", "work", "play", "action", "activity", "motion", "movement"),
    *("speed", "event", "race", "competition", "trip", "vacation", "conversation"),
    *("atmosphere", "ambiance", "mood", "feeling", "sense", "idea", "concept", "attention"),
    *("interest", "contrast", "addition", "focus", "presence", "variety of", "progress", "air"),
    *("turn", "order", "mid air", "midair", "use", "case", "fact", "example", "help"),
)
PHRASES: tuple[str, ...] = (*PRONOUNS, *DETERMINERS, *COLLECTIVE, *OF_THE_PICTURE, *ABSTRACT)

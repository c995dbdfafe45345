"""Which set of labels a uri means, and in which format it is written."""

from engine.errors import LabelsError
from engine.formats import FORMATS
from engine.formats.shapes import Format, Place
from engine.source.filesystem import open_location
from engine.source.shapes import ReadError

_HEAD = 1 << 16


def find_place(
    uri: str, *, endpoint: str | None = None, region: str | None = None, anonymous: bool = False
) -> Place:
    """The file or folder a uri names; a uri of nothing is taken for a folder."""
    folder, _, name = uri.rpartition("/")
    if name:
        above = open_location(
            folder or ("/" if uri.startswith("/") else "."),
            endpoint=endpoint,
            region=region,
            anonymous=anonymous,
        )
        if above.exists(name):
            return Place(above, name)
    return Place(open_location(uri, endpoint=endpoint, region=region, anonymous=anonymous))


def new_place(
    uri: str,
    *,
    is_folder: bool,
    endpoint: str | None = None,
    region: str | None = None,
    anonymous: bool = False,
) -> Place:
    """Where a set of labels is to be written."""
    folder, _, name = uri.rpartition("/")
    reach = {"endpoint": endpoint, "region": region}
    if is_folder or not name:
        return Place(open_location(uri, anonymous=anonymous, **reach))
    return Place(open_location(folder or ".", anonymous=anonymous, **reach), name)


def find_format(kind: str, place: Place) -> Format:
    """The format of that name, or with `auto` the first that recognises what lies there.

    Raises:
        LabelsError: There is nothing, or no format knows it.
        ConfigError: There is no format of that name.
    """
    if kind != "auto":
        return made(kind)
    head = b""
    if place.path:
        try:
            head = place.location.read_head(place.path, _HEAD)
        except ReadError as err:
            raise LabelsError(f"source.uri {place}: {err}; give a file of labels") from err
    for name in FORMATS.names():
        found = made(name)
        if found.is_folder == (not place.path) and found.recognises(place, head):
            return found
    raise LabelsError(
        f"source.uri {place}: no labels that `auto` recognises; set source.kind to one of: "
        f"{', '.join(FORMATS.names())}"
    )


def made(kind: str) -> Format:
    """The format of a name. Raises ConfigError where there is none."""
    found: Format = FORMATS.find(kind)()
    return found

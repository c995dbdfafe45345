"""Three tiny pictures as bytes, so that what is made of them depends on no encoder."""

import base64
from pathlib import Path

PNG = base64.b64decode(  # 8 x 6 px, grey
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAGCAAAAADbboAnAAAAFElEQVR42mNgYPj/H4yhFAgQFAEAhcwX6V6Yj0AA"
    "AAAASUVORK5CYII="
)
BMP = base64.b64decode(  # 12 x 10 px, black and white
    "Qk1mAAAAAAAAAD4AAAAoAAAADAAAAAoAAAABAAEAAAAAACgAAAAAAAAAAAAAAAIAAAACAAAAAAAAAP///wAPUAAA"
    "8FAAAA9QAADwUAAAD1AAAPBQAAAPUAAA8FAAAA9QAADwUAAA"
)
GIF = base64.b64decode(  # 6 x 4 px, palette
    "R0lGODdhBgAEAIEAAAAAAP///wAAAAAAACwAAAAABgAEAAAIDQABBBBIcKDBgggNBgQAOw=="
)


def write_photos(folder: Path) -> Path:
    """Five files: three pictures, one of them twice, and a text named like a picture."""
    folder.mkdir(parents=True)
    files = {"a.png": PNG, "b.bmp": BMP, "c.gif": GIF, "d.jpg": b"not a picture\n", "e.png": PNG}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder

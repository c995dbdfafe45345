"""Put on PYTHONPATH: holds a process for good once it has renamed a certain file.

FLD_TEST_HOLD_AT is what the path must hold, FLD_TEST_HOLD_HAS what the file must, both regular
expressions; the file FLD_TEST_HELD then says that this moment has come.
"""

import os
import re
import time
from pathlib import Path

_AT = os.environ.get("FLD_TEST_HOLD_AT")
_HAS = os.environ.get("FLD_TEST_HOLD_HAS")


def _holding(move):
    def move_and_hold(source, target, **options):
        move(source, target, **options)
        _hold(Path(os.fspath(target)))

    return move_and_hold


def _hold(path):
    if not re.search(_AT, str(path)):
        return
    if _HAS and not re.search(_HAS, path.read_text(encoding="utf-8"), re.DOTALL):
        return
    Path(os.environ["FLD_TEST_HELD"]).touch()
    time.sleep(600)


if _AT:
    os.replace, os.rename = _holding(os.replace), _holding(os.rename)

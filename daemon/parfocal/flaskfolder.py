"""The flask that a folder's name says: `F12_HT1080_P7` is flask F12 of the line HT1080, passage 7.

The camera software makes such folders where an operator types one name a flask. One form counts,
three parts joined by underscores, the last a P and a number; any other name says nothing.
"""

import re
from pathlib import Path

from parfocal.flaskcode import MAX_ID_CHARACTERS
from parfocal.sidecar import DeclaredFlask

PASSAGE = re.compile("[Pp][0-9]{1,5}")


def flask_of_folders(image: str, root: str) -> DeclaredFlask | None:
    """The flask that the nearest folder of this form names, between the root and an image of it."""
    top = Path(root)
    folders = [one for one in Path(image).parents if one != top and one.is_relative_to(top)]
    return next(filter(None, (named(one.name) for one in folders)), None)


def named(folder: str) -> DeclaredFlask | None:
    """The flask that one folder's name says; None where it has another form."""
    parts = folder.split("_")
    if len(parts) != 3 or not folder.isprintable() or not all(_word(part) for part in parts):
        return None
    name, line, passage = parts
    if len(name) > MAX_ID_CHARACTERS or not PASSAGE.fullmatch(passage):
        return None
    return DeclaredFlask(id=name, cell_line=line, passage=int(passage[1:]))


def _word(part: str) -> bool:
    """Neither empty nor with blanks around it."""
    return bool(part) and part == part.strip()

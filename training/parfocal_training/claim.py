"""The folder of a training: empty, or begun with the very same plan."""

from pathlib import Path

import msgspec

from parfocal_training.errors import UsageError
from parfocal_training.write import write_whole


def claim(folder: Path, plan: msgspec.Struct, resume: bool) -> None:
    """Make the folder this plan's own: `plan.json` says so from now on.

    Raises
    ------
    UsageError
        It holds something else, or was begun with another plan.
    """
    path, text = folder / "plan.json", msgspec.json.encode(plan)
    if resume and path.is_file():
        if not _same_json(path.read_bytes(), text):
            raise UsageError(
                f"'{folder}' was begun with other data or options: give those again to resume, or "
                "another folder"
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(
            f"'{folder}' is not empty: give another folder, or --resume to go on with it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, msgspec.json.format(text, indent=1))


def _same_json(stored: bytes, wanted: bytes) -> bool:
    try:
        return bool(msgspec.json.decode(stored) == msgspec.json.decode(wanted))
    except msgspec.DecodeError:
        return False

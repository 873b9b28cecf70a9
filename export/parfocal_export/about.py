"""What a person says about a model: name, version, licence, and what must be known to use it."""

import tomllib
from pathlib import Path

import msgspec

from parfocal_training.errors import DataError

OPTION_OF = {"name": "--name", "version": "--model-version", "licence": "--licence"}


class About(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of an `--about` file (TOML); `name`, `version` and `licence` are needed.

    `caveats` and `not_for` are a person's own sentences; those that follow from figures come by
    themselves. `keep`: a bundle that is measured also keeps the person's sentences that it has.
    """

    name: str
    version: str
    licence: str
    description: str = ""
    attribution: str = ""
    caveats: tuple[str, ...] = ()
    not_for: tuple[str, ...] = ()
    keep: bool = True


def read_about(path: Path | None, given: dict[str, str | None]) -> About:
    """The file's entries, with those that were given on the command line in their place.

    Raises
    ------
    DataError
        No TOML, an unknown entry, or one that is needed and missing.
    """
    try:
        said = {} if path is None else tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' is not a TOML file: {error}") from error
    said |= {name: value for name, value in given.items() if value is not None}
    missing = [name for name in OPTION_OF if not said.get(name)]
    if missing:
        options = ", ".join(OPTION_OF[name] for name in missing)
        raise DataError(f"a model needs a {', a '.join(missing)}: give {options} or --about FILE")
    try:
        return msgspec.convert(said, About)
    except msgspec.ValidationError as error:
        raise DataError(f"the description of the model cannot be used: {error}") from error

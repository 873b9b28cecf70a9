"""Arguments that several commands share, and what their exit statuses mean."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from parfocal.client import default_replay
from parfocal.config import ConfigError, Settings, load
from parfocal.publish import Endpoints
from parfocal.quantities import between

OK, FAILED, USAGE, DATA, UNAVAILABLE, SOFTWARE, IO, CONFIG = 0, 1, 2, 65, 69, 70, 74, 78
INTERRUPTED = 130

Commands = Any  # argparse names this type only privately


def command(
    commands: Commands, name: str, text: str, run: Callable[[argparse.Namespace], int | None]
) -> argparse.ArgumentParser:
    """A command with its help, --debug and what it runs."""
    made: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    made.add_argument("--debug", action="store_true", help="show tracebacks and debug messages")
    made.set_defaults(run=run)
    return made


def configured(made: argparse.ArgumentParser) -> None:
    """Add --config and --set."""
    made.add_argument(
        "--config", type=Path, metavar="FILE",
        help="configuration (default: ./parfocal.toml, ~/.config/parfocal/, /etc/parfocal/)",
    )  # fmt: skip
    made.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
        help="override one key, for example source.um_per_px=0.44; may be repeated",
    )  # fmt: skip


def jsonable(made: argparse.ArgumentParser) -> None:
    """Add --json."""
    made.add_argument(
        "--json", action="store_true", help="print JSON Lines on stdout, nothing else"
    )


def connected(made: argparse.ArgumentParser) -> None:
    """Add --connect, --config and --set."""
    configured(made)
    made.add_argument(
        "--connect", metavar="tcp://HOST:PORT",
        help="live address of the rig (default: from the configuration, else tcp://127.0.0.1:5640);"
        " the replay address is the next port",
    )  # fmt: skip


def scaled(made: argparse.ArgumentParser) -> None:
    """Add --um-per-px and the images."""
    made.add_argument(
        "--um-per-px", type=between(0.01, 100, "um/px"), metavar="X",
        help="pixel size in micrometres (default: sidecar, parfocal-folder.toml or file tag)",
    )  # fmt: skip
    made.add_argument("images", nargs="+", metavar="IMAGE", help="a file, a folder or a glob")


def print_json(value: object) -> None:
    """One JSON line on stdout."""
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.buffer.flush()


def settings_of(options: argparse.Namespace) -> Settings:
    """Settings from --config and --set."""
    return load(options.config, tuple(options.overrides))


def endpoints_of(options: argparse.Namespace) -> Endpoints:
    """Where the rig is: --connect, else the configuration, else this machine's default ports."""
    if options.connect:
        try:
            return Endpoints(options.connect, default_replay(options.connect))
        except ValueError as error:
            raise ConfigError(str(error)) from error
    settings = Settings()
    if options.config or options.overrides:
        settings = settings_of(options)
    return Endpoints(settings.publish.live, settings.publish.replay)

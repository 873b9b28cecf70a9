"""The command `parfocal`: arguments in, exit status out; the only place that configures logging."""

import argparse
import logging
import os
import sqlite3
import sys

from parfocal import __version__, console
from parfocal.bundle import BundleError
from parfocal.camera.device import CameraError
from parfocal.child import ChildError
from parfocal.classify import DeviceError, InferenceError
from parfocal.client import UnreachableError
from parfocal.commands import (
    bench,
    camera,
    demo,
    flask,
    models,
    replay,
    scale,
    score,
    service,
    subscribers,
)
from parfocal.commands.arguments import (
    CONFIG,
    DATA,
    FAILED,
    INTERRUPTED,
    IO,
    OK,
    SOFTWARE,
    UNAVAILABLE,
)
from parfocal.config import ConfigError
from parfocal.daemon import ModelUnusableError
from parfocal.demo import DemoError
from parfocal.follow import OutputError
from parfocal.journal import AlreadyRunningError, JournalError
from parfocal.publish import BindError
from parfocal.replay_images import ReplayError
from parfocal.score import NoImagesError

EXIT_STATUS: dict[type[Exception], int] = {
    ConfigError: CONFIG,
    AlreadyRunningError: CONFIG,
    ModelUnusableError: CONFIG,
    BundleError: CONFIG,
    DeviceError: UNAVAILABLE,
    CameraError: UNAVAILABLE,
    BindError: UNAVAILABLE,
    UnreachableError: UNAVAILABLE,
    DemoError: UNAVAILABLE,
    NoImagesError: DATA,
    ReplayError: DATA,
    InferenceError: FAILED,
    ChildError: FAILED,
    OutputError: IO,
    JournalError: IO,
    sqlite3.Error: IO,
    OSError: IO,
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status."""
    options = parser().parse_args(arguments)
    level = logging.DEBUG if options.debug else logging.INFO
    logging.basicConfig(
        level=level, stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(message)s", force=True
    )
    try:
        status = int(options.run(options) or OK)
        sys.stdout.flush()  # here, where a reader that has gone is no error
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # for example `parfocal follow | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except tuple(EXIT_STATUS) as error:
        if options.debug:
            raise
        console.say(f"parfocal: {sentence(error)}")
        return next(code for kind, code in EXIT_STATUS.items() if isinstance(error, kind))
    except Exception as error:  # the last resort of a command line
        if options.debug:
            raise
        console.say(
            f"parfocal: a fault of parfocal itself ({type(error).__name__}: {error}); "
            "run again with --debug and report what it prints"
        )
        return SOFTWARE


def sentence(error: Exception) -> str:
    """What went wrong, in words for a person; the system's errors lose their numbers."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be used: {error.strerror}"
    return str(error)


def parser() -> argparse.ArgumentParser:
    """The argument parser of every command."""
    top = argparse.ArgumentParser(
        prog="parfocal",
        description="Which cells are in this flask, how sure is that, and is it like any seen.",
        epilog="Exit status: 0 done, 1 failed, 2 usage, 65 bad data, 69 unavailable, 74 I/O, "
        "78 bad configuration.",
    )
    top.add_argument("--version", action="version", version=f"parfocal {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for add in (
        demo.add_demo,
        service.add_run,
        service.add_check,
        score.add_detect,
        score.add_classify,
        scale.add_scale,
        camera.add_camera,
        models.add_model,
        flask.add_flask,
        subscribers.add_follow,
        subscribers.add_notebook,
        replay.add_replay,
        bench.add_bench,
        demo.add_simulate,
    ):
        add(commands)
    return top

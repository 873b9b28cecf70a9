"""`parfocal run`: the daemon as a service, from signals and configuration to an exit status."""

import logging
import signal
import sqlite3
from pathlib import Path
from types import FrameType

from parfocal.bundle import BundleError
from parfocal.config import ConfigError, Settings, load
from parfocal.daemon import Daemon, ModelUnusableError
from parfocal.journal import JournalError
from parfocal.notify import Notifier
from parfocal.publish import BindError

log = logging.getLogger(__name__)

UNUSABLE = (BundleError, BindError, JournalError, ModelUnusableError)
"""What shows only when a daemon starts, though its configuration could be read."""


def serve(path: Path | None, overrides: tuple[str, ...]) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP reads the configuration again and starts over.

    Recovery is the only way to start, so a reload is a stop and a start with the service kept up. A
    configuration that has become wrong, or with which no daemon can start, keeps the old one.

    Raises
    ------
    JournalError
        The journal could not be written; what was published is in it.
    """
    settings, notifier, early = _settings(path, overrides), Notifier(), Early()
    good: Settings | None = None
    before = signal.signal(signal.SIGHUP, early)
    try:
        while True:
            try:
                with early.given(Daemon(settings, notifier)) as daemon:
                    log.info("watching %s", settings.source.path)
                    outcome = daemon.run()
            except UNUSABLE as error:
                if good is None or settings is good:
                    raise
                log.error("the new configuration is not used: %s", error)
                settings = good
                continue
            if outcome == "stop":
                return
            early.asked = False  # whoever asked before this gets what is read now
            good, settings = settings, _reloaded(path, overrides, settings)
    except sqlite3.Error as error:
        raise JournalError(
            f"the journal in {settings.state_dir} cannot be written ({error}): free space there or "
            "mend its disk, then start again; it goes on with the file it was at"
        ) from error
    finally:
        signal.signal(signal.SIGHUP, before)


class Early:
    """Keeps a SIGHUP that comes while no daemon listens: it must neither kill nor be lost."""

    def __init__(self) -> None:
        self.asked = False
        self._daemon: Daemon | None = None

    def __call__(self, number: int, frame: FrameType | None, /) -> None:
        """The signal handler, outside `Daemon.run`."""
        self.asked = True
        if self._daemon is not None:
            self._pass_on(self._daemon)

    def given(self, daemon: Daemon) -> Daemon:
        """The daemon that starts next; it is told what was asked already."""
        self._daemon = daemon
        if self.asked:
            self._pass_on(daemon)
        return daemon

    def _pass_on(self, daemon: Daemon) -> None:
        daemon.outcome = daemon.outcome or "reload"


def _settings(path: Path | None, overrides: tuple[str, ...]) -> Settings:
    settings = load(path, overrides)
    if not settings.source.path:
        raise ConfigError("source.path is not set: name the folder to watch")
    if settings.source.kind == "camera" and settings.source.um_per_px is None:
        raise ConfigError(
            "source.um_per_px is not set, and a camera knows no pixel size: `parfocal camera snap` "
            "a stage micrometre, and `parfocal scale` says it"
        )
    return settings


def _reloaded(path: Path | None, overrides: tuple[str, ...], old: Settings) -> Settings:
    try:
        return _settings(path, overrides)
    except ConfigError as error:
        log.error("the new configuration is not used: %s", error)
        return old

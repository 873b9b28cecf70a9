"""`parfocal run`: the daemon as a service, from signals and configuration to an exit status."""

import logging
from pathlib import Path

from parfocal.config import ConfigError, Settings, load
from parfocal.daemon import Daemon
from parfocal.notify import Notifier

log = logging.getLogger(__name__)


def serve(path: Path | None, overrides: tuple[str, ...]) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP reads the configuration again and starts over.

    Recovery is the only way to start, so a reload is a stop and a start with the service kept up. A
    configuration that has become wrong keeps the old one running.
    """
    settings, notifier = _settings(path, overrides), Notifier()
    while True:
        with Daemon(settings, notifier) as daemon:
            log.info("watching %s", settings.source.path)
            outcome = daemon.run()
        if outcome == "stop":
            return
        settings = _reloaded(path, overrides, settings)


def _settings(path: Path | None, overrides: tuple[str, ...]) -> Settings:
    settings = load(path, overrides)
    if not settings.source.path:
        raise ConfigError("source.path is not set: name the folder to watch")
    return settings


def _reloaded(path: Path | None, overrides: tuple[str, ...], old: Settings) -> Settings:
    try:
        return _settings(path, overrides)
    except ConfigError as error:
        log.error("the new configuration is not used: %s", error)
        return old

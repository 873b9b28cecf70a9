"""`parfocal run` and `parfocal check`."""

import argparse

from parfocal import console
from parfocal.check import check
from parfocal.commands.arguments import (
    FAILED,
    OK,
    Commands,
    command,
    configured,
    jsonable,
    print_json,
    settings_of,
)
from parfocal.service import serve


def add_run(commands: Commands) -> None:
    """Add the arguments of `parfocal run`."""
    made = command(commands, "run", "run the service that watches a folder", run_service)
    configured(made)


def add_check(commands: Commands) -> None:
    """Add the arguments of `parfocal check`."""
    made = command(commands, "check", "say what would stop it from working", run_check)
    configured(made)
    jsonable(made)


def run_service(options: argparse.Namespace) -> None:
    """`parfocal run`."""
    serve(options.config, tuple(options.overrides))


def run_check(options: argparse.Namespace) -> int:
    """`parfocal check`: status 1 when anything would stop the instrument."""
    found = check(settings_of(options))
    faults = sum(finding.remedy is not None for finding in found)
    if options.json:
        for finding in found:
            print_json(
                {"subject": finding.subject, "ok": finding.remedy is None, "text": finding.text,
                 "remedy": finding.remedy, "warning": finding.warning}
            )  # fmt: skip
    else:
        for text in console.findings(found):
            console.out().print(text, soft_wrap=True)
        console.out().print(f"{faults} fault{'s' * (faults != 1)}" if faults else "ready to run")
    return FAILED if faults else OK

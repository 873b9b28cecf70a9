"""The faults that training reports in one sentence, with their exit codes (sysexits.h)."""

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_DATA, EXIT_IO, EXIT_INTERRUPTED = 0, 1, 2, 65, 74, 130


class TrainingError(Exception):
    """Something a person must change; the message says what was got and what to do."""

    exit_code = EXIT_FAILED


def sentence(error: TrainingError | OSError) -> str:
    """What to tell a person."""
    if isinstance(error, TrainingError):
        return str(error)
    what = f"cannot use '{error.filename}': " if error.filename else ""
    return f"{what}{error.strerror or error}"


class UsageError(TrainingError):
    """The options contradict each other or the folder they point at."""

    exit_code = EXIT_USAGE


class DataError(TrainingError):
    """The data set or a checkpoint does not hold what is needed."""

    exit_code = EXIT_DATA

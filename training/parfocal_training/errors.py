"""The faults that training reports in one sentence, with their exit codes (sysexits.h)."""

import re

import torch

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_DATA, EXIT_MEMORY, EXIT_IO = 0, 1, 2, 65, 71, 74
EXIT_INTERRUPTED = 130


class TrainingError(Exception):
    """Something a person must change; the message says what was got and what to do."""

    exit_code = EXIT_FAILED


def exit_code(error: Exception) -> int | None:
    """The exit code of a fault that a person can do something about; None of any other."""
    if isinstance(error, TrainingError):
        return error.exit_code
    if out_of_memory(error):
        return EXIT_MEMORY
    return EXIT_IO if isinstance(error, OSError) else None


def sentence(error: Exception) -> str:
    """What to tell a person."""
    if isinstance(error, OSError):
        what = f"cannot use '{error.filename}': " if error.filename else ""
        return f"{what}{error.strerror or error}"
    if out_of_memory(error):
        asked = re.search(r"allocate ([\d.]+ \w+)", str(error))
        more = f" ({asked[1]} more were asked for)" if asked else ""
        return (
            f"out of memory{more}: free some, or give less at once: fewer images or crops, or a "
            "smaller --batch"
        )
    return str(error)


def out_of_memory(error: Exception) -> bool:
    """Whether memory ran out; of that of a CPU PyTorch says so in words alone."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't" in str(error)


class UsageError(TrainingError):
    """The options contradict each other or the folder they point at."""

    exit_code = EXIT_USAGE


class DataError(TrainingError):
    """The data set or a checkpoint does not hold what is needed."""

    exit_code = EXIT_DATA

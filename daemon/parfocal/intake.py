"""Opens a file that nobody vouches for: only regular ones, only whole, only up to a size."""

import errno
import os
import stat

from parfocal.reasons import FileReason

BLANK_BYTES = 4096
"""Zeros at the end of a file that count as reserved space."""


class RefusalError(Exception):
    """A file that is not scored: its reason, and whether it may still be being written."""

    def __init__(self, reason: FileReason, detail: str, retry: bool = False) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.retry = reason, detail, retry


def read_file(path: str, max_bytes: int) -> tuple[bytes, os.stat_result]:
    """All bytes of a regular file and its status; links, pipes and changing files are refused."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise RefusalError(FileReason.VANISHED, "it is not there any more") from error
    except OSError as error:
        if os.path.islink(path):
            raise RefusalError(FileReason.NOT_A_FILE, "it is a symbolic link") from error
        if error.errno == errno.ENXIO:
            raise RefusalError(FileReason.NOT_A_FILE, "it is a socket") from error
        raise RefusalError(FileReason.UNREADABLE, error.strerror or "cannot open", True) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):  # first: Python opens no folder
        os.close(fd)
        raise RefusalError(FileReason.NOT_A_FILE, "it is not a regular file")
    with open(fd, "rb", buffering=0) as file:
        before = os.fstat(fd)
        if before.st_size > max_bytes:
            raise RefusalError(
                FileReason.TOO_LARGE, f"{before.st_size} bytes, at most {max_bytes} allowed"
            )
        try:
            data = file.readall() or b""
        except OSError as error:
            raise RefusalError(
                FileReason.UNREADABLE, error.strerror or "read error", True
            ) from error
        after = os.fstat(fd)
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns) or len(data) != (
        before.st_size
    ):
        raise RefusalError(FileReason.INCOMPLETE, "it changed while it was read", True)
    return data, after


def blank_end(data: bytes, status: os.stat_result) -> bool:
    """Whether a file looks reserved but not filled: sparse, or zeros where its data should end."""
    sparse = status.st_blocks * 512 < status.st_size // 2
    return sparse or not any(data[-BLANK_BYTES:])

"""Which file system a path lies on: network shares send no events and are unfit for SQLite."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

NETWORK_KINDS = frozenset(
    "cifs smb3 smbfs 9p vboxsf drvfs ncpfs afs ceph glusterfs fuse virtiofs prl_fs lustre beegfs "
    "gpfs".split()
)
MOUNT_TABLE = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount point and its file-system type; the type is "" where it cannot be told."""

    point: str
    kind: str


def is_network(mount: Mount) -> bool:
    """Whether files there may be written by other machines without an event here."""
    kind = mount.kind
    return kind in NETWORK_KINDS or kind.startswith(("nfs", "fuse."))


def mount_of(path: Path, table: Path = MOUNT_TABLE) -> Mount:
    """The mount that a path lies on; of several on one point, the last one hides the others."""
    if not table.exists():
        return Mount("/", "")
    real = os.path.realpath(path)
    mounts = _mounts(os.fsdecode(table.read_bytes()))
    covering = [m for m in reversed(mounts) if _covers(m.point, real)]
    return max(covering, key=lambda m: len(m.point), default=Mount("/", ""))


def _covers(point: str, path: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def _mounts(text: str) -> list[Mount]:
    mounts = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        mounts.append(Mount(_unescape(left.split()[4]), right.split()[0]))
    return mounts


def _unescape(point: str) -> str:
    """Undo the octal escapes of the mount table (space, tab, newline, backslash, hash)."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), point)

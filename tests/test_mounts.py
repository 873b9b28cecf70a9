"""Which file system a path lies on, from tables as Linux writes them."""

import os
from pathlib import Path

import pytest

from parfocal.mounts import Mount, is_network, mount_of

ROOT = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"


def line(point: str, kind: str, source: str = "x") -> str:
    return f"40 22 0:41 / {point} rw,relatime shared:2 master:1 - {kind} {source} rw,vers=3\n"


@pytest.mark.parametrize(
    ("kind", "network"),
    [
        ("ext4", False), ("xfs", False), ("btrfs", False), ("tmpfs", False), ("overlay", False),
        ("fuseblk", False), ("zfs", False), ("cifs", True), ("smb3", True), ("nfs", True),
        ("nfs4", True), ("fuse.sshfs", True), ("fuse.rclone", True), ("fuse", True), ("9p", True),
        ("vboxsf", True), ("virtiofs", True), ("drvfs", True), ("", False),
    ],
)  # fmt: skip
def test_kinds_that_others_write_to_without_an_event_are_network(kind: str, network: bool) -> None:
    assert is_network(Mount("/", kind)) is network


@pytest.mark.parametrize(
    ("more", "path", "found"),
    [
        pytest.param("", "/srv/x", Mount("/", "ext4"), id="only the root"),
        pytest.param(line("/srv", "cifs"), "/srv/x/y", Mount("/srv", "cifs"), id="a share"),
        pytest.param(line("/srv", "cifs"), "/srv", Mount("/srv", "cifs"), id="the share itself"),
        pytest.param(line("/srv", "cifs"), "/srvx", Mount("/", "ext4"), id="a longer name"),
        pytest.param(
            line("/srv", "nfs4") + line("/srv/local", "xfs"),
            "/srv/local/a", Mount("/srv/local", "xfs"), id="a disk within a share",
        ),
        pytest.param(
            line("/srv/local", "xfs") + line("/srv", "nfs4"),
            "/srv/local/a", Mount("/srv/local", "xfs"), id="listed the other way round",
        ),
        pytest.param(
            line("/srv", "autofs") + line("/srv", "cifs"),
            "/srv/a", Mount("/srv", "cifs"), id="a share over its automount point",
        ),
        pytest.param(
            line(r"/srv/my\040share", "cifs", "//pc/my\\040share"),
            "/srv/my share/a", Mount("/srv/my share", "cifs"), id="a space",
        ),
        pytest.param(
            line(r"/a\134040b", "cifs"), r"/a\040b/c", Mount(r"/a\040b", "cifs"),
            id="a name that looks like an escape",
        ),
        pytest.param(
            line(r"/a\043b", "9p"), "/a#b/c", Mount("/a#b", "9p"), id="a hash",
        ),
        pytest.param(
            "41 22 0:5 / /plain rw - fuse.sshfs u@h: rw\n", "/plain/a",
            Mount("/plain", "fuse.sshfs"), id="no optional fields",
        ),
    ],
)  # fmt: skip
def test_the_mount_of_a_path_is_the_nearest_and_the_topmost(
    more: str, path: str, found: Mount, tmp_path: Path
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(ROOT + more)
    assert mount_of(Path(path), table) == found


def test_a_mount_point_that_is_not_utf_8_is_read(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_bytes(ROOT.encode() + line("/srv/@", "cifs").encode().replace(b"@", b"\xfc"))
    assert mount_of(Path("/srv/x"), table).kind == "ext4"
    assert mount_of(Path(os.fsdecode(b"/srv/\xfc/x")), table).kind == "cifs"


def test_a_link_is_followed_to_the_mount_it_points_into(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    table = tmp_path / "mountinfo"
    table.write_text(ROOT + line(os.path.realpath(tmp_path / "disk"), "nfs"))
    assert mount_of(tmp_path / "link" / "a.tif", table).kind == "nfs"


def test_without_a_mount_table_nothing_is_claimed(tmp_path: Path) -> None:
    assert mount_of(Path("/srv"), tmp_path / "none") == Mount("/", "")


def test_this_machine_has_a_mount_for_every_path() -> None:
    assert mount_of(Path("/proc/self")).kind == "proc"

"""The README's tour works as it stands, and what it lists is what there is."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from rigs import free_ports

from parfocal.cli import parser
from parfocal.reasons import CellReason, FileReason, ObjectReason

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def tour() -> list[str]:
    """The commands of the console blocks, in order."""
    blocks = re.findall(r"```console\n(.*?)```", README, re.S)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def test_the_tour_runs(tmp_path: Path) -> None:
    live, replay = free_ports()
    (tmp_path / "systemd").symlink_to(ROOT / "systemd")
    commands = tour()
    assert len(commands) >= 6
    for command in commands:
        if command.startswith("parfocal check"):  # the default ports may be in use here
            command += f" --set publish.live=tcp://127.0.0.1:{live}"
            command += f" --set publish.replay=tcp://127.0.0.1:{replay}"
        shell = command.replace("parfocal ", f"{shlex.quote(sys.executable)} -m parfocal ", 1)
        done = subprocess.run(
            shell, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=50
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    assert (tmp_path / "seen").is_dir() and (tmp_path / "masks").is_dir()


@pytest.mark.parametrize("code", [*FileReason, *ObjectReason, *CellReason])
def test_every_reason_code_is_listed(code: str) -> None:
    assert f"`{code}`" in README


def test_every_command_the_readme_names_exists() -> None:
    blocks = re.findall(r"```(?:console|sh)\n(.*?)```", README, re.S)
    named = set(re.findall(r"^(?:\$ )?parfocal (\w+)", "\n".join(blocks), re.M))
    actions = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    assert named and named <= set(actions or ())


def test_no_placeholder_is_left() -> None:
    assert not re.findall(r"\b[A-Z]+_(?:OUTPUT|SECTION|FIGURES)\b", README)

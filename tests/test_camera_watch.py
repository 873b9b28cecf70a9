"""What is told of a camera and its view: after some seconds, once, and again when it is over."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from parfocal.alarms import Told, camera_changes
from parfocal.camera.watch import Watch
from parfocal.console import camera_line
from parfocal.journal import Journal
from parfocal.reasons import GateReason
from parfocal.types import Alarm, CameraBeat

MOVING, SETTLING, SEEN = GateReason.MOVING, GateReason.SETTLING, GateReason.ALREADY_SEEN
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def watched(*views: GateReason | None, every_s: float = 0.5) -> list[str]:
    """What each look told: `name` of an alarm that is set, `-name` of one that is over."""
    watch, told, said = Watch(), dict[str, Alarm](), list[str]()
    for k, view in enumerate(views):
        watch.viewed(view, every_s * k)
        for alarm in camera_changes(told, watch.known, "now"):
            told[alarm.name] = alarm
            said.append("-" * alarm.cleared + alarm.name)
    return said


@pytest.mark.parametrize(
    "view",
    [
        GateReason.DARK, GateReason.OVEREXPOSED, GateReason.FROZEN, GateReason.WRONG_OBJECTIVE,
        GateReason.CHANGED_GAMMA, GateReason.BUBBLE_OR_MENISCUS,
    ],
)  # fmt: skip
def test_a_fault_of_the_view_is_told_once_it_held_and_when_it_is_over(view: GateReason) -> None:
    name = f"camera_{view}"
    assert watched(*[view] * 6) == []
    assert watched(*[view] * 30) == [name]
    assert watched(*[view] * 9, *[SEEN] * 4, *[view] * 4) == [name]
    assert watched(*[view] * 9, *[SEEN] * 9) == [name, f"-{name}"]
    assert watched(*[view, SEEN] * 20) == []


@pytest.mark.parametrize("view", [MOVING, SETTLING, SEEN, GateReason.OUT_OF_FOCUS, None])
def test_what_is_ordinary_is_no_alarm(view: GateReason | None) -> None:
    assert watched(*[view] * 100) == []


def test_a_wrong_objective_is_told_though_the_flask_is_pushed_on_between_short_rests() -> None:
    rest = [MOVING, MOVING, SETTLING, GateReason.WRONG_OBJECTIVE]
    assert watched(*rest * 3) == ["camera_wrong_objective"]
    assert watched(*rest * 3, *[MOVING] * 50) == ["camera_wrong_objective"]
    well = [MOVING, SETTLING, SEEN, SEEN]
    over = "-camera_wrong_objective"
    assert watched(*rest * 3, *well * 3) == ["camera_wrong_objective", over]


def test_a_lamp_that_is_on_again_is_over_even_while_the_flask_moves() -> None:
    told = watched(*[GateReason.DARK] * 9, *[MOVING] * 9)
    assert told == ["camera_dark", "-camera_dark"]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal.sqlite", "r", lambda: NOW)
    yield made
    made.close()


def test_an_alarm_that_stood_before_a_restart_is_over_when_the_camera_is_well(
    journal: Journal,
) -> None:
    before, after = Watch(), Watch()
    before.lost("it stopped by itself", 0.0)
    (alarm,) = camera_changes({}, before.known, "now")
    assert (alarm.level, alarm.text) == ("warning", "the camera is lost: it stopped by itself")
    with journal.transaction():
        journal.append("alarm", alarm)
    told = Told(journal).camera
    assert camera_changes(told, after.known, "later") == []
    for at_s in range(5):
        after.lost(None, at_s)
    (cleared,) = camera_changes(told, after.known, "later")
    assert cleared.cleared and cleared.since_at == "now" and cleared.text == "the camera is back"


def test_the_state_line_says_what_the_camera_did_and_sees() -> None:
    counts = CameraBeat(view=MOVING, frames=9, kept=2, dropped=3, overflows=1, losses=0)
    assert camera_line(counts) == (
        "camera: 9 frames, 2 kept, 3 dropped, 1 overflows; the flask moves; stop to let it look"
    )

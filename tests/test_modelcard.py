"""`parfocal model show`: what a person reads of a model, on a terminal and as a page."""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from rigs import card_text, measured_card, save_model, tiny_card, tiny_graph, tiny_weights

from parfocal.bundle import BundleError, load, shipped
from parfocal.calibrate import Judge, softmax
from parfocal.card import ClassifierCard, Seen
from parfocal.cli import main
from parfocal_training.evaluate import measure
from parfocal_training.leftout import LeftOut

WEIGHTS = tiny_weights()
GROUPS = 24


def left_out() -> LeftOut:
    """Boastful answers to 24 flasks of 30 cells in 3 frames; flask 23 is strange."""
    rng = np.random.default_rng(7)
    groups = np.repeat(np.arange(GROUPS), 30)
    logits = rng.normal(0, 3, (len(groups), 2))
    labels = (rng.random(len(groups)) < softmax(logits)[:, 1]).astype(np.int64)
    distances = 10 + rng.normal(0, 0.2, GROUPS)[groups] + rng.normal(0, 1, len(groups))
    distances[groups == GROUPS - 1] += 4
    return LeftOut(
        logits * 2, labels, groups % 4, tuple(f"flask <{g}>" for g in groups), distances,
        tuple(f"{i // 10}.png" for i in range(len(groups))),
    )  # fmt: skip


def full_card() -> ClassifierCard:
    """The tiny card with everything that a fit of this version measures."""
    shown = measure(left_out(), "flask", 0, classes=("alpha", "beta"))
    seen = Seen(
        cell_lines={"alpha": 300, "beta": 420}, groups=24, group_kind="flask",
        densities={"0.3": 360, "0.8": 360}, um_per_px=0.44, detector="cells 1.0.0",
    )  # fmt: skip
    return measured_card(shown, seen=seen, not_for=("Cells <b>of fish</b>.",))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "full.onnx"
    return save_model(path, tiny_graph(WEIGHTS), card_text(full_card()))


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["model", "show", *arguments])
    out, err = capsys.readouterr()
    return code, " ".join(out.split()), err


def test_a_card_is_read_from_top_to_bottom(
    full: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    code, text, _ = shown(capsys, str(full))
    assert code == 0
    said = [
        "Is this cell alpha or beta?",
        "720 cells of 24 flasks",
        "densities 0.3: 360, 0.8: 360",
        "passages not recorded",
        "4-fold cross-validation over 24 groups (flask)",
        "One by one: each left-out flask",
        "and 8 more: --html or --json shows all",
        "Logits are divided by 2.",
        "Tried fold by fold, each with what the other folds gave,",
        ": that is better. The calibration error was then",
        "exchangeable with the 24 left-out ones, at most 5.0% of a flask's cells",
        "How many strange ones it notices is not known.",
        "Must not be used for - Cells <b>of fish</b>.",
        "Caveats - a test model",
    ]
    at = [text.find(part) for part in said]
    assert -1 not in at, said[at.index(-1)]
    assert at == sorted(at)
    assert re.search(r"the rule of the others calls \d+ strange .*: flask <23>\.", text)


@pytest.mark.parametrize(
    ("log_loss", "brier", "said"),
    [(9.0, 1.9, "that is worse than without it"), (9.0, 0.0, "that is no clear gain")],
)
def test_a_temperature_that_does_not_help_is_said_not_to(
    log_loss: float, brier: float, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = full_card()
    assert card.reliability is not None
    known = msgspec.structs.replace(card.reliability, log_loss=log_loss, brier=brier)
    text = card_text(msgspec.structs.replace(card, reliability=known))
    path = save_model(tmp_path / "worse.onnx", tiny_graph(WEIGHTS), text)
    assert said in shown(capsys, str(path))[1]


@pytest.mark.parametrize(
    ("passages", "said"),
    [
        ({str(p): 10 for p in range(5, 26)}, "passages 5 to 25, half of the cells 10 to 20"),
        ({f"P{p}": 10 for p in range(9)}, "passages P0: 10, P1: 10"),
    ],
    ids=["numbers", "words"],
)
def test_many_values_are_told_as_a_range(
    passages: dict[str, int], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = full_card()
    assert card.seen is not None
    seen = msgspec.structs.replace(card.seen, passages=passages)
    text = card_text(msgspec.structs.replace(card, seen=seen))
    path = save_model(tmp_path / "many.onnx", tiny_graph(WEIGHTS), text)
    assert said in shown(capsys, str(path))[1]


def test_a_page_needs_nothing_beside_it_and_escapes_what_others_wrote(
    full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "new" / "card.html"
    code, out, _ = shown(capsys, str(full), "--html", str(page))
    text = page.read_text()
    assert code == 0
    assert f"the card of tiny is in {page}" in out
    assert not re.search(r"""(src|href|url)\s*[=(]|<script|http""", text)
    assert "<b>of fish" not in text and "&lt;b&gt;of fish" in text
    assert "flask <" not in text and text.count("<td>flask &lt;") == GROUPS  # all, not 16
    assert str(full.parent) not in text


def test_the_plot_shows_each_bin_where_it_belongs(
    full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "card.html"
    shown(capsys, str(full), "--html", str(page))
    drawing = ET.fromstring(re.findall(r"<svg.*?</svg>", page.read_text(), re.S)[0])
    frame = drawing.find("rect")
    assert frame is not None
    x0, y0, side = (float(frame.attrib[name]) for name in ("x", "y", "width"))
    known = load(str(full)).card.reliability
    assert known is not None
    points = drawing.findall("circle")
    assert len(points) == len(known.bins) == 10
    at = np.array([[float(p.attrib["cx"]), float(p.attrib["cy"])] for p in points])
    assert ((at >= [x0, y0]) & (at <= [x0 + side, y0 + side])).all()
    per_share = side / (1 - 0.1 * int(min(min(b.low, b.predicted) for b in known.bins) * 10))
    wanted = [(b.predicted - 1) * per_share + x0 + side for b in known.bins]
    np.testing.assert_allclose(at[:, 0], wanted, atol=0.1)
    np.testing.assert_allclose(
        at[:, 1], [(1 - b.observed) * per_share + y0 for b in known.bins], atol=0.1
    )


def test_json_holds_the_whole_card(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["model", "show", str(full), "--json"])
    card = json.loads(capsys.readouterr().out)["card"]
    assert len(card["per_group"]) == GROUPS
    assert card["shift"]["n_groups"] == GROUPS
    assert card["abstention"]["guaranteed"] is True


@pytest.mark.parametrize("name", ["demo", "hek293a-ht1080"])
def test_a_model_from_before_says_what_it_does_not_know(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name not in shipped():
        pytest.skip(f"{name} is not shipped")
    code, text, _ = shown(capsys, name, "--html", str(tmp_path / "card.html"))
    assert code == 0
    code, text, _ = shown(capsys, name)
    assert code == 0 and "Is it as sure as it is right?" in text


def test_a_card_without_the_new_fields_is_judged_and_shown(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = json.loads(card_text(tiny_card(WEIGHTS)))
    for name in ("reliability", "per_group", "shift", "seen", "not_for"):
        assert card.pop(name) is None
    card["abstention"] = {"min_probability": 0.55, "max_novelty": 0.99}
    old = msgspec.json.decode(json.dumps(card), type=ClassifierCard)
    assert old == tiny_card(WEIGHTS)
    assert Judge(old)(np.zeros((1, 2), "f4"), np.zeros((1, 9), "f4")).reasons
    code, text, _ = shown(capsys, str(tiny_bundle))
    assert code == 0
    for sentence in (
        "Nothing was left out of training to measure it.",
        "This card guarantees no error rate.",
        "It cannot tell: this card has no rule for whole flasks.",
        "This card does not say.",
        "has no reliability table",
    ):
        assert sentence in text


def test_a_page_never_takes_the_place_of_the_model(
    full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = full.read_bytes()
    (tmp_path / "link.html").symlink_to(full)
    code, _, err = shown(capsys, str(full), "--html", str(tmp_path / "link.html"))
    assert code != 0 and "is the model itself: name another file" in err
    assert full.read_bytes() == before
    code, _, err = shown(capsys, str(full), "--html", "/proc/no/card.html")
    assert code == 74 and "cannot be written" in err


def test_a_detector_has_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = shown(capsys, "cells", "--html", str(tmp_path / "card.html"))
    assert code != 0 and "is a detector, whose card has no page: leave out --html" in err
    assert not (tmp_path / "card.html").exists()


Change = Callable[[dict[str, Any]], object]
NONSENSE: dict[str, tuple[Change, str]] = {
    "a bin right more than always": (
        lambda c: c["reliability"]["bins"][0].update(observed=1.2), "share of 1.2"),
    "an empty bin": (lambda c: c["reliability"]["bins"][0].update(n=0), "stands on nothing"),
    "a negative Brier score": (lambda c: c["reliability"].update(brier=-1.0), "below 0"),
    "a group of no cells": (lambda c: c["per_group"][0].update(n=0), "stands on nothing"),
    "a negative accuracy": (lambda c: c["per_group"][0].update(accuracy=-0.1), "share of -0.1"),
    "an error rate of 1": (lambda c: c["abstention"].update(error_rate=1.0), "error rate is 1"),
    "a broken promise": (
        lambda c: c["abstention"].update(expected_loss=0.3), "guaranteed with an expected loss"),
    "a promise of nothing": (
        lambda c: c["abstention"].update(error_rate=None), "guaranteed with an expected loss"),
    "a negative SD": (lambda c: c["shift"].update(within_sd=-0.2), "below 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_in_what_was_measured_is_refused(
    case: tuple[Change, str], full: Path, tmp_path: Path
) -> None:
    card = msgspec.to_builtins(load(str(full)).card)
    card = json.loads(json.dumps(card))
    case[0](card)
    path = save_model(tmp_path / "m.onnx", tiny_graph(WEIGHTS), json.dumps(card))
    with pytest.raises(BundleError, match=case[1]):
        load(str(path))


@pytest.mark.parametrize("number", ["NaN", "1e999", "-Infinity"])
def test_numbers_that_are_not_finite_are_refused(number: str, full: Path, tmp_path: Path) -> None:
    text = card_text(load(str(full)).card)
    spoilt = re.sub(r'"within_sd":[0-9.e-]+', f'"within_sd":{number}', text)
    assert spoilt != text
    with pytest.raises(BundleError, match=r"does not follow|not finite"):
        load(str(save_model(tmp_path / "m.onnx", tiny_graph(WEIGHTS), spoilt)))

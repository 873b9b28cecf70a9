"""The models that come with parfocal: complete, self-consistent, honest about its limits."""

import argparse
import base64
import shlex
from pathlib import Path

import numpy as np
import pytest

from parfocal.bundle import Bundle, load
from parfocal.calibrate import Judge
from parfocal.classify import OnnxClassifier
from parfocal.normalize import normalize
from parfocal_export.about import read_about
from parfocal_export.question import golden_crops
from parfocal_training.options import recipe_from, recipe_options
from parfocal_training.recipe import FIELD


@pytest.fixture(scope="module")
def model() -> Bundle:
    return load("hek293a-ht1080")


def test_it_answers_its_golden_question(model: Bundle) -> None:
    assert OnnxClassifier(model, "cpu", threads=1).check_golden() <= model.card.golden.tolerance


def test_it_says_what_it_is_and_whose_images_taught_it(model: Bundle) -> None:
    card = model.card
    assert card.classes == ("HEK-293A", "HT1080")
    assert (card.um_per_px, card.crop_px, card.licence) == (0.44, 224, "MIT")
    assert card.prepare.detector.name == "external"
    assert "Copyright (c) 2019 sunlabjhu" in card.attribution
    assert len(card.training.data_sha256s) == 121


def test_its_figures_come_from_left_out_fields_and_have_intervals(model: Bundle) -> None:
    card = model.card
    accuracy = card.training.metrics["accuracy"]
    assert accuracy.value >= 0.9
    assert accuracy.n == 121
    assert accuracy.low is not None and accuracy.high is not None
    assert accuracy.low < accuracy.value < accuracy.high
    assert "cross-validation over 36 groups (field)" in accuracy.how
    assert card.confusion is not None
    assert sum(map(sum, card.confusion.counts)) == 121


def test_it_states_its_limits(model: Bundle) -> None:
    told = " ".join(model.card.caveats)
    for limit in ("unmeasured", "inferred", "one flask", "121 crops", "optimistic"):
        assert limit in told


def test_it_knows_that_noise_is_no_cell(model: Bundle) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (4, 224, 224), dtype=np.uint8)
    reference = model.card.prepare.pixels.reference_distribution()
    answers = OnnxClassifier(model, "cpu", threads=1)(normalize(noise, reference))
    judged = Judge(model.card)(answers.logits, answers.lca)
    assert all(reason is not None for reason in judged.reasons)


def test_its_golden_crops_are_drawn(model: Bundle) -> None:
    golden = model.card.golden
    stored = np.frombuffer(base64.b64decode(golden.crops), np.uint8)
    drawn = golden_crops(golden.n, model.card.crop_px, np.random.default_rng(0))
    np.testing.assert_array_equal(stored.reshape(drawn.shape), drawn)


def test_it_says_what_its_description_in_the_repository_says(model: Bundle) -> None:
    about = read_about(Path(__file__).parents[1] / "export" / "hek293a-ht1080.toml", {})
    card = model.card
    assert (about.name, about.version, about.licence) == (card.name, card.version, card.licence)
    assert card.caveats[: len(about.caveats)] == about.caveats


@pytest.mark.parametrize("name", ["hek293a-ht1080", "demo"])
def test_it_was_trained_by_the_command_that_its_description_gives(name: str) -> None:
    text = (Path(__file__).parents[1] / "export" / f"{name}.toml").read_text()
    said = " ".join(line.lstrip("# ").rstrip("\\") for line in text.splitlines() if line[:1] == "#")
    command = said[said.index("parfocal-train fit") :].split("parfocal-export")[0]
    parser = argparse.ArgumentParser()
    recipe_options(parser, FIELD.name)
    options, _ = parser.parse_known_args(shlex.split(command.split(" parfocal-train phen")[0]))
    assert load(name).card.training.recipe == recipe_from(options, "cpu").flat()

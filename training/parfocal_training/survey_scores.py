"""Answers to a survey: read with every fault named, scored, and compared with a network's."""

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from parfocal.bundle import BundleError
from parfocal.calibrate import softmax
from parfocal.card import DetectorRules
from parfocal.classify import DeviceError, InferenceError
from parfocal.detectors import choose, started
from parfocal.intervals import wilson
from parfocal.normalize import Reference
from parfocal.types import Gray
from parfocal_training import cropset
from parfocal_training.checkpoint import Checkpoint, decoded, read_checkpoint
from parfocal_training.crops import cut_frames
from parfocal_training.cropset import CropRules
from parfocal_training.dataset import Row
from parfocal_training.errors import DataError, UsageError
from parfocal_training.model import ConvNet
from parfocal_training.survey import Key, SheetPart, Shown
from parfocal_training.train import answer

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
COLUMNS = ("person", "years", "part", "number", "answer")
SHOWN_FAULTS = 8
REPEATS = 2000


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """One person's answers to all parts, in the order of the numbers; places in `part.classes`."""

    name: str
    years: float | None
    answers: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One answer as it stands in a file."""

    file: str
    line: int
    person: str
    years: str
    part: str
    number: str
    answer: str

    @property
    def at(self) -> str:
        """Where it stands."""
        return f"{self.file}, line {self.line}"

    @property
    def who(self) -> str:
        """The person, however the name is spaced and capitalized."""
        return " ".join(self.person.split()).casefold()


def read_answers(key: Key, paths: Sequence[Path]) -> tuple[Person, ...]:
    """Everybody's answers, complete.

    Raises
    ------
    DataError
        Everything that is wrong with the files, each with its file and line.
    """
    lines: list[Line] = []
    faults: list[str] = []
    for path in paths:
        mine, wrong = _lines(path, key.sheet)
        lines += mine
        faults += wrong
    persons: dict[str, list[Line]] = {}
    for line in lines:
        persons.setdefault(line.who, []).append(line)
    read = []
    for mine in persons.values():
        wrong = [*_person_faults(mine), *_answer_faults(key, mine), *_gaps(key, mine)]
        faults += wrong
        if not wrong:
            read.append(_person(key, mine))
    if faults:
        more = len(faults) - SHOWN_FAULTS
        shown = "; ".join(faults[:SHOWN_FAULTS]) + (f"; and {more} more" if more > 0 else "")
        raise DataError(f"the answers cannot be scored: {shown}")
    return tuple(read)


def _lines(path: Path, sheet: str) -> tuple[list[Line], list[str]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        return [], [f"{path} is not UTF-8 text"]
    rows = text.splitlines()
    head = rows[0] if rows else ""
    reader = csv.DictReader(rows, delimiter=";" if head.count(";") > head.count(",") else ",")
    columns = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = columns
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        return [], [f"{path}, line 1 has no column {', '.join(missing)}"]
    lines: list[Line] = []
    faults: list[str] = []
    for row in reader:
        cells = {name: (row[name] or "").strip() for name in columns}
        lines.append(Line(str(path), reader.line_num, *(cells[name] for name in COLUMNS)))
        other = cells.get("sheet") or sheet
        if other != sheet and not faults:  # one line says it for the whole file
            faults.append(
                f"{path}, line {reader.line_num} answers survey {other}, the key is of {sheet}"
            )
    return lines, faults or ([] if lines else [f"{path} holds no answers"])


def _person_faults(mine: Sequence[Line]) -> Iterator[str]:
    first = mine[0]
    if not first.who:
        yield f"{first.at} names no person"
    files = list(dict.fromkeys(line.file for line in mine))
    if len(files) > 1:
        yield f"{' and '.join(files)} are both answers of '{first.person}'"
    for line in mine:
        if line.years != first.years:
            yield f"{line.at} gives '{first.person}' {line.years or 'no'} years, not {first.years}"
            return
    if first.years and _years(first.years) is None:
        yield f"{first.at}: years '{first.years}' is not a number from 0 on"


def _years(text: str) -> float | None:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


def _answer_faults(key: Key, mine: Sequence[Line]) -> Iterator[str]:
    parts = {str(part.number): part for part in key.parts}
    seen: dict[tuple[str, str, str], Line] = {}
    for line in mine:
        part = parts.get(line.part)
        if part is None:
            yield f"{line.at}: part '{line.part}' is none of {', '.join(parts)}"
            continue
        if line.number not in {str(image.number) for image in part.of("unlabelled")}:
            yield f"{line.at}: part {line.part} has no number '{line.number}'"
        if line.answer not in part.classes:
            yield f"{line.at}: answer '{line.answer}' is neither {' nor '.join(part.classes)}"
        before = seen.setdefault((line.file, line.part, line.number), line)
        if before is not line:
            yield f"{line.at}: part {line.part} number {line.number} is on line {before.line} too"


def _gaps(key: Key, mine: Sequence[Line]) -> Iterator[str]:
    given = {(line.part, line.number) for line in mine}
    files = " and ".join(dict.fromkeys(line.file for line in mine))
    for part in key.parts:
        wanted = [str(image.number) for image in part.of("unlabelled")]
        missing = [number for number in wanted if (str(part.number), number) not in given]
        if missing:
            listed = "all numbers" if missing == wanted else f"number {', '.join(missing)}"
            last = max(line.line for line in mine)
            yield (
                f"{files}, up to line {last}: {listed} of part {part.number} missing for "
                f"'{mine[0].person}'"
            )


def _person(key: Key, mine: Sequence[Line]) -> Person:
    said = {(line.part, line.number): line.answer for line in mine}
    return Person(
        name=" ".join(mine[0].person.split()),
        years=_years(mine[0].years),
        answers=tuple(
            tuple(
                part.classes.index(said[str(part.number), str(image.number)])
                for image in part.of("unlabelled")
            )
            for part in key.parts
        ),
    )


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """Right answers of n; Wilson's 95 % interval takes the images as independent."""

    right: int
    n: int
    accuracy: float
    low: float
    high: float


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """How much persons answer alike: Fleiss' kappa, and the share of equal answers of each two.

    `kappa` is None where everybody gave one and the same answer throughout: chance then explains
    all agreement.
    """

    kappa: float | None
    mean: float
    least: float
    most: float
    pairs: tuple[tuple[str, str, float], ...]


class NetworkScore(msgspec.Struct, frozen=True, kw_only=True):
    """The network on the same images, and beside persons.

    `silent` of the images got no answer (no cell was found in the frame) and count as wrong;
    `ahead` is its accuracy less the persons' mean with a 95 % interval; `agreement` is the share
    of equal answers with each person, in their order.
    """

    score: Score
    silent: int
    ahead: float
    ahead_low: float
    ahead_high: float
    agreement: tuple[float, ...]


class PartScores(msgspec.Struct, frozen=True, kw_only=True):
    """What one part gave; `mean_low` to `mean_high` hold for other persons and other fields."""

    number: int
    kind: str
    title: str
    persons: tuple[Score, ...]
    mean: float
    sd: float | None
    mean_low: float
    mean_high: float
    n_units: int
    agreement: Agreement | None
    network: NetworkScore | None


def score_of(right: Sequence[bool] | NDArray[np.bool_]) -> Score:
    """Share of right answers with its interval."""
    k, n = int(np.sum(right)), len(right)
    low, high = wilson(k, n)
    return Score(right=k, n=n, accuracy=k / n, low=low, high=high)


def fleiss_kappa(answers: Ints, classes: int) -> float | None:
    """Agreement of raters beyond chance (Fleiss 1971) from answers (raters, images)."""
    raters = len(answers)
    counts = np.stack([(answers == c).sum(0) for c in range(classes)], 1)  # (images, classes)
    observed = float(((counts * (counts - 1)).sum(1) / (raters * (raters - 1))).mean())
    expected = float(((counts.sum(0) / counts.sum()) ** 2).sum())
    return None if expected == 1 else (observed - expected) / (1 - expected)


def agreement(names: Sequence[str], answers: Ints, classes: int) -> Agreement | None:
    """Agreement within (persons, images); None for a single person."""
    if len(names) < 2:
        return None
    pairs = tuple(
        (names[a], names[b], float((answers[a] == answers[b]).mean()))
        for a, b in combinations(range(len(names)), 2)
    )
    shares = [share for _, _, share in pairs]
    return Agreement(
        kappa=fleiss_kappa(answers, classes),
        mean=float(np.mean(shares)),
        least=min(shares),
        most=max(shares),
        pairs=pairs,
    )


def resampled_means(values: Floats, units: Sequence[str], rng: np.random.Generator) -> Floats:
    """Means (REPEATS,) of values (persons, images) with persons and fields drawn anew together.

    Everybody answers the same images, so neither persons nor answers are independent: drawing both
    sides with replacement (Owen 2007, the pigeonhole bootstrap) is on the safe side.
    """
    names, number = np.unique(np.array(units), return_inverse=True)
    weights = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), REPEATS)
    by_image = weights[:, number].astype(np.float64)  # (repeats, images)
    persons = len(values)
    by_person = rng.multinomial(persons, np.full(persons, 1 / persons), REPEATS)  # (repeats, p)
    sums = ((by_person @ values) * by_image).sum(1)
    means: Floats = sums / (persons * by_image.sum(1))
    return means


def _interval(means: Floats) -> tuple[float, float]:
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def part_scores(
    part: SheetPart,
    place: int,
    persons: Sequence[Person],
    network: Ints | None,
    rng: np.random.Generator,
) -> PartScores:
    """All figures of the part at a place of the key; `network` answers (images,), -1: none."""
    asked = part.of("unlabelled")
    truth = np.array([part.classes.index(image.truth) for image in asked], np.int64)
    answers = np.array([person.answers[place] for person in persons], np.int64)  # (persons, images)
    right = answers == truth
    shares, units = right.mean(1), [image.unit for image in asked]
    low, high = _interval(resampled_means(right.astype(np.float64), units, rng))
    return PartScores(
        number=part.number,
        kind=part.kind,
        title=part.title,
        persons=tuple(score_of(row) for row in right),
        mean=float(shares.mean()),
        sd=float(shares.std(ddof=1)) if len(persons) > 1 else None,
        mean_low=low,
        mean_high=high,
        n_units=len(set(units)),
        agreement=agreement([p.name for p in persons], answers, len(part.classes)),
        network=None if network is None else _network(network, truth, answers, units, rng),
    )


def _network(
    said: Ints, truth: Ints, answers: Ints, units: Sequence[str], rng: np.random.Generator
) -> NetworkScore:
    ahead = (said == truth).astype(np.float64) - (answers == truth)  # (persons, images)
    low, high = _interval(resampled_means(ahead, units, rng))
    return NetworkScore(
        score=score_of(said == truth),
        silent=int((said < 0).sum()),
        ahead=float(ahead.mean()),
        ahead_low=low,
        ahead_high=high,
        agreement=tuple(float((row == said).mean()) for row in answers),
    )


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Spearman's rho; None with fewer than three pairs or where one side is all equal."""
    if len(x) < 3 or len(set(x)) < 2 or len(set(y)) < 2:
        return None
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _ranks(values: Sequence[float]) -> Floats:
    """Ranks from 0 on; ties share their mean rank."""
    _, number, counts = np.unique(np.array(values), return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts + 1) / 2)[number]
    return ranks


FRAMES = "frames.json"
"""What is known of the frames that are asked for; their files are beside it."""


def frame_name(image: Shown) -> str:
    """Under which name the file of a frame is kept with the key; it does not tell the truth."""
    return f"{image.sha256[:16]}{Path(image.path).suffix.lower()}"


def crop_sha256(crop: Gray) -> str:
    """SHA-256 of the grey levels of a raw crop (s, s) with its margin."""
    return hashlib.sha256(np.ascontiguousarray(crop).tobytes()).hexdigest()


def network_answers(
    key: Key, folder: Path, checkpoint: Path, detector_name: str, frame_um_per_px: float
) -> tuple[dict[int, Ints], list[str]]:
    """What a network says to each part whose classes it knows, and what a reader must be told.

    `folder` holds the images that are asked for. Persons must choose one of two classes, so the
    network's others are left aside. Of a frame it takes the mean over the cells; -1: none found.
    """
    known, model = read_checkpoint(checkpoint)
    said: dict[int, Ints] = {}
    warnings = [*_seen_in_training(key, known), *_other_pixels(key, known)]
    for part in key.parts:
        if not set(part.classes) <= set(known.classes):
            named = " and ".join(part.classes)
            warnings.append(f"Part {part.number}: the network was not trained to tell {named}.")
            continue
        columns = [known.classes.index(name) for name in part.classes]
        if part.kind == "frames":
            p, note = _frame_probabilities(
                part, known, model, folder, detector_name, frame_um_per_px
            )
            warnings += note
        else:
            p = _crop_probabilities(part, known, model, folder)
        silent = np.isnan(p).any(1)
        choice = np.nan_to_num(p[:, columns]).argmax(1)
        said[part.number] = np.where(silent, -1, choice).astype(np.int64)
    return said, warnings


def _seen_in_training(key: Key, known: Checkpoint) -> Iterator[str]:
    trained = set(known.data_sha256s)
    for part in key.parts:
        asked = part.of("unlabelled")
        n = sum(image.file_sha256 in trained for image in asked)
        if n:
            yield (
                f"Part {part.number}: the network was trained on the image files of {n} of the "
                f"{len(asked)} images asked for, so its score there is no test of it. Train it on "
                "what `survey make --rest` writes."
            )


def _other_pixels(key: Key, known: Checkpoint) -> Iterator[str]:
    mine, its = key.um_per_px, known.pixels.um_per_px
    if abs(mine - its) > 1e-3 * its:
        raise UsageError(
            f"the network was trained at {its} um/px, the crops of the survey have {mine}: make "
            "both from one crop set"
        )
    if key.flat_field_um != known.pixels.flat_field_um:
        yield (
            f"The crops' illumination was evened over {key.flat_field_um:g} um, those of the "
            f"training over {known.pixels.flat_field_um:g} um (0: not)."
        )


def _crop_probabilities(
    part: SheetPart, known: Checkpoint, model: ConvNet, folder: Path
) -> NDArray[np.float64]:
    """Probabilities (images, classes of the network)."""
    crop_set = cropset.load(folder)
    place = {crop_sha256(c): i for i, c in enumerate(crop_set.crops)}
    asked = [image.sha256 for image in part.of("unlabelled")]
    if not set(asked) <= set(place):
        raise DataError(f"'{folder}' does not hold the crops of this key: keep them together")
    return _probabilities(crop_set.crops[[place[one] for one in asked]], known, model)


def _probabilities(crops: Gray, known: Checkpoint, model: ConvNet) -> NDArray[np.float64]:
    wide = crops if crops.dtype == np.uint8 else crops.astype(np.int32)
    reference = Reference(np.array(known.pixels.reference, np.int64))
    logits, _ = answer(model, torch.from_numpy(np.ascontiguousarray(wide)), reference)
    temperature = known.measured.calibration.temperature
    return softmax(logits.numpy().astype(np.float64) / temperature)


def _frame_probabilities(
    part: SheetPart,
    known: Checkpoint,
    model: ConvNet,
    folder: Path,
    detector_name: str,
    frame_um_per_px: float,
) -> tuple[NDArray[np.float64], list[str]]:
    """Mean probabilities (frames, classes) over the cells of each frame; NaN where are none."""
    try:
        detector = started(choose(detector_name))
    except (BundleError, DeviceError, InferenceError) as error:
        raise UsageError(f"--detector: {error}") from error
    rules = CropRules(
        um_per_px=known.pixels.um_per_px,
        crop_px=known.pixels.crop_px,
        margin_px=0,
        flat_field_um=known.pixels.flat_field_um,
        detector=DetectorRules(name=detector.name, fingerprint=detector.fingerprint),
    )
    rows = {
        row.path: row
        for row in decoded((folder / FRAMES).read_bytes(), tuple[Row, ...], folder / FRAMES)
    }
    asked = part.of("unlabelled")
    names = [frame_name(image) for image in asked]
    missing = [name for name in names if name not in rows or not (folder / name).is_file()]
    if missing:
        raise DataError(f"'{folder}' lacks {', '.join(missing)}: keep it beside key.json")
    mine = tuple(rows[name] for name in names)
    means, n_cells = np.full((len(names), len(known.classes)), np.nan), 0
    made = cut_frames(folder, mine, rules, detector, frame_um_per_px)
    for place, (image, cut) in enumerate(zip(asked, made, strict=True)):
        if cut.sha256 != image.sha256:
            raise DataError(f"'{folder / names[place]}' is not the frame of this key")
        if cut.crops is not None and len(cut.crops):
            means[place] = _probabilities(cut.crops, known, model).mean(0)
            n_cells += len(cut.crops)
    note = f"Part {part.number}: the network answers by the mean over {n_cells} cells in all."
    if known.detector.fingerprint != detector.fingerprint:
        note += f" {detector.name} found them, {known.detector.name} those of the training."
    return means, [note]

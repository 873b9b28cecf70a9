"""`parfocal detect` and `parfocal classify`: stored images, scored here and now."""

import argparse
from pathlib import Path

import msgspec

from parfocal import console
from parfocal.annotate import annotated, annotated_finds
from parfocal.bundle import load
from parfocal.coco import Coco
from parfocal.commands.arguments import DATA, OK, Commands, command, jsonable, print_json, scaled
from parfocal.config import Limits
from parfocal.detectors import choose
from parfocal.follow import OutputError
from parfocal.preview import THUMBNAIL_PX
from parfocal.reader import Prepared, Refused
from parfocal.score import (
    Classifying,
    Outputs,
    Reading,
    Request,
    check_outputs,
    images,
    output_names,
    write_output,
)
from parfocal.types import Cell

ANNOTATED_PX = 1616


def add_detect(commands: Commands) -> None:
    """Add the arguments of `parfocal detect`."""
    made = command(commands, "detect", "find the cells in stored images", run_detect)
    scaled(made)
    _detector(made)
    made.add_argument("--masks", type=Path, metavar="DIR",
                      help="write NAME.png there: uint16 instance labels; images of the same "
                      "name get their folder before it")  # fmt: skip
    made.add_argument("--coco", type=Path, metavar="FILE",
                      help="write all outlines there as one COCO file")  # fmt: skip
    made.add_argument("--out", type=Path, metavar="DIR",
                      help="write an annotated NAME.png there")  # fmt: skip
    jsonable(made)


def _detector(made: argparse.ArgumentParser) -> None:
    made.add_argument("--detector", default="auto", metavar="NAME",
                      help="auto, classical, a shipped detector or a bundle file "
                      "(default: auto)")  # fmt: skip


def add_classify(commands: Commands) -> None:
    """Add the arguments of `parfocal classify`."""
    made = command(commands, "classify", "classify the cells in stored images", run_classify)
    scaled(made)
    made.add_argument("--model", required=True, metavar="BUNDLE",
                      help="a shipped name or a bundle file")  # fmt: skip
    made.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"),
                      help="where to run the model (default: auto)")  # fmt: skip
    _detector(made)
    made.add_argument("--crops", action="store_true",
                      help="each image is one ready single-cell crop")  # fmt: skip
    made.add_argument("--out", type=Path, metavar="DIR",
                      help="write NAME.json and an annotated NAME.png there")  # fmt: skip
    jsonable(made)


def run_detect(options: argparse.Namespace) -> int:
    """`parfocal detect`: status 65 when an image could not be read."""
    choice, wanted, rows, bad = choose(options.detector), images(options.images), [], 0
    masks = Outputs(options.masks, wanted, (".png",)) if options.masks else None
    pictures = Outputs(options.out, wanted, (".png",)) if options.out else None
    if masks and pictures and masks.folder.resolve() == pictures.folder.resolve():
        raise OutputError(f"{masks.folder} cannot hold both masks and pictures: name two folders")
    coco = Coco(choice.name) if options.coco else None
    names = dict(zip((image.path for image in wanted), output_names(wanted), strict=True))
    if coco:
        check_outputs([options.coco], wanted)
    with Reading(Limits(), choice) as reading:
        request = msgspec.structs.replace(
            reading.request(options.um_per_px),
            want_masks=bool(masks or pictures or coco),
            thumbnail_px=ANNOTATED_PX if pictures else THUMBNAIL_PX,
        )
        for image in console.progress(wanted, "detecting", len(wanted)):
            answer = reading.read(image, request)
            if isinstance(answer, Refused):
                bad += 1
                console.say(console.refused_line(image.path, answer))
            else:
                if masks:
                    masks.write(image, ".png", answer.masks)
                if pictures:
                    pictures.write(image, ".png", annotated_finds(answer))
                if coco:
                    coco.add(f"{names[image.path]}{Path(image.path).suffix}", answer.masks)
            if options.json:
                print_json(detection(image, answer, choice.name))
            elif isinstance(answer, Prepared):
                rows.append((image.path, answer))
    if coco:
        write_output(options.coco, coco.json())
    if rows:
        console.out().print(console.detection_table(rows), console.about_detector(choice))
    return DATA if bad else OK


def detection(image: Request, answer: Prepared | Refused, detector: str) -> dict[str, object]:
    """The `detect --json` object of one image; a refused one has no cells and says why."""
    if isinstance(answer, Refused):
        refused = {"reason": answer.reason, "detail": answer.detail}
        return {"image": image.path, "refused": refused, "cells": [], "rejected": []}
    cells = []
    for number, i in enumerate(answer.chosen, 1):
        (x, y), (left, top, width, height) = answer.points[i], answer.boxes[i]
        cells.append(
            {"id": number, "x_px": x, "y_px": y, "left_px": left, "top_px": top, "width_px": width,
             "height_px": height, "area_um2": answer.areas_um2[i], "score": answer.scores[i]}
        )  # fmt: skip
    return {
        "image": image.path,
        "um_per_px": answer.um_per_px,
        "width_px": answer.width_px,
        "height_px": answer.height_px,
        "detector": detector,
        "cells": cells,
        "rejected": answer.rejected,
        "elapsed_ms": sum(answer.timing_ms.values()),
    }


def run_classify(options: argparse.Namespace) -> int:
    """`parfocal classify`: status 65 when an image could not be read."""
    bundle, choice, wanted = load(options.model), choose(options.detector), images(options.images)
    table, last, bad = console.frame_table(), None, 0
    out = Outputs(options.out, wanted, (".json", ".png")) if options.out else None
    thumbnail_px = ANNOTATED_PX if out else THUMBNAIL_PX
    with Classifying(bundle, options.device, Limits(), choice) as classifying:
        for image in console.progress(wanted, "classifying", len(wanted)):
            prepared = classifying.read(image, options.um_per_px, options.crops, thumbnail_px)
            if isinstance(prepared, Refused):
                bad += 1
                console.say(console.refused_line(image.path, prepared))
                if options.json:
                    refused = {"reason": prepared.reason, "detail": prepared.detail}
                    print_json({"image": image.path, "refused": refused})
                continue
            result = last = classifying.result(image, prepared)
            if options.json:
                print_json(crop_answer(image, result.cells[0]) if options.crops else result)
            else:
                console.add_frame(table, "", result)
            if out:
                out.write(image, ".json", msgspec.json.encode(result))
                out.write(image, ".png", annotated(prepared.thumbnail, result))
    if last is not None and not options.json:
        console.out().print(table, console.about_model(last))
    return DATA if bad else OK


def crop_answer(image: Request, cell: Cell) -> dict[str, object]:
    """The `classify --crops --json` object of one crop."""
    return {
        "image": image.path,
        "label": cell.label,
        "probability": cell.probability,
        "probabilities": cell.probabilities,
        "novelty": cell.novelty,
        "phenotype": cell.phenotype,
        "accepted": cell.accepted,
        "reason": cell.reason,
    }

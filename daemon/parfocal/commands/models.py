"""`parfocal model`: list, show and test bundles."""

import argparse
import os
from pathlib import Path

from parfocal import console
from parfocal.bundle import Bundle, BundleError, DetectorBundle, load_any, shipped
from parfocal.card import DetectorCard
from parfocal.classify import CPU, OnnxClassifier
from parfocal.commands.arguments import OK, Commands, command, jsonable, print_json
from parfocal.follow import OutputError
from parfocal.modelpage import model_page
from parfocal.onnxdetector import OnnxDetector
from parfocal.score import write_output


def add_model(commands: Commands) -> None:
    """Add the arguments of `parfocal model`."""
    made = commands.add_parser("model", help="list, show or test models",
                               description="list, show or test models")  # fmt: skip
    what = made.add_subparsers(metavar="ACTION", required=True)
    jsonable(command(what, "list", "the models that come with parfocal", run_model_list))
    for name, text, run in (
        ("show", "the card of a model", run_model_show),
        ("test", "ask a model its golden question", run_model_test),
    ):
        action = command(what, name, text, run)
        action.add_argument("bundle", metavar="BUNDLE", help="a shipped name or a bundle file")
        if name == "show":
            action.add_argument("--html", type=Path, metavar="FILE",
                                help="write the card there as one page to keep or send; "
                                "classifiers only")  # fmt: skip
        if name == "test":
            action.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
        jsonable(action)


def run_model_list(options: argparse.Namespace) -> None:
    """`parfocal model list`."""
    for name, path in shipped().items():
        bundle = load_any(name)
        card = bundle.card
        kind = "detector" if isinstance(card, DetectorCard) else "classifier"
        classes = () if isinstance(card, DetectorCard) else card.classes
        if options.json:
            print_json({"name": name, "kind": kind, "version": card.version, "classes": classes,
                        "path": str(path)})  # fmt: skip
        else:
            what = ", ".join(classes) or "detector"
            print(f"{name}  {card.version}  {what}  {card.description}")


def run_model_show(options: argparse.Namespace) -> int:
    """`parfocal model show`."""
    bundle = load_any(options.bundle)
    if options.html:
        return _write_page(bundle, options)
    if options.json:
        print_json({"sha256": bundle.sha256, "card": bundle.card})
    elif isinstance(bundle, DetectorBundle):
        console.out().print(console.detector_card_table(bundle), soft_wrap=False)
    else:
        for part in console.card_shown(bundle):
            console.out().print(part, soft_wrap=False)
    return OK


def _write_page(bundle: Bundle | DetectorBundle, options: argparse.Namespace) -> int:
    if isinstance(bundle, DetectorBundle):
        raise BundleError(
            f"{bundle.path.name} is a detector, whose card has no page: leave out --html"
        )
    if os.path.realpath(options.html) == os.path.realpath(bundle.path):
        raise OutputError(f"{options.html} is the model itself: name another file")
    write_output(options.html, model_page(bundle).encode())
    if options.json:
        print_json({"sha256": bundle.sha256, "html": str(options.html)})
    else:
        console.out().print(f"the card of {bundle.card.name} is in {options.html}", soft_wrap=True)
    return OK


def run_model_test(options: argparse.Namespace) -> None:
    """`parfocal model test`: status 1 when the golden answer is wrong."""
    bundle = load_any(options.bundle)
    if isinstance(bundle, DetectorBundle):
        worst, provider = OnnxDetector(bundle).check_golden(), CPU
    else:
        classifier = OnnxClassifier(bundle, options.device)
        worst, provider = classifier.check_golden(), classifier.provider
    allowed = bundle.card.golden.tolerance
    if options.json:
        print_json({"provider": provider, "deviation": worst, "allowed": allowed})
    else:
        print(f"golden answer within {worst:.1e} (allowed {allowed:.1e}) on {provider}")

"""`parfocal model`: list, show and test bundles; compare the shadow with the active one."""

import argparse
import os
from pathlib import Path

from parfocal import console
from parfocal.bundle import Bundle, BundleError, DetectorBundle, load_any, shipped
from parfocal.card import DetectorCard
from parfocal.classify import CPU, OnnxClassifier
from parfocal.commands.arguments import (
    OK,
    Commands,
    command,
    configured,
    jsonable,
    print_json,
    settings_of,
)
from parfocal.config import Settings
from parfocal.follow import OutputError
from parfocal.modelpage import model_page
from parfocal.onnxdetector import OnnxDetector
from parfocal.replay_report import comparison_shown, shadow_shown
from parfocal.score import write_output
from parfocal.shadow_compare import compare_shadow


def add_model(commands: Commands) -> None:
    """Add the arguments of `parfocal model`."""
    made = commands.add_parser("model", help="list, show, test or compare models",
                               description="list, show, test or compare models")  # fmt: skip
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
    _add_compare(what)


def _add_compare(what: Commands) -> None:
    text = "what the shadow model said of live images, beside what was published"
    action = command(what, "compare", text, run_model_compare)
    action.add_argument("source", nargs="?", type=Path, metavar="SOURCE",
                        help="a state folder or journal.sqlite, which is only read (default: the "
                        "configured state_dir)")  # fmt: skip
    action.add_argument("--shadow", metavar="NAME",
                        help="as model.shadow named it (default: the last one)")  # fmt: skip
    action.add_argument("-o", "--out", type=Path, metavar="DIR",
                        help="where compare.json and, cell by cell, compare.csv go")  # fmt: skip
    configured(action)
    jsonable(action)


def run_model_compare(options: argparse.Namespace) -> None:
    """`parfocal model compare`."""
    asked = options.config or options.overrides or options.source is None
    settings = settings_of(options) if asked else Settings()
    source = options.source or Path(settings.state_dir)
    told = compare_shadow(source, options.shadow, options.out, settings.verdict.half_width)
    if options.json:
        print_json(told)
        return
    screen = console.out()
    for part in (*shadow_shown(told), *comparison_shown(told.comparison, options.out is not None)):
        screen.print(part)


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

"""`parfocal model`: list, show and test bundles."""

import argparse

from parfocal import console
from parfocal.bundle import load, shipped
from parfocal.classify import OnnxClassifier
from parfocal.commands.arguments import Commands, command, jsonable, print_json


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
        if name == "test":
            action.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
        jsonable(action)


def run_model_list(options: argparse.Namespace) -> None:
    """`parfocal model list`."""
    for name, path in shipped().items():
        card = load(name).card
        if options.json:
            print_json({"name": name, "version": card.version, "classes": card.classes,
                        "path": str(path)})  # fmt: skip
        else:
            print(f"{name}  {card.version}  {', '.join(card.classes)}  {card.description}")


def run_model_show(options: argparse.Namespace) -> None:
    """`parfocal model show`."""
    bundle = load(options.bundle)
    if options.json:
        print_json({"sha256": bundle.sha256, "card": bundle.card})
    else:
        console.out().print(console.card_table(bundle), soft_wrap=False)


def run_model_test(options: argparse.Namespace) -> None:
    """`parfocal model test`: status 1 when the golden answer is wrong."""
    classifier = OnnxClassifier(load(options.bundle), options.device)
    worst, allowed = classifier.check_golden(), classifier.bundle.card.golden.tolerance
    if options.json:
        print_json({"provider": classifier.provider, "deviation": worst, "allowed": allowed})
    else:
        print(f"golden answer within {worst:.1e} (allowed {allowed:.1e}) on {classifier.provider}")

"""`parfocal bench`."""

import argparse
import json

from parfocal.bench import bench
from parfocal.bundle import load
from parfocal.commands.arguments import Commands, command, jsonable, print_json
from parfocal.quantities import count


def add_bench(commands: Commands) -> None:
    """Add the arguments of `parfocal bench`."""
    made = command(commands, "bench", "time every stage on this machine", run_bench)
    made.add_argument("--repeats", type=count, default=30, metavar="N",
                      help="timed repeats of each stage (default: 30)")  # fmt: skip
    made.add_argument("--model", default="hek293a-ht1080", metavar="BUNDLE",
                      help="a shipped name or a bundle file (default: hek293a-ht1080)")  # fmt: skip
    jsonable(made)


def run_bench(options: argparse.Namespace) -> None:
    """`parfocal bench`."""
    report = bench(load(options.model), options.repeats)
    if options.json:
        print_json(report)
        return
    machine = report["machine"]
    print(json.dumps(machine))
    for row in report["stages"]:
        print(f"{row['stage']:<34} {row['median_ms']:9.3f} ms  "
              f"({row['low_ms']:.3f} to {row['high_ms']:.3f})  {row['note']}")  # fmt: skip

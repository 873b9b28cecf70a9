"""JSON Schema of everything on the wire, generated from the Structs."""

import inspect
import json
from typing import Any

import msgspec

from parfocal.publish import Reply, Request
from parfocal.reasons import SENTENCES
from parfocal.types import Alarm, Beat, FlaskVerdict, FrameResult, Header

PUBLISHED = {
    "parfocal.frame/1": FrameResult,
    "parfocal.flask/1": FlaskVerdict,
    "parfocal.alarm/1": Alarm,
    "parfocal.beat/1": Beat,
    "parfocal.header/1": Header,
    "parfocal.request/1": Request,
    "parfocal.reply/1": Reply,
}


def schema() -> dict[str, Any]:
    """One document: a schema for each message, and the sentence of each reason code."""
    wire, definitions = msgspec.json.schema_components(
        PUBLISHED.values(), ref_template="#/$defs/{name}"
    )
    for one in definitions.values():
        if "description" in one:  # msgspec before 0.23 keeps the code's indentation
            one["description"] = inspect.cleandoc(one["description"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "messages": dict(zip(PUBLISHED, wire, strict=True)),
        "reasons": {code.value: sentence for code, sentence in SENTENCES.items()},
        "$defs": definitions,
    }


def text() -> str:
    """The document as it is kept in the repository."""
    return json.dumps(schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    print(text(), end="")

"""An entry as an .eln file: the archive that electronic lab notebooks import.

RO-Crate 1.1 in a zip with one root folder, after the specification of The ELN Consortium. Kept
flat on purpose: one Dataset, its text as HTML, few files; importers differ in everything else.
"""

import hashlib
import io
import json
import os
import zipfile
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from parfocal import __version__
from parfocal.notebook.entry import (
    COMPOSITION_HEADER,
    COMPOSITION_NOTE,
    PHENOTYPES_NOTE,
    Entry,
    composition_rows,
    facts,
    provenance,
    reason_glossary,
    share_rows,
    warnings,
)
from parfocal.notebook.markdown import sync

EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of every member: the same entry gives the same bytes."""


def text_html(entry: Entry) -> str:
    """The entry's text."""
    shares = composition_rows(entry.verdict)
    noted = "".join(f"<li>{escape(text)}</li>" for text in warnings(entry))
    parts = [
        _table(facts(entry)),
        "<h2>Composition</h2>",
        _table([COMPOSITION_HEADER, *shares]),
        f"<p>{escape(COMPOSITION_NOTE)}</p>",
        _phenotypes(entry),
        f"<h2>Please note</h2><ul>{noted}</ul>" if noted else "",
        _glossary(entry),
        "<h2>Provenance</h2>",
        _table(provenance(entry)),
    ]
    return "".join(parts)


def _phenotypes(entry: Entry) -> str:
    shares = share_rows(entry.verdict.phenotypes)
    if not shares:
        return ""
    rows = _table([("phenotype", "cells", "fraction (95 % interval)"), *shares])
    return f"<h2>Phenotypes</h2>{rows}<p>{PHENOTYPES_NOTE}</p>"


def _glossary(entry: Entry) -> str:
    glossary = reason_glossary(entry)
    return f"<h2>Reasons</h2>{_table(glossary)}" if glossary else ""


def _table(rows: list[Any]) -> str:
    cells = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in cells)}</table>"


def crate(entry: Entry) -> dict[str, Any]:
    """The RO-Crate metadata of an entry."""
    made_at = entry.flask.closed_at or entry.flask.opened_at
    files = [_file(entry, a.name, a.media_type, a.data, a.description) for a in entry.attachments]
    variables = [
        {"@id": f"#{quote(name)}", "@type": "PropertyValue", "propertyID": name, "value": value}
        | ({"unitText": unit} if unit else {})
        for name, value, unit in _variables(entry)
    ]
    dataset = {
        "@id": f"./{entry.stem}/",
        "@type": "Dataset",
        "name": entry.title,
        "identifier": f"parfocal:{entry.flask.session}:{entry.revision}",
        "genre": "experiment",
        "author": {"@id": "#parfocal"},
        "dateCreated": made_at,
        "dateModified": made_at,
        "encodingFormat": "text/html",
        "text": text_html(entry),
        "keywords": "parfocal, cell identity",
        "hasPart": [{"@id": file["@id"]} for file in files],
        "variableMeasured": [{"@id": v["@id"]} for v in variables],
    }
    return {
        "@context": "https://w3id.org/ro/crate/1.1/context",
        "@graph": [
            _descriptor(made_at),
            _root(entry, made_at),
            {"@id": "#parfocal", "@type": "SoftwareApplication", "name": "parfocal",
             "softwareVersion": __version__},
            dataset,
            *files,
            *variables,
        ],
    }  # fmt: skip


def _descriptor(made_at: str | None) -> dict[str, Any]:
    return {
        "@id": "ro-crate-metadata.json",
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        "dateCreated": made_at,
        "sdPublisher": {"@id": "#parfocal"},
    }


def _root(entry: Entry, made_at: str | None) -> dict[str, Any]:
    return {
        "@id": "./",
        "@type": "Dataset",
        "name": entry.title,
        "description": "A flask session recorded by parfocal",
        "license": "the laboratory's own",
        "datePublished": made_at,
        "hasPart": [{"@id": f"./{entry.stem}/"}],
    }


def _file(entry: Entry, name: str, kind: str, data: bytes, description: str) -> dict[str, Any]:
    return {
        "@id": f"./{entry.stem}/{name}",
        "@type": "File",
        "name": name,
        "description": description,
        "encodingFormat": kind,
        "contentSize": str(len(data)),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _variables(entry: Entry) -> list[tuple[str, Any, str]]:
    verdict = entry.verdict
    out: list[tuple[str, Any, str]] = [
        ("flask", entry.flask.id, ""),
        ("cell_line", entry.flask.cell_line or "", ""),
        ("passage", "" if entry.flask.passage is None else entry.flask.passage, ""),
        ("images", verdict.n_frames, ""),
        ("cells", verdict.n_cells, ""),
    ]
    if verdict.density is not None:
        out.append(("density", round(verdict.density.cells_per_mm2, 1), "1/mm2"))
    if verdict.declared_match is not None:
        out.append(("declared_match", verdict.declared_match, ""))
    for kind, shares in (
        ("composition", verdict.composition),
        ("corrected", verdict.corrected),
        ("phenotype", verdict.phenotypes),
    ):
        for name, f in (shares or {}).items():
            parts = (("fraction", f.fraction), ("low", f.low), ("high", f.high))
            out += [(f"{kind}.{name}.{part}", round(value, 4), "") for part, value in parts]
    return out


def archive(entry: Entry) -> bytes:
    """The bytes of the .eln file."""
    out = io.BytesIO()
    metadata = json.dumps(crate(entry), indent=1).encode()
    members = [("ro-crate-metadata.json", metadata)]
    members += [(f"{entry.stem}/{a.name}", a.data) for a in entry.attachments]
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members:
            info = zipfile.ZipInfo(f"{entry.stem}/{name}", EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            file.writestr(info, data)
    return out.getvalue()


def write(entry: Entry, folder: Path) -> Path:
    """Write the entry's file in one step; an existing one of the same name is replaced."""
    target, fresh = folder / f"{entry.stem}.eln", folder / f".{entry.stem}.eln.new"
    with fresh.open("wb") as file:
        file.write(archive(entry))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(target)
    sync(folder)
    return target

"""An entry as a folder with a Markdown page: readable as it is, in any editor or wiki."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

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


def page(entry: Entry) -> str:
    """The Markdown text of an entry."""
    parts = [f"# {escape(entry.title)}", table(("", ""), facts(entry))]
    parts.append("## Composition")
    phenotypes = entry.verdict.phenotypes
    parts.append(table(COMPOSITION_HEADER, composition_rows(entry.verdict)))
    parts.append(escape(COMPOSITION_NOTE))
    if phenotypes:
        header = ("phenotype", "cells", "fraction (95 % interval)")
        parts += ["## Phenotypes", table(header, share_rows(phenotypes)), PHENOTYPES_NOTE]
    noted = warnings(entry)
    if noted:
        parts += ["## Please note", "\n".join(f"- {escape(text)}" for text in noted)]
    if any(a.name == "montage.png" for a in entry.attachments):
        parts += ["## Cells", "![cells of this flask](montage.png)"]
    glossary = reason_glossary(entry)
    if glossary:
        parts += ["## Reasons", table(("code", "meaning"), glossary)]
    images = [
        (os.path.basename(f.result.image.path), str(len(f.result.cells)), f.result.image.sha256)
        for f in entry.frames
    ]
    parts += ["## Provenance", table(("", ""), provenance(entry))]
    parts.append(table(("image", "cells", "sha256"), images))
    files = "\n".join(f"- [{a.name}]({a.name}): {a.description}" for a in entry.attachments)
    return "\n\n".join([*parts, "## Files", files]) + "\n"


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(escape(cell) for cell in line)} |" for line in lines)


def escape(text: str) -> str:
    """Text that cannot break out of a table cell or become markup."""
    flat = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\|`*_[]<>#" else c for c in flat)


def write(entry: Entry, folder: Path) -> Path:
    """Write the entry's folder in one step; an existing one of the same name is replaced."""
    target, fresh = folder / entry.stem, folder / f".{entry.stem}.folder.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    (fresh / "entry.md").write_text(page(entry))
    for attachment in entry.attachments:
        (fresh / attachment.name).write_bytes(attachment.data)
    for path in [*fresh.iterdir(), fresh]:
        sync(path)
    if target.exists():
        shutil.rmtree(target)
    fresh.rename(target)
    sync(folder)
    return target


def sync(path: Path) -> None:
    """Wait until a file or folder is on disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

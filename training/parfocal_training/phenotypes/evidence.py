"""Sections of the page: fractions of phenotypes, and what clusters follow."""

import base64
from pathlib import Path

from parfocal.card import Phenotypes
from parfocal_training.phenotypes.results import Results
from parfocal_training.phenotypes.trends import Third
from parfocal_training.report import Report, ReportPart


def fractions(page: Report, found: Results, known: Phenotypes, folder: Path) -> None:
    """Fractions of groups and of what was recorded, and how they go with density and passage."""
    page.heading("Fractions")
    kind = found.group_kind
    picture(page, folder, "groups", f"Share of the cells of each {kind}, in percent.")
    page.details(f"Every {kind} with 95 % intervals", _listed(found, known))
    others = dict.fromkeys(one.attribute for one in found.shares if one.attribute != kind)
    for attribute in others:
        picture(
            page,
            folder,
            f"fractions-{attribute.replace(' ', '-')}",
            f"Share of cells by {attribute}; 95 % intervals with {kind}s as the units.",
        )
    page.heading("Density and passage")
    if (folder / "figures" / "density-cells.png").exists():
        picture(
            page,
            folder,
            "density-cells",
            "The phenotypes whose shares fall and rise most with density, in the cell line where "
            "the evidence is strongest: cells near the middle of each, at either end.",
        )
    if found.differences:
        _pairs(page, found, known)
    for attribute in dict.fromkeys(one.attribute for one in found.trends):
        _trends(page, found, known, folder, attribute)
    if found.untested:
        page.paragraph(f"What was not tested: {found.untested}")


def _pairs(page: Report, found: Results, known: Phenotypes) -> None:
    page.table(
        ("cells", "phenotype", "flasks", "difference", "95 % interval", "p", "Holm", "permuted"),
        [
            (
                one.cells,
                known.names[one.phenotype - 1],
                f"{one.attribute} {one.second} ({one.flasks[1]}) less {one.first} "
                f"({one.flasks[0]})",
                f"{100 * one.difference:+.1f} %",
                f"{100 * one.low:+.1f} to {100 * one.high:+.1f} %",
                *(one.p, one.p_holm, one.p_permutation),
            )
            for one in sorted(found.differences, key=lambda one: (one.p_holm, one.p))
        ],
        "Two values compared: mean share over flasks (so many). Flasks are the units: p is of "
        "Welch's test on one share a flask, then corrected after Holm over all tests of density or "
        "of passage. The permutation of flasks assumes less, but with few flasks its p cannot be "
        "small. Intervals are not corrected.",
    )


def _trends(page: Report, found: Results, known: Phenotypes, folder: Path, attribute: str) -> None:
    mine = [one for one in found.trends if one.attribute == attribute]
    picture(
        page,
        folder,
        f"trend-{attribute}",
        f"Share of each phenotype against {attribute}, a point a flask; bars: thirds of the flasks "
        "of a line with 95 % intervals.",
    )
    page.table(
        ("cells", "phenotype", "flasks", f"lowest {attribute}", f"highest {attribute}",
         "rank correlation", "p", "Holm"),
        [
            (one.cells, known.names[one.phenotype - 1], one.flasks, _third(one.thirds[0]),
             _third(one.thirds[-1]), f"{one.rho:+.2f}", one.p, one.p_holm)
            for one in sorted(mine, key=lambda one: (one.p_holm, one.p))
        ],
        f"Trend with {attribute}: share of the cells in the third of the flasks where {attribute} "
        "is lowest and in the third where it is highest (from, to; 95 % interval, flasks as the "
        "units), and Spearman's correlation over flasks, one share a flask. p is of orders of the "
        "flasks at random, then corrected after Holm over all tests of this attribute. A trend "
        "does not say why: flasks differ in more than one way.",
    )  # fmt: skip


def _third(one: Third) -> str:
    return (
        f"{100 * one.fraction:.1f} % ({100 * one.low:.1f} to {100 * one.high:.1f}) at "
        f"{one.first:g} to {one.last:g}"
    )


def _listed(found: Results, known: Phenotypes) -> str:
    """One line for each group and phenotype."""
    mine = [one for one in found.shares if one.attribute == found.group_kind]
    wide = max(len(one.value) for one in mine)
    name = max(map(len, known.names))
    return "\n".join(
        f"{one.value:{wide}}  {known.names[one.phenotype - 1]:{name}}  {one.k:4} of {one.n:4}  "
        f"{100 * one.fraction:5.1f} %  ({100 * one.low:.1f} to {100 * one.high:.1f} %)"
        for one in mine
    )


def followed(page: Report, found: Results) -> None:
    """Orientation and attributes, beside clusters of pixels."""
    page.heading("What clusters follow")
    page.paragraph(
        "How a cell lies in the camera's frame says nothing about it. Clusters of pixels follow "
        "it (the paper's Fig. S4); clusters of LCA should not. The same cells, the same k."
    )
    if found.orientation:
        page.table(
            ("clusters of", "explained by orientation", "95 % interval", "by chance below", "p",
             "cells"),
            [
                (one.method, f"{100 * one.r2:.1f} %",
                 f"{100 * one.low:.1f} to {100 * one.high:.1f} %", f"{100 * one.null_high:.1f} %",
                 one.p, one.n_elongated)
                for one in found.orientation
            ],
            "Share of the variance of orientation that clusters explain (adjusted R²), elongated "
            f"cells that lie whole in their crop; intervals over {found.group_kind}s, p from "
            "1,000 permutations within them.",
        )  # fmt: skip
    else:
        page.paragraph("Too few cells are elongated and whole in their crop to tell.")
    page.table(
        ("clusters of", "attribute", "values", "adjusted Rand index", "95 % interval"),
        [(one.method, one.attribute, one.values, one.rand,
          "-" if one.low is None else f"{one.low:.3f} to {one.high:.3f}")
         for one in found.attributes],
        "Agreement with what is known of the cells: 0 by chance, 1 the same partition. No interval "
        "where an attribute's values are the groups that would be resampled.",
    )  # fmt: skip


def picture(page: Report, folder: Path, name: str, caption: str) -> None:
    """A stored figure, `folder/figures/NAME.png`, with its caption."""
    png = base64.b64encode((folder / "figures" / f"{name}.png").read_bytes()).decode()
    page.parts.append(ReportPart("figure", caption, png=png))

"""What was measured, and what could not be: the parts of the page that need no clusters."""

import numpy as np

from parfocal_training.morphology.comparison import MEASURED, Compared
from parfocal_training.morphology.features import IN_UM, ranked
from parfocal_training.morphology.table import FeatureTable
from parfocal_training.report import Report

GROUPS = (
    ("AreaShape_", "size, outline, moments, Zernike moments of the outline"),
    ("Intensity_", "grey levels of the cell and of its rim"),
    ("Texture_", "Haralick's 13 features at 3, 5 and 10 px in four directions"),
    ("Granularity_", "light held by bright grains of 16 sizes"),
    ("RadialDistribution_", "grey levels by ring, Zernike moments of the grey levels"),
    ("Skeleton_", "ends, forks and branches of the skeleton; names of our own"),
    ("Location_", "where in the crop; never ranked"),
)

OVERVIEW = (
    *("AreaShape_Area_um2", "AreaShape_Perimeter_um", "AreaShape_MajorAxisLength_um"),
    *("AreaShape_Eccentricity", "AreaShape_Solidity", "AreaShape_FormFactor"),
    *("Intensity_StdIntensity_Brightfield", "Texture_SumVariance_Brightfield_5_00_256"),
    "Skeleton_NumberEndpoints",
)


def about_masks(page: Report, made: FeatureTable) -> None:
    """Where the masks come from, and which are missing or cut off."""
    n, lost = len(made.values), int((~made.found).sum())
    if made.masks_from != "detector or drawn":
        page.warning(
            "The crops came without masks: cells were segmented as what differs from the "
            "background in the middle of the crop, with neighbours that touch. Shape is only "
            "roughly that of the cell; cut crops from frames, or give ready crops their --masks."
        )
    if lost:
        page.warning(f"{lost} of {n} cells have no mask; they have no features.")
    if made.cut_off.any():
        page.warning(
            f"{int(made.cut_off.sum())} of {n} masks reach the edge of their crop (column cut_off):"
            " such a cell is larger than what was measured."
        )


def about_features(page: Report, made: FeatureTable, compared: Compared | None) -> None:
    """The features by module, some of their values, and those that are not there or not ranked."""
    page.heading("Features")
    among = ranked(made.names)
    page.table(
        ("module", "features", "ranked", "what"),
        [
            (
                prefix.rstrip("_"),
                sum(name.startswith(prefix) for name in made.names),
                sum(name.startswith(prefix) for name in among),
                what,
            )
            for prefix, what in GROUPS
        ],
        "Names and definitions are CellProfiler's, as in cp_measure 0.3.0, but for Skeleton and "
        "for sizes in um. Not ranked are features "
        "that say where and how a cell lies under the camera (places, orientation, moments that "
        f"turning changes, Zernike phases) and {len(IN_UM)} sizes in um that repeat those in px.",
    )
    page.paragraph(
        "Skeleton and endpoints are found by the rules of CellProfiler's library, centrosome. Its "
        "MeasureObjectSkeleton counts branches that leave a seed such as a nucleus; a brightfield "
        "crop has none, so here all ends, forks and branches of the mask's skeleton count, under "
        "names of our own. Corners of an outline are ends, too: a mask made of steps has many."
    )
    values = made.values[made.found]
    page.table(
        ("feature", "5 %", "median", "95 %"),
        [
            (
                name,
                *(
                    f"{q:.4g}"
                    for q in np.nanquantile(made.column(name)[made.found], [0.05, 0.5, 0.95])
                ),
            )
            for name in OVERVIEW
        ]
        if len(values)
        else [],
        "Some features over all cells.",
    )
    lacking = [
        f"{name}: {int(n)} cells"
        for name, n in zip(made.names, np.isnan(values).sum(0), strict=True)
        if n
    ]
    page.details(
        f"{len(lacking)} features could not be measured in every cell that has a mask",
        "\n".join(lacking) or "none",
    )
    if compared is not None:
        page.details(
            f"{len(compared.unranked)} features were not ranked: the same in every cell, or "
            f"measured in fewer than {100 * MEASURED:.0f} %",
            "\n".join(f"{name}: {why}" for name, why in compared.unranked.items()) or "none",
        )

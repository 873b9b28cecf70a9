"""The physical pixel size that a TIFF tells: OME-XML, ImageJ or plain resolution tags."""

import re

from parfocal.tifftags import (
    UNIT,
    X_RESOLUTION,
    Y_RESOLUTION,
    Tags,
    number,
    numbers,
)

UM_PER_PX = (0.02, 20.0)
"""Plausible pixel sizes of a microscope; 72 or 300 dpi of an office scanner lie outside."""

UNITS_UM = {"um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0}
UNITS_UM |= {"\\u00b5m": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}


def scale(tags: Tags, description: str) -> tuple[float | None, tuple[str, ...]]:
    """Pixel size in micrometres, None where the file tells no plausible one, and notes."""
    sizes = ome_sizes(description) if "<OME" in description else resolution(tags, description)
    if not sizes or not all(UM_PER_PX[0] <= size <= UM_PER_PX[1] for size in sizes):
        return None, ()
    if max(sizes) > 1.01 * min(sizes):
        return None, ("pixels_not_square",)
    return sizes[0], ()


def ome_sizes(description: str) -> list[float]:
    """PhysicalSizeX and Y of the first image in OME-XML, in micrometres."""
    sizes = []
    for axis in "XY":
        size = re.search(rf'PhysicalSize{axis}="([0-9.eE+-]{{1,24}})"', description)
        unit = re.search(rf'PhysicalSize{axis}Unit="([^"]{{1,16}})"', description)
        factor = UNITS_UM.get(unit[1].strip().lower() if unit else "um")
        try:
            sizes += [float(size[1]) * factor] if size and factor else []
        except ValueError:  # "1.2.3" is no number, and no size
            continue
    return sizes


def resolution(tags: Tags, description: str) -> list[float]:
    """Pixel sizes from the resolution tags, in ImageJ's unit if it wrote the file."""
    um = {2: 25400.0, 3: 10000.0}.get(number(tags, UNIT, 2), 0.0)
    if description.startswith("ImageJ="):
        unit = re.search(r"^unit=(\S{1,16})\s*$", description, re.M)
        um = UNITS_UM.get(unit[1].lower(), 0.0) if unit else 0.0
    sizes = []
    for tag in (X_RESOLUTION, Y_RESOLUTION):
        ratio = numbers(tags, tag)
        if len(ratio) == 2 and ratio[0] > 0:
            sizes.append(um * ratio[1] / ratio[0])
    return sizes

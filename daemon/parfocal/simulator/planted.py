"""A drawn line whose six phenotypes the eye tells apart: what finds phenotypes is tested on it.

The phenotypes of the two lifelike lines run into each other, as in a real flask, where nobody knows
the true partition. Here it is known: little varies within a phenotype, and their shares change with
density.
"""

from parfocal.simulator.lines import HEK293A
from parfocal.simulator.parameters import CellType, Phenotype, Spread

ROUND = Phenotype(
    "round",
    (8, 8),
    Spread(1.05, 0.02),
    bulge=0.12,
    bulge_sd=0.01,
    reach_log_sd=0.02,
    lamellae=(0, 0),
    area_gain=0.45,
    thickness_gain=1.8,
    lamella_level=0.8,
)
SPINDLE = Phenotype(
    "spindle",
    (2, 2),
    Spread(4.5, 0.08),
    bulge=0.22,
    bulge_sd=0.02,
    reach_log_sd=0.03,
    lamellae=(0, 0),
    area_gain=0.8,
    lamella_level=0.6,
)
SPREAD = Phenotype(
    "spread",
    (6, 7),
    Spread(1.15, 0.05),
    bulge=0.1,
    bulge_sd=0.02,
    reach_log_sd=0.05,
    lamellae=(0, 0),
    area_gain=2.6,
    thickness_gain=0.45,
    lamella_level=0.25,
)
POLYGONAL = Phenotype(
    "polygonal",
    (4, 4),
    Spread(1.25, 0.05),
    bulge=0.0,
    bulge_sd=0.03,
    reach_log_sd=0.05,
    lamellae=(0, 0),
    thickness_gain=1.1,
    lamella_level=0.75,
)
STELLATE = Phenotype(
    "stellate",
    (5, 5),
    Spread(1.15, 0.05),
    bulge=-0.32,
    bulge_sd=0.03,
    reach_log_sd=0.05,
    lamellae=(0, 0),
    area_gain=1.2,
    lamella_level=0.5,
)
TAILED = Phenotype(
    "tailed",
    (3, 3),
    Spread(1.5, 0.08),
    bulge=-0.1,
    bulge_sd=0.03,
    reach_log_sd=0.05,
    tail_reach=3.2,
    lamellae=(1, 1),
    area_gain=1.3,
    thickness_gain=0.8,
    lamella_level=0.35,
)

PLANTED = CellType(
    name="planted",
    area_um2=Spread(1000, 0.1),
    thickness_um=Spread(5.5, 0.08),
    edge_um=Spread(4.3, 0.1),
    one_sided=0.5,
    aspect_gain=1.0,
    nucleus_share=HEK293A.nucleus_share,
    nucleus_um=HEK293A.nucleus_um,
    texture=HEK293A.texture,
    phenotypes=(ROUND, SPINDLE, SPREAD, POLYGONAL, STELLATE, TAILED),
    weights=(0.16, 0.16, 0.17, 0.17, 0.17, 0.17),
    slopes=(0.5, 0.25, -0.5, 0.3, -0.3, -0.2),
)

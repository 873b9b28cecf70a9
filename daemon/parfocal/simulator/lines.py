"""The planted phenotypes and the two cell lines, modelled on what the paper's rig saw.

The lines differ in how often each phenotype occurs, how thin their margin is and how granular
and ruffled it is; size and brightness overlap widely, so that neither alone tells them apart.
"""

from parfocal.simulator.parameters import CellType, Phenotype, Spread, Texture

POLYGONAL = Phenotype(
    "polygonal",
    (3, 5),
    Spread(1.3, 0.15),
    bulge=0.0,
    bulge_sd=0.1,
    reach_log_sd=0.2,
    lamella_level=0.55,
)
SPINDLE = Phenotype(
    "spindle",
    (2, 2),
    Spread(1.9, 0.22),
    bulge=0.22,
    bulge_sd=0.08,
    reach_log_sd=0.05,
    lamella_level=0.6,
    area_gain=0.68,
)
SPREAD = Phenotype(
    "spread",
    (4, 6),
    Spread(1.4, 0.2),
    bulge=-0.08,
    bulge_sd=0.1,
    reach_log_sd=0.25,
    lamellae=(1, 3),
    area_gain=1.5,
    thickness_gain=0.5,
    lamella_level=0.25,
)
ROUND = Phenotype(
    "round",
    (7, 8),
    Spread(1.1, 0.06),
    bulge=0.10,
    bulge_sd=0.02,
    reach_log_sd=0.04,
    area_gain=0.5,
    thickness_gain=1.7,
    lamella_level=0.7,
)
TAILED = Phenotype(
    "tailed",
    (3, 4),
    Spread(1.7, 0.25),
    bulge=-0.14,
    reach_log_sd=0.25,
    tail_reach=2.8,
    lamellae=(1, 2),
    lamella_level=0.4,
)
LAMELLIPODIAL = Phenotype(
    "lamellipodial",
    (3, 5),
    Spread(1.8, 0.25),
    bulge=-0.13,
    bulge_sd=0.1,
    reach_log_sd=0.3,
    lamellae=(1, 3),
    area_gain=1.2,
    thickness_gain=0.8,
    lamella_level=0.3,
)
PHENOTYPES = (POLYGONAL, SPINDLE, SPREAD, ROUND, TAILED, LAMELLIPODIAL)

HEK293A = CellType(
    name="HEK-293A",
    area_um2=Spread(1010, 0.34),
    thickness_um=Spread(5.5, 0.22),
    edge_um=Spread(4.3, 0.3),
    one_sided=0.6,
    aspect_gain=0.85,
    nucleus_share=0.20,
    nucleus_um=0.5,
    texture=Texture(
        mottle_um=0.82,
        mottle_scale_um=1.8,
        granules_per_100um2=2.2,
        granule_um=0.26,
        vacuoles=0.4,
        ruffles_per_10um=3.0,
        ruffle_um=0.35,
        filopodia=2.5,
    ),
    phenotypes=PHENOTYPES,
    weights=(0.53, 0.24, 0.04, 0.06, 0.07, 0.06),
    slopes=(0.15, -0.2, -0.5, 0.4, -0.3, -0.2),
)

HT1080 = CellType(
    name="HT1080",
    area_um2=Spread(1000, 0.38),
    thickness_um=Spread(5.9, 0.26),
    edge_um=Spread(4.3, 0.35),
    one_sided=0.75,
    aspect_gain=1.05,
    nucleus_share=0.18,
    nucleus_um=0.7,
    texture=Texture(
        mottle_um=0.44,
        mottle_scale_um=1.6,
        granules_per_100um2=3.5,
        granule_um=0.34,
        vacuoles=1.6,
        ruffles_per_10um=7.0,
        ruffle_um=0.65,
        filopodia=2.0,
    ),
    phenotypes=PHENOTYPES,
    weights=(0.09, 0.15, 0.19, 0.03, 0.23, 0.31),
    slopes=(0.35, 0.2, -0.6, 0.4, -0.1, -0.25),
)

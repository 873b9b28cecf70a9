"""Options that say how to cluster."""

import argparse

from parfocal_training.options import not_below_zero, whole_above_zero
from parfocal_training.phenotypes.space import DISCRIMINANTS, MOST_COMPONENTS

MIXTURE_DISCRIMINANTS = 8
"""Of a mixture, unless asked for: it can use more axes than k-means, which counts all alike."""


def cluster_options(command: argparse.ArgumentParser) -> None:
    """Method, space, number of clusters, repeats, and where to compute."""
    command.add_argument(
        "--copies",
        type=whole_above_zero,
        default=20,
        help="augmented copies of a cell whose LCA is averaged",
    )
    command.add_argument(
        "--method",
        choices=("k-means", "mixture"),
        default="k-means",
        help="k-means: round clusters alike in width, as in the paper; mixture: of Gaussians with "
        "shapes of their own",
    )
    command.add_argument(
        "--space",
        choices=("discriminants", "components", "whitened", "lca"),
        default="discriminants",
        help="discriminants: the components in which cells differ most, in units of the spread of "
        "a cell's own copies; components: principal components of values of SD 1; whitened: these "
        "of SD 1 too; lca: values as they are, as in the paper",
    )
    command.add_argument(
        "--components",
        type=whole_above_zero,
        help=f"None: {DISCRIMINANTS} discriminants, {MIXTURE_DISCRIMINANTS} for a mixture; other "
        f"components as explain 95 %% of the variance, at most {MOST_COMPONENTS}",
    )
    command.add_argument(
        "--clusters",
        type=whole_above_zero,
        help="number of phenotypes; None: where the mean silhouette is highest, or a mixture's BIC "
        "lowest",
    )
    command.add_argument(
        "--max-clusters",
        type=whole_above_zero,
        default=100,
        help="numbers from 2 to this are tried, at most a fifth of the cells",
    )
    command.add_argument(
        "--starts",
        type=whole_above_zero,
        default=10,
        help="of the clustering at every number that is tried",
    )
    command.add_argument(
        "--repeats",
        type=whole_above_zero,
        default=100,
        help="independent starts at the chosen number; the best is kept",
    )
    command.add_argument(
        "--resamples",
        type=whole_above_zero,
        default=50,
        help="samples of whole flasks (fields) on which stability is measured",
    )
    command.add_argument(
        "--shrink",
        type=whole_above_zero,
        default=4,
        metavar="PX",
        help="side in pixels of the squares that are averaged before pixels are clustered, for "
        "comparison",
    )
    command.add_argument(
        "--seed", type=not_below_zero, default=1, help="of copies, clustering and resampling"
    )
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: CUDA if there is"
    )
    command.add_argument("--threads", type=not_below_zero, default=0, help="of the CPU; 0: all")

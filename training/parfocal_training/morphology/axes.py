"""The two features onto which clusters are projected."""

import numpy as np
from scipy.stats import rankdata  # type: ignore[import-untyped]

from parfocal_training.morphology.patch import Floats


def second_axis(jsd: Floats, rho: Floats) -> int:
    """The feature with the largest distance times 1 - |correlation with the first|."""
    return int((jsd * (1 - np.abs(rho))).argmax())


def spearman(values: Floats, one: int = 0) -> Floats:
    """Spearman's correlation of each feature (n, f) with one of them: (f,); NaN cells left out."""
    out = np.zeros(values.shape[1])
    for i, column in enumerate(values.T):
        both = np.isfinite(column) & np.isfinite(values[:, one])
        ranks = [rankdata(v[both]) for v in (column, values[:, one])]
        away = [r - r.mean() for r in ranks]
        spread = float(np.sqrt((away[0] ** 2).sum() * (away[1] ** 2).sum()))
        out[i] = float(away[0] @ away[1]) / spread if spread else 0.0
    return out

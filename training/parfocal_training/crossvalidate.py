"""Folds over groups: what is tested never shares a flask or field with what was trained on."""

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from parfocal_training.errors import DataError


def group_folds(
    labels: NDArray[np.int64],
    groups: tuple[str, ...],
    folds: int,
    seed: int,
    classes: tuple[str, ...],
) -> NDArray[np.int64]:
    """Fold of each crop, (n,): a group lies in one fold, classes are spread as evenly as they go.

    Raises
    ------
    DataError
        A class has fewer groups than there are folds.
    """
    names = np.array(groups)
    for number, name in enumerate(classes):
        has = len(set(names[labels == number]))
        if has < folds:
            raise DataError(
                f"{name} has {has} group(s), {folds} folds need {folds}: give --folds "
                f"{has if has > 1 else 0} or add flasks or fields of it"
            )
    out = np.full(len(labels), -1, np.int64)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for fold, (_, test) in enumerate(splitter.split(labels[:, None], labels, names)):
        out[test] = fold
    return out

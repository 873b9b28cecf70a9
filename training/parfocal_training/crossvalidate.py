"""Folds over groups: what is tested never shares a flask or field with what was trained on."""

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from parfocal_training.errors import DataError

Ints = NDArray[np.int64]


def group_folds(
    labels: Ints, groups: tuple[str, ...], folds: int, seed: int, classes: tuple[str, ...]
) -> Ints:
    """Fold of each crop, (n,): a group lies in one fold, classes are spread as evenly as they go.

    With more folds than the rarest class has groups, some folds lack it; with as many as there
    are groups, each group is a fold. What a fold leaves to train on always has every class.

    Raises
    ------
    DataError
        There are fewer groups than folds, or a class has one group only.
    """
    names, number = np.unique(np.array(groups), return_inverse=True)
    if folds > len(names):
        raise DataError(
            f"{folds} folds need {folds} groups, there are {len(names)}: give --folds {len(names)}"
        )
    of_class = [len(np.unique(number[labels == c])) for c in range(len(classes))]
    for name, has in zip(classes, of_class, strict=True):
        if has < 2:
            raise DataError(
                f"{name} has {has} group(s): the fold that tests it leaves none to train on; give "
                "--folds 0 or add flasks or fields of it"
            )
    if folds > min(of_class):
        return _dealt(labels, number.astype(np.int64), folds, seed)
    out = np.full(len(labels), -1, np.int64)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for fold, (_, test) in enumerate(splitter.split(labels[:, None], labels, number)):
        out[test] = fold
    return out


def _dealt(labels: Ints, number: Ints, folds: int, seed: int) -> Ints:
    """Groups dealt round to the folds, those of a class one after another, in random order."""
    n_groups = int(number.max()) + 1
    label = np.zeros(n_groups, np.int64)
    label[number] = labels
    order = np.lexsort((np.random.default_rng(seed).permutation(n_groups), label))
    fold = np.empty(n_groups, np.int64)
    fold[order] = np.arange(n_groups) % folds
    return fold[number]

"""Data sets that come with scikit-learn or with the package."""

from importlib.resources import files
from typing import Any

import numpy as np

from unitgain.data._table import Table, Task, table_from_arrays


def digits() -> Table:
    """Handwritten digits: 1797 images of 8 x 8 pixels, 10 classes.

    Some pixels are blank in all images: they stay, as zeros.

    Example:
        >>> digits().x.shape
        (1797, 64)
    """
    from sklearn.datasets import load_digits

    return _from_sklearn("digits", load_digits(), "classification", constant_ok=True)


def breast_cancer() -> Table:
    """Breast cancer Wisconsin: 569 tumours, 30 features, malignant or benign."""
    from sklearn.datasets import load_breast_cancer

    return _from_sklearn("breast_cancer", load_breast_cancer(), "classification")


def wine() -> Table:
    """Wine recognition: 178 wines, 13 features, 3 cultivars."""
    from sklearn.datasets import load_wine

    return _from_sklearn("wine", load_wine(), "classification")


def iris() -> Table:
    """Iris plants: 150 flowers, 4 features, 3 species."""
    from sklearn.datasets import load_iris

    return _from_sklearn("iris", load_iris(), "classification")


def diabetes() -> Table:
    """Diabetes progression after a year: 442 patients, 10 features."""
    from sklearn.datasets import load_diabetes

    return _from_sklearn("diabetes", load_diabetes(), "regression", target_names=["progression"])


def linnerud() -> Table:
    """Linnerud: 20 men, 3 exercises as features, 3 targets (weight, waist, pulse)."""
    from sklearn.datasets import load_linnerud

    bunch = load_linnerud()
    return _from_sklearn("linnerud", bunch, "regression", target_names=bunch.target_names)


def airfoil(logarithms: bool = False) -> Table:
    """Airfoil self-noise: 1503 wind tunnel measurements, 5 features, sound level in dB.

    Args:
        logarithms: Frequency and thickness, which span orders of magnitude, as natural logarithms.

    Reference: Brooks, Pope and Marcolini (1989), UCI Machine Learning Repository,
    https://doi.org/10.24432/C5VW2C, CC BY 4.0.

    Example:
        >>> airfoil().x.shape
        (1503, 5)
    """
    path = files("unitgain.data") / "files" / "airfoil_self_noise.dat"
    rows = np.loadtxt(path.read_text(encoding="ascii").splitlines(), delimiter="\t")
    if logarithms:
        rows[:, [0, 4]] = np.log(rows[:, [0, 4]])
    return table_from_arrays(
        "airfoil",
        rows[:, :5],
        rows[:, 5],
        task="regression",
        feature_names=["frequency", "angle", "chord", "velocity", "thickness"],
        target_names=["sound_level"],
    )


def _from_sklearn(
    name: str,
    bunch: Any,
    task: Task,
    *,
    target_names: list[str] | None = None,
    constant_ok: bool = False,
) -> Table:
    return table_from_arrays(
        name,
        bunch.data,
        bunch.target,
        task=task,
        feature_names=bunch.feature_names,
        target_names=target_names,
        class_names=bunch.target_names if task == "classification" else None,
        constant_ok=constant_ok,
    )

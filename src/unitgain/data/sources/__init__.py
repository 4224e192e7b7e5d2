"""The shipped sources, each a function that returns a `Table`."""

from unitgain.data.sources._bundled import (
    airfoil,
    breast_cancer,
    diabetes,
    digits,
    iris,
    linnerud,
    wine,
)
from unitgain.data.sources._files import csv, parquet
from unitgain.data.sources._generated import (
    blobs,
    circles,
    friedman1,
    linear,
    moons,
    sinc,
    teacher,
)
from unitgain.data.sources._mnist1d import mnist1d
from unitgain.data.sources._online import california_housing, covertype, openml
from unitgain.data.sources._two_domains import gaussian_shift, sinc_shift, teacher_shift

__all__ = [
    "airfoil",
    "blobs",
    "breast_cancer",
    "california_housing",
    "circles",
    "covertype",
    "csv",
    "diabetes",
    "digits",
    "friedman1",
    "gaussian_shift",
    "iris",
    "linear",
    "linnerud",
    "mnist1d",
    "moons",
    "openml",
    "parquet",
    "sinc",
    "sinc_shift",
    "teacher",
    "teacher_shift",
    "wine",
]

import warnings
from urllib.error import HTTPError, URLError

import numpy as np
import pandas as pd
import pytest
from sklearn.utils import Bunch

from unitgain.data import check_table
from unitgain.data.sources import california_housing, covertype, openml
from unitgain.errors import DataError

FRAME = pd.DataFrame(
    {
        "size": [1.0, 2.0, 3.0, 4.0],
        "colour": pd.Categorical(["red", "blue", "red", "blue"]),
        "shop": pd.Categorical(["a", "a", "b", "b"]),
        "class": pd.Categorical(["no", "yes", "yes", "no"]),
    }
)


@pytest.fixture
def fetched(monkeypatch):
    """Give a fetcher of scikit-learn something to return or to raise."""

    def set_result(name, result):
        def fetch(**arguments):
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr(f"sklearn.datasets.{name}", fetch)

    return set_result


def test_openml_takes_target_and_categories_from_openml(fetched):
    fetched("fetch_openml", Bunch(frame=FRAME, target_names=["class"]))
    table = openml(31, "classification", group_column="shop")
    assert table.name == "openml 31"
    assert table.feature_names == ("size",)
    assert [column.name for column in table.categorical] == ["colour"]
    assert table.group.tolist() == ["a", "a", "b", "b"]
    assert table.class_names == ("no", "yes")


def test_openml_targets_can_be_chosen(fetched):
    fetched("fetch_openml", Bunch(frame=FRAME, target_names=[]))
    table = openml(31, "regression", "size", drop_columns=["class", "shop"])
    assert table.target_names == ("size",)
    with pytest.raises(DataError, match="openml 31: OpenML names no target for it; set data"):
        openml(31, "regression")


@pytest.mark.parametrize(
    "error",
    [
        URLError("no route"),
        HTTPError("https://openml.org", 403, "no route", {}, None),
        ConnectionError("no route"),
        ValueError("no route"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize(
    ("fetcher", "source", "name"),
    [
        ("fetch_openml", lambda: openml(31, "classification"), "openml 31"),
        ("fetch_california_housing", california_housing, "california_housing"),
        ("fetch_covtype", covertype, "covertype"),
    ],
)
def test_a_network_that_refuses_is_one_line(fetched, fetcher, source, name, error):
    fetched(fetcher, error)
    with pytest.raises(DataError) as caught:
        source()
    (line,) = caught.value.lines
    assert line.startswith(f"{name}: it must be downloaded, but scikit-learn says: ")
    assert "no route" in line
    assert line.endswith("set data=csv data.path=FILE data.target_column=NAME")


@pytest.mark.parametrize("fails", [True, False])
def test_warnings_of_a_download_are_for_those_that_succeed(monkeypatch, fails):
    def fetch(**arguments):
        warnings.warn("retrying", UserWarning, stacklevel=2)
        if fails:
            raise URLError("no route")
        return Bunch(frame=FRAME, target_names=["class"])

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if fails:
            with pytest.raises(DataError):
                openml(31, "classification")
        else:
            openml(31, "classification")
    assert [str(each.message) for each in caught] == ([] if fails else ["retrying"])


def test_what_sklearn_fetches_becomes_a_table(fetched):
    x = np.random.default_rng(0).normal(size=(6, 2))
    names = {"feature_names": ["a", "b"]}
    fetched("fetch_covtype", Bunch(data=x, target=np.array([1, 2, 7] * 2), **names))
    cover = covertype()
    assert cover.class_names == ("1", "2", "7")
    assert cover.constant_ok
    check_table(cover)
    fetched(
        "fetch_california_housing",
        Bunch(data=x, target=x[:, 0], target_names=["MedHouseVal"], **names),
    )
    housing = california_housing()
    assert housing.target_names == ("MedHouseVal",)
    assert housing.y.shape == (6, 1)

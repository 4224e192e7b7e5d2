"""Which works the parts of a run come from: keys of references.bib by ``_target_``."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

_INIT = "unitgain.nn.init."
_OPTIM = "unitgain.pack.optim."
_SHIFTS = "unitgain.data.shifts."
_SOURCES = "unitgain.data.sources."
_WEIGHTED = ("shimodaira2000improving",)
_ESTIMATED = (*_WEIGHTED, "vehtari2024pareto")
"""Of every estimated density ratio: weighting itself, and the check of its tail."""
_LABELS = ("lipton2018detecting",)

CITATIONS: dict[str, tuple[str, ...]] = {
    f"{_INIT}critical": ("schoenholz2017deep", "poole2016exponential"),
    f"{_INIT}he": ("he2015delving",),
    f"{_INIT}identity": ("le2015simple",),
    f"{_INIT}lecun": ("lecun1998efficient", "klambauer2017self"),
    f"{_INIT}lsuv": ("mishkin2016all",),
    f"{_INIT}mean_field": ("poole2016exponential",),
    f"{_INIT}orthogonal": ("saxe2014exact",),
    f"{_INIT}scaled_residual": ("zhang2019fixup", "de2020batch"),
    f"{_INIT}sparse": ("martens2010deep",),
    f"{_INIT}spectral": ("yang2022tensor", "yang2023spectral"),
    f"{_INIT}xavier": ("glorot2010understanding",),
    "unitgain.nn.BatchNorm": ("ioffe2015batch",),
    "unitgain.nn.LayerNorm": ("ba2016layer",),
    "unitgain.nn.RMSNorm": ("zhang2019root",),
    "unitgain.nn.Dropout": ("srivastava2014dropout",),
    "unitgain.nn.AlphaDropout": ("klambauer2017self",),
    "torch.nn.ELU": ("clevert2016fast",),
    "torch.nn.GELU": ("hendrycks2016gaussian",),
    "torch.nn.LeakyReLU": ("maas2013rectifier",),
    "torch.nn.ReLU": ("nair2010rectified",),
    "torch.nn.SELU": ("klambauer2017self",),
    "torch.nn.SiLU": ("elfwing2018sigmoid", "hendrycks2016gaussian"),
    "torch.nn.Softplus": ("dugas2001incorporating",),
    f"{_OPTIM}Adam": ("kingma2015adam",),
    f"{_OPTIM}AdamW": ("loshchilov2019decoupled", "kingma2015adam"),
    f"{_OPTIM}RMSprop": ("hinton2012neural",),
    f"{_OPTIM}SGD": ("robbins1951stochastic",),
    "unitgain.pack.schedule.Cosine": ("loshchilov2017sgdr",),
    "unitgain.pack.schedule.OneCycle": ("smith2018super",),
    "unitgain.nn.losses.Huber": ("huber1964robust",),
    "unitgain.shift.Classifier": (*_ESTIMATED, "bickel2009discriminative", "qin1998inferences"),
    "unitgain.shift.KLIEP": (*_ESTIMATED, "sugiyama2008direct"),
    "unitgain.shift.KMM": (*_ESTIMATED, "huang2007correcting"),
    "unitgain.shift.NearestNeighbour": (*_ESTIMATED, "loog2012nearest", "kremer2015nearest"),
    "unitgain.shift.Oracle": _ESTIMATED,
    "unitgain.shift.RuLSIF": (*_ESTIMATED, "yamada2013relative"),
    "unitgain.shift.ULSIF": (*_ESTIMATED, "kanamori2009least"),
    f"{_SHIFTS}ExponentialTilt": ("tibshirani2019conformal",),
    f"{_SHIFTS}FeatureKnockout": ("rabanser2019failing",),
    f"{_SHIFTS}GaussianMeanShift": ("cortes2010learning",),
    f"{_SHIFTS}GaussianNoise": ("rabanser2019failing",),
    f"{_SHIFTS}LabelDirichlet": _LABELS,
    f"{_SHIFTS}LabelKnockout": _LABELS,
    f"{_SHIFTS}LabelTweakOne": _LABELS,
    f"{_SHIFTS}PCATilt": ("gretton2009covariate",),
    f"{_SOURCES}airfoil": ("brooks1989airfoil",),
    f"{_SOURCES}breast_cancer": ("wolberg1993breast",),
    f"{_SOURCES}california_housing": ("pace1997sparse",),
    f"{_SOURCES}covertype": ("blackard1998covertype",),
    f"{_SOURCES}diabetes": ("efron2004least",),
    f"{_SOURCES}digits": ("alpaydin1998optical",),
    f"{_SOURCES}friedman1": ("friedman1991multivariate",),
    f"{_SOURCES}iris": ("fisher1936use",),
    f"{_SOURCES}linnerud": ("tenenhaus1998regression",),
    f"{_SOURCES}mnist1d": ("greydanus2024scaling",),
    f"{_SOURCES}openml": ("vanschoren2013openml",),
    f"{_SOURCES}sinc": ("sugiyama2007covariate",),
    f"{_SOURCES}sinc_shift": ("sugiyama2007covariate",),
    f"{_SOURCES}wine": ("aeberhard1992wine",),
}
"""Keys of references.bib, by what a configuration names in ``_target_``."""

ARGUMENTS: dict[tuple[str, str], tuple[str, ...]] = {
    (f"{_OPTIM}SGD", "momentum"): ("sutskever2013importance",),
    (f"{_OPTIM}RMSprop", "centered"): ("graves2013generating",),
    ("unitgain.nn.losses.CrossEntropy", "label_smoothing"): ("szegedy2016rethinking",),
    (f"{_INIT}critical", "distribution=orthogonal"): ("pennington2017resurrecting",),
    (f"{_INIT}scaled_residual", "distribution=orthogonal"): ("saxe2014exact",),
    **{
        (f"{_INIT}spectral", f"base={base}"): CITATIONS[f"{_INIT}{base}"]
        for base in ("critical", "he", "lecun", "orthogonal", "xavier")
    },
}
"""What an argument adds: one that is neither zero nor false, or has this value."""

FILES: dict[str, tuple[str, ...]] = {
    "monitor.json": ("vovk2021retrain",),
    "shift.json": ("reddi2015doubly", "chernozhukov2018double"),
}
"""What a run needs on which a command was used that left this file."""

SOFTWARE: dict[str, str] = {
    "unitgain": "unitgain",
    "torch": "paszke2019pytorch",
    "lightning": "falcon2019lightning",
    "hydra-core": "yadan2019hydra",
    "scikit-learn": "pedregosa2011scikit",
}
"""Packages that every run uses, as environment.json names them."""

NOTHING_TO_CITE: frozenset[str] = frozenset(
    {
        "auto",
        "torch.nn.Identity",
        "torch.nn.Sigmoid",
        "torch.nn.Tanh",
        "unitgain.nn.Erf",
        *(f"unitgain.nn.losses.{name}" for name in ("BinaryCrossEntropy", "CrossEntropy")),
        *(f"unitgain.nn.losses.{name}" for name in ("MAE", "MSE")),
        *(f"unitgain.pack.schedule.{name}" for name in ("Constant", "Step")),
        "unitgain.shift.Uniform",
        *(f"{_INIT}{name}" for name in ("constant", "normal", "truncated_normal", "uniform")),
        *(f"{_INIT}{name}" for name in ("torch_default", "zeros")),
        *(f"{_INIT}bias_{name}" for name in ("constant", "normal", "uniform", "zeros")),
        *(f"{_SHIFTS}{name}" for name in ("Concept", "Domain", "FeatureScaling", "Given")),
        *(f"{_SHIFTS}{name}" for name in ("LogisticSelection", "MissingValues", "NoShift")),
        *(f"{_SOURCES}{name}" for name in ("blobs", "circles", "csv", "gaussian_shift", "linear")),
        *(f"{_SOURCES}{name}" for name in ("moons", "parquet", "teacher", "teacher_shift")),
    }
)
"""Textbook parts, no parts at all, and the project's own."""

_PARTS = ("activation", "norm", "dropout", "init", "first_init", "output_init", "bias_init")
_OTHERS = ("optimizer", "scheduler", "loss", "data", "shift", "weighting")


def used(config: Mapping[str, Any]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Group, target and keys of everything in a configuration that has, or might have, something to cite.

    Example:
        >>> node = {"_target_": "unitgain.pack.optim.SGD", "lr": 0.1, "momentum": 0.9}
        >>> list(used({"optimizer": node}))
        [('optimizer', 'unitgain.pack.optim.SGD', ('robbins1951stochastic', 'sutskever2013importance'))]
    """
    for group in (*_PARTS, *_OTHERS):
        node = config.get(group)
        if not isinstance(node, Mapping) or "_target_" not in node:
            continue
        target = str(node["_target_"])
        if group == "dropout" and node.get("p") == 0:
            continue
        keys = list(CITATIONS.get(target, ()))
        for name, value in node.items():
            keys += ARGUMENTS.get((target, name), ()) if value else ()
            keys += ARGUMENTS.get((target, f"{name}={value}"), ())
        yield group, target, tuple(keys)


@cache
def entries() -> dict[str, str]:
    """The BibTeX entries of references.bib by their keys."""
    text = (Path(__file__).parent / "references.bib").read_text(encoding="utf-8")
    found = ["@" + part.strip() for part in ("\n" + text).split("\n@")[1:]]
    return {entry[entry.index("{") + 1 : entry.index(",")]: entry for entry in found}

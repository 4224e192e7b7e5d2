"""What one library makes of shifted rows, in a process that times itself. Only our own imports unitgain."""

import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Array = Any
Ratio = Callable[[Array, Array, int], Array]
Prevalence = Callable[[Array, Array, Array, Array, Array], Array]


def skada(name: str, **arguments: Any) -> Ratio:
    """A reweighting adapter of skada; what it draws comes from its arguments."""

    def weights(source: Array, target: Array, _: int) -> Array:
        from skada import _reweight

        adapter = getattr(_reweight, f"{name}ReweightAdapter")(**arguments)
        rows = np.concatenate([source, target])
        domain = np.r_[np.ones(len(source), int), -2 * np.ones(len(target), int)]
        adapter.fit(rows, sample_domain=domain)
        return adapter.compute_weights(rows, sample_domain=domain)[: len(source)]

    return weights


def densratio(method: str) -> Ratio:
    """One of its methods; it has no seed but numpy's."""

    def weights(source: Array, target: Array, seed: int) -> Array:
        from densratio import densratio as fit

        np.random.seed(seed)
        fitted = fit(target, source, method=method, verbose=False)
        return fitted.compute_density_ratio(source)

    return weights


def unitgain(name: str) -> Ratio:
    """An estimator of ours with its defaults."""

    def weights(source: Array, target: Array, seed: int) -> Array:
        import torch

        from unitgain import shift

        torch.set_num_threads(1)
        parts = (torch.from_numpy(rows) for rows in (source, target))
        fitted = getattr(shift, name)().fit(*parts, torch.Generator().manual_seed(seed))
        return fitted.source_weight_N.numpy()

    return weights


def quapy(name: str, **arguments: Any) -> Prevalence:
    """A quantifier of QuaPy, which trains the classifier and is given held-out rows."""

    def shares(x: Array, y: Array, source: Array, label: Array, target: Array) -> Array:
        from quapy.method import aggregative

        held_out = {"val_split": (source, label)} if arguments or name != "EMQ" else {}
        quantifier = getattr(aggregative, name)(classifier(), **held_out, **arguments)
        return quantifier.fit(x, y).predict(target)

    return shares


def own_shares(name: str, **arguments: Any) -> Prevalence:
    """A label-shift estimator of ours on the posteriors of the same classifier."""

    def shares(x: Array, y: Array, source: Array, label: Array, target: Array) -> Array:
        import torch

        from unitgain import shift

        torch.set_num_threads(1)
        model = classifier().fit(x, y)
        own, other = (torch.from_numpy(model.predict_proba(rows)) for rows in (source, target))
        fitted = getattr(shift, name)(**arguments).fit(own, torch.from_numpy(label), other)
        return fitted.target_C.numpy()

    return shares


def classifier() -> Any:
    """Of the digits: the same for all."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=0.01, max_iter=300)


def alibi_mmd(source: Array, target: Array, permutations: int) -> float:
    """alibi-detect's MMD with its torch backend."""
    import torch
    from alibi_detect.cd import MMDDrift

    torch.set_num_threads(1)
    rows = source.astype(np.float32), target.astype(np.float32)
    test = MMDDrift(rows[0], backend="pytorch", n_permutations=permutations, device="cpu")
    return float(test.predict(rows[1])["data"]["p_val"])


def own_mmd(source: Array, target: Array, permutations: int) -> float:
    """Ours."""
    import torch

    from unitgain.shift import MMD

    torch.set_num_threads(1)
    rows = (torch.from_numpy(part) for part in (source, target))
    return MMD(permutations=permutations)(*rows, torch.Generator().manual_seed(0)).p_value


RATIOS: dict[str, Ratio] = {
    "skada, discriminator": skada("Discriminator"),
    "skada, Gaussian": skada("Gaussian"),
    "skada, KLIEP": skada("KLIEP", gamma=[0.01, 0.1, 1.0], random_state=0),
    "skada, KMM": skada("KMM"),
    "skada, nearest neighbour": skada("NearestNeighbor"),
    "densratio, uLSIF": densratio("uLSIF"),
    "densratio, RuLSIF .1": densratio("RuLSIF"),
    "unitgain, Classifier": unitgain("Classifier"),
    "unitgain, KLIEP": unitgain("KLIEP"),
    "unitgain, KMM": unitgain("KMM"),
    "unitgain, NearestNeighbour": unitgain("NearestNeighbour"),
    "unitgain, ULSIF": unitgain("ULSIF"),
    "unitgain, RuLSIF .1": unitgain("RuLSIF"),
}
SHARES: dict[str, Prevalence] = {
    "QuaPy, ACC": quapy("ACC"),
    "QuaPy, PACC": quapy("PACC"),
    "QuaPy, EMQ": quapy("EMQ"),
    "QuaPy, EMQ with bcts": quapy("EMQ", calib="bcts"),
    "unitgain, BBSE": own_shares("BBSE"),
    "unitgain, BBSE(soft=True)": own_shares("BBSE", soft=True),
    "unitgain, MLLS(none)": own_shares("MLLS", calibration="none"),
    "unitgain, MLLS": own_shares("MLLS"),
}
MMDS = {"alibi-detect, MMD": alibi_mmd, "unitgain, MMD": own_mmd}


def answer(name: str, work: dict[str, Array]) -> Any:
    """The weights of a source, the shares of a target, or a p-value, as the work asks."""
    if name in MMDS:
        return MMDS[name](work["source"], work["target"], int(work["permutations"]))
    if name in SHARES:
        keys = ("x", "y", "source", "label", "target")
        return SHARES[name](*(work[key] for key in keys)).tolist()
    return RATIOS[name](work["source"], work["target"], int(work["seed"])).ravel().tolist()


def main() -> None:
    name, *paths = sys.argv[1:]
    warnings.simplefilter("ignore")
    results = []
    for path in map(Path, paths):
        with np.load(path) as stored:
            work = dict(stored)
        start = time.process_time()
        found = answer(name, work)
        results.append({"answer": found, "cpu_seconds": time.process_time() - start})
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"results": results, "peak_gigabytes": memory}))


if __name__ == "__main__":
    main()

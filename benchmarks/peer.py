"""One peer's sweep, timed inside of its own process: ``python benchmarks/peer.py PEER WORK.json``.

WORK.json holds the shape, the rates and seeds of the sweep, and where the rows lie. It runs in the peers' environment,
so that it imports nothing of this project but for ``unitgain`` itself. The last line that it prints is its result.
Shapes: K members, N rows, B examples, S steps.
"""

import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PACKS = (8, 16, 32, 64)
CLASSES = 10
_PACK = 32
"""Members of a pack of unitgain, as its own plan would have them."""


@dataclass(frozen=True)
class Sweep:
    """The runs, each a rate and a seed, and their rows."""

    depth: int
    width: int
    batch: int
    epochs: int
    runs: list[tuple[float, int]]
    rows: dict[str, np.ndarray]

    @property
    def x(self) -> np.ndarray:
        return self.rows["x_train"]

    @property
    def y(self) -> np.ndarray:
        return self.rows["y_train"]

    @property
    def widths(self) -> list[int]:
        return [self.x.shape[1], *[self.width] * self.depth, CLASSES]

    def accuracy(self, predicted: np.ndarray) -> float:
        """The share of the validation rows that are right."""
        return float((predicted == self.rows["y_val"]).mean())

    def start(self, runs: list[tuple[float, int]]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Weights (K, in, out) and biases (K, out) by He's rule, each run from its own seed."""
        layers = []
        generators = [np.random.default_rng(seed) for _, seed in runs]
        for fan_in, fan_out in zip(self.widths, self.widths[1:], strict=False):
            shape, scale = (fan_in, fan_out), np.float32((2 / fan_in) ** 0.5)
            weight = [g.standard_normal(shape, dtype=np.float32) * scale for g in generators]
            layers.append((np.stack(weight), np.zeros((len(runs), fan_out), np.float32)))
        return layers

    def orders(self, runs: list[tuple[float, int]]) -> Iterator[np.ndarray]:
        """The order (K, N) of each run through its rows, epoch by epoch."""
        generators = [np.random.default_rng([seed, 1]) for _, seed in runs]
        for _ in range(self.epochs):
            yield np.stack([g.permutation(len(self.x)) for g in generators])


def scikit_learn(sweep: Sweep) -> dict[str, Any]:
    """MLPClassifier; it doesn't validate."""
    from sklearn.neural_network import MLPClassifier

    def train(lr: float, seed: int) -> MLPClassifier:
        model = MLPClassifier(
            [sweep.width] * sweep.depth,
            alpha=0.0,
            batch_size=sweep.batch,
            learning_rate_init=lr,
            max_iter=sweep.epochs,
            n_iter_no_change=sweep.epochs,
            random_state=seed,
        )
        return model.fit(sweep.x, sweep.y)

    return one_by_one(sweep, train, lambda model: model.predict(sweep.rows["x_val"]))


def skorch(sweep: Sweep) -> dict[str, Any]:
    """NeuralNetClassifier with its default callbacks, validating each epoch on the given rows."""
    import torch
    from skorch import NeuralNetClassifier
    from skorch.dataset import Dataset
    from skorch.helper import predefined_split

    def train(lr: float, seed: int) -> NeuralNetClassifier:
        torch.manual_seed(seed)
        net = NeuralNetClassifier(
            torch_net(sweep),
            criterion=torch.nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            lr=lr,
            max_epochs=sweep.epochs,
            batch_size=sweep.batch,
            iterator_train__shuffle=True,
            train_split=predefined_split(Dataset(sweep.rows["x_val"], sweep.rows["y_val"])),
            verbose=0,
        )
        return net.fit(sweep.x, sweep.y)

    return one_by_one(sweep, train, lambda net: net.predict(sweep.rows["x_val"]))


def keras(sweep: Sweep) -> dict[str, Any]:
    """Keras 3 on torch: compile and fit, with accuracy, validating each epoch."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    def train(lr: float, seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        hidden = [keras.layers.Dense(sweep.width, activation="relu") for _ in range(sweep.depth)]
        model = keras.Sequential(
            [keras.Input((sweep.x.shape[1],)), *hidden, keras.layers.Dense(CLASSES)]
        )
        model.compile(
            optimizer=keras.optimizers.Adam(lr),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        validation = (sweep.rows["x_val"], sweep.rows["y_val"])
        model.fit(
            sweep.x,
            sweep.y,
            batch_size=sweep.batch,
            epochs=sweep.epochs,
            validation_data=validation,
            verbose=0,
        )
        return model

    def predict(model: keras.Model) -> np.ndarray:
        return np.asarray(model.predict(sweep.rows["x_val"], verbose=0)).argmax(1)

    return one_by_one(sweep, train, predict)


def torch_func(sweep: Sweep) -> dict[str, Any]:
    """torch.func: vmap of the gradient of functional_call, Adam on stacked parameters; it doesn't validate."""
    import torch
    from torch.func import functional_call, grad, vmap

    x, y = torch.from_numpy(sweep.x), torch.from_numpy(sweep.y)
    net = torch_net(sweep)
    names = [name for name, _ in net.named_parameters()]

    def loss(parameters: dict[str, Any], x: Any, y: Any) -> Any:
        return torch.nn.functional.cross_entropy(functional_call(net, parameters, (x,)), y)

    gradients = vmap(grad(loss))

    def train(runs: list[tuple[float, int]]) -> dict[str, Any]:
        flat = [tensor for layer in sweep.start(runs) for tensor in layer]
        parameters = {
            name: torch.from_numpy(a).mT.contiguous() if a.ndim == 3 else torch.from_numpy(a)
            for name, a in zip(names, flat, strict=True)
        }
        first, second = (
            {name: torch.zeros_like(p) for name, p in parameters.items()} for _ in range(2)
        )
        rate = torch.tensor([lr for lr, _ in runs])
        step = 0
        for order in sweep.orders(runs):
            for index in torch.from_numpy(order).split(sweep.batch, 1):
                step += 1
                gradient = gradients(parameters, x[index], y[index])
                corrected, root = rate / (1 - 0.9**step), (1 - 0.999**step) ** 0.5
                for name, g in gradient.items():
                    m, v = first[name].lerp_(g, 0.1), second[name]
                    v.mul_(0.999).addcmul_(g, g, value=0.001)
                    scaled = m * corrected.view(-1, *[1] * (m.dim() - 1))
                    parameters[name].addcdiv_(scaled, v.sqrt().div_(root).add_(1e-8), value=-1)
        return parameters

    def predict(parameters: dict[str, Any]) -> np.ndarray:
        x_val = torch.from_numpy(sweep.rows["x_val"])
        outputs = vmap(lambda p: functional_call(net, p, (x_val,)))(parameters)
        return outputs.argmax(2).numpy()

    return in_packs(sweep, train, predict)


def jax(sweep: Sweep) -> dict[str, Any]:
    """JAX: vmap of a step with Adam, an epoch of them under one jit; compiled before, and it doesn't validate."""
    import jax
    import jax.numpy as jnp

    x, y = jnp.asarray(sweep.x), jnp.asarray(sweep.y)

    def output(layers: Any, x: Any) -> Any:
        for weight, bias in layers[:-1]:
            x = jax.nn.relu(x @ weight + bias)
        weight, bias = layers[-1]
        return x @ weight + bias

    def loss(layers: Any, index: Any) -> Any:
        scores = jax.nn.log_softmax(output(layers, x[index]))
        return -jnp.take_along_axis(scores, y[index][:, None], 1).mean()

    def member(layers: Any, first: Any, second: Any, rate: Any, index: Any, step: Any) -> Any:
        gradient = jax.grad(loss)(layers, index)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradient)
        corrected, root = rate / (1 - 0.9**step), jnp.sqrt(1 - 0.999**step)
        layers = jax.tree.map(
            lambda p, m, v: p - corrected * m / (jnp.sqrt(v) / root + 1e-8), layers, first, second
        )
        return layers, first, second

    packed = jax.vmap(member, in_axes=(0, 0, 0, 0, 0, None))

    @jax.jit
    def epoch(state: Any, rate: Any, order: Any, step: Any) -> Any:
        full = len(sweep.x) // sweep.batch * sweep.batch
        batches = order[:, :full].reshape(len(rate), -1, sweep.batch).swapaxes(0, 1)

        def body(carried: Any, index: Any) -> Any:
            state, step = carried
            return (packed(*state, rate, index, step + 1), step + 1), None

        (state, step), _ = jax.lax.scan(body, (state, step), batches)
        if full < len(sweep.x):
            state, step = packed(*state, rate, order[:, full:], step + 1), step + 1
        return state, step

    def train(runs: list[tuple[float, int]]) -> Any:
        layers = [(jnp.asarray(w), jnp.asarray(b)) for w, b in sweep.start(runs)]
        zeros = jax.tree.map(jnp.zeros_like, layers)
        state, step = (layers, zeros, zeros), jnp.float32(0)
        rate = jnp.asarray([lr for lr, _ in runs], jnp.float32)
        for order in sweep.orders(runs):
            state, step = epoch(state, rate, jnp.asarray(order), step)
        return jax.block_until_ready(state[0])

    def predict(layers: Any) -> np.ndarray:
        scores = jax.vmap(output, in_axes=(0, None))(layers, jnp.asarray(sweep.rows["x_val"]))
        return np.asarray(scores.argmax(2))

    return in_packs(sweep, train, predict)


def unitgain(sweep: Sweep) -> dict[str, Any]:
    """A fit with everything at its default: probe, five metrics, files and checkpoints of every run."""
    import torch

    from unitgain.train import RunResult, fit

    torch.set_num_threads(1)

    def train(runs: list[tuple[float, int]]) -> list[RunResult]:
        with tempfile.TemporaryDirectory() as folder:
            return fit(
                [run_spec(sweep, *run) for run in runs],
                [Path(folder, str(k)) for k in range(len(runs))],
            )

    packs = [sweep.runs[i : i + _PACK] for i in range(0, len(sweep.runs), _PACK)]
    train(sweep.runs[:2])
    start = time.perf_counter()
    results = [each for pack in packs for each in train(pack)]
    seconds = time.perf_counter() - start
    accuracies = [result.metrics["val/accuracy"] for result in results]
    return result(seconds, len(sweep.runs), accuracies) | {"K": _PACK}


def unitgain_engine(sweep: Sweep) -> dict[str, Any]:
    """Training alone, as the loops written by hand do: no validation, probe or file."""
    import torch

    from unitgain.data import open_data
    from unitgain.pack.build import build_mlp, build_pack
    from unitgain.pack.engine import Pack

    torch.set_num_threads(1)
    spec = run_spec(sweep, *sweep.runs[0])
    table = open_data(spec)

    def train(runs: list[tuple[float, int]]) -> Pack:
        specs = [run_spec(sweep, *run, every=None) for run in runs]
        tables = [table] * len(specs)
        mlp = build_mlp(specs, tables)
        pack = build_pack(specs, tables, mlp, torch.device("cpu"))
        for epoch in range(sweep.epochs):
            pack.train_epoch(epoch)
        return pack

    def predict(pack: Pack) -> Iterator[np.ndarray]:
        yield from pack.predict("val").output_KNT.argmax(-1).numpy()

    return in_packs(sweep, train, predict)


def run_spec(sweep: Sweep, lr: float, seed: int, every: int | None = 10) -> Any:
    """A run of the sweep as unitgain has it."""
    from unitgain.spec import parse

    return parse(
        {
            "seed": seed,
            "model": {"_target_": "unitgain.nn.MLP", "depth": sweep.depth, "width": sweep.width},
            "optimizer": {"_target_": "unitgain.pack.optim.Adam", "lr": lr},
            "data": {"_target_": "unitgain.data.sources.digits", "batch_size": sweep.batch},
            "trainer": {"max_epochs": sweep.epochs, "accelerator": "cpu", "progress": False},
            "probe": {"every": every},
        }
    )


def torch_net(sweep: Sweep) -> Any:
    """The network as torch.nn has it, on one thread."""
    import torch

    torch.set_num_threads(1)
    modules: list[Any] = []
    for fan_in, fan_out in zip(sweep.widths[:-2], sweep.widths[1:-1], strict=True):
        modules += [torch.nn.Linear(fan_in, fan_out), torch.nn.ReLU()]
    return torch.nn.Sequential(*modules, torch.nn.Linear(sweep.width, CLASSES))


def one_by_one(
    sweep: Sweep, train: Callable[[float, int], Any], predict: Callable[[Any], np.ndarray]
) -> dict[str, Any]:
    """Time every fourth run, each by itself, behind one for warm-up."""
    runs = sweep.runs[::4]
    train(*runs[0])
    start = time.perf_counter()
    models = [train(*run) for run in runs]
    seconds = time.perf_counter() - start
    return result(seconds, len(runs), [sweep.accuracy(predict(model)) for model in models])


def in_packs(
    sweep: Sweep,
    train: Callable[[list[tuple[float, int]]], Any],
    predict: Callable[[Any], np.ndarray],
) -> dict[str, Any]:
    """Time all runs in packs of each size, and give the best; what the first pack takes longer is compiling."""
    best: dict[str, Any] = {}
    for members in PACKS:
        packs = [sweep.runs[i : i + members] for i in range(0, len(sweep.runs), members)]
        start = time.perf_counter()
        train(packs[0])
        first = time.perf_counter() - start
        start = time.perf_counter()
        models = [train(pack) for pack in packs]
        seconds = time.perf_counter() - start
        if best and seconds >= best["seconds"]:
            continue
        accuracies = [sweep.accuracy(p) for model in models for p in predict(model)]
        best = result(seconds, len(sweep.runs), accuracies)
        best |= {"K": members, "compile_seconds": max(first - seconds / len(packs), 0.0)}
    return best


def result(seconds: float, runs: int, accuracies: list[float]) -> dict[str, Any]:
    """What a peer reports."""
    return {
        "seconds": seconds,
        "runs": runs,
        "val_accuracy": {"mean": float(np.mean(accuracies)), "best": max(accuracies)},
    }


PEERS = {
    "scikit-learn": scikit_learn,
    "skorch": skorch,
    "keras": keras,
    "torch.func": torch_func,
    "jax": jax,
    "unitgain": unitgain,
    "unitgain, training alone": unitgain_engine,
}


def main() -> None:
    name, path = sys.argv[1:]
    warnings.simplefilter("ignore")
    given = json.loads(Path(path).read_text())
    with np.load(given.pop("rows")) as rows:
        sweep = Sweep(**given, rows=dict(rows))
    print(json.dumps(PEERS[name](sweep)))


if __name__ == "__main__":
    main()

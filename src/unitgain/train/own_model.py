"""A module of the user's own, with data and a loss to look at it by.

Shapes: B examples.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from unitgain.errors import ConfigError, UnitgainError, explained
from unitgain.spec import load

BATCH = 64
"""Synthetic examples."""


@final
@dataclass(frozen=True)
class Given:
    """What a module is looked at with.

    Args:
        loss: of a module on the batch; for copies of it, too.
        inputs: (B, ...) of the first batch, None where only the module knows what they are.
        words: where they come from, and what the loss is.
    """

    loss: Callable[[nn.Module], Tensor]
    inputs: Tensor | None
    words: str


def load_module(target: str) -> nn.Module:
    """`as_module` of what a name means, see `unitgain.spec.load`.

    Raises:
        ConfigError: there is no such, or it isn't a module.
    """
    return as_module(load(target), target)


def as_module(found: Any, target: str) -> nn.Module:
    """The module that what `load` gave is or makes, drawn with torch's seed 0.

    Raises:
        ConfigError: it isn't a module, or can't be made without arguments.
    """
    if not isinstance(found, nn.Module):
        if not callable(found):
            raise ConfigError(
                f"{target}: must be a torch.nn.Module or what makes one, got a {type(found).__name__}"
            )
        torch.manual_seed(0)
        remedy = "name a function without parameters that makes the module"
        with explained(target, target, "must make a module when called without arguments", remedy):
            found = found()
    if not isinstance(found, nn.Module):
        raise ConfigError(
            f"{target}: must be a torch.nn.Module or what makes one, but it gave a "
            f"{type(found).__name__}"
        )
    if not any(True for _ in found.parameters()):
        raise ConfigError(f"{target}: must have parameters to look at, but has none")
    return found


def given_for(
    module: nn.Module, name: str, data: str | None = None, shape: Sequence[int] | None = None
) -> Given:
    """A batch and a loss: of the data that are named, of the module's own, or synthetic.

    Args:
        module: what is to be looked at.
        name: of it, for errors.
        data: what gives a loader, a LightningDataModule, or one batch; see `unitgain.spec.load`.
        shape: of one synthetic example; None: inferred, if the module has data of its own not used.

    Raises:
        ConfigError: there is nothing that can be used.
    """
    steps = isinstance(module, pl.LightningModule) and _overrides(module, "training_step")
    if data is not None:
        return _of_batch(_batch_of(load(data), data), data, steps)
    if shape is None and _overrides(module, "train_dataloader"):
        own = f"{name}'s train_dataloader"
        assert isinstance(module, pl.LightningModule)
        return _of_batch(_batch_of(module.train_dataloader, own), own, steps)
    return _synthetic(module, name, shape)


def _overrides(module: nn.Module, method: str) -> bool:
    """Whether a LightningModule defines this method itself."""
    if not isinstance(module, pl.LightningModule):
        return False
    own: object = getattr(type(module), method)
    return own is not getattr(pl.LightningModule, method)


def _batch_of(found: Any, name: str) -> Any:
    """The first batch of what gives batches."""
    remedy = "give a DataLoader, a LightningDataModule, a batch (x, y), or a function that does"
    with explained("--data", name, "must give batches", remedy):
        if callable(found) and not isinstance(found, pl.LightningDataModule):
            found = found()
        if isinstance(found, pl.LightningDataModule):
            found.prepare_data()
            found.setup("fit")
            found = found.train_dataloader()
        if isinstance(found, Tensor) or (
            isinstance(found, tuple) and all(isinstance(each, Tensor) for each in found)
        ):
            return found
        if not isinstance(found, Iterable):
            raise TypeError(f"a {type(found).__name__} can't be iterated over")
        return next(iter(found))


def _of_batch(batch: Any, source: str, steps: bool) -> Given:
    parts = list(batch) if isinstance(batch, tuple | list) else [batch]
    inputs = parts[0] if isinstance(parts[0], Tensor) else None
    size = "a batch" if inputs is None else f"a batch of {len(inputs)}"
    if steps:
        words = f"{size} from {source}, the loss of its own training_step"
        return Given(lambda module: _own_loss(module, batch), inputs, words)
    if inputs is None:
        raise ConfigError(
            f"--data: must give tensors (x, y) to a module without a training_step, but a batch "
            f"of {source} is a {type(batch).__name__}; give a function that makes (x, y) of it"
        )
    target = parts[1] if len(parts) > 1 and isinstance(parts[1], Tensor) else None
    kind = _kind_of(target)
    words = f"{size} from {source}, {_LOSSES[kind]}"
    return Given(lambda module: _loss(module, inputs, target, kind), inputs, words)


_LOSSES = {
    "classes": "the cross-entropy",
    "numbers": "the squared error",
    "none": "a random linear function of the outputs for a loss",
}


def _kind_of(target: Tensor | None) -> str:
    if target is None:
        return "none"
    return "numbers" if target.is_floating_point() else "classes"


def _synthetic(module: nn.Module, name: str, shape: Sequence[int] | None) -> Given:
    generator = torch.Generator().manual_seed(0)
    x = _example_inputs(module, name, generator) if shape is None else None
    if x is None:
        x = torch.randn(BATCH, *(shape or ()), generator=generator)
    kind = "Gaussian inputs" if x.is_floating_point() else "random indices"
    words = f"{len(x)} synthetic {kind} of shape {tuple(x.shape[1:])}, {_LOSSES['none']}"
    return Given(lambda each: _loss(each, x, None, "none"), x, words)


def _example_inputs(module: nn.Module, name: str, generator: torch.Generator) -> Tensor:
    """Inputs of the shape that the module says it takes, or that its first layer does."""
    example = module.example_input_array if isinstance(module, pl.LightningModule) else None
    if isinstance(example, Tensor):
        return torch.randn(BATCH, *example.shape[1:], generator=generator)
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            return torch.randn(BATCH, layer.in_features, generator=generator)
        if isinstance(layer, nn.Embedding):
            return torch.randint(layer.num_embeddings, (BATCH, 16), generator=generator)
        if any(True for _ in layer.parameters(recurse=False)):
            break
    raise ConfigError(
        f"{name}: needs the shape of an example, which its first layer doesn't tell; add --input, "
        "such as --input 3,32,32, or --data"
    )


def _own_loss(module: nn.Module, batch: Any) -> Tensor:
    assert isinstance(module, pl.LightningModule)
    with warnings.catch_warnings():
        # Without a trainer what training_step logs goes nowhere.
        warnings.simplefilter("ignore")
        result = module.training_step(batch, 0)
    loss = result.get("loss") if isinstance(result, dict) else result
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        raise ConfigError(
            f"{type(module).__name__}: training_step must return a loss that gradients pass "
            f"through, but gave a {type(loss).__name__}; add --input to look at it without"
        )
    return loss


def _loss(module: nn.Module, x: Tensor, target: Tensor | None, kind: str) -> Tensor:
    output = module(x)
    if isinstance(output, tuple | list):
        output = output[0]
    if not isinstance(output, Tensor):
        raise ConfigError(
            f"{type(module).__name__}: must give a tensor, got a {type(output).__name__}; "
            "name a function that makes a module that does"
        )
    if target is None:
        generator = torch.Generator().manual_seed(1)
        direction = torch.randn(output.shape, generator=generator, dtype=output.dtype)
        return (output * direction).flatten(1).sum(1).mean()
    if kind == "numbers":
        return fn.mse_loss(output, target.to(output.dtype).view_as(output))
    return fn.cross_entropy(output.flatten(0, -2), target.flatten())


def explained_pass(module: nn.Module, given: Given, name: str) -> Tensor:
    """The loss, and whatever the module's own code raises as one line.

    Raises:
        ConfigError: it raised something.
    """
    try:
        return given.loss(module)
    except UnitgainError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
        raise ConfigError(
            f"{name}: a forward pass on {given.words.partition(',')[0]} must work, but raised "
            f"{reason}; give its data by --data or the shape of an example by --input"
        ) from error

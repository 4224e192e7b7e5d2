"""What to try against a fault of a configured run, in the words of its configuration."""

from unitgain.probe.findings import Label
from unitgain.probe.verdict import Remedy, general_remedy
from unitgain.spec import RunSpec


def remedy_of(spec: RunSpec) -> Remedy:  # noqa: ARG001
    """What to try against each fault of a run."""

    def remedy(label: Label) -> str:
        return _OF_RATE.get(label) or _OF_START.get(label) or general_remedy(label)

    return remedy


_OF_RATE: dict[Label, str] = {
    "update too large": "a lower optimizer.lr",
    "update too small": "a higher optimizer.lr",
    "diverged": "a lower optimizer.lr or trainer.gradient_clip_norm=1",
    "oscillating": "a lower optimizer.lr or scheduler=cosine",
    "dead units": "a lower optimizer.lr or activation=leaky_relu",
}
_OF_START: dict[Label, str] = {
    "vanishing": "norm=layer or model.residual=true",
    "exploding": "norm=layer or norm=rms",
    "saturated": "norm=layer",
    "rank collapse": "model.residual=true",
}

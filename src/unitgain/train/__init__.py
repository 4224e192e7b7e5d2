"""Training with Lightning: the packed module, its data module, callbacks and loggers, and what a run leaves."""

from unitgain.train.evaluate import evaluate
from unitgain.train.fit import fit
from unitgain.train.follower import follow
from unitgain.train.gradient_flow import GradientFlow
from unitgain.train.module import PackedDataModule, PackedModule
from unitgain.train.table import TableDataModule, TensorBatches
from unitgain.train.watch import RunResult, Watch

__all__ = [
    "GradientFlow",
    "PackedDataModule",
    "PackedModule",
    "RunResult",
    "TableDataModule",
    "TensorBatches",
    "Watch",
    "evaluate",
    "fit",
    "follow",
]

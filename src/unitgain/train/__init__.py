"""Training with Lightning: the packed module, its data module, callbacks and loggers, and what a run leaves."""

from unitgain.train.evaluate import evaluate
from unitgain.train.fit import RunResult, fit
from unitgain.train.gradient_flow import GradientFlow
from unitgain.train.module import PackedDataModule, PackedModule
from unitgain.train.table import TableDataModule, TensorBatches

__all__ = [
    "GradientFlow",
    "PackedDataModule",
    "PackedModule",
    "RunResult",
    "TableDataModule",
    "TensorBatches",
    "evaluate",
    "fit",
]

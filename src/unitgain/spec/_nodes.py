"""The shipped options of the network, its training and its loggers, one class each.

Defaults are those of conf/; a test keeps them so. ``init`` and ``bias_init`` are in `_init`, ``data`` in `_data`.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from unitgain.spec._base import Component, Count, Fraction, Index, Node, NonNegative, Positive, Rate

NormPosition = Literal["before_activation", "after_activation"]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
Depth = Annotated[int, Field(ge=1, le=10_000)]
OpenShare = Annotated[float, Field(gt=0.0, lt=1.0)]
LearningRate = Annotated[Positive, Field(description="the step size of the optimizer")]
Widths = Annotated[
    Count | tuple[Count, ...],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
]


class Network(Component):
    """A multilayer perceptron: hidden layers and a linear output head."""

    target: Literal["unitgain.nn.MLP"] = Field("unitgain.nn.MLP", alias="_target_")
    depth: Depth = Field(6, description="the number of hidden layers")
    width: Widths = Field(64, description="the units of each hidden layer")
    bias: bool = True
    residual: bool = False
    branch_scale: Positive = Field(1.0, description="what a residual branch is multiplied by")
    norm_position: NormPosition = "before_activation"

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each hidden layer.

        Example:
            >>> Network(depth=3, width=16).widths
            (16, 16, 16)
        """
        return (self.width,) * self.depth if isinstance(self.width, int) else self.width


class Identity(Component):
    """Nothing: no activation, no norm, no dropout."""

    target: Literal["torch.nn.Identity"] = Field("torch.nn.Identity", alias="_target_")


class ReLU(Component):
    """max(x, 0)."""

    target: Literal["torch.nn.ReLU"] = Field("torch.nn.ReLU", alias="_target_")


class LeakyReLU(Component):
    """max(x, 0) + negative_slope * min(x, 0)."""

    target: Literal["torch.nn.LeakyReLU"] = Field("torch.nn.LeakyReLU", alias="_target_")
    negative_slope: float = 0.01


class ELU(Component):
    """x above 0, alpha * (exp(x) - 1) below."""

    target: Literal["torch.nn.ELU"] = Field("torch.nn.ELU", alias="_target_")
    alpha: Positive = 1.0


class SELU(Component):
    """The scaled ELU whose fixed point has mean 0 and variance 1."""

    target: Literal["torch.nn.SELU"] = Field("torch.nn.SELU", alias="_target_")


class GELU(Component):
    """x * Phi(x), Phi the normal distribution function."""

    target: Literal["torch.nn.GELU"] = Field("torch.nn.GELU", alias="_target_")
    approximate: Literal["none", "tanh"] = "none"


class SiLU(Component):
    """x * sigmoid(x)."""

    target: Literal["torch.nn.SiLU"] = Field("torch.nn.SiLU", alias="_target_")


class Tanh(Component):
    """tanh(x)."""

    target: Literal["torch.nn.Tanh"] = Field("torch.nn.Tanh", alias="_target_")


class Sigmoid(Component):
    """1 / (1 + exp(-x))."""

    target: Literal["torch.nn.Sigmoid"] = Field("torch.nn.Sigmoid", alias="_target_")


class Softplus(Component):
    """log(1 + exp(beta * x)) / beta, linear above the threshold."""

    target: Literal["torch.nn.Softplus"] = Field("torch.nn.Softplus", alias="_target_")
    beta: Positive = 1.0
    threshold: Positive = 20.0


class Erf(Component):
    """The error function."""

    target: Literal["unitgain.nn.Erf"] = Field("unitgain.nn.Erf", alias="_target_")


class BatchNorm(Component):
    """Normalization over the batch."""

    target: Literal["unitgain.nn.BatchNorm"] = Field("unitgain.nn.BatchNorm", alias="_target_")
    eps: Positive = 1e-5
    momentum: Fraction = 0.1
    affine: bool = True


class LayerNorm(Component):
    """Normalization over the features of an example."""

    target: Literal["unitgain.nn.LayerNorm"] = Field("unitgain.nn.LayerNorm", alias="_target_")
    eps: Positive = 1e-5
    affine: bool = True


class RMSNorm(Component):
    """Division by the root mean square of an example's features."""

    target: Literal["unitgain.nn.RMSNorm"] = Field("unitgain.nn.RMSNorm", alias="_target_")
    eps: Positive = 1e-5
    affine: bool = True


class Dropout(Component):
    """Units are zeroed with probability p."""

    target: Literal["unitgain.nn.Dropout"] = Field("unitgain.nn.Dropout", alias="_target_")
    p: Rate = Field(0.0, description="the probability of dropping a unit")


class AlphaDropout(Component):
    """Dropout that keeps mean 0 and variance 1, for selu."""

    target: Literal["unitgain.nn.AlphaDropout"] = Field(
        "unitgain.nn.AlphaDropout", alias="_target_"
    )
    p: Rate = Field(0.1, description="the probability of dropping a unit")


class SGD(Component):
    """Gradient descent with momentum."""

    target: Literal["unitgain.pack.optim.SGD"] = Field("unitgain.pack.optim.SGD", alias="_target_")
    lr: LearningRate = 0.1
    momentum: Rate = 0.0
    dampening: Fraction = 0.0
    nesterov: bool = False
    weight_decay: NonNegative = 0.0


class Adam(Component):
    """Adam; weight decay is part of the gradient."""

    target: Literal["unitgain.pack.optim.Adam"] = Field(
        "unitgain.pack.optim.Adam", alias="_target_"
    )
    lr: LearningRate = 1e-3
    betas: tuple[Rate, Rate] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.0


class AdamW(Component):
    """Adam with decoupled weight decay."""

    target: Literal["unitgain.pack.optim.AdamW"] = Field(
        "unitgain.pack.optim.AdamW", alias="_target_"
    )
    lr: LearningRate = 1e-3
    betas: tuple[Rate, Rate] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.01


class RMSprop(Component):
    """RMSprop."""

    target: Literal["unitgain.pack.optim.RMSprop"] = Field(
        "unitgain.pack.optim.RMSprop", alias="_target_"
    )
    lr: LearningRate = 1e-2
    alpha: Rate = 0.99
    eps: Positive = 1e-8
    momentum: Rate = 0.0
    centered: bool = False
    weight_decay: NonNegative = 0.0


class Schedule(Component):
    """A learning rate over the steps of a run, behind an optional linear warm-up."""

    warmup_steps: Index = 0
    warmup_factor: Share = 0.01


class ConstantSchedule(Schedule):
    """The base rate throughout."""

    target: Literal["unitgain.pack.schedule.Constant"] = Field(
        "unitgain.pack.schedule.Constant", alias="_target_"
    )


class StepSchedule(Schedule):
    """The rate times gamma after every step_epochs epochs."""

    target: Literal["unitgain.pack.schedule.Step"] = Field(
        "unitgain.pack.schedule.Step", alias="_target_"
    )
    step_epochs: Count = 10
    gamma: Share = 0.1


class CosineSchedule(Schedule):
    """Half a cosine down to min_factor."""

    target: Literal["unitgain.pack.schedule.Cosine"] = Field(
        "unitgain.pack.schedule.Cosine", alias="_target_"
    )
    min_factor: Fraction = 0.0


class OneCycleSchedule(Schedule):
    """Up to the base rate and down again."""

    target: Literal["unitgain.pack.schedule.OneCycle"] = Field(
        "unitgain.pack.schedule.OneCycle", alias="_target_"
    )
    pct_start: OpenShare = 0.3
    div_factor: Positive = 25.0
    final_div_factor: Positive = 1e4
    anneal: Literal["cos", "linear"] = "cos"
    cycle_momentum: bool = False
    base_momentum: Rate = 0.85
    max_momentum: Rate = 0.95


class AutoLoss(Component):
    """Cross-entropy or the mean squared error, by the task of the data."""

    target: Literal["auto"] = Field("auto", alias="_target_")


class MSE(Component):
    """The mean squared error."""

    target: Literal["unitgain.nn.losses.MSE"] = Field("unitgain.nn.losses.MSE", alias="_target_")


class MAE(Component):
    """The mean absolute error."""

    target: Literal["unitgain.nn.losses.MAE"] = Field("unitgain.nn.losses.MAE", alias="_target_")


class Huber(Component):
    """Squared within delta, absolute beyond."""

    target: Literal["unitgain.nn.losses.Huber"] = Field(
        "unitgain.nn.losses.Huber", alias="_target_"
    )
    delta: Positive = 1.0


class CrossEntropy(Component):
    """The negative log-likelihood of the class."""

    target: Literal["unitgain.nn.losses.CrossEntropy"] = Field(
        "unitgain.nn.losses.CrossEntropy", alias="_target_"
    )
    label_smoothing: Rate = 0.0


class BinaryCrossEntropy(Component):
    """The same for two classes, with one output."""

    target: Literal["unitgain.nn.losses.BinaryCrossEntropy"] = Field(
        "unitgain.nn.losses.BinaryCrossEntropy", alias="_target_"
    )
    label_smoothing: Rate = 0.0


class ClassificationMetric(Component):
    """A shipped metric of classification."""

    target: Literal[
        "unitgain.pack.metrics.accuracy",
        "unitgain.pack.metrics.f1_macro",
        "unitgain.pack.metrics.auroc",
        "unitgain.pack.metrics.ece",
        "unitgain.pack.metrics.log_loss",
    ] = Field(alias="_target_")


class RegressionMetric(Component):
    """A shipped metric of regression."""

    target: Literal[
        "unitgain.pack.metrics.mae",
        "unitgain.pack.metrics.mse",
        "unitgain.pack.metrics.rmse",
        "unitgain.pack.metrics.r2",
    ] = Field(alias="_target_")


class CSVLogger(Component):
    """Rows in metrics.csv, flushed as they come."""

    target: Literal["unitgain.train.loggers.csv"] = Field(
        "unitgain.train.loggers.csv", alias="_target_"
    )


class WandbLogger(Component):
    """Weights & Biases; offline unless the user is logged in or says otherwise."""

    target: Literal["unitgain.train.loggers.wandb"] = Field(
        "unitgain.train.loggers.wandb", alias="_target_"
    )
    project: str = "unitgain"
    entity: str | None = None
    group: str | None = None
    job_type: str = "train"
    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    quantities: tuple[str, ...] = ("grad_preactivation", "grad_weight")
    checkpoints: bool = False


class TensorBoardLogger(Component):
    """TensorBoard event files in the run directory."""

    target: Literal["unitgain.train.loggers.tensorboard"] = Field(
        "unitgain.train.loggers.tensorboard", alias="_target_"
    )


class Trainer(Node):
    """How long, where and how exactly to train."""

    max_epochs: Count = Field(20, description="the number of passes over the training part")
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: Literal["auto"] | Count = Field(1, description="the number of processes of one run")
    precision: Annotated[
        Literal["32", "bf16-mixed", "64"],
        BeforeValidator(lambda value: str(value) if type(value) is int else value),
    ] = "32"
    deterministic: bool = True
    threads: Count = Field(1, description="the number of CPU threads")
    gradient_clip_norm: Positive | None = None
    eval_batch_size: Count = 4096
    progress: bool = True


class Debug(Node):
    """Presets that find faults quickly; null or zero is off."""

    fast_dev_run: Index = Field(0, description="the number of batches after which a run stops")
    overfit: Index = Field(0, description="the number of batches that are trained on over and over")
    profiler: bool = False


class Checkpoints(Node):
    """When checkpoints are written."""

    every_s: NonNegative = Field(30.0, description="the least seconds between two checkpoints")


class EarlyStopping(Node):
    """When to stop before the last epoch."""

    patience: Count | None = Field(
        None, description="the number of epochs without improvement of the monitored metric"
    )
    min_delta: NonNegative = 0.0


ACTIVATIONS: tuple[type[Component], ...] = (
    Identity,
    ReLU,
    LeakyReLU,
    ELU,
    SELU,
    GELU,
    SiLU,
    Tanh,
    Sigmoid,
    Softplus,
    Erf,
)
NORMS: tuple[type[Component], ...] = (Identity, BatchNorm, LayerNorm, RMSNorm)
DROPOUTS: tuple[type[Component], ...] = (Identity, Dropout, AlphaDropout)
OPTIMIZERS: tuple[type[Component], ...] = (SGD, Adam, AdamW, RMSprop)
SCHEDULES: tuple[type[Component], ...] = (
    ConstantSchedule,
    StepSchedule,
    CosineSchedule,
    OneCycleSchedule,
)
REGRESSION_LOSSES: tuple[type[Component], ...] = (MSE, MAE, Huber)
CLASSIFICATION_LOSSES: tuple[type[Component], ...] = (CrossEntropy, BinaryCrossEntropy)
LOSSES: tuple[type[Component], ...] = (AutoLoss, *REGRESSION_LOSSES, *CLASSIFICATION_LOSSES)
METRICS: tuple[type[Component], ...] = (ClassificationMetric, RegressionMetric)
LOGGERS: tuple[type[Component], ...] = (CSVLogger, WandbLogger, TensorBoardLogger)

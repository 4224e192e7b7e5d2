import pytest

from unitgain.errors import ConfigError
from unitgain.spec import Custom, RunSpec, parse

CLASSIFIER = {"_target_": "unitgain.shift.Classifier"}
MLP = {"_target_": "unitgain.nn.MLP"}
SGD = {"_target_": "unitgain.pack.optim.SGD"}
ADAM = {"_target_": "unitgain.pack.optim.Adam"}
DIABETES = {"_target_": "unitgain.data.sources.diabetes"}
OWN_DATA = {"_target_": "unitgain.own.source", "task": "regression"}


def lines(**config):
    with pytest.raises(ConfigError) as caught:
        parse(config)
    return caught.value.lines


def line(**config):
    [only] = lines(**config)
    return only


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"model": {**MLP, "depth": 0}},
            "model.depth: must be at least 1 and at most 10000, got 0; it is the number of hidden layers",
        ),
        (
            {"model": {**MLP, "depth": 2.5}},
            "model.depth: must be a whole number, at least 1 and at most 10000, got 2.5; it is "
            "the number of hidden layers",
        ),
        (
            {"model": {**MLP, "depth": True}},
            "model.depth: must be a whole number, at least 1 and at most 10000, got true; it is "
            "the number of hidden layers",
        ),
        (
            {"model": {**MLP, "dept": 3}},
            "model.dept: no such key, got 3; did you mean depth? "
            "keys here: bias, branch_scale, depth, norm_position, residual, width",
        ),
        (
            {"model": {**MLP, "norm_position": "before"}},
            "model.norm_position: must be one of 'before_activation', 'after_activation', "
            "got 'before'; did you mean 'before_activation'?",
        ),
        (
            {"model": {**MLP, "width": [64, 0]}},
            "model.width: must be a whole number, at least 1, or a list, each element a whole "
            "number, at least 1, got [64, 0]; it is the units of each hidden layer",
        ),
        (
            {"model": 3},
            "model: must be a mapping with _target_ and arguments, got 3",
        ),
        (
            {"model": {"_target_": "torch.nn.Linear"}},
            "model._target_: no such component, got torch.nn.Linear; it takes unitgain.nn.MLP",
        ),
        (
            {"activation": {"slope": 1}},
            "activation._target_: must be the dotted path of a callable, got null",
        ),
        (
            {"dropout": {"_target_": "unitgain.nn.Dropout", "p": 1.2}},
            "dropout.p: must be at least 0 and below 1, got 1.2; "
            "it is the probability of dropping a unit",
        ),
        (
            {"optimizer": {**ADAM, "lr": -0.1}},
            "optimizer.lr: must be above 0, got -0.1; it is the step size of the optimizer",
        ),
        (
            {"optimizer": {**ADAM, "lr": "fast"}},
            "optimizer.lr: must be a number, above 0, got 'fast'; it is the step size of the "
            "optimizer",
        ),
        (
            {"optimizer": {**ADAM, "lr": float("inf")}},
            "optimizer.lr: must be above 0, got Infinity; it is the step size of the optimizer",
        ),
        (
            {"optimizer": {**ADAM, "betas": [0.9, 1.0]}},
            "optimizer.betas.1: must be a number, at least 0 and below 1, got 1.0",
        ),
        (
            {"init": {"_target_": "unitgain.nn.init.xaviar"}},
            "init._target_: no such component, got unitgain.nn.init.xaviar; "
            "did you mean unitgain.nn.init.xavier?",
        ),
        (
            {"split": {"_target_": "unitgain.data.splits.Random", "fractions": [0.5, 0.5, 0.5]}},
            "split.fractions: must be three numbers above 0 that sum to 1 (train, validation, "
            "test), got [0.5, 0.5, 0.5] with sum 1.5",
        ),
        (
            {"data": {"_target_": "unitgain.data.sources.diabetes", "task": "classification"}},
            "data.task: must be 'regression', got 'classification'",
        ),
        (
            {"trainer": {"max_epochs": 0}},
            "trainer.max_epochs: must be at least 1, got 0; "
            "it is the number of passes over the training part",
        ),
        (
            {"trainer": {"precision": "16"}},
            "trainer.precision: must be one of '32', 'bf16-mixed', '64', got '16'",
        ),
        (
            {"trainer": {"gpus": 1}},
            "trainer.gpus: no such key, got 1; keys here: accelerator, deterministic, "
            "devices, eval_batch_size, gradient_clip_norm, max_epochs, precision, progress, threads",
        ),
        (
            {"probe": {"quantities": ["grad_weigth"]}},
            "probe.quantities.0: must be one of 'grad_preactivation', 'grad_weight', 'grad_bias', "
            "'weight_norm', 'update_ratio', 'activation_mean', 'activation_variance', "
            "'activation_second_moment', 'activation_correlation', 'silent_fraction', "
            "'dead_fraction', 'saturated_fraction', 'gradient_noise_scale', 'gradient_snr', "
            "'gradient_cosine', got 'grad_weigth'; "
            "did you mean 'grad_weight'?",
        ),
        (
            {"probe": {"per_decade": 0}},
            "probe.per_decade: must be a whole number, at least 1, or null, got 0; "
            "it is the number of measurements in each tenfold of steps",
        ),
        (
            {"probe": {"at": [3, -1]}},
            "probe.at.1: must be a whole number, at least 0, got -1; it is a step that is measured besides",
        ),
        (
            {"callbacks": {"early_stopping": {"patience": -1}}},
            "callbacks.early_stopping.patience: must be a whole number, at least 1, or null, "
            "got -1; it is the number of epochs without improvement of the monitored metric",
        ),
        (
            {"logger": {"csv": {"_target_": "unitgain.train.loggers.csv", "path": "x"}}},
            "logger.csv.path: no such key, got 'x'; keys here: none",
        ),
        (
            {"scheduler": {"_target_": "unitgain.pack.schedule.Step", "warmup_steps": -1}},
            "scheduler.warmup_steps: must be at least 0, got -1",
        ),
        (
            {"scheduler": {"_target_": "unitgain.pack.schedule.Step", "warmup_factor": 0}},
            "scheduler.warmup_factor: must be above 0 and at most 1, got 0",
        ),
        ({"seed": -1}, "seed: must be at least 0 and at most 4294967295, got -1"),
        ({"tags": "a"}, "tags: must be a list, each element a string, got 'a'"),
        (
            {"weighting": {**CLASSIFIER, "features": ["cubic"]}},
            "weighting.features.0: must be one of 'linear', 'quadratic', 'mlp', got 'cubic'",
        ),
        (
            {"weighting": {**CLASSIFIER, "ridges": []}},
            "weighting.ridges: must be a list that is not empty, each element a number, above 0, got []",
        ),
    ],
)
def test_one_fault_is_one_line(config, expected):
    assert line(**config) == expected


def test_what_a_file_marks_as_to_be_given_is_required():
    csv = {"_target_": "unitgain.data.sources.csv", "task": "regression", "path": "???"}
    assert lines(data=csv) == (
        "data.path: is required: a string",
        "data.target_column: is required: a list that is not empty, each element a string",
    )


def test_all_faults_come_at_once_nested_ones_and_those_between_keys_too():
    found = lines(
        seed=True,
        modle=3,
        model={**MLP, "depth": 0, "dept": 3},
        dropout={"_target_": "unitgain.nn.Dropout", "p": 1.2},
        optimizer={**SGD, "nesterov": True},
        loss={"_target_": "unitgain.nn.losses.MSE"},
        monitor="val/los",
    )
    keys = [each.split(":")[0] for each in found]
    assert sorted(keys) == sorted(
        [
            "seed",
            "modle",
            "model.depth",
            "model.dept",
            "dropout.p",
            "optimizer.nesterov",
            "loss",
            "monitor",
        ]
    )


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"model": {**MLP, "depth": 2, "width": [64]}},
            "model.width: must be one number or a list of model.depth = 2 numbers, "
            r"got 1 in \[64\]; set model.depth=1\?",
        ),
        (
            {"model": {**MLP, "depth": 2, "width": [64, 32], "residual": True}},
            r"model.residual: adds a layer's input to its output, .* got \[64, 32\]",
        ),
        (
            {"model": {**MLP, "branch_scale": 0.5}},
            r"model.branch_scale: must be 1 without residual branches, got 0.5; "
            r"set model.residual=true\?",
        ),
        (
            {"init": {"_target_": "unitgain.nn.init.scaled_residual"}},
            r"init: scaled_residual needs residual branches, got model.residual=false; "
            r"set model.residual=true\?",
        ),
        (
            {
                "first_init": {"_target_": "unitgain.nn.init.scaled_residual"},
                "model": {**MLP, "residual": True, "depth": 25},
                "norm": {"_target_": "unitgain.nn.RMSNorm"},
            },
            r"first_init: scaled_residual can't go with a norm, which undoes the scale of weights, "
            r"got norm=RMSNorm; set model.branch_scale=0.2 and init=critical, or norm=none",
        ),
        (
            {"optimizer": {**SGD, "nesterov": True}},
            "optimizer.nesterov: needs optimizer.momentum above 0, got 0",
        ),
        (
            {"optimizer": {**SGD, "nesterov": True, "momentum": 0.9, "dampening": 0.1}},
            "optimizer.nesterov: needs optimizer.dampening of 0, got 0.1",
        ),
        (
            {
                "optimizer": SGD,
                "scheduler": {
                    "_target_": "unitgain.pack.schedule.OneCycle",
                    "cycle_momentum": True,
                },
            },
            "scheduler.cycle_momentum: needs optimizer.momentum above 0, got 0",
        ),
        (
            {
                "norm": {"_target_": "unitgain.nn.BatchNorm"},
                "data": {"_target_": "unitgain.data.sources.digits", "batch_size": 1},
            },
            "data.batch_size: must be at least 2 with norm=batch, got 1; or choose norm=layer",
        ),
        (
            {"data": DIABETES, "loss": {"_target_": "unitgain.nn.losses.CrossEntropy"}},
            "loss: CrossEntropy can't train on data=diabetes, which is regression; "
            "choose auto, mse, mae, huber",
        ),
        (
            {"data": OWN_DATA, "loss": {"_target_": "unitgain.nn.losses.BinaryCrossEntropy"}},
            "loss: BinaryCrossEntropy can't train on data.task=regression; "
            "choose auto, mse, mae, huber",
        ),
        (
            {"loss": {"_target_": "unitgain.nn.losses.Huber"}},
            "loss: Huber can't train on data=digits, which is classification; "
            "choose auto, cross_entropy, binary_cross_entropy",
        ),
        (
            {
                "data": DIABETES,
                "metrics": {
                    "accuracy": {"_target_": "unitgain.pack.metrics.accuracy"},
                    "r2": {"_target_": "unitgain.pack.metrics.r2"},
                },
            },
            "metrics: accuracy can't judge data=diabetes, which is regression; "
            "choose metrics=auto or metrics=regression",
        ),
        (
            {"metrics": {"x": {"_target_": "torchmetrics.regression.MeanSquaredError"}}},
            "metrics: x can't judge data=digits, which is classification; "
            "choose metrics=auto or metrics=classification",
        ),
        (
            {"metrics": {"loss": {"_target_": "unitgain.pack.metrics.accuracy"}}},
            "metrics.loss: is the name of the loss itself; choose another name",
        ),
        (
            {"norm": {"_target_": "torch.nn.LayerNorm"}},
            r"norm\._target_: must be a unitgain\.nn\.Norm, got torch\.nn\.LayerNorm; choose norm=layer",
        ),
        (
            {"norm": {"_target_": "torch.nn.InstanceNorm1d"}},
            r"norm\._target_: must be .*; choose norm=batch, layer, rms",
        ),
        (
            {"dropout": {"_target_": "torch.nn.Dropout", "p": 0.5}},
            r"dropout\._target_: must be a unitgain\.nn\.DropoutKind, .*; choose dropout=dropout",
        ),
        (
            {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.1}},
            r"optimizer\._target_: must be .*Optimizer, .*; choose optimizer=adamw",
        ),
        (
            {"scheduler": {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR"}},
            r"scheduler\._target_: must be .*Schedule, .*; choose scheduler=cosine",
        ),
        (
            {"monitor": "val/acuracy"},
            "monitor: must be one of val/loss, val/accuracy, val/f1_macro, val/auroc, val/ece, "
            r"val/log_loss, got val/acuracy; did you mean val/accuracy\?",
        ),
    ],
)
def test_faults_between_keys(config, expected):
    with pytest.raises(ConfigError, match=f"^{expected}$"):
        parse(config)


@pytest.mark.parametrize(
    "config",
    [
        {"model": {**MLP, "depth": 2, "width": [64, 32]}},
        {"model": {**MLP, "depth": 2, "width": [64, 64], "residual": True}},
        {"model": {**MLP, "residual": True, "branch_scale": 0.1}},
        {"optimizer": {**SGD, "nesterov": True, "momentum": 0.9}},
        {"dropout": {"_target_": "unitgain.nn.AlphaDropout", "p": 0.5}},
        {"monitor": "val/accuracy"},
        {"data": DIABETES, "monitor": "val/rmse"},
        {"metrics": {"mine": {"_target_": "unitgain.own.metric"}}, "monitor": "val/mine"},
    ],
)
def test_what_is_possible_is_accepted(config):
    assert isinstance(parse(config), RunSpec)


def test_numbers_may_be_written_as_users_and_yaml_write_them():
    spec = parse(
        {
            "optimizer": {**ADAM, "lr": "1e-3"},
            "model": {**MLP, "depth": "4"},
            "trainer": {"precision": 64, "max_epochs": 3.0},
        }
    )
    assert spec.optimizer.arguments()["lr"] == 1e-3
    assert spec.model.depth == 4
    assert spec.trainer.precision == "64"
    assert spec.trainer.max_epochs == 3


def test_defaults_follow_the_task():
    classification, regression = parse({}), parse({"data": DIABETES})
    assert classification.resolved_loss.target == "unitgain.nn.losses.CrossEntropy"
    assert regression.resolved_loss.target == "unitgain.nn.losses.MSE"
    assert list(classification.resolved_metrics) == [
        "accuracy",
        "f1_macro",
        "auroc",
        "ece",
        "log_loss",
    ]
    assert list(regression.resolved_metrics) == ["mae", "mse", "rmse", "r2"]
    for name, node in regression.resolved_metrics.items():
        assert node.target == f"unitgain.pack.metrics.{name}"


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [("val/loss", "min"), ("val/accuracy", "max"), ("val/auroc", "max"), ("val/ece", "min")],
)
def test_the_mode_follows_the_metric(monitor, mode):
    assert parse({"monitor": monitor}).monitor_mode == mode


def test_the_mode_of_an_own_metric_is_its_own_affair():
    own = {"mine": {"_target_": "unitgain.own.metric"}}
    assert parse({"metrics": own, "monitor": "val/mine"}).monitor_mode is None


def test_an_own_component_keeps_its_arguments_as_they_are():
    node = {"_target_": "unitgain.own.init", "_partial_": True, "gain": 2, "more": {"a": [1, None]}}
    init = parse({"init": node}).init
    assert isinstance(init, Custom)
    assert init.partial
    assert init.arguments() == {"gain": 2, "more": {"a": [1, None]}}


def test_nodes_of_optional_layers_are_empty_or_typed():
    spec = parse({"bias_init": {}, "first_init": None})
    assert spec.bias_init is None
    assert spec.first_init is None
    xavier = {"_target_": "unitgain.nn.init.xavier", "gain": -1}
    assert line(output_init=xavier) == "output_init.gain: must be above 0, got -1"


def test_what_is_resolved_parses_to_the_same():
    config = {
        "init": {"_target_": "unitgain.own.init", "_partial_": True, "gain": 2},
        "model": {**MLP, "depth": 2, "width": [3, 4]},
        "data": DIABETES,
        "debug": {"overfit": 1},
        "output_init": {"_target_": "unitgain.nn.init.zeros"},
    }
    spec = parse(config)
    resolved = spec.resolved()
    assert parse(resolved) == spec
    assert resolved["init"] == config["init"]
    assert resolved["model"]["width"] == [3, 4]
    assert resolved["trainer"]["max_epochs"] == 20


def test_a_spec_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        parse({}).seed = 3


@pytest.mark.parametrize(
    ("key", "node"),
    [
        ("split", {"_target_": "unitgain.data.splits.Random", "fractions": [0.5, 0.5]}),
        ("optimizer", {"_target_": "unitgain.pack.optim.Adam", "betas": [0.9]}),
    ],
)
def test_a_list_that_is_too_short_is_a_line(key, node):
    with pytest.raises(ConfigError, match=rf"^{key}\."):
        parse({key: node})

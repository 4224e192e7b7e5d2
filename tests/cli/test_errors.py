"""Each fault of the user's is one line, with exit status 2, no traceback and nothing left behind."""

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from unitgain.cli import main

XAVIER = (
    "constant, critical, he, identity, kaiming, lecun, lsuv, mean_field, normal, orthogonal, "
    "scaled_residual, sparse, spectral, torch_default, truncated_normal, uniform, xavier, zeros"
)
TOP = (
    "activation, bias_init, callbacks, data, debug, dropout, experiment, figures, first_init, init, "
    "l2_penalty, logger, loss, metrics, model, monitor, name, norm, optimizer, output_init, probe, "
    "scheduler, seed, shift, split, tags, trainer, warm_start, weighting"
)
MODEL = "bias, branch_scale, depth, norm_position, residual, width"
CASES = {
    "modle.depth=3": f"modle.depth: no such key, got 3; did you mean model.depth? keys here: {TOP}",
    "model.dept=3": f"model.dept: no such key, got 3; did you mean model.depth? keys here: {MODEL}",
    "depth=3": f"depth: no such key, got 3; did you mean model.depth? keys here: {TOP}",
    "model.depth.x=3": "model.depth.x: no such key, got 3; model.depth is one value",
    "+model.dept=3": f"model.dept: no such key, got 3; did you mean depth? keys here: {MODEL}",
    "init=hee": f"init: no option hee; did you mean he? options: {XAVIER}",
    "init@first_init=hee": f"init@first_init: no option hee; did you mean he? options: {XAVIER}",
    "inti@first_init=he": "inti@first_init: no such group inti; did you mean init@first_init?",
    "experiment=deep": "experiment: no option deep; did you mean deep_relu_he? "
    "options: deep_relu_he, deep_sigmoid, exploding_tanh",
    "logger=[csv,wandbb]": "logger: no option wandbb; did you mean wandb? "
    "options: csv, tensorboard, wandb",
    "logger=[1]": "logger: no option 1; options: csv, tensorboard, wandb",
    "probe=null": "probe: no option null; options: full, light, off",
    "model=null": "model: no option null; options: mlp",
    "optimizer=[sgd,adam]": "optimizer: must be one option, got [sgd,adam]; "
    "a job for each is -m optimizer=sgd,adam",
    "optimizer=[adam,adamw]": "optimizer: must be one option, got [adam,adamw]; "
    "a job for each is -m optimizer=adam,adamw",
    "init@first_init=[1,2]": "init@first_init: must be one option, got [1,2]; "
    "a job for each is -m init@first_init=1,2",
    "+experiment=deep_sigmoid": "experiment: is there already; leave out the plus: "
    "experiment=deep_sigmoid",
    "+seed=3": "seed: is there already; leave out the plus: seed=3",
    "~modle": "modle: no such key or option in force, so ~ has nothing to take away",
    "model.depth": "model.depth: must be key=value, got no equals sign",
    "model.width=[64": "model.width=[64: can't be read; a bracket is left open or closed twice",
    "name=a=b": "name=a=b: can't be read (mismatched input '=' expecting <EOF>); quote what is "
    "special, as in \"name='a=b'\"",
    "seed=1,2": "seed=1,2: several values need -m, a job for each; a list is written seed=[1,2]",
    "seed=range(0,3)": "seed=range(0,3): several values need -m, a job for each",
    "seed=${sed}": "seed: Interpolation key 'sed' not found",
    "hydra.job.chdir=abc": "hydra.job.chdir: Value 'abc' is not a valid bool (type str)",
    "hydra.searchpath=[nowhere]": "hydra.searchpath: must list folders that exist, got nowhere; "
    "a relative one is taken from the working directory",
    "model.depth=0": "model.depth: must be at least 1 and at most 10000, got 0; "
    "it is the number of hidden layers",
    "model.depth=1e9": "model.depth: must be at least 1 and at most 10000, got 1000000000.0; "
    "it is the number of hidden layers",
    "dropout.p=1.2": "dropout.p: must be at least 0 and below 1, got 1.2; "
    "it is the probability of dropping a unit",
    "optimizer.lr=-0.1": "optimizer.lr: must be above 0, got -0.1; "
    "it is the step size of the optimizer",
    "activation._target_=os.system": "activation._target_: must lie under unitgain, torch.nn, "
    "torch.optim, torchmetrics, lightning, got os.system; if you trust it, set UNITGAIN_ALLOW=os",
    "metrics=regression": "metrics: mae, mse, rmse, r2 can't judge data=digits, which is "
    "classification; choose metrics=auto or metrics=classification",
}


@pytest.mark.parametrize("override", CASES)
def test_one_line(override, capsys, tmp_path):
    assert main(["train", override]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"error: {CASES[override]}\n"
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_all_faults_at_once_in_the_order_given(capsys, tmp_path):
    arguments = ["a=b=c", "modle.depth=3", "init=hee", "init.gain=2", "seed=1,2", "model.depth=0"]
    assert main(["train", *arguments, "dropout.p=1.2", "monitor=loss"]) == 2
    found = [line.split(":")[1].strip() for line in capsys.readouterr().err.splitlines()]
    assert found == [
        "a=b=c",
        "modle.depth",
        "init",
        "seed=1,2",
        "model.depth",
        "dropout.p",
        "monitor",
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_multirun_is_checked_job_by_job_before_the_first(capsys, tmp_path):
    arguments = ["-m", "model.depth=0,1", "loss=auto,mse", "seed=5"]
    assert main(["train", *arguments]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: model.depth: must be at least 1 and at most 10000, got 0; "
        "it is the number of hidden layers (in 2 of 4 jobs, first: model.depth=0 loss=auto)",
        "error: loss: MSE can't train on data=digits, which is classification; choose auto, "
        "cross_entropy, binary_cross_entropy (in 2 of 4 jobs, first: model.depth=0 loss=mse)",
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "optimizer=[adam,adamw],sgd",
            "optimizer: must be one option, got [adam,adamw]; "
            "a job for each is -m optimizer=adam,adamw",
        ),
        (
            "debug=null,overfit",
            "debug: null can't be one of several values; run the jobs without it apart",
        ),
    ],
)
def test_options_that_no_job_can_have(override, expected, capsys, tmp_path):
    assert main(["train", "-m", override]) == 2
    assert capsys.readouterr().err == f"error: {expected}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("override", ["modle.depth=3", "+model.x=3", "model.depth=0"])
def test_an_error_is_explained_at_the_cost_of_composing_once(override, monkeypatch, capsys):
    composed = []
    original = ConfigLoaderImpl._compose_config_from_defaults_list

    def spy(loader, *arguments, **keywords):
        composed.append(arguments)
        return original(loader, *arguments, **keywords)

    monkeypatch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", spy)
    assert main(["train", "optimizer=sgd", override]) == 2
    assert len(composed) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_every_wrong_value_of_a_multirun_has_its_line(capsys):
    assert main(["train", "-m", "init=he,hee,xaver", "model.dept=1,2"]) == 2
    found = capsys.readouterr().err.splitlines()
    assert [line.split(";")[0] for line in found] == [
        "error: init: no option hee",
        "error: init: no option xaver",
        "error: model.dept: no such key, got 1",
        "error: model.dept: no such key, got 2",
    ]


def test_jobs_that_are_the_same_run_are_refused(capsys, tmp_path):
    assert main(["train", "-m", "name=a,b", "seed=3"]) == 2
    assert capsys.readouterr().err == (
        "error: jobs must differ in what changes a result, but 'name=b' is the same run as "
        "'name=a'; drop one\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_jobs_that_are_the_same_run_may_have_folders_of_their_own(train):
    assert main(["train", "-m", "name=a,b", "hydra.sweep.subdir=${name}"]) == 0
    assert [call.directory.name for call in train.calls] == ["a", "b"]


def test_a_real_process_leaves_no_noise(command, tmp_path):
    done = command("train", "model.dept=3", "init=hee")
    assert done.returncode == 2
    assert done.stdout == ""
    assert [line[:21] for line in done.stderr.splitlines()] == [
        "error: model.dept: no",
        "error: init: no optio",
    ]
    assert list(tmp_path.iterdir()) == []


def test_the_traceback_is_there_when_asked_for(command):
    done = command("train", "model.depth=0", HYDRA_FULL_ERROR="1")
    assert done.returncode == 2
    assert done.stderr.startswith("Traceback (most recent call last):")
    assert done.stderr.endswith("it is the number of hidden layers\n")


def test_a_run_directory_that_can_not_be_made(capsys, tmp_path, train):
    (tmp_path / "file").touch()
    assert main(["train", "hydra.run.dir=file/run"]) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: hydra.run.dir: must be a folder that can be made, but ")
    assert train.calls == []


@pytest.mark.parametrize(
    ("flags", "key"), [([], "hydra.run.dir"), (["-m", "seed=1,2"], "hydra.sweep.dir")]
)
@pytest.mark.parametrize("value", ["", "' '"])
def test_no_folder_is_not_the_working_directory(flags, key, value, capsys, tmp_path, train):
    assert main(["train", *flags, f"{key}={value}"]) == 2
    assert capsys.readouterr().err == (
        f"error: {key}: must be a folder, got nothing; leave it out, or give one (. for this one)\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_primary_configuration_that_is_not_there(capsys):
    assert main(["train", "--config-name", "foo"]) == 2
    assert capsys.readouterr().err.startswith("error: foo.yaml: Cannot find primary config 'foo'.")

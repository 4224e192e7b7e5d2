"""A patched configuration is the composed one."""

import re
import time

import pytest
from hydra.core.utils import setup_globals
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict

from unitgain.cli._conf import Groups, compose, hydra_session, plain
from unitgain.cli._patch import Composer
from unitgain.cli._sweep import job_overrides
from unitgain.cli._train import arguments_of
from unitgain.errors import ConfigError
from unitgain.spec import parse, run_hash

OWN = """\
# @package _global_
twice: ${seed}
label: depth ${model.depth} ${.name}
model:
  width: ${twice}
  missing: ???
list: [1, 2, {a: 3}]
0: zero
"""
SAME = [
    [],
    ["seed=3"],
    ["seed=3", "seed=4"],
    ["optimizer.lr=1e-2", "optimizer.lr=1"],
    ["model.width=[64,32]", "model.depth=2"],
    ["model.width=[64,32]", "model.width=[8]"],
    ["model.width=[]"],
    ["name=null"],
    ["name='a b, c'", 'tags=["x y",z]'],
    ["name='1e-3'"],
    ["name=true"],
    ["name=''"],
    ["name='a=b'"],
    ["optimizer=sgd", "optimizer.momentum=0.9"],
    ["optimizer.lr=3", "optimizer=sgd"],
    ["optimizer={lr:3}", "optimizer.lr=2"],
    ["optimizer.lr=2", "optimizer={lr:3}"],
    ["+optimizer.extra=3", "optimizer={extra:4}"],
    ["init@output_init=orthogonal", "output_init.gain=2"],
    ["init@first_init=he", "~init@first_init"],
    ["norm=layer", "~norm"],
    ["~probe.every"],
    ["~probe.every=10"],
    ["~tags", "+tags=[a]"],
    ["+callbacks.extra.mine={_target_:a.b,x:[1,{y:2}]}", "callbacks.extra.mine.x=5"],
    ["+callbacks.extra.mine.deep.down=1"],
    ["+name=x"],
    ["++name=x", "++name=y"],
    ["++model.new=1", "model.new=2", "~model.new"],
    ["++a.b.c=1", "+a.d=2"],
    ["+tags=[a,b]"],
    ["+extra={a:1}", "+extra={b:2}", "++extra.a=3"],
    ["name=${seed}", "seed=5"],
    ["name=${model.depth}x", "model.depth=9"],
    ["name='\\${seed}'"],
    ["logger=[csv,wandb]", "logger.wandb.project=p"],
    ["logger=[]"],
    ["experiment=deep_sigmoid", "model.depth=3"],
    ["model.depth=3", "experiment=deep_sigmoid"],
    ["data=csv", "data.path=a", "data.task=regression"],
    ["data.max_rows=???"],
    ["trainer.max_epochs=1_000"],
    ["debug={fast_dev_run:1}"],
    ["hydra.job.name=x", "seed=1"],
    ["+own=mine", "seed=7"],
    ["+own=mine", "twice=3", "model.depth=2"],
    ["+own=mine", "list=[4]"],
    ["+own=mine", "list.0=4", "list.2.a=5"],
    ["+own=mine", "model.missing=1"],
    ["+own=mine", "+model.missing=1"],
    ["+own=mine", "~twice", "++model.width=3"],
    ["metrics=classification", "~metrics.ece"],
]
REFUSED = [
    ["sed=3"],
    ["model.dept=3"],
    ["model.depth.x=3"],
    ["+model.depth=3"],
    ["+seed=3"],
    ["~modle"],
    ["~name"],
    ["~seed=4"],
    ["optimizer={nothing:3}"],
    ["norm=nothing"],
    ["foo@bar=1"],
    ["++norm=layer"],
    ["optimizer=sgd", "optimizer.betas=3"],
    ["model.width=[64"],
    ["seed=${sed}"],
    ["+own=mine", "~model.depth"],
    ["list.9=4", "+own=mine"],
    ["tags.0=a"],
    ["seed=1,2"],
    ["seed=range(0,2)"],
    ["+own=mine", "list[2].a=5"],
]


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conf")
    (folder / "own").mkdir()
    (folder / "own" / "mine.yaml").write_text(OWN)
    with hydra_session(arguments_of(["--config-dir", str(folder)])) as hydra:
        yield hydra


@pytest.fixture(scope="module")
def composer(session):
    """One for all tests, as for all jobs of a sweep: none may spoil another."""
    return Composer(session, "train", [], Groups.of(session, "train", []))


def _composed(session, overrides):
    return session.config_loader.load_configuration("train", overrides, run_mode=RunMode.RUN)


@pytest.mark.parametrize("overrides", SAME, ids=" ".join)
def test_a_patched_job_is_a_composed_one(session, composer, overrides):
    expected = plain(_composed(session, overrides))
    for _ in range(2):
        patched = composer.plain(overrides)
        assert patched == expected
        assert repr(patched) == repr(expected)  # the order of keys, and 1 is not true


@pytest.mark.parametrize("overrides", REFUSED, ids=" ".join)
def test_what_composing_refuses_is_refused_alike(session, composer, overrides):
    with pytest.raises(Exception) as composed:  # noqa: PT011
        plain(_composed(session, overrides))
    with pytest.raises(type(composed.value)) as patched:
        composer.plain(overrides)
    assert str(patched.value) == str(composed.value)


def test_the_whole_configuration_of_a_job_is_that_of_hydras_launchers(session, composer):
    setup_globals()
    own = ["hydra.mode=MULTIRUN", "hydra.job.config.override_dirname.exclude_keys=[seed]"]
    master = compose(session, "train", [*own, "seed=1,2"])
    composer = Composer(session, "train", own, composer.groups)
    for number, job in enumerate([["seed=1", "init=he"], ["init=xavier", "+own=mine", "seed=2"]]):
        expected = session.config_loader.load_sweep_config(master, job)
        with open_dict(expected):
            expected.hydra.job.id = expected.hydra.job.num = number
        full = composer.full(job, number, master)
        assert OmegaConf.to_container(full) == OmegaConf.to_container(expected)
        assert full.hydra.sweep.dir == expected.hydra.sweep.dir == master.hydra.sweep.dir


def test_a_job_of_a_large_sweep_costs_less_than_a_millisecond(session):
    words = ["model.depth=2,4", "init=xavier,he", "optimizer.lr=1e-3,1e-2", "seed=range(0,64)"]
    composer = Composer(session, "train", [], Groups.of(session, "train", []))
    jobs = job_overrides(session, compose(session, "train", words))
    assert len(jobs) == 512
    composer.spec(jobs[0])
    seconds = []
    for job in jobs:
        start = time.process_time()
        composer.spec(job)
        seconds.append(time.process_time() - start)
    assert sorted(seconds)[len(seconds) // 2] < 1e-3


@pytest.mark.parametrize("overrides", SAME, ids=" ".join)
def test_a_job_put_together_is_the_parsed_one_and_has_its_hash(composer, overrides):
    try:
        expected = parse(composer.plain(overrides))
    except ConfigError as error:
        with pytest.raises(ConfigError, match=re.escape(str(error))):
            composer.known(overrides)
        return
    for last in (False, True, True):
        given, spec, name = composer.known(overrides, last=last)
        assert given == tuple(overrides)
        assert spec == expected
        assert repr(spec) == repr(expected)
        assert name == run_hash(expected) == run_hash(expected.resolved())

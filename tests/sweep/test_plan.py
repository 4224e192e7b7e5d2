"""Which jobs train together."""

import pytest

from unitgain.sweep.job import Job, Start
from unitgain.sweep.plan import Limits, Tables, estimated_seconds, plan, shared_out, workers_needed

MLP = "unitgain.nn.MLP"
ESTIMATORS = ("Classifier", "KMM", "ULSIF")


def _plan(jobs, starts=None, **limits):
    starts = {job.number: Start() for job in jobs} | (starts or {})
    return plan(jobs, starts, Limits(**{"workers": 1, **limits}), Tables())


def _sizes(found):
    return [len(pack.jobs) for pack in found.packs]


def test_jobs_of_one_shape_are_one_pack_whatever_else_differs(desk, tmp_path):
    jobs = desk.jobs(
        tmp_path,
        desk.spec(seed=1),
        desk.spec(seed=2, init={"_target_": "unitgain.nn.init.xavier"}),
        desk.spec(seed=3, optimizer={"_target_": "unitgain.pack.optim.Adam", "lr": 0.5}),
        desk.spec(model={"_target_": MLP, "depth": 2, "width": 8}),
        desk.spec(activation={"_target_": "torch.nn.Tanh"}),
    )
    found = _plan(jobs)
    assert sorted(tuple(j.number for j in p.jobs) for p in found.packs) == [(0, 1, 2), (3,), (4,)]
    assert workers_needed(jobs) == 3


def test_initializers_that_follow_from_the_network_and_scales_of_branches_share_a_pack(
    desk, tmp_path
):
    model = {"_target_": MLP, "depth": 2, "width": 8, "residual": True}
    inits = ("critical", "scaled_residual", "spectral", "he")
    specs = [
        desk.spec(
            seed=k,
            init={"_target_": f"unitgain.nn.init.{name}"},
            model=model | {"branch_scale": 1.0 / (k + 1)},
        )
        for k, name in enumerate(inits)
    ]
    assert _sizes(_plan(desk.jobs(tmp_path, *specs))) == [4]


def test_jobs_whose_tables_differ_in_shape_are_apart(desk, tmp_path):
    wine = {"_target_": "unitgain.data.sources.wine", "task": "classification"}
    split = {"_target_": "unitgain.data.splits.Random", "fractions": [0.5, 0.25, 0.25]}
    jobs = desk.jobs(tmp_path, desk.spec(), desk.spec(data=wine), desk.spec(split=split))
    assert _sizes(_plan(jobs)) == [1, 1, 1]


def test_runs_that_go_on_from_different_epochs_are_apart(desk, tmp_path):
    jobs = desk.jobs(tmp_path, *(desk.spec(seed=k) for k in range(4)))
    found = _plan(jobs, {1: Start(resume=True, epoch=2), 3: Start(resume=True)})
    packs = {tuple(job.number for job in pack.jobs): pack for pack in found.packs}
    assert set(packs) == {(0, 2), (3,), (1,)}
    assert packs[1,].flops == packs[3,].flops / 2


def test_a_table_that_can_not_be_used_fails_its_jobs_alone(desk, tmp_path):
    missing = {
        "_target_": "unitgain.data.sources.csv",
        "path": "nowhere.csv",
        "target_column": "y",
        "task": "classification",
    }
    jobs = desk.jobs(tmp_path, desk.spec(), desk.spec(data=missing), desk.spec(seed=2))
    found = _plan(jobs)
    assert _sizes(found) == [2]
    [(job, ending)] = found.failed
    assert job.number == 1
    assert ending.status == "failed"
    assert "nowhere.csv" in ending.cause
    assert ending.expected


def test_weights_are_left_to_those_who_train(desk, tmp_path, monkeypatch):
    """An estimate may take as long as the training."""
    for name in ESTIMATORS:
        monkeypatch.setattr(f"unitgain.shift.{name}.fit", None)
    data = {"_target_": "unitgain.data.sources.iris", "task": "classification", "batch_size": 16}
    tilt = {"_target_": "unitgain.data.shifts.PCATilt"}
    specs = [
        desk.spec(data=data, shift=tilt, weighting={"_target_": f"unitgain.shift.{name}"})
        for name in ESTIMATORS
    ]
    assert _sizes(_plan(desk.jobs(tmp_path, *specs))) == [3]


@pytest.mark.parametrize(
    ("count", "limits", "sizes"),
    [
        (10, {}, [10]),
        (10, {"max_members": 4}, [4, 3, 3]),
        (10, {"max_members": 1}, [1] * 10),
        (32, {"workers": 2}, [16, 16]),
        (17, {"workers": 4}, [9, 8]),
        (10, {"workers": 4}, [10]),
        (10, {"memory": 1e-12}, [1] * 10),
        (10, {"memory": 1e-12, "gpu": True}, [10]),
    ],
)
def test_a_shape_is_cut_evenly(desk, tmp_path, count, limits, sizes):
    trainer = {"max_epochs": 4, "accelerator": "auto" if "gpu" in limits else "cpu"}
    specs = [desk.spec(seed=k, trainer=trainer) for k in range(count)]
    jobs = [Job(k, (), spec, tmp_path / str(k)) for k, spec in enumerate(specs)]
    assert _sizes(_plan(jobs, **limits)) == sizes


def test_the_longest_pack_comes_first(desk, tmp_path):
    specs = [desk.spec(model={"_target_": MLP, "depth": depth, "width": 32}) for depth in (1, 8, 4)]
    found = _plan(desk.jobs(tmp_path, *specs))
    assert [pack.shape["model"].depth for pack in found.packs] == [8, 4, 1]
    times = [estimated_seconds(pack) for pack in found.packs]
    assert found.seconds(1) == pytest.approx(sum(times))
    assert found.seconds(2) == pytest.approx(max(times[0], times[1] + times[2]))


def test_packs_go_to_those_with_the_least_to_do(desk, tmp_path):
    specs = [desk.spec(model={"_target_": MLP, "depth": k, "width": 32}) for k in (9, 5, 4, 3, 1)]
    packs = _plan(desk.jobs(tmp_path, *specs)).packs
    shares = shared_out(packs, 2)
    assert [[pack.shape["model"].depth for pack in mine] for mine in shares] == [[9, 3], [5, 4, 1]]
    assert shared_out(packs, 1) == [list(packs)]


def test_a_trial_run_counts_its_batches_only(desk, tmp_path):
    jobs = desk.jobs(tmp_path, desk.spec(), desk.spec(debug={"fast_dev_run": 1}))
    flops = {pack.jobs[0].number: pack.flops for pack in _plan(jobs).packs}
    assert flops[0] == 4 * 2 * flops[1]  # epochs, batches an epoch

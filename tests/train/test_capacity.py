"""The size of a pack by a trial; the device's own numbers need a GPU."""

import pytest
import torch

from unitgain.train import capacity
from unitgain.train.capacity import members_that_fit, members_within, trial


def test_the_line_through_two_peaks_fills_the_budget():
    asked = []

    def peak(members):
        asked.append(members)
        return 1000 + 30 * members

    most = members_within(100_000, peak)
    assert peak(most) <= 100_000 < peak(most + 1)
    assert len(set(asked[:2])) == 2


@pytest.mark.parametrize("budget", [0, 10])
def test_one_member_is_tried_whatever_the_budget(budget):
    assert members_within(budget, lambda members: 1000 * members) == 1


def test_peaks_that_do_not_grow_leave_it_to_the_budget():
    assert members_within(5000, lambda _: 1000) >= 4000


def test_a_trial_that_runs_out_of_memory_leaves_a_few_members():
    def peak(_):
        raise torch.OutOfMemoryError

    assert members_within(1e9, peak) == 8


def test_the_trial_trains_and_scores_what_memory_is_taken_for(make_spec, monkeypatch):
    taken = []
    real = capacity.build_pack

    def kept(*arguments, **options):
        taken.append(real(*arguments, **options))
        return taken[-1]

    monkeypatch.setattr(capacity, "build_pack", kept)
    trial(make_spec(probe={"every": 1}), 3, torch.device("cpu"))
    [pack] = taken
    assert pack.mlp.members == 3
    assert pack.optimizer.state["exp_avg"].abs().sum() > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_pack_of_that_size_stays_within_the_share(make_spec):
    spec = make_spec(model={"depth": 4, "width": 256}, trainer={"accelerator": "gpu"})
    share = 0.02
    free, _ = torch.cuda.mem_get_info()
    most = members_that_fit(spec, share)
    torch.cuda.reset_peak_memory_stats()
    trial(spec, most, torch.device("cuda"))
    assert 0.5 * share * free < torch.cuda.max_memory_allocated() < 1.2 * share * free

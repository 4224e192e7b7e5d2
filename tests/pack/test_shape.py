"""Which runs can be one pack."""

import pytest

from unitgain.errors import ConfigError
from unitgain.pack.shape import check_one_shape
from unitgain.spec import parse
from unitgain.train import fit

MLP = "unitgain.nn.MLP"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 5),
        ("l2_penalty", 0.1),
        ("init", {"_target_": "unitgain.nn.init.xavier"}),
        ("init", {"_target_": "unitgain.nn.init.critical", "distribution": "orthogonal"}),
        ("init", {"_target_": "unitgain.nn.init.spectral", "base_width": 16}),
        ("optimizer", {"_target_": "unitgain.pack.optim.Adam", "lr": 0.5, "betas": [0.5, 0.9]}),
        ("scheduler", {"_target_": "unitgain.pack.schedule.Cosine"}),
        ("dropout", {"_target_": "unitgain.nn.Dropout", "p": 0.5}),
        ("split", {"_target_": "unitgain.data.splits.Random", "seed": 7}),
        ("trainer", {"gradient_clip_norm": 1.0}),
    ],
)
def test_members_may_differ_in_what_has_no_shape(key, value):
    check_one_shape([parse({}), parse({key: value})])


def test_members_may_differ_in_the_scale_of_their_branches():
    model = {"_target_": MLP, "residual": True}
    check_one_shape([parse({"model": model | {"branch_scale": s}}) for s in (1.0, 0.1)])


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        (
            "model",
            {"_target_": MLP, "depth": 3},
            "model: must be the same for all runs of one pack",
        ),
        ("activation", {"_target_": "torch.nn.Tanh"}, "activation: must be the same"),
        ("norm", {"_target_": "unitgain.nn.LayerNorm"}, "norm: must be the same"),
        ("optimizer", {"_target_": "unitgain.pack.optim.SGD"}, "optimizer: must be the same"),
        ("trainer", {"max_epochs": 3}, "trainer: must be the same"),
        ("probe", {"every": 3}, "probe: must be the same"),
    ],
)
def test_members_must_share_what_shapes_the_pack(key, value, line):
    with pytest.raises(ConfigError, match=line):
        check_one_shape([parse({}), parse({key: value})])


def test_a_fit_of_runs_of_different_shape_is_refused_before_any_file_is_written(tmp_path):
    specs = [parse({"model": {"_target_": MLP, "depth": d}}) for d in (2, 3)]
    with pytest.raises(ConfigError, match="model: must be the same"):
        fit(specs, [tmp_path / "a", tmp_path / "b"])
    assert not list(tmp_path.iterdir())


def test_tables_of_different_width_are_refused(tmp_path):
    data = [
        {"_target_": f"unitgain.data.sources.{n}", "task": "classification"}
        for n in ("iris", "wine")
    ]
    specs = [parse({"data": d, "monitor": "val/loss"}) for d in data]
    with pytest.raises(ConfigError, match="data: must have one number of features and outputs"):
        fit(specs, [tmp_path / "a", tmp_path / "b"])

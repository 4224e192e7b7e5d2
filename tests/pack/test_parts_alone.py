import torch

from unitgain.data import open_data
from unitgain.pack.build import build_mlp, build_pack
from unitgain.spec import parse


def test_the_loss_of_a_part_in_many_batches_is_that_of_the_run_alone():
    model = {"_target_": "unitgain.nn.MLP", "depth": 1, "width": 8}
    specs = [parse({"seed": seed, "model": model}) for seed in range(8)]
    tables = [open_data(spec) for spec in specs]

    def losses(members):
        mlp = build_mlp(specs[members], tables[members])
        pack = build_pack(specs[members], tables[members], mlp, torch.device("cpu"))
        return pack.predict("train").loss_K.tolist()

    together = losses(slice(0, 8))
    assert together == [losses(slice(k, k + 1))[0] for k in range(8)]

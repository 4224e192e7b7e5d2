"""``unitgain monitor``: a stream against a run's validation rows."""

import json
import threading
import time

import numpy as np
import pytest

from unitgain.cli import main
from unitgain.spec import parse
from unitgain.train import fit


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A run on three columns, one of them of categories, and rows that nobody has seen."""
    folder = tmp_path_factory.mktemp("monitor")
    draw = np.random.default_rng(0)
    x = draw.normal(size=(2000, 2))
    kind = draw.choice(["p", "q"], 2000)
    y = (x[:, 0] + (kind == "p") + 0.3 * draw.normal(size=2000) > 0).astype(int)
    rows = [f"{a:.5f},{b:.5f},{k},{c}\n" for (a, b), k, c in zip(x, kind, y, strict=True)]
    (folder / "train.csv").write_text("a,b,kind,y\n" + "".join(rows[:1000]))
    data = {
        "_target_": "unitgain.data.sources.csv",
        "task": "classification",
        "path": str(folder / "train.csv"),
        "target_column": "y",
        "categorical": ["kind"],
    }
    spec = parse(
        {
            "model": {"_target_": "unitgain.nn.MLP", "depth": 1, "width": 8},
            "data": data,
            "trainer": {"max_epochs": 2, "accelerator": "cpu", "progress": False},
            "figures": False,
        }
    )
    fit([spec], [folder / "run"])
    return folder, rows[1000:]


def shifted(rows, by=1.5):
    cells = [row.split(",") for row in rows]
    return [",".join([a, f"{float(b) + by:.5f}", *rest]) for a, b, *rest in cells]


def watch(workplace, rows, *flags, header="a,b,kind,y\n", name="stream.csv"):
    folder, _ = workplace
    (folder / name).write_text(header + "".join(rows))
    status = main(["monitor", str(folder / "run"), str(folder / name), *flags])
    return status, json.loads((folder / "run" / "monitor.json").read_text())


def test_rows_like_those_of_validation_raise_no_alarm(workplace, capsys):
    status, found = watch(workplace, workplace[1])
    assert status == 0
    assert found["alarm_row"] is None
    assert found["rows"] == 1000
    assert found["reference_rows"] == 200
    assert "no drift found; 1000 rows" in capsys.readouterr().out
    assert (workplace[0] / "run" / "monitor.png").stat().st_size > 10_000


def test_a_shift_ends_with_a_status_of_its_own_and_is_named(workplace, capsys):
    rows = workplace[1][:200] + shifted(workplace[1][200:500])
    status, found = watch(workplace, rows)
    assert status == 4
    assert 200 < found["alarm_row"] <= 400
    assert found["scores"][0]["name"] == "b"
    assert found["scores"][0]["difference"] == pytest.approx(1.5, abs=0.3)
    assert "moved    b (value): +1." in capsys.readouterr().out


def test_batches_and_formats_do_not_matter(workplace):
    import pandas as pd

    rows = shifted(workplace[1][:150], 0.7)
    found = [watch(workplace, rows, "--batch", size)[1] for size in ("1", "64")]
    folder = workplace[0]
    pd.read_csv(folder / "stream.csv").to_parquet(folder / "stream.parquet")
    main(["monitor", str(folder / "run"), str(folder / "stream.parquet")])
    found.append(json.loads((folder / "run" / "monitor.json").read_text()))
    # Matrix products over batches of other sizes round otherwise.
    for other in found[1:]:
        assert other["alarm_row"] == found[0]["alarm_row"]
        assert other["curve"]["log10_evidence"] == pytest.approx(
            found[0]["curve"]["log10_evidence"], abs=1e-6
        )


def test_a_file_that_grows_is_followed(workplace):
    folder, rows = workplace
    path = folder / "growing.csv"
    path.write_text("a,b,kind,y\n" + "".join(rows[:50]))

    def grow():
        late = shifted(rows[50:250])
        for start in range(0, 200, 50):
            time.sleep(0.1)
            text = "".join(late[start : start + 50])
            # A line of which the first half comes earlier than the second.
            for part in (text[:-9], text[-9:]):
                with path.open("a") as file:
                    file.write(part)
                time.sleep(0.05)

    writer = threading.Thread(target=grow)
    writer.start()
    flags = ["--follow", "--every", "0.02", "--idle", "3"]
    status = main(["monitor", str(folder / "run"), str(path), *flags])
    writer.join()
    found = json.loads((folder / "run" / "monitor.json").read_text())
    assert status == 4
    assert found["rows"] == 250
    assert watch(workplace, rows[:50] + shifted(rows[50:250]))[1]["alarm_row"] == found["alarm_row"]


def test_the_alarm_can_be_the_end(workplace):
    status, found = watch(workplace, shifted(workplace[1]), "--stop-at-alarm", "--batch", "10")
    assert status == 4
    assert found["rows"] < found["alarm_row"] + 10


def test_categories_that_were_not_trained_on_are_counted(workplace, capsys):
    rows = [row.replace("p", "new").replace("q", "new") for row in workplace[1][:200]]
    status, found = watch(workplace, rows)
    assert status == 4
    assert found["unknown_categories"] == 200
    assert "200 cells hold untrained categories" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("header", "rows", "flags", "message"),
    [
        ("a,bb,kind,y\n", ["1,2,p,0\n"], [], "but 'b' isn't there; is 'bb' meant?"),
        ("a;b;kind;y\n", ["1;2;p;0\n"], [], "or set --separator (the first line has a;b;kind;y)"),
        ("a,b,kind\n", ["1,2,p\n", "1,,p\n"], [], "'b' must have a value in every row, but row 2"),
        ("a,b,kind\n", ["1,inf,p\n"], [], "'b' must be finite, but row 1 isn't"),
        ("a,b,kind\n", ["1,x,p\n"], [], "feature column 'b' must be numbers"),
        ("a,b,kind\n", ["1,2,p,4\n"], [], "one of rows 1 to 1 has more"),
        ("a,b,kind\n", [], [], "stream: must have rows to monitor, it has none"),
        ("", [], [], "a stream needs a line of column names"),
        ("a,b,kind\n", [], ["--alpha", "1"], "--alpha: must be between 0 and 1, got 1;"),
        ("a,b,kind\n", [], ["--batch", "0"], "--batch: must be 1 or more, got 0"),
        ("a,b,kind\n", [], ["--idle", "0"], "--every, --idle: must be above 0 seconds"),
        ("a,b,kind\n", [], ["--seed", "-1"], "--seed: must be 0 or more, got -1"),
        ("a,b,kind\n", [], ["--separator", ""], "--separator: must be one character or tab"),
        ("a,b,kind\n", [], ["--fast"], "--fast: no such option"),
    ],
)
def test_what_cannot_be_monitored_is_one_line(workplace, capsys, header, rows, flags, message):
    folder, _ = workplace
    (folder / "bad.csv").write_text(header + "".join(rows))
    assert main(["monitor", str(folder / "run"), str(folder / "bad.csv"), *flags]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


def test_paths_that_are_not_there_are_one_line(workplace, capsys):
    folder, _ = workplace
    assert main(["monitor", str(folder / "run")]) == 2
    assert "must be given a run directory and a stream" in capsys.readouterr().err
    assert main(["monitor", str(folder / "run"), "nowhere.csv"]) == 2
    assert "nowhere.csv: a stream must be a file, but there is none" in capsys.readouterr().err
    assert main(["monitor", str(folder / "run"), str(folder)]) == 2
    assert "a stream must be a file, but it is a folder; mend" in capsys.readouterr().err

"""``unitgain cite``: every shipped option has its works or is known to need none, and BibTeX is BibTeX."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from unitgain.cli import main
from unitgain.cli._citations import (
    ARGUMENTS,
    CITATIONS,
    FILES,
    NOTHING_TO_CITE,
    SOFTWARE,
    entries,
    used,
)
from unitgain.runs import RunDirectory
from unitgain.spec import parse

CONF = Path(__file__).parents[2] / "conf"
GROUPS = (
    "init", "bias_init", "norm", "optimizer", "activation", "dropout", "weighting", "shift", "data",
    "scheduler", "loss",
)  # fmt: skip
REQUIRED = {
    "article": {"author", "title", "journal", "volume", "year"},
    "inproceedings": {"author", "title", "booktitle", "year"},
    "incollection": {"author", "title", "booktitle", "publisher", "year", "pages"},
    "book": {"author", "title", "publisher", "year"},
    "misc": {"author", "title", "year"},
}
FIELD = re.compile(r"\s*([a-z]+)\s*=\s*")


def parse_bibtex(text: str) -> dict[str, tuple[str, dict[str, str]]]:
    """A strict reader: ``@type{key, field = {balanced}, ...}``, comments with % between entries, nothing else."""
    found: dict[str, tuple[str, dict[str, str]]] = {}
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        if text[at] == "%":
            at = (text.find("\n", at) + 1) or len(text)
            continue
        head = re.compile(r"@([a-z]+)\{([a-z0-9]+),").match(text, at)
        assert head, text[at : at + 60]
        fields: dict[str, str] = {}
        at = head.end()
        while True:
            name = FIELD.match(text, at)
            assert name, text[at : at + 60]
            assert name[1] not in fields, name[1]
            fields[name[1]], at = braced(text, name.end())
            rest = re.compile(r"\s*([,}])").match(text, at)
            assert rest, text[at : at + 60]
            at = rest.end()
            if rest[1] == "}":
                break
        assert head[2] not in found, head[2]
        found[head[2]] = (head[1], fields)
    return found


def braced(text: str, at: int) -> tuple[str, int]:
    assert text[at] == "{", text[at : at + 60]
    depth, start = 0, at
    while True:
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1
        if depth == 0:
            return text[start + 1 : at - 1], at


def targets() -> list[str]:
    found = []
    for group in GROUPS:
        for path in sorted((CONF / group).glob("*.yaml")):
            content = yaml.safe_load(path.read_text()) or {}
            if "_target_" in content:
                found.append(content["_target_"])
    return sorted(set(found))


@pytest.fixture(scope="module")
def references() -> dict[str, tuple[str, dict[str, str]]]:
    return parse_bibtex("\n".join(entries().values()))


@pytest.mark.parametrize("target", targets())
def test_every_option_is_cited_or_needs_nothing(target):
    assert (target in CITATIONS) != (target in NOTHING_TO_CITE)


def test_every_entry_is_used_and_every_use_has_an_entry():
    tables = (CITATIONS, ARGUMENTS, FILES)
    keys = {key for table in tables for each in table.values() for key in each}
    assert keys | set(SOFTWARE.values()) == set(entries())


def test_the_file_is_strict_bibtex(references):
    import unitgain.cli

    text = (Path(unitgain.cli.__file__).parent / "references.bib").read_text(encoding="utf-8")
    assert parse_bibtex(text) == references


def test_entries_are_complete(references):
    for key, (kind, fields) in references.items():
        assert REQUIRED[kind] <= set(fields), key
        assert re.fullmatch(r"(19|20)\d\d", fields["year"]), key
        if kind != "book" and key != "unitgain":
            assert {"doi", "eprint", "url"} & set(fields), key
        if "eprint" in fields:
            assert fields["archiveprefix"] == "arXiv", key
            assert re.fullmatch(r"\d{4}\.\d{4,5}", fields["eprint"]), key
            # A preprint is no younger than what was printed, save in the same or the next year.
            assert (
                2000 + int(fields["eprint"][:2]) <= int(fields["year"]) or key == "loog2012nearest"
            )
        if "doi" in fields:
            assert re.fullmatch(r"10\.\d{4,5}/\S+", fields["doi"]), key
        if "pages" in fields:
            first, last = re.fullmatch(r"C?(\d+)--C?(\d+)", fields["pages"]).groups()
            assert int(first) < int(last), key
        assert not re.search(r"(?<!\\)[&%#_$]", fields["title"] + fields["author"]), key
        assert all("," in name or name.startswith("{") for name in fields["author"].split(" and "))


def test_keys_begin_with_the_first_author_and_have_the_year(references):
    for key, (_, fields) in references.items():
        if key == "unitgain":
            continue
        first = re.sub(r"[^a-z]", "", fields["author"].split(",")[0].lower())
        assert key.startswith(first), key
        assert fields["year"] in key, key


def test_arxiv_numbers_are_those_of_the_docstrings(references):
    import unitgain

    files = sorted(Path(unitgain.__file__).parent.rglob("*.py"))
    text = " ".join(" ".join(path.read_text(encoding="utf-8").split()) for path in files)
    stated = set(re.findall(r"arXiv:? (\d{4}\.\d{4,5})", text))
    numbers = {fields["eprint"] for _, fields in references.values() if "eprint" in fields}
    # ELU, GELU and SiLU are torch's, as PyTorch is; the journal's number of Loog is in the docstring.
    elsewhere = {"1511.07289", "1606.08415", "1702.03118", "1912.01703", "2102.02291"}
    assert numbers - stated <= elsewhere


def cited(capsys: pytest.CaptureFixture[str], tmp_path: Path, **config: Any) -> set[str]:
    run = RunDirectory(tmp_path / "run", durable=False).create()
    run.write_config(parse(config).resolved())
    assert main(["cite", str(run.path)]) == 0
    return set(parse_bibtex(capsys.readouterr().out))


def test_a_run_cites_what_it_used(tmp_path, capsys):
    found = cited(capsys, tmp_path)
    assert found == {
        "he2015delving", "nair2010rectified", "kingma2015adam", "alpaydin1998optical",
        *SOFTWARE.values(),
    }  # fmt: skip


def test_parts_of_other_kinds(tmp_path, capsys):
    found = cited(
        capsys, tmp_path,
        init={"_target_": "unitgain.nn.init.critical", "distribution": "orthogonal"},
        first_init={"_target_": "unitgain.nn.init.xavier"},
        norm={"_target_": "unitgain.nn.BatchNorm"},
        dropout={"_target_": "unitgain.nn.Dropout", "p": 0.5},
        optimizer={"_target_": "unitgain.pack.optim.SGD", "lr": 0.1, "momentum": 0.9},
        data={"_target_": "unitgain.data.sources.wine"},
        shift={"_target_": "unitgain.data.shifts.PCATilt"},
        weighting={"_target_": "unitgain.shift.ULSIF"},
    )  # fmt: skip
    assert found - set(SOFTWARE.values()) == {
        "schoenholz2017deep", "poole2016exponential", "pennington2017resurrecting",
        "glorot2010understanding", "ioffe2015batch", "srivastava2014dropout",
        "robbins1951stochastic", "sutskever2013importance", "aeberhard1992wine",
        "gretton2009covariate", "shimodaira2000improving", "vehtari2024pareto",
        "kanamori2009least", "nair2010rectified",
    }  # fmt: skip


def test_dropout_of_nothing_is_not_cited():
    node = {"_target_": "unitgain.nn.Dropout", "p": 0.0}
    assert list(used({"dropout": node})) == []


def test_versions_and_tests_that_were_run(tmp_path, capsys):
    run = RunDirectory(tmp_path / "run", durable=False).create()
    run.write_config(parse({}).resolved())
    run.write_environment({"versions": {"torch": "2.9.1+cpu"}})
    (run.path / "monitor.json").write_text("{}")
    assert main(["cite", str(run.path)]) == 0
    found = parse_bibtex(capsys.readouterr().out)
    assert found["paszke2019pytorch"][1]["note"] == "Version 2.9.1+cpu"
    assert "note" not in found["falcon2019lightning"][1]
    assert "vovk2021retrain" in found


def test_parts_of_ones_own_are_named(tmp_path, capsys):
    run = RunDirectory(tmp_path / "run", durable=False).create()
    config = parse({}).resolved()
    config["init"] = {"_target_": "mine.init", "gain": 2}
    run.write_config(config)
    assert main(["cite", str(run.path)]) == 0
    text = capsys.readouterr().out
    assert "% no reference is known for init: mine.init\n" in text
    assert "he2015delving" not in parse_bibtex(text)


def test_what_is_no_run(tmp_path, capsys):
    assert main(["cite", str(tmp_path)]) == 2
    assert "no config.yaml" in capsys.readouterr().err

import json

import pytest

from unitgain.errors import DataError
from unitgain.runs import RunDirectory, read_metrics, record_of
from unitgain.runs._record import check_text, seal_text

SUMMARY = {"status": "finished", "metrics": {"test/loss": 0.25, "test/accuracy": 0.875}}


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "run").create()


def test_no_flipped_bit_of_a_summary_passes_for_another_result(run):
    run.write_summary({**SUMMARY, "files": {}})
    sealed, read = run.summary.read_bytes(), run.read_summary()
    noticed = 0
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1 << place % 7
        run.summary.write_bytes(changed)
        try:
            assert run.read_summary() == read
        except DataError:
            noticed += 1
    # White space behind the checksum says nothing; of all else every bit counts.
    assert noticed >= len(sealed) - 3


def test_a_summary_is_still_plain_json(run):
    run.write_summary(SUMMARY)
    content = json.loads(run.summary.read_bytes())
    assert len(content.pop("sha256")) == 64
    assert content == SUMMARY == run.read_summary()


def test_a_summary_that_was_edited_is_told_of(run):
    run.write_summary(SUMMARY)
    run.summary.write_text(run.summary.read_text().replace("0.875", "0.999"))
    with pytest.raises(DataError, match="doesn't match its checksum: it is damaged, or was edited"):
        run.read_summary()


def test_a_summary_without_a_checksum_is_an_earlier_version_s(run):
    run.summary.write_text(json.dumps(SUMMARY))
    assert run.read_summary() == SUMMARY
    run.summary.write_text(json.dumps({**SUMMARY, "files": {}}))
    with pytest.raises(DataError, match="doesn't match its checksum"):
        run.read_summary()


@pytest.mark.parametrize("indent", [None, 2])
def test_the_seal_is_the_last_member(indent):
    sealed = seal_text(json.dumps({"a": 1, "b": [2]}, indent=indent))
    assert list(json.loads(sealed)) == ["a", "b", "sha256"]
    assert check_text(sealed)
    assert check_text(sealed.replace(b"2", b"3", 1)) is False


def test_a_file_that_is_not_as_the_summary_records_is_told_of(run):
    text = b"epoch,step,train/loss\n0,17,0.25\n1,34,0.125\n"
    run.metrics.write_bytes(text)
    run.write_summary({**SUMMARY, "files": {"metrics.csv": record_of(text)}})
    assert read_metrics(run.metrics)["train/loss"].tolist() == [0.25, 0.125]
    assert run.status == "finished"
    for changed, fact in (
        (text[:-10], "has 33 bytes in the place of 43"),
        (text.replace(b"0.25", b"0.24"), "has other bytes"),
    ):
        run.metrics.write_bytes(changed)
        with pytest.raises(DataError, match=f"must be as the run left it: .* {fact}; start its"):
            read_metrics(run.metrics)
    run.metrics.write_bytes(text[:-10])
    assert run.status == "damaged"
    run.metrics.unlink()
    assert run.standing()[1].startswith("metrics.csv must be as the run left it: ")

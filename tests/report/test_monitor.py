"""The figure of a monitored stream, against the numbers that it is drawn of."""

import pytest

from unitgain.report.monitor import draw_monitor, monitor_figure

CONTENT = {
    "curve": {"row": [1, 2, 3], "log10_evidence": [0.0, 0.7, 1.5]},
    "log10_threshold": 1.301,
    "rows": 3,
    "alarm_row": 3,
    "window": 200,
    "scores": [
        {"name": "radius", "kind": "value", "distance": 0.9, "moved": True},
        {"name": "area", "kind": "distance", "distance": 0.2, "moved": False},
    ],
}


def test_evidence_threshold_and_alarm_stand_where_they_are():
    left, _ = draw_monitor(CONTENT).axes
    evidence, limit, alarm = left.lines
    assert list(evidence.get_ydata()) == [0.0, 0.7, 1.5]
    assert limit.get_ydata()[0] == 1.301
    assert alarm.get_xdata()[0] == 3
    assert left.get_title(loc="left") == "alarm at row 3 of 3"


def test_what_moved_is_told_without_its_colour_too():
    _, right = draw_monitor(CONTENT).axes
    # The largest stands on top.
    assert [bar.get_width() for bar in right.patches] == pytest.approx([0.2, 0.9])
    names = {label.get_text(): label.get_fontweight() for label in right.get_yticklabels()}
    assert names == {"area (distance)": "normal", "radius (value)": "bold"}
    assert len({bar.get_facecolor() for bar in right.patches}) == 2


def test_a_quiet_stream_has_no_alarm(tmp_path):
    quiet = CONTENT | {"alarm_row": None}
    left, _ = draw_monitor(quiet).axes
    assert len(left.lines) == 2
    assert left.get_title(loc="left") == "no alarm in 3 rows"
    assert monitor_figure(quiet, tmp_path).read_bytes().startswith(b"\x89PNG")

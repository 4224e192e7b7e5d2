import numpy as np
import pytest

from unitgain.forecast import forecast_of, maps_of
from unitgain.report import draw_forecast, forecast_figure
from unitgain.spec import parse

TANH = {
    "activation": {"_target_": "torch.nn.Tanh"},
    "init": {"_target_": "unitgain.nn.init.mean_field", "sigma_w": 1.58, "sigma_b": 0.22},
    "model": {"_target_": "unitgain.nn.MLP", "depth": 50},
}


def solid(axes):
    return [
        line for line in axes.lines if line.get_linestyle() == "-" and len(line.get_xdata()) > 5
    ]


def test_the_maps_and_the_plane():
    spec = parse(TANH)
    maps, forecast = maps_of(spec), forecast_of(spec)
    lengths, correlations, plane, bar = draw_forecast(spec).axes
    q, mapped = solid(lengths)[0].get_data()
    np.testing.assert_allclose(mapped, maps.length_map(q))
    c, mapped = solid(correlations)[0].get_data()
    np.testing.assert_allclose(mapped, maps.correlation_map(c))
    path = solid(lengths)[1].get_xdata()
    assert path[0] == pytest.approx(forecast.q_L[0])
    assert path[-1] == pytest.approx(maps.q_star, rel=1e-4)
    [point] = [line for line in plane.lines if line.get_marker() == "o"]
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (1.58, 0.22)
    names = [text.get_text() for text in plane.get_legend().get_texts()]
    assert names == ["critical", "healthy to 50 layers"]
    assert bar.get_ylabel() == "decades a layer, towards the input"


@pytest.mark.parametrize(
    "keys",
    [
        {"norm": {"_target_": "unitgain.nn.LayerNorm"}},
        {"model": {"_target_": "unitgain.nn.MLP", "residual": True}},
        {"init": {"_target_": "unitgain.nn.init.constant"}},
    ],
    ids=["norm", "residual", "silent"],
)
def test_networks_without_maps_are_drawn_by_layer(keys):
    spec = parse({**TANH, **keys})
    axes = draw_forecast(spec).axes
    assert [each.get_title(loc="left") for each in axes] == ["Lengths", "Correlations", "Gradient"]
    np.testing.assert_array_equal(axes[0].lines[0].get_ydata(), forecast_of(spec).q_L)


def test_files(tmp_path):
    path = forecast_figure(parse(TANH), tmp_path / "figures" / "map.svg")
    first = path.read_bytes()
    assert first.startswith(b"<?xml")
    assert forecast_figure(parse(TANH), path).read_bytes() == first

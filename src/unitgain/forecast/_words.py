"""A forecast in words."""

import math

from unitgain.forecast._forecast import Forecast
from unitgain.theory.bands import HEALTHY_DECADES


def sentence(forecast: Forecast) -> str:
    """What the forecast comes to, with its numbers.

    Example:
        >>> from unitgain.forecast import forecast_of
        >>> from unitgain.spec import parse
        >>> xavier = {"_target_": "unitgain.nn.init.xavier"}
        >>> sentence(forecast_of(parse({"activation": {"_target_": "torch.nn.Sigmoid"}, "init": xavier})))
        "gradients vanish: layer 1 gets 6.5e-04 of layer 6's, 3.17 decades less; healthy is up to 1.3"
    """
    last = forecast.hidden
    if forecast.label == "unknown":
        why = "there is one hidden layer" if last < 2 else "theory doesn't speak of this network"
        return f"no verdict: {why}"
    if math.isnan(forecast.slope):
        return "gradients vanish: some hidden layers get none at all"
    if forecast.label == "healthy":
        return (
            f"gradients flow: layer 1 gets {_times(forecast.ratio)} of layer {last}'s, "
            f"{forecast.decades:.2f} decades between them"
        )
    verb = "vanish" if forecast.label == "vanishing" else "explode"
    degree = "" if forecast.severe else " mildly"
    more = "less" if forecast.slope < 0 else "more"
    return (
        f"gradients {verb}{degree}: layer 1 gets {_times(forecast.ratio)} of layer {last}'s, "
        f"{forecast.decades:.2f} decades {more}; healthy is up to {HEALTHY_DECADES:g}"
    )


def _times(ratio: float) -> str:
    if not math.isfinite(ratio) or ratio == 0:
        return "none" if ratio == 0 else "more than 1e300"
    return f"{ratio:.2g}" if 1e-2 <= ratio < 1e3 else f"{ratio:.1e}"

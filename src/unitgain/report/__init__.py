"""Figures of what runs left on disk; nothing here trains or needs torch."""

from unitgain.report._forecast import draw_forecast, forecast_figure
from unitgain.report._gradient_flow import draw_gradient_flow, gradient_flow_figure
from unitgain.report._style import style

__all__ = [
    "draw_forecast",
    "draw_gradient_flow",
    "forecast_figure",
    "gradient_flow_figure",
    "style",
]

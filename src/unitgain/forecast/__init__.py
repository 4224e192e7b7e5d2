"""What theory says of a configured run before it trains."""

from unitgain.forecast._forecast import Forecast, forecast_of
from unitgain.forecast._remedies import Remedy, remedies

__all__ = ["Forecast", "Remedy", "forecast_of", "remedies"]

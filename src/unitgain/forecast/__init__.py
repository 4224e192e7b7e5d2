"""What theory says of a configured run before it trains."""

from unitgain.forecast._forecast import Forecast, forecast_of, maps_of
from unitgain.forecast._remedies import Remedy, brief_remedies, remedies
from unitgain.forecast._words import sentence

__all__ = ["Forecast", "Remedy", "brief_remedies", "forecast_of", "maps_of", "remedies", "sentence"]

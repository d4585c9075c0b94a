from potstill.assets.forecast import Expected, forecast
from potstill.assets.networks import TrainedNetworks, TrainNetwork, kept_part
from potstill.assets.obtain import obtain, wanted_by
from potstill.assets.records import Record, Recording, RecordTraining

__all__ = [
    "Expected",
    "Record",
    "RecordTraining",
    "Recording",
    "TrainNetwork",
    "TrainedNetworks",
    "forecast",
    "kept_part",
    "obtain",
    "wanted_by",
]

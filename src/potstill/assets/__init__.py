from potstill.assets.forecast import Expected, forecast
from potstill.assets.networks import TrainNetwork, jobs_of, kept_part
from potstill.assets.obtain import obtain
from potstill.assets.records import Record, RecordTraining, memory_record, stand_in, trainings_of

__all__ = [
    "Expected",
    "Record",
    "RecordTraining",
    "TrainNetwork",
    "forecast",
    "jobs_of",
    "kept_part",
    "memory_record",
    "obtain",
    "stand_in",
    "trainings_of",
]

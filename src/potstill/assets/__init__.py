from potstill.assets.forecast import Expected, forecast
from potstill.assets.networks import TrainedNetworks, TrainNetwork, kept_part
from potstill.assets.obtain import obtain, wanted_by
from potstill.assets.records import Record, Recording, RecordTraining
from potstill.assets.trajectories import ExpertTraining, ExpertTrajectories, Trajectories, Trajectory

__all__ = [
    "Expected",
    "ExpertTraining",
    "ExpertTrajectories",
    "Record",
    "RecordTraining",
    "Recording",
    "TrainNetwork",
    "TrainedNetworks",
    "Trajectories",
    "Trajectory",
    "forecast",
    "kept_part",
    "obtain",
    "wanted_by",
]

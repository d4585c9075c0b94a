from potstill.pretraining.build import obtain, wanted_by
from potstill.pretraining.networks import TrainedNetworks, TrainNetwork, kept_part
from potstill.pretraining.time_estimate import Expected, forecast
from potstill.pretraining.training_dynamics import Record, Recording, RecordTraining
from potstill.pretraining.trajectories import ExpertTraining, ExpertTrajectories, Trajectories, Trajectory

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

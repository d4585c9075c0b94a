from potstill.pretraining.build import build_assets, required_assets
from potstill.pretraining.expert_training import ExpertTraining
from potstill.pretraining.networks import TrainedNetworks, TrainNetwork, training_part
from potstill.pretraining.time_estimate import TimeEstimate, estimate_time
from potstill.pretraining.training_dynamics import Record, Recording, RecordTraining
from potstill.pretraining.trajectories import ExpertTrajectories
from potstill.pretraining.trajectory import Trajectories, Trajectory

__all__ = [
    "ExpertTraining", "ExpertTrajectories", "Record", "RecordTraining", "Recording", "TimeEstimate", "TrainNetwork",
    "TrainedNetworks", "Trajectories", "Trajectory", "build_assets", "estimate_time", "required_assets",
    "training_part",
]  # fmt: skip

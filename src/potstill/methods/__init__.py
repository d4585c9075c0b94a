"""Published methods as classes: ``from potstill.methods import MTT``. Each is imported when it is first used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from potstill.methods.decoupled.cda import CDA
    from potstill.methods.decoupled.cim import CIM
    from potstill.methods.decoupled.cv_dd import CVDD
    from potstill.methods.decoupled.delt import DELT
    from potstill.methods.decoupled.dq import DQ
    from potstill.methods.decoupled.dwa import DWA
    from potstill.methods.decoupled.edc import EDC
    from potstill.methods.decoupled.fadrm import FADRM
    from potstill.methods.decoupled.g_vbsm import GVBSM
    from potstill.methods.decoupled.lpld import LPLD
    from potstill.methods.decoupled.rded import RDED
    from potstill.methods.decoupled.sre2l import SRe2L, SRe2LPlus
    from potstill.methods.decoupled.ufc import UFC
    from potstill.methods.decoupled.wmdd import WMDD
    from potstill.methods.distribution.cafe import CAFE
    from potstill.methods.distribution.dance import DANCE
    from potstill.methods.distribution.datadam import DataDAM
    from potstill.methods.distribution.dm import DM
    from potstill.methods.distribution.dsdm import DSDM
    from potstill.methods.distribution.idm import IDM
    from potstill.methods.distribution.m3d import M3D
    from potstill.methods.distribution.ncfm import NCFM
    from potstill.methods.generative.d4m import D4M
    from potstill.methods.generative.diffusion_samples import DiffusionSamples
    from potstill.methods.generative.mgd3 import MGD3
    from potstill.methods.generative.minimax import Minimax
    from potstill.methods.gradient.dc import DC
    from potstill.methods.gradient.dream import DREAM
    from potstill.methods.gradient.dsa import DSA
    from potstill.methods.gradient.idc import IDC
    from potstill.methods.gradient.lgm import LGM
    from potstill.methods.performance.at_bptt import ATBPTT
    from potstill.methods.performance.dd import DD
    from potstill.methods.performance.frepo import FRePo
    from potstill.methods.performance.kip import KIP
    from potstill.methods.performance.krr_st import KRRST
    from potstill.methods.performance.ld import LD
    from potstill.methods.performance.rat_bptt import RaTBPTT
    from potstill.methods.performance.rcig import RCIG
    from potstill.methods.performance.remember import Remember
    from potstill.methods.performance.rfad import RFAD
    from potstill.methods.selection.aum import AUM
    from potstill.methods.selection.cartography import Cartography
    from potstill.methods.selection.ccs import CCS
    from potstill.methods.selection.contextual_diversity import ContextualDiversity
    from potstill.methods.selection.craig import CRAIG
    from potstill.methods.selection.dyn_unc import DynUnc
    from potstill.methods.selection.el2n import EL2N
    from potstill.methods.selection.entropy import Entropy
    from potstill.methods.selection.facility_location import FacilityLocation
    from potstill.methods.selection.forgetting import Forgetting
    from potstill.methods.selection.glicko import Glicko
    from potstill.methods.selection.glister import GLISTER
    from potstill.methods.selection.grad_match import GradMatch
    from potstill.methods.selection.grand import GraNd
    from potstill.methods.selection.graph_cut import GraphCut
    from potstill.methods.selection.herding import Herding
    from potstill.methods.selection.irt import IRT
    from potstill.methods.selection.k_center import KCenter
    from potstill.methods.selection.k_means import KMeans
    from potstill.methods.selection.k_median import KMedian
    from potstill.methods.selection.knn_graph import KNNGraph
    from potstill.methods.selection.least_confidence import LeastConfidence
    from potstill.methods.selection.less import LESS
    from potstill.methods.selection.margin import Margin
    from potstill.methods.selection.moderate import Moderate
    from potstill.methods.selection.random import Random
    from potstill.methods.selection.random_soft import RandomSoft
    from potstill.methods.selection.real import Real
    from potstill.methods.selection.stratified import Stratified
    from potstill.methods.selection.tdds import TDDS
    from potstill.methods.selection.zcore import ZCore
    from potstill.methods.trajectory.att import ATT
    from potstill.methods.trajectory.datm import DATM
    from potstill.methods.trajectory.ftd import FTD
    from potstill.methods.trajectory.mtt import MTT
    from potstill.methods.trajectory.pad import PAD
    from potstill.methods.trajectory.tesla import TESLA

__all__ = [
    "ATBPTT", "ATT", "AUM", "CAFE", "CCS", "CDA", "CIM", "CRAIG", "CVDD", "D4M", "DANCE", "DATM", "DC", "DD",
    "DELT", "DM", "DQ", "DREAM", "DSA", "DSDM", "DWA", "EDC", "EL2N", "FADRM", "FTD", "GLISTER", "GVBSM", "IDC",
    "IDM", "IRT", "KIP", "KRRST", "LD", "LESS", "LGM", "LPLD", "M3D", "MGD3", "MTT", "NCFM", "PAD", "RCIG", "RDED",
    "RFAD", "TDDS", "TESLA", "UFC", "WMDD",
    "Cartography", "ContextualDiversity", "DataDAM", "DiffusionSamples", "DynUnc", "Entropy", "FRePo",
    "FacilityLocation", "Forgetting", "Glicko", "GraNd", "GradMatch", "GraphCut", "Herding", "KCenter", "KMeans",
    "KMedian", "KNNGraph", "LeastConfidence", "Margin", "Minimax", "Moderate", "RaTBPTT", "Random", "RandomSoft",
    "Real", "Remember", "SRe2L", "SRe2LPlus", "Stratified", "ZCore",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    from potstill.core import registry

    for target in registry.targets("methods").values():
        module, _, attribute = target.partition(":")
        if attribute == name:
            return getattr(importlib.import_module(module), attribute)
    raise AttributeError(f"module 'potstill.methods' has no attribute {name!r}")

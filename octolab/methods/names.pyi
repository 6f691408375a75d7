# Written by `python -m octolab.testing.stubs`: what editors and type checkers find in octolab.methods.
from octolab.methods.adaptation.muon import Muon as Muon
from octolab.methods.asynchronous.asgd import ASGD as ASGD
from octolab.methods.asynchronous.ata import ATA as ATA
from octolab.methods.asynchronous.delay_adaptive_asgd import DelayAdaptiveASGD as DelayAdaptiveASGD
from octolab.methods.asynchronous.fedasync import FedAsync as FedAsync
from octolab.methods.asynchronous.fedbuff import FedBuff as FedBuff
from octolab.methods.asynchronous.ia2sgd import IA2SGD as IA2SGD
from octolab.methods.asynchronous.m_sync import MSync as MSync
from octolab.methods.asynchronous.malenia import Malenia as Malenia
from octolab.methods.asynchronous.mindflayer import MindFlayer as MindFlayer
from octolab.methods.asynchronous.naive_optimal_asgd import NaiveOptimalASGD as NaiveOptimalASGD
from octolab.methods.asynchronous.rennala import Rennala as Rennala
from octolab.methods.asynchronous.ringleader import Ringleader as Ringleader
from octolab.methods.asynchronous.ringmaster import Ringmaster as Ringmaster
from octolab.methods.asynchronous.shadowheart import Shadowheart as Shadowheart
from octolab.methods.asynchronous.vecna import Vecna as Vecna
from octolab.methods.baselines.centralised import Centralised as Centralised
from octolab.methods.baselines.gd import GD as GD
from octolab.methods.baselines.local_only import LocalOnly as LocalOnly
from octolab.methods.baselines.sgd import SGD as SGD
from octolab.methods.communication.adaptive import EF21Adaptive as EF21Adaptive
from octolab.methods.communication.bicolor import BiCoLoR as BiCoLoR
from octolab.methods.communication.compressed_scaffnew import CompressedScaffnew as CompressedScaffnew
from octolab.methods.communication.dcgd import DCGD as DCGD
from octolab.methods.communication.diana import DIANA as DIANA
from octolab.methods.communication.ef14 import EF14 as EF14
from octolab.methods.communication.ef21 import EF21 as EF21
from octolab.methods.communication.ef21_bc import EF21BC as EF21BC
from octolab.methods.communication.ef21_p import EF21P as EF21P
from octolab.methods.communication.ef21_plus import EF21Plus as EF21Plus
from octolab.methods.communication.ef21_pp import EF21PP as EF21PP
from octolab.methods.communication.ef21_sgd import EF21SGD as EF21SGD
from octolab.methods.communication.ef21_sgdm import EF21SGDM as EF21SGDM
from octolab.methods.communication.ef21_w import EF21W as EF21W
from octolab.methods.communication.fedcomloc import FedComLoc as FedComLoc
from octolab.methods.communication.locodl import LoCoDL as LoCoDL
from octolab.methods.local_training.adacomm import AdaComm as AdaComm
from octolab.methods.local_training.fedavg import FedAvg as FedAvg
from octolab.methods.local_training.fedavgm import FedAvgM as FedAvgM
from octolab.methods.local_training.feddyn import FedDyn as FedDyn
from octolab.methods.local_training.fednova import FedNova as FedNova
from octolab.methods.local_training.fedopt import FedAdagrad as FedAdagrad
from octolab.methods.local_training.fedopt import FedAdam as FedAdam
from octolab.methods.local_training.fedopt import FedYogi as FedYogi
from octolab.methods.local_training.fedprox import FedProx as FedProx
from octolab.methods.local_training.scaffnew import Scaffnew as Scaffnew
from octolab.methods.local_training.scaffold import SCAFFOLD as SCAFFOLD
from octolab.methods.participation.cyclic import CyCP as CyCP
from octolab.methods.participation.fair_floor import FairFloor as FairFloor
from octolab.methods.participation.ocs import OCS as OCS
from octolab.methods.participation.osmd import OSMD as OSMD
from octolab.methods.participation.power_of_choice import PowerOfChoice as PowerOfChoice
from octolab.methods.participation.rr_cli import RRCLI as RRCLI
from octolab.methods.participation.sppm_as import SPPMAS as SPPMAS
from octolab.methods.personalization.apfl import APFL as APFL
from octolab.methods.personalization.ditto import Ditto as Ditto
from octolab.methods.personalization.flix import FLIX as FLIX
from octolab.methods.personalization.pfedme import PFedMe as PFedMe
from octolab.methods.personalization.scafflix import Scafflix as Scafflix
from octolab.methods.second_order.fednl import FedNL as FedNL
from octolab.methods.trust.afl import AFL as AFL
from octolab.methods.trust.bounded_group_loss import BoundedGroupLoss as BoundedGroupLoss
from octolab.methods.trust.byz_vr_marina import ByzVRMARINA as ByzVRMARINA
from octolab.methods.trust.byz_vr_marina_pp import ByzVRMARINAPP as ByzVRMARINAPP
from octolab.methods.trust.clip21 import Clip21 as Clip21
from octolab.methods.trust.clip21_sgd2m import Clip21SGD2M as Clip21SGD2M
from octolab.methods.trust.dp_clip21 import DPClip21 as DPClip21
from octolab.methods.trust.dp_fedavg import DPFedAvg as DPFedAvg
from octolab.methods.trust.dp_sgd import DPSGD as DPSGD
from octolab.methods.trust.fed_normec import FedNormEC as FedNormEC
from octolab.methods.trust.normec import NormEC as NormEC
from octolab.methods.trust.pmtl import PMTL as PMTL
from octolab.methods.trust.q_ffl import QFFL as QFFL
from octolab.methods.trust.robust_momentum import RobustMomentum as RobustMomentum
from octolab.methods.variance_reduction.l_svrg import LSVRG as LSVRG
from octolab.methods.variance_reduction.marina import MARINA as MARINA
from octolab.methods.variance_reduction.page import PAGE as PAGE
from octolab.methods.variance_reduction.saga import SAGA as SAGA

__all__ = [  # noqa: RUF022
    "AFL",
    "APFL",
    "ASGD",
    "ATA",
    "AdaComm",
    "BiCoLoR",
    "BoundedGroupLoss",
    "ByzVRMARINA",
    "ByzVRMARINAPP",
    "Centralised",
    "Clip21",
    "Clip21SGD2M",
    "CompressedScaffnew",
    "CyCP",
    "DCGD",
    "DIANA",
    "DPClip21",
    "DPFedAvg",
    "DPSGD",
    "DelayAdaptiveASGD",
    "Ditto",
    "EF14",
    "EF21",
    "EF21Adaptive",
    "EF21BC",
    "EF21P",
    "EF21PP",
    "EF21Plus",
    "EF21SGD",
    "EF21SGDM",
    "EF21W",
    "FLIX",
    "FairFloor",
    "FedAdagrad",
    "FedAdam",
    "FedAsync",
    "FedAvg",
    "FedAvgM",
    "FedBuff",
    "FedComLoc",
    "FedDyn",
    "FedNL",
    "FedNormEC",
    "FedNova",
    "FedProx",
    "FedYogi",
    "GD",
    "IA2SGD",
    "LSVRG",
    "LoCoDL",
    "LocalOnly",
    "MARINA",
    "MSync",
    "Malenia",
    "MindFlayer",
    "Muon",
    "NaiveOptimalASGD",
    "NormEC",
    "OCS",
    "OSMD",
    "PAGE",
    "PFedMe",
    "PMTL",
    "PowerOfChoice",
    "QFFL",
    "RRCLI",
    "Rennala",
    "Ringleader",
    "Ringmaster",
    "RobustMomentum",
    "SAGA",
    "SCAFFOLD",
    "SGD",
    "SPPMAS",
    "Scafflix",
    "Scaffnew",
    "Shadowheart",
    "Vecna",
]

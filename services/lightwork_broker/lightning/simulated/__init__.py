"""The simulated Lightning network: real invoices and hashes, HTLCs, blocks and faults, in one process.

`SimulatedNetwork` makes nodes, which are `LightningNode` ports and pass the same contract suite as LND.
"""

from lightwork_broker.lightning.simulated.channels import Policy
from lightwork_broker.lightning.simulated.connection import Patience
from lightwork_broker.lightning.simulated.faults import (
    Call,
    Fault,
    Faults,
    NoFaults,
    PlannedFaults,
    SeededFaults,
    Strike,
)
from lightwork_broker.lightning.simulated.network import SimulatedNetwork
from lightwork_broker.lightning.simulated.node import SimulatedNode
from lightwork_broker.lightning.simulated.timing import JumpingTime, ManualTime, RealTime, Time

__all__ = [
    "Call",
    "Fault",
    "Faults",
    "JumpingTime",
    "ManualTime",
    "NoFaults",
    "Patience",
    "PlannedFaults",
    "Policy",
    "RealTime",
    "SeededFaults",
    "SimulatedNetwork",
    "SimulatedNode",
    "Strike",
    "Time",
]

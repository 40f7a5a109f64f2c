"""A router before one container, in a process of its own: `python router_process.py HOST PORT`. Prints its port."""

import signal
import sys

from local_sagemaker.hosting.router_thread import RouterThread
from local_sagemaker.hosting.routing import Container, Instance, RoutingTable, Variant

instance = Instance("AllTraffic/1", (Container(sys.argv[1], int(sys.argv[2])),))
router = RouterThread("bench", RoutingTable((Variant("AllTraffic", (instance,)),)))
print(router.start(), flush=True)
signal.sigwait({signal.SIGTERM})
router.stop(0)

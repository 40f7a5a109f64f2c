"""The template's training, in which rank 1 is told to stop when the first epoch is done."""

import os
import signal

import train

rank = next(os.environ[name] for name in ("HOROVOD_RANK", "OMPI_COMM_WORLD_RANK", "RANK") if name in os.environ)
evaluate = train.evaluate


def evaluate_and_stop(*arguments):
    if rank == "1":
        os.kill(os.getpid(), signal.SIGTERM)
    return evaluate(*arguments)


train.evaluate = evaluate_and_stop
train.main()

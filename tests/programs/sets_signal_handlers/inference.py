"""Set handlers for signals, as programs do that know how to stop, and say whose are there then."""

import os
import signal
from multiprocessing import Pool
from signal import SIG_DFL, SIGPIPE, signal as set_handler

set_handler(SIGPIPE, SIG_DFL)


def stop(number, frame):
    os._exit(9)


def ignore():
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def child_handler(_):
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def model_fn(model_dir):
    before = signal.signal(signal.SIGTERM, stop)
    with Pool(1, initializer=ignore) as pool:
        children_have_their_own = pool.map(child_handler, [0]) == [True]
    return {"server's": callable(before), "children's": children_have_their_own}


def predict_fn(data, model):
    handlers = {"still the server's": signal.getsignal(signal.SIGTERM) is not stop}
    try:
        set_handler(signal.SIGUSR1, stop)
    except ValueError as error:
        handlers["later"] = "main thread" in str(error)
    return model | handlers

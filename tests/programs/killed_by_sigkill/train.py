"""Die as a process dies that the kernel kills for want of memory."""

import os
import signal

os.kill(os.getpid(), signal.SIGKILL)

"""Signals as a person's terminal leaves them."""

import signal

# A shell starts a job in the background with SIGINT ignored, and `nohup` ignores SIGHUP. Each program that a
# test starts would inherit that, and Python then raises no KeyboardInterrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for _name in ("SIGHUP", "SIGTERM"):
    if signal.getsignal(_number := getattr(signal, _name, signal.SIGINT)) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)

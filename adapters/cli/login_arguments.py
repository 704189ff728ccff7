"""The arguments of `login`, which `account add` takes, too."""

import argparse

LOGIN = """Sign in with a browser, or with a device code where no browser can be opened (ssh, a container, no
display). Exit status: 0 signed in, 4 try again later, 5 refused, 6 timed out, 7 cancelled, 130 Ctrl-C. A login that
fails changes nothing: the previous login stays."""


def add_flows(command: argparse.ArgumentParser) -> None:
    """Add the options that say how to sign in. `login.method_of` reads them."""
    flow = command.add_mutually_exclusive_group()
    flow.add_argument("--device", "--device-auth", action="store_true", help="sign in with a code, on any device")
    flow.add_argument("--no-browser", action="store_true", help="print the URL instead of opening a browser")
    flow.add_argument("--with-api-key", action="store_true", help="read an API key from stdin, never from an argument")
    flow.add_argument("--with-access-token", action="store_true", help="read a personal access token from stdin")

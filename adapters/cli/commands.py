"""What each command runs. Each imports only what it needs, when it is run.

`app-server`, `wrap` and `run` are not here: `main.py` starts them before argparse is imported. The parser knows them
for their help.
"""

import argparse
import sys
from collections.abc import Callable

from authstate.adapters.cli.event_loop import run_cancellable
from authstate.adapters.cli.exit_status import ExitStatus, UsageError
from authstate.adapters.cli.parser import parse


def run(arguments: list[str]) -> int:
    """Read the command line, run the command and return its exit status. Raises what the command raises."""
    try:
        options = parse(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else ExitStatus.USAGE
    return _COMMANDS[options.command](options)


def _status(options: argparse.Namespace) -> int:
    from authstate.adapters.cli.status import show_status

    return run_cancellable(show_status(options.overrides, as_json=options.json))


def _login(options: argparse.Namespace) -> int:
    from authstate.adapters.cli.login import LoginFlow, method_of, sign_in, sign_in_with_secret

    method = method_of(options)
    if isinstance(method, LoginFlow):
        return run_cancellable(sign_in(options.overrides, method))
    return run_cancellable(sign_in_with_secret(options.overrides, method))


def _logout(options: argparse.Namespace) -> int:
    from authstate.adapters.cli.logout import sign_out

    return run_cancellable(sign_out(options.overrides))


def _token(options: argparse.Namespace) -> int:
    import os

    from authstate.adapters.cli.token import print_token
    from authstate.adapters.cli.token_formats import TokenFormat
    from authstate.adapters.config.unmanaged_logins import ensure_none_in_environment

    if sys.stdout.isatty() and not options.force:
        raise UsageError("a token is not printed to a terminal: pipe it into a program, or use --force")
    if not os.environ.get("CODEX_API_KEY", "").strip():  # which codex prefers to what authstate does not manage
        ensure_none_in_environment(os.environ)
    return run_cancellable(print_token(options.overrides, TokenFormat(options.format), options.min_lifetime))


def _account(options: argparse.Namespace) -> int:
    from authstate.adapters.cli import account

    if options.step == "add":
        from authstate.adapters.cli.account_add import add

        return add(options)
    steps = {
        "list": account.list_accounts,
        "use": account.use_account,
        "rename": account.rename_account,
        "remove": account.remove_account,
    }
    return run_cancellable(steps[options.step](options))


def _broker(options: argparse.Namespace) -> int:
    from authstate.adapters.cli.broker import adopt, release, run_broker

    if options.step is None:
        return run_broker(options)
    return run_cancellable((adopt if options.step == "adopt" else release)(options))


def _lease(options: argparse.Namespace) -> int:
    from authstate.adapters.cli.lease import end_lease, list_leases, new_lease

    steps = {"new": new_lease, "list": list_leases, "end": end_lease}
    return run_cancellable(steps[options.step](options))


def _postgres(options: argparse.Namespace) -> int:
    from authstate.adapters.cli import postgres

    if options.step == "new-key":
        return postgres.make_key(options)
    if options.step == "import":
        from authstate.adapters.cli.postgres_import import import_home

        return run_cancellable(import_home(options))
    if options.step == "forget":
        from authstate.adapters.cli.postgres_forget import forget

        return run_cancellable(forget(options))
    if options.step == "logout":
        from authstate.adapters.cli.postgres_logout import sign_out_account

        return run_cancellable(sign_out_account(options))
    steps = {
        "init": postgres.init,
        "migrate": postgres.migrate,
        "status": postgres.status,
        "rotate-key": postgres.rotate_key,
    }
    return run_cancellable(steps[options.step](options))


def _diagram(options: argparse.Namespace) -> int:
    from authstate.adapters.cli import diagram
    from authstate.adapters.cli.diagram_files import diagrams

    if options.diff is None and (options.markdown or options.json):
        raise UsageError("--markdown and --json are forms of --diff: add --diff and a revision, such as --diff main")
    if options.html is not None and (options.diff is not None or options.xstate is not None):
        raise UsageError("--html writes the page: use it alone, or with --check")
    if options.diff is not None:
        return diagram.show_diff(options.diff, diagram.form_of(options))
    if options.xstate is not None:
        return diagram.write_xstate(options.xstate)
    return diagrams(options.directory, options.html, check=options.check)


def _report(options: argparse.Namespace) -> int:
    from authstate.adapters.cli.report import report_login

    shown = {"as_json": options.json, "output": options.output, "with_email": options.with_email}
    return run_cancellable(report_login(options.overrides, home=options.home, **shown))


def _demo(options: argparse.Namespace) -> int:
    from authstate.adapters.cli.demo import run_demo

    return run_cancellable(run_demo())


def _sandbox(options: argparse.Namespace) -> int:
    from authstate.adapters.cli.sandbox import run_sandbox

    return run_sandbox(options)


def _verify(options: argparse.Namespace) -> int:
    from authstate.adapters.cli.verify import verify

    return verify(options)


def _not_parsed_here(options: argparse.Namespace) -> int:
    raise UsageError("app-server takes -c KEY=VALUE and --listen stdio://; wrap and run take -- and a command")


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "app-server": _not_parsed_here,
    "wrap": _not_parsed_here,
    "run": _not_parsed_here,
    "account": _account,
    "broker": _broker,
    "lease": _lease,
    "postgres": _postgres,
    "status": _status,
    "login": _login,
    "logout": _logout,
    "token": _token,
    "diagram": _diagram,
    "report": _report,
    "demo": _demo,
    "sandbox": _sandbox,
    "verify": _verify,
}

"""The package where only what it requires is installed: no extra, no pytest, no hypothesis."""

import subprocess
import sys

_WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"starlette", "prometheus_client", "uvicorn", "httptools", "httpx2", "openai"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""


def said_without_extras(program: str) -> str:
    """What a program prints in a process that finds no optional package."""
    done = subprocess.run([sys.executable, "-c", _WITHOUT + program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_name_can_be_imported_and_help_lists_them() -> None:
    program = """
import inspect, pydoc
import authstate
from authstate import *
text = pydoc.plain(pydoc.render_doc(authstate))
print(len(inspect.getmembers(authstate)) >= len(authstate.__all__), "create_broker_app" in text, BrokerApp.__name__)
"""
    assert said_without_extras(program) == "True True BrokerApp\n"


def test_what_needs_an_extra_says_how_to_install_it() -> None:
    program = """
from authstate import BrokerApp, create_broker_app
for make in (lambda: create_broker_app(None), lambda: BrokerApp(None, None, [])):
    try:
        make()
    except ModuleNotFoundError as error:
        print(error.name, error)
"""
    first, second = said_without_extras(program).splitlines()
    assert first == (
        "prometheus_client the application of the broker needs the package prometheus_client: "
        "run `pip install 'authstate[broker]'`"
    )
    assert second.endswith("needs the package starlette: run `pip install 'authstate[broker]'`")

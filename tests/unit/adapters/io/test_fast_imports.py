"""Modules that load when they are used first, in processes of their own."""

import subprocess
import sys

LATE = "import sys\nfrom authstate.adapters.io.fast_imports import OPENSSL, load_late\nload_late(*OPENSSL)\n"


def run(program: str) -> None:
    ran = subprocess.run([sys.executable, "-c", LATE + program], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr


def test_openssl_is_loaded_with_its_first_use() -> None:
    run(
        "import asyncio, hashlib, ssl\n"
        "assert not {'_ssl', '_hashlib'} & set(sys.modules)\n"
        "assert len(hashlib.sha256(b'').hexdigest()) == 64\n"
        "assert '_hashlib' in sys.modules and '_ssl' not in sys.modules\n"
        "assert ssl.SSLContext and '_ssl' in sys.modules\n"
        "from asyncio.sslproto import SSLProtocol\n"
        "from ssl import SSLError\n"
        "import httpx, secrets, hmac\n"
        "assert hmac.compare_digest(secrets.token_hex(4), '') is False\n"
    )


def test_a_name_that_is_missing_is_missing() -> None:
    run("import ssl\nassert not hasattr(ssl, 'no_such')\nassert ssl.SSLContext\nassert not hasattr(ssl, 'nor_this')")


def test_a_module_that_is_loaded_stays_and_one_that_does_not_exist_is_not_made() -> None:
    run(
        "import json\n"
        "load_late('json', 'no_such_module', 'no_such.module')\n"
        "import json as again\n"
        "assert again is json and not {'no_such_module', 'no_such.module'} & set(sys.modules)\n"
    )


def test_threads_that_use_a_module_at_the_same_time_wait_for_it() -> None:
    run(
        "import ssl\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from threading import Barrier\n"
        "barrier = Barrier(8)\n"
        "def use(number):\n"
        "    barrier.wait()\n"
        "    return ssl.create_default_context\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    assert len(set(pool.map(use, range(8)))) == 1\n"
    )

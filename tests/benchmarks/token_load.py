"""Load on a token endpoint, from clients in processes of their own."""

import json
import statistics
import subprocess

from support.module_commands import command_of, with_tests


def load(port: int, requests: list[str], clients: int) -> tuple[float, float]:
    """Send the requests from that many processes. Returns the answers a second, and the median of their seconds."""
    share = len(requests) // clients
    running = [
        subprocess.Popen(
            command_of("benchmarks.token_client", str(port)),
            env=with_tests(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(clients)
    ]
    outputs = []
    for number, process in enumerate(running):
        assert process.stdin is not None
        process.stdin.write("\n".join(requests[number * share : (number + 1) * share]))
        process.stdin.close()
        process.stdin = None
    for process in running:
        outputs.append(json.loads(process.communicate()[0].splitlines()[-1]))
    times = [seconds for output in outputs for seconds in output["times"]]
    seconds = max(output["ended"] for output in outputs) - min(output["began"] for output in outputs)
    return len(times) / seconds, statistics.median(times)

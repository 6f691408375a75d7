"""A SuperLink and its SuperNodes on loopback, for a test or a class: started, used, and always cleaned up.

    with ol.flower.deploy_local(nodes=3) as link:
        run = ol.run(method, problem, on=link)

Ports are free ones, Flower's home is a temporary folder, nothing is reported and nothing is looked up. `secure=True` uses
TLS and node authentication, with certificates and keys made for the occasion; `octolab.flower.keys` shows how. A process
that ends without closing its deployment takes it along (`octolab.flower.cleanup`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octolab.arguments import expects, switch, whole
from octolab.errors import OctolabError, WrongArgument
from octolab.flower.cleanup import forget, register, tethered
from octolab.flower.command_line import NAME, Flwr, environment, program
from octolab.flower.requirement import check_flwr
from octolab.flower.superlink import SuperLink
from octolab.flower.world import FlowerWorld

if TYPE_CHECKING:
    from octolab.experiment.run import Run
    from octolab.flower.superlink import SuperLinkConnection

TAG = "OCTOLAB_DEPLOYMENT"  # in the environment of every process, so that none is overlooked
HOST = "127.0.0.1"
QUICK = {"FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.05"}  # seconds; Flower looks for work once a second otherwise


@expects(nodes=whole(1), secure=switch())
def deploy_local(nodes: int = 3, *, secure: bool = False, **settings: Any) -> LocalDeployment:
    """Start a SuperLink and `nodes` SuperNodes (partition-id 0, 1, ...) on this machine.

    secure: TLS and node authentication instead of --insecure. settings: as of `SuperLink` (timeout, patience, least,
    wire). A context manager; `close` ends every process and deletes everything.
    """
    known = [f.name for f in dataclasses.fields(FlowerWorld)]
    for name, value in settings.items():
        if name not in known:
            raise WrongArgument(
                f"deploy_local: {name}={value!r}: there is no such setting. Known are {', '.join(known)}."
            )
    check_flwr()
    deployment = LocalDeployment(nodes, secure, settings)
    try:
        deployment.start()
        for _ in range(nodes):
            deployment.add()
    except BaseException:
        deployment.close()
        raise
    return deployment


class LocalDeployment:
    """A deployment on loopback. It can be run on (`on=deployment`), grow (`add`) and lose nodes (`kill`)."""

    def __init__(self, planned: int, secure: bool, settings: dict[str, Any]):
        self.home = Path(tempfile.mkdtemp(prefix="octolab-deploy-"))
        self.planned, self.secure, self.tag = planned, secure, uuid.uuid4().hex
        self.port = free_port()
        tls = {"root_certificates": str(self.home / "ca.crt")} if secure else {"insecure": True}
        if secure:
            from octolab.flower.keys import make_certificates

            make_certificates(self.home)
        self.link = SuperLink(address=f"{HOST}:{self.port}", **tls, **settings)  # type: ignore[arg-type]
        self.superlink: subprocess.Popen | None = None
        self.nodes: dict[int, subprocess.Popen] = {}  # client -> its newest SuperNode
        self._all: list[subprocess.Popen] = []
        register(self)

    def join(self, run: Run) -> SuperLinkConnection:
        return self.link.join(run)

    def __repr__(self) -> str:
        return f"LocalDeployment({self.link.address}, {len(self.nodes)} nodes{', secure' if self.secure else ''})"

    # -- processes -------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """The SuperLink."""
        words = ["--host", HOST, "--port", str(self.port), "--isolation", "subprocess"]
        words.append("--disable-runtime-dependency-installation")
        if self.secure:
            words += ["--ssl-certfile", str(self.home / "server.crt"), "--ssl-keyfile", str(self.home / "server.key")]
            words += ["--ssl-ca-certfile", str(self.home / "ca.crt"), "--enable-supernode-auth"]
        else:
            words.append("--insecure")
        self.superlink = self._spawn("superlink", program("flower-superlink"), *words)
        self._wait_for(self.superlink, self.port, "superlink")

    def add(self, client: int | None = None, *, registered: bool = True) -> int:
        """One more SuperNode, of a new client number or in place of a node that is gone. Returns the number.

        registered: whether the SuperLink is told its key, in a secure deployment; a stranger is turned away.
        """
        number = len(self.nodes) if client is None else client
        config = f"partition-id={number} num-partitions={max(self.planned, number + 1)}"
        port = free_port()
        words = ["--superlink", self.link.address, "--isolation", "subprocess", "--node-config", config]
        words += ["--host", HOST, "--port", str(port)]
        if self.secure:
            words += ["--root-certificates", str(self.home / "ca.crt"), *self._identity(number, registered)]
        else:
            words.append("--insecure")
        self.nodes[number] = self._spawn(f"client-{number}", program("flower-supernode"), *words)
        return number

    def _identity(self, number: int, registered: bool) -> list[str]:
        """A key of the node's own, whose public half the SuperLink is told."""
        from octolab.flower.keys import make_node_key

        private, public = make_node_key(self.home, number)
        if registered:
            flwr = Flwr(self.link)
            try:
                flwr.ask("supernode", "register", str(public), NAME)
            finally:
                flwr.close()
        return ["--auth-supernode-private-key", str(private)]

    def kill(self, client: int, how: int = signal.SIGKILL) -> None:
        """End a client's SuperNode and what it runs, at once and without a farewell."""
        _signal(self.nodes[client], how)
        self.nodes[client].wait(timeout=20)
        for pid in self.processes():
            if pid in _children_of(self.nodes[client].pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, how)

    def _spawn(self, name: str, *words: str) -> subprocess.Popen:
        home = self.home / name
        home.mkdir(exist_ok=True)
        with open(self.home / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                tethered(list(words), os.getpid()),
                env=environment(str(home), **{TAG: self.tag, **QUICK}),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._all.append(process)
        return process

    def _wait_for(self, process: subprocess.Popen, port: int, name: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
                return
            time.sleep(0.1)
        raise OctolabError(f"The {name} did not start on port {port}. Its log ends:\n{self.said(name)}")

    def said(self, name: str, lines: int = 20) -> str:
        """The end of a process's log: "superlink", "client-0", ..."""
        path = self.home / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def processes(self) -> list[int]:
        """The ids of all live processes of this deployment, children and grandchildren among them (Linux)."""
        return tagged(self.tag)

    # -- the end ---------------------------------------------------------------------------------------------------
    def close(self) -> None:
        """End every process, nodes first; whatever is left after ten seconds is killed. Then delete the folder."""
        forget(self)
        for process in reversed(self._all):
            _signal(process, signal.SIGTERM)
        end = time.monotonic() + 10
        while time.monotonic() < end and (self.processes() or any(p.poll() is None for p in self._all)):
            time.sleep(0.1)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._all:
            _signal(process, signal.SIGKILL)
            process.wait(timeout=10)
        end = time.monotonic() + 5
        while self.processes() and time.monotonic() < end:
            time.sleep(0.05)
        shutil.rmtree(self.home, ignore_errors=True)
        left = self.processes()
        if left:
            raise OctolabError(
                f"Flower processes are still there after the deployment's end: {left}. End them by hand."
            )

    def __enter__(self) -> LocalDeployment:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def tagged(tag: str) -> list[int]:
    """Live processes whose environment carries a deployment's tag."""
    wanted, found = f"{TAG}={tag}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            alive = (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
            if alive and wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def _children_of(pid: int) -> set[int]:
    """Processes of the session that a process led."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == pid:
                found.add(int(entry.name))
    return found


def _signal(process: subprocess.Popen, how: int) -> None:
    """To the whole group that a process leads."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, how)

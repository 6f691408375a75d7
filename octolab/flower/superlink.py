"""A SuperLink to run on: `ol.run(..., on=ol.flower.SuperLink("host:port"))`.

The run is exported as a Flower app, handed to the SuperLink with `flwr run`, and followed through `flwr log`: the
history grows here as it does there. Only Flower's command line and the one address are used.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from octolab.arguments import expect, path, switch, text
from octolab.errors import OctolabError
from octolab.flower.cleanup import forget, register
from octolab.flower.command_line import COLOURS, NAME, Flwr, Unreachable
from octolab.flower.requirement import check_flwr
from octolab.flower.traffic import Traffic
from octolab.flower.world import FlowerWorld

if TYPE_CHECKING:
    from octolab.experiment.run import Run


@dataclass(frozen=True)
class SuperLink(FlowerWorld):
    """A running SuperLink with its SuperNodes.

    address: "host:port". root_certificates: the authority's certificate (a file) with which the SuperLink's is checked.
    insecure: no TLS at all; for loopback only. The SuperNodes have partition-id=0, 1, ..., and octolab of this version.
    checkpoints of a run are written on the SuperLink's machine.
    """

    address: str = "127.0.0.1:8000"
    root_certificates: str | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        expect("", "address", self.address, text("'host:port'"))
        expect("", "root_certificates", self.root_certificates, path("a file"), optional=True)
        expect("", "insecure", self.insecure, switch())
        host, _, port = self.address.rpartition(":")
        if not host or not port.isdigit() or "/" in self.address:
            raise ValueError(f"address={self.address!r}: write 'host:port', e.g. '127.0.0.1:8000', without http://.")
        if self.root_certificates is not None and not os.path.isfile(self.root_certificates):
            raise ValueError(f"root_certificates={self.root_certificates!r}: there is no such file.")
        if self.insecure and self.root_certificates is not None:
            raise ValueError("insecure=True and root_certificates were both given: choose TLS (drop insecure) or none.")

    def join(self, run: Run) -> SuperLinkConnection:
        check_flwr()
        self.check(run)
        return SuperLinkConnection(self, run)


class SuperLinkConnection:
    """A run whose steps happen in a ServerApp on a SuperLink. Here its history grows, and at the end its state comes."""

    remote = True

    def __init__(self, link: SuperLink, run: Run):
        if run.federation.randomness.scripts():
            raise ValueError("Scripted randomness stays in this process: run with on='flower', or give a seed.")
        if "given" in run.problem.spec:
            raise ValueError(
                f"{run.problem.name} was made from arrays given in this process, which the nodes do not have. Make it from "
                f"a named data set, or export the app (run.export_flower_app), edit its data.py, and `flwr run` it."
            )
        self.link, self.run = link, run
        self.traffic = Traffic()
        self.run_id: int | None = None
        self.log: list[str] = []  # what the ServerApp printed beside its reports
        self._flwr: Flwr | None = None
        self._follower: subprocess.Popen | None = None
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._pieces: list[str] = []
        self._ended = False

    # -- start -----------------------------------------------------------------------------------------------------
    def launch(self) -> None:
        """Export the run, hand it over, and follow its log, if that has not been done."""
        if self._flwr is not None:
            return
        from octolab.flower.exported_app import export

        self._flwr = Flwr(self.link)
        self._ended = False
        register(self)
        with tempfile.TemporaryDirectory(prefix="octolab-app-") as folder:
            app = export(self.run, os.path.join(folder, "octolab_run"))
            if self.run.round >= 0:
                self._add_start(app)
            started = self._flwr.ask("run", str(app), NAME, "-c", self._config())
        self.run_id = int(started["run-id"])
        self._follower = self._flwr.start("log", str(self.run_id), NAME, "--stream")
        threading.Thread(target=self._read, args=(self._follower,), daemon=True, name="octolab-follow").start()

    def _config(self) -> str:
        link, settings = self.link, self.run.settings
        config: dict[str, Any] = {
            "wire": link.wire,
            "timeout": float(link.timeout),
            "patience": float(link.patience),
            "least": link.least or 0,
            "report": True,
        }
        if settings.checkpoint_every is not None:
            config["checkpoint"] = os.path.abspath(str(settings.checkpoint))
            config["checkpoint-every"] = settings.checkpoint_every
        return " ".join(f"{name}={json.dumps(value)}" for name, value in config.items())

    def _add_start(self, app: Any) -> None:
        """A run that has rounds behind it goes on from there: its run file travels with the app."""
        from octolab.flower.server import packed

        path = app / app.name / "experiment.py"
        path.write_text(path.read_text() + f'\nEXPERIMENT["start"] = "{packed(self.run)}"\n')

    def _read(self, follower: subprocess.Popen) -> None:
        from octolab.flower.server import MARK

        assert follower.stdout is not None
        for line in follower.stdout:
            head, mark, rest = line.partition(MARK)
            if mark and not head.strip():
                try:
                    self._lines.put(json.loads(rest))
                    continue
                except json.JSONDecodeError:
                    pass
            self.log.append(COLOURS.sub("", line).rstrip())
        follower.wait()
        self._lines.put(None)

    # -- follow ----------------------------------------------------------------------------------------------------
    def advance(self) -> bool:
        """Wait for the next row of the history. False: the run has ended."""
        while not self._ended:
            if self.run.stopping:
                return False
            try:
                told = self._lines.get(timeout=0.2)
            except queue.Empty:
                continue
            if told is None:
                self._broken()
            elif "row" in told:
                self._add(told)
                if not self.run.complete:
                    return True
            elif "piece" in told:
                self._pieces.append(told["piece"])
            elif "end" in told:
                self._end(told)
        return False

    def _add(self, told: dict[str, Any]) -> None:
        recorder = self.run.recorder
        if told["at"] < len(recorder.rows):
            return  # known: the run went on from here
        recorder.append(tuple(told["row"]), told["also"], {})
        self.run.round = int(told["row"][0])

    def _end(self, told: dict[str, Any]) -> None:
        from octolab.experiment.checkpoint import read, restore

        self._ended = True
        run = self.run
        self.traffic.rows = told.get("traffic", {})
        if told["pieces"]:
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "run.octo")
                with open(path, "wb") as file:
                    file.write(base64.b64decode("".join(self._pieces)))
                data, tensors = read(path)
            restore(run, data["body"], tensors)
        run.status = told["end"]
        if told.get("note"):
            self.log.append(told["note"])
        if told.get("error"):
            run.error = OctolabError(f"On the SuperLink: {told['error']}")
            if told["end"] == "failed":
                raise run.error

    def _broken(self) -> None:
        """The log ended without the run's end: the ServerApp died."""
        self._ended = True
        tail = "\n".join(self.log[-12:])
        where = self.run.settings.checkpoint if self.run.settings.checkpoint_every else None
        advice = (
            f"Go on from its checkpoint: ol.load_run({where!r}).fork(on=...).finish()."
            if where
            else "Give checkpoint= and checkpoint_every= to be able to go on next time."
        )
        self.run.status = "failed"
        self.run.error = OctolabError(
            f"The ServerApp ended after round {self.run.round} without a result. {advice} {self._record()} "
            f"Its last lines:\n{tail}"
        )
        raise self.run.error

    def _record(self) -> str:
        """What the SuperLink says of a run whose ServerApp died; one that it takes for alive is stopped there."""
        assert self._flwr is not None
        number = str(self.run_id)
        try:
            (found,) = self._flwr.ask("list", NAME, "--run-id", number)["runs"]
            if str(found["status"]).startswith("finished"):
                return f"The SuperLink's record of run {number} says {found['status']}."
            self._flwr.ask("stop", number, NAME, seconds=20)
            return f"The SuperLink still took run {number} for {found['status']}: it was stopped there."
        except (Unreachable, KeyError, ValueError):
            return (
                f"The SuperLink's record of run {number} may still call it running: `flwr stop {number}` puts it right."
            )

    @property
    def savable(self) -> bool:
        """Whether a run file can be written here: the server's state comes at the end."""
        return self.run.state is not None

    def close(self) -> None:
        """Stop the run if it goes on, and leave nothing behind."""
        forget(self)
        if self._flwr is None:
            return
        if not self._ended and self.run_id is not None:
            try:
                self._flwr.ask("stop", str(self.run_id), NAME, seconds=20)
            except Unreachable as error:
                self.log.append(str(error))
        if self._follower is not None:
            self._follower.terminate()
            self._follower.wait()
        self._flwr.close()
        self._flwr = self._follower = self.run_id = None

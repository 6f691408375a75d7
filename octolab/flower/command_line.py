"""Flower's own programs: where they are, what they run under, and `flwr` with one connection, asked for JSON."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from typing import TYPE_CHECKING, Any

from octolab.errors import OctolabError

if TYPE_CHECKING:
    from octolab.flower.superlink import SuperLink

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
NAME = "octolab"  # of the connection in the temporary config.toml


class Unreachable(OctolabError, ConnectionError):
    """No SuperLink answers at an address, or it refuses the run."""


class Flwr:
    """Flower's command line with one connection, in a FLWR_HOME of its own."""

    def __init__(self, link: SuperLink):
        self.link = link
        self.home = tempfile.mkdtemp(prefix="octolab-flwr-")
        lines = [f'[superlink]\ndefault = "{NAME}"\n[superlink.{NAME}]\naddress = "{link.address}"']
        lines.append("insecure = true" if link.insecure else "")
        if link.root_certificates:
            lines.append(f"root-certificates = {json.dumps(os.path.abspath(link.root_certificates))}")
        with open(os.path.join(self.home, "config.toml"), "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")

    def start(self, *words: str) -> subprocess.Popen:
        return subprocess.Popen(
            [program("flwr"), *words], env=environment(self.home), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", start_new_session=True,
        )  # fmt: skip

    def ask(self, *words: str, seconds: float = 60) -> dict[str, Any]:
        """The JSON that a command prints; `Unreachable` with Flower's own words if it fails."""
        process = self.start(*words, "--format", "json")
        try:
            text, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Unreachable(
                f"The SuperLink at {self.link.address} did not answer `flwr {words[0]}` within {seconds:g} s. Is it "
                f"running, and is this its address?"
            ) from None
        text = COLOURS.sub("", text)
        found = _json_in(text)
        if not found.get("success", False):
            said = found.get("error-message") or text.strip()[-400:]
            raise Unreachable(
                f"The SuperLink at {self.link.address} did not take `flwr {words[0]}`. Is it running, is this its address, "
                f"do TLS and keys fit? Flower says: {said}"
            )
        return found

    def close(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)


def program(name: str) -> str:
    """Flower's program beside this Python, else on the path."""
    beside = os.path.join(sysconfig.get_path("scripts"), name)
    found = beside if os.path.exists(beside) else shutil.which(name)
    if found is None:
        raise ImportError(f"The program {name!r} was not found beside {sys.executable}. pip install 'octolab[flower]'.")
    return found


def environment(home: str, **more: str) -> dict[str, str]:
    """What Flower's programs run under: their own home, no reports of use, no look for updates, this Python first."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    quiet = {"FLWR_HOME": home, "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    return {**os.environ, **quiet, "PATH": path, "NO_COLOR": "1", "TERM": "dumb", "PYTHONUNBUFFERED": "1", **more}


def _json_in(text: str) -> dict[str, Any]:
    """The JSON object in a command's output, among its warnings."""
    start, end = text.find("{"), text.rfind("}")
    try:
        return json.loads(text[start : end + 1]) if start >= 0 else {}
    except json.JSONDecodeError:
        return {}

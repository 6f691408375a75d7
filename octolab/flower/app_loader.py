"""An app written for Flower, loaded from its folder as `flwr new` makes it."""

from __future__ import annotations

import importlib
import os
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from octolab.arguments import expects, path


class App(NamedTuple):
    """A Flower app: its two sides and its run config."""

    server: ServerApp
    client: ClientApp
    config: dict[str, Any] = {}  # noqa: RUF012, never written to
    name: str = "Flower app"


@expects(folder=path("a folder with a Flower app"))
def load_app(folder: str | os.PathLike) -> App:
    """The app in a folder, as `flwr new` makes it: pyproject.toml names the ServerApp, the ClientApp and the config."""
    path = Path(folder).resolve()
    project = path / "pyproject.toml"
    if not project.is_file():
        raise ValueError(f"{path} holds no pyproject.toml: give the folder of a Flower app, as `flwr new` makes it.")
    flower = tomllib.loads(project.read_text(encoding="utf-8"))
    settings = flower.get("tool", {}).get("flwr", {}).get("app", {})
    parts = settings.get("components", {})
    if not {"serverapp", "clientapp"} <= set(parts):
        raise ValueError(f"{project} names no serverapp and clientapp under [tool.flwr.app.components].")
    sys.path.insert(0, str(path))
    try:
        server, client = (_attribute(parts[side], path) for side in ("serverapp", "clientapp"))
    finally:
        sys.path.remove(str(path))
    return App(server, client, _flat(settings.get("config", {})), flower.get("project", {}).get("name", path.name))


def _attribute(reference: str, path: Path) -> Any:
    module, _, name = reference.partition(":")
    package = module.partition(".")[0]
    held = sys.modules.get(package)
    place = str(getattr(held, "__file__", None) or path)
    if "site-packages" in place:
        raise ValueError(f"{reference!r}: the package {package!r} is an installed one here. Rename the app's.")
    if held is not None and not place.startswith(str(path)):
        for key in [k for k in sys.modules if k == package or k.startswith(f"{package}.")]:
            del sys.modules[key]  # another app's package of the same name
    try:
        return getattr(importlib.import_module(module), name or "app")
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{reference!r}, named in {path / 'pyproject.toml'}, cannot be loaded: {error}.") from error


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in config.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out

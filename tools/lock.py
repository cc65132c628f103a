"""Write requirements.lock: the exact release of everything that the project's extras lead to.

Run by ``make lock``, in an environment where ``pip install -e '.[book,export,test]'`` was run, and
where the tests pass: what is installed there is what gets pinned. The walk starts at
pyproject.toml and follows the metadata of the installed packages once for Linux and once for
macOS, so what one of them alone needs gets a marker. A package for the other system is asked of
the package index.

To move to newer releases: ``.venv/bin/pip install --upgrade -e '.[book,export,test]'``, then
``make lock``, ``make book`` and ``make test``.
"""

import json
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
SYSTEMS = {
    "linux": {"platform_system": "Linux", "platform_machine": "x86_64"},
    "darwin": {"platform_system": "Darwin", "platform_machine": "arm64"},
}
HEADER = """\
# Exact releases, for Python 3.11.5 or later on Linux and macOS. Written by `make lock`
# (tools/lock.py), from what pyproject.toml asks for; do not edit by hand.
"""


def project_requirements() -> list[Requirement]:
    """Return what pyproject.toml asks for, its extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(line) for group in groups for line in group]


def package(requirement: Requirement) -> tuple[str, list[str]]:
    """Return the release and the requirements of a package: installed, or else on the index."""
    try:
        found = metadata.distribution(requirement.name)
    except metadata.PackageNotFoundError:
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--quiet"]
        command += ["--ignore-installed", "--report", "-", str(requirement).partition(";")[0]]
        report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        found = report["install"][0]["metadata"]
        return found["version"], found.get("requires_dist", [])
    return found.version, found.requires or []


def walk(system: str) -> dict[str, str]:
    """Return name and release of every package that the project needs on a system."""
    environment = default_environment() | SYSTEMS[system] | {"sys_platform": system}
    pins: dict[str, str] = {}
    seen = set()
    queue = [(requirement, "") for requirement in project_requirements()]
    while queue:
        requirement, extra = queue.pop()
        if requirement.marker and not requirement.marker.evaluate(environment | {"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in ["", *requirement.extras]:
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                pins[name], needs = package(requirement)
                queue += [(Requirement(line), wanted) for line in needs]
    return pins


def lock_text() -> str:
    """Return the lock file's content."""
    pins = {system: walk(system) for system in SYSTEMS}
    lines = []
    for name in sorted(pins["linux"] | pins["darwin"]):
        systems = [system for system in SYSTEMS if name in pins[system]]
        marker = f' ; sys_platform == "{systems[0]}"' if len(systems) == 1 else ""
        lines.append(f"{name}=={pins[systems[0]][name]}{marker}")
    return HEADER + "\n".join(lines) + "\n"


if __name__ == "__main__":
    LOCK.write_text(lock_text(), encoding="utf-8")

"""Ready hosts: what `site.yml` made of bare ones, kept so that it need not be done again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

from kvmlab import inventory, lifecycle
from kvmlab.cache import build_log, build_once, key_of
from kvmlab.errors import LabError
from kvmlab.images import Images
from kvmlab.paths import CACHE, REPOSITORY, LabPaths
from kvmlab.run import run, say
from kvmlab.shape import Host, Shape
from kvmlab.state import LabRecord, describe

# Part of the key: raise it when the lab itself changes what it leaves in a host.
FORMAT = "1"
# Instead of kvmops.fleet.site, for tests of the mechanism itself.
PLAYBOOK = os.environ.get("KVMLAB_PLAYBOOK", "kvmops.fleet.site")
SHAPE_FILE = "shape.json"
# The lab that is rolled out; one at a time, as building holds a lock.
LAB = "ready-build"


def key(images: Images) -> str:
    """Names everything a ready host is made from, its place in a lab apart."""
    parts = [FORMAT, PLAYBOOK, inventory.render(Shape(()), LabPaths("any"))]
    parts += [
        path.name for release in sorted(images.roots) for path in (images.roots[release], images.repositories[release])
    ]
    sources = [
        REPOSITORY / "playbooks/site.yml",
        *(REPOSITORY / "playbooks/templates").glob("*"),
        *(REPOSITORY / "roles").rglob("*"),
    ]
    sources += [Path(PLAYBOOK)] if Path(PLAYBOOK).is_file() else []
    for path in sorted(path for path in sources if path.is_file()):
        parts += [os.path.relpath(path, REPOSITORY), hashlib.sha256(path.read_bytes()).hexdigest()]
    return key_of(parts)


def find(shape: Shape, images: Images) -> Path | None:
    """A snapshot whose first hosts are those of `shape`, the smallest that will do."""
    found = []
    for path in CACHE.glob(f"ready-{key(images)}-*/{SHAPE_FILE}"):
        hosts = [Host(**host) for host in json.loads(path.read_text())]
        if shape.within(hosts):
            found.append((len(hosts), path.parent))
    return min(found)[1] if found else None


def build(shape: Shape, images: Images) -> Path:
    """Roll out bare hosts of that shape with the playbook and keep what it wrote."""
    plain = Shape(shape.hosts)
    hosts_key = key_of([json.dumps(asdict(host)) for host in plain.hosts])
    return build_once("ready", f"{key(images)}-{hosts_key}", lambda target: _roll_out(plain, images, target))


def _roll_out(shape: Shape, images: Images, target: Path) -> None:
    lifecycle.clear(LAB, lifecycle.load_broken(LAB))
    lab = describe(LAB, shape, images, bare=True)
    log = build_log("ready")
    lifecycle.start_or_clear(lab)
    try:
        say(f"rolling out {' '.join(host.name for host in shape.hosts)} with {PLAYBOOK} (log: {log})")
        play(lab, log)
        lifecycle.halt(lab)
        for host in shape.hosts:
            keep_layer(lab.paths.host(host.name).upper, target / host.name)
        (target / SHAPE_FILE).write_text(json.dumps([asdict(host) for host in shape.hosts]))
    finally:
        lifecycle.clear(LAB, lab)


def play(lab: LabRecord, log: Path) -> None:
    """Run the playbook against a lab."""
    ansible = REPOSITORY / ".venv/bin/ansible-playbook"
    if not ansible.exists():
        raise LabError(
            f"{ansible} is not there, and bare hosts cannot be made ready without it",
            "run make setup; or use lab up --bare",
        )
    environment = {**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    with log.open("a") as sink:
        words = [str(ansible), "-i", str(lab.paths.inventory()), PLAYBOOK]
        code = subprocess.run(
            words, cwd=REPOSITORY, env=environment, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL, check=False
        ).returncode
    if code != 0:
        tail = "\n  ".join(log.read_text(errors="replace").strip().splitlines()[-25:])
        raise LabError(f"{PLAYBOOK} failed on bare hosts:\n  {tail}", f"the whole output is in {log}")


def keep_layer(upper: Path, target: Path) -> None:
    """Move what a stopped host wrote to the cache, without its journal."""
    shutil.rmtree(upper / "var/log/journal", ignore_errors=True)
    if upper.stat().st_dev == target.parent.stat().st_dev:
        upper.rename(target)
    else:
        run(["cp", "--archive", upper, target])

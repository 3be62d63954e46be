# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The forced command of the mesh key: what it admits, and what it must never admit."""

from __future__ import annotations

import importlib.util
import inspect
import io
import json
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Tuple

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import far_side, files, prober, probing
from ansible_collections.kvmops.fleet.plugins.module_utils.model.probe import Probe

FILE = Path(__file__).parents[4] / "roles" / "host_base" / "files" / "ssh_gate.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ssh_gate", FILE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


gate = load()
UUID = "11111111-2222-3333-4444-555555555555"
FAR = " ".join(shlex.quote(word) for word in files._FAR_SIDE)
PROBE = " ".join(shlex.quote(word) for word in probing._PROBER)

# As libvirt 9.0 and 11.3 send it; 8.0 and 10.0 have the same source text.
NETCAT = (
    "if 'nc' -q 2>&1 | grep \"requires an argument\" >/dev/null 2>&1; then ARG=-q0;else ARG=;fi;"
    "'nc' $ARG -U /var/run/libvirt/libvirt-sock"
)
AUTO = (
    "sh -c 'which virt-ssh-helper 1>/dev/null 2>&1; if test $? = 0; then     virt-ssh-helper 'qemu:///system'; "
    "else    %s; fi'" % NETCAT
)

ADMITTED = {
    "helper or netcat": (AUTO, ("libvirt", False)),
    "helper or netcat, read only": (
        AUTO.replace("helper 'qemu", "helper -r 'qemu").replace("sock;", "sock-ro;"),
        ("libvirt", True),
    ),
    "helper": ("sh -c 'virt-ssh-helper 'qemu:///system''", ("libvirt", False)),
    "helper, read only": ("sh -c 'virt-ssh-helper -r 'qemu:///system''", ("libvirt", True)),
    "helper, daemon chosen": ("sh -c 'virt-ssh-helper 'qemu:///system?mode=direct''", ("libvirt", False)),
    "netcat": ("sh -c '%s'" % NETCAT, ("libvirt", False)),
    "netcat, read only": ("sh -c '%s-ro'" % NETCAT, ("libvirt", True)),
    "netcat by path": ("sh -c '%s'" % NETCAT.replace("'nc'", "'/bin/nc.openbsd'"), ("libvirt", False)),
    "netcat, modular daemon": ("sh -c '%s'" % NETCAT.replace("libvirt-sock", "virtqemud-sock"), ("libvirt", False)),
    "image operations": (FAR, ("far-side", far_side.PROTOCOL)),
    "the prober": (PROBE, ("prober", prober.PROTOCOL)),
    "image operations of another protocol": ("python3 -c x kvmops-far-side 9", ("far-side", 9)),
}

REFUSED = {
    "a shell": ("", "opens no shell"),
    "blanks": ("  \n", "opens no shell"),
    "a command": ("id", "does not run commands"),
    "dd": ("dd of=/root/x status=none", "does not run commands"),
    "scp": ("scp -t /root", "does not run commands"),
    "sftp": ("/usr/lib/openssh/sftp-server", "does not run commands"),
    "rsync": ("rsync --server -vlogDtpre.iLsfxCIvu . /root", "does not run commands"),
    "virsh": ("virsh list", "does not run commands"),
    "virt-ssh-helper alone": ("virt-ssh-helper qemu:///system", "does not run commands"),
    "unbalanced quotes": ("python3 -c 'x", "does not run commands"),
    "something behind the helper": ("sh -c 'virt-ssh-helper 'qemu:///system''; id", "does not run commands"),
    "something in front": ("id; sh -c 'virt-ssh-helper 'qemu:///system''", "does not run commands"),
    "something inside": ("sh -c 'virt-ssh-helper 'qemu:///system'; id'", "does not run commands"),
    "a second line": ("sh -c 'virt-ssh-helper 'qemu:///system''\nid", "does not run commands"),
    "something behind auto": (AUTO[:-1] + "; id'", "does not run commands"),
    "netcat that is a command": ("sh -c '%s'" % NETCAT.replace("'nc'", "'nc;id'"), "does not run commands"),
    "two kinds of netcat": ("sh -c '%s'" % NETCAT.replace("'nc' $ARG", "'id' $ARG"), "does not run commands"),
    "netcat to elsewhere": ("sh -c '%s'" % NETCAT.replace("libvirt/libvirt-sock", "docker.sock"), "own socket only"),
    "netcat by dots": ("sh -c '%s'" % NETCAT.replace("-sock", "-sock/../x"), "own socket only"),
    "auto with another socket": (AUTO.replace("libvirt/libvirt-sock", "dbus/system_bus_socket"), "own socket only"),
    "session": ("sh -c 'virt-ssh-helper 'qemu:///session''", "qemu:///system only"),
    "another driver": ("sh -c 'virt-ssh-helper 'lxc:///system''", "qemu:///system only"),
    "another host": ("sh -c 'virt-ssh-helper 'qemu+ssh://kvm9/system''", "qemu:///system only"),
    "a socket in the URI": ("sh -c 'virt-ssh-helper 'qemu:///system?socket=/run/x''", "qemu:///system only"),
    "a program": ("python3 -c 'import os; os.system(\"id\")'", "runs no programs"),
    "a program with another mark": ("python3 -c x kvmops 1", "runs no programs"),
    "a program and more": (FAR + " x", "runs no programs"),
    "the prober and more": (PROBE + " x", "runs no programs"),
    "the prober and a shell": (PROBE + "; id", "runs no programs"),
    "a program and a shell": (FAR + "; id", "runs no programs"),
    "a protocol that is no number": ("python3 -c x kvmops-far-side 1a", "runs no programs"),
    "another python": ("python3.11 -c x kvmops-far-side 1", "does not run commands"),
    "python from a file": ("python3 /root/x kvmops-far-side 1", "does not run commands"),
}


@pytest.mark.parametrize("command, meant", ADMITTED.values(), ids=ADMITTED)
def test_admitted(command: str, meant: Tuple[str, Any]) -> None:
    assert gate.asked(command) == meant


@pytest.mark.parametrize("command, reason", REFUSED.values(), ids=REFUSED)
def test_refused(command: str, reason: str) -> None:
    with pytest.raises(gate.Refused, match=reason) as refused:
        gate.asked(command)
    assert refused.value.remedy


@pytest.fixture(name="place")
def fixture_place(tmp_path: Path) -> Path:
    """A pool with an image, a link out of it, a folder; beside it a secret."""
    pool = tmp_path / "pool"
    (pool / "below").mkdir(parents=True)
    (pool / "web1.qcow2").write_bytes(b"image")
    (tmp_path / "secret").write_bytes(b"secret")
    (pool / "link").symlink_to(tmp_path / "secret")
    (pool / "out").symlink_to(tmp_path)
    return tmp_path


def ask(place: Path, act: str, protocol: int = far_side.PROTOCOL, rest: bytes = b"", **arguments: Any) -> Any:
    """The gate's answer to a request that carries hostile program text."""
    text = b"import os; os.system('id > /root/hacked')"
    request = json.dumps({"do": act, "with": arguments}).encode()
    sent = io.BytesIO(b"%d\n%s%s\n%s" % (len(text), text, request, rest))
    return gate.serve(protocol, far_side, sent, ({str(place / "pool")}, set()))


def test_an_image_arrives_and_is_published(place: Path) -> None:
    part, path = str(place / "pool" / ".x.kvmops-part"), str(place / "pool" / "x")
    stream = far_side.RECORD.pack(4, 3) + b"abc" + far_side.RECORD.pack(16, 0)
    assert ask(place, "received", path=part, source="16 1 2 3") == {"answer": []}
    assert ask(place, "receive", path=part, source="16 1 2 3", rest=stream) == {
        "answer": {"size": 16, "inode": Path(part).stat().st_ino}
    }
    assert ask(place, "received", path=part, source="16 1 2 3") == {"answer": [[4, 7]]}
    assert ask(place, "publish", temporary=part, path=path, mode=0o600, owner=0, group=0) == {"answer": {}}
    assert Path(path).read_bytes() == b"\0\0\0\0abc" + b"\0" * 9
    assert ask(place, "digest", path=path)["answer"] == far_side.digest(path)
    assert ask(place, "remove", path=path) == {"answer": {}} and not Path(path).exists()


def test_looking_is_free(place: Path) -> None:
    assert ask(place, "look", paths=["/etc/hostname"])["answer"]["/etc/hostname"]["kind"] in ("file", "other")


def test_an_error_of_the_system_is_an_answer(place: Path) -> None:
    assert "No such file" in ask(place, "digest", path=str(place / "pool" / "nothing"))["error"]


@pytest.mark.parametrize("act", ["digest", "received", "receive", "remove", "publish"])
@pytest.mark.parametrize(
    "path, reason",
    [
        ("/etc/shadow", "in no storage pool"),
        ("{place}/secret", "in no storage pool"),
        ("{place}/pool2/x", "in no storage pool"),
        ("{place}/pool/../secret", "not a plain"),
        ("{place}/pool/./web1.qcow2", "not a plain"),
        ("{place}/pool/", "not a plain"),
        ("//etc/shadow", "not a plain"),
        ("pool/web1.qcow2", "not a plain"),
        ("", "not a plain"),
        ("{place}/pool/web1\0.qcow2", "not a plain"),
        ("{place}/pool/link", "symbolic link"),
        ("{place}/pool/out/secret", "in no storage pool"),
        ("{place}/pool/below", "no ordinary file"),
        ("{place}/pool", "in no storage pool"),
        (["{place}/pool/x"], "not a plain"),
        (None, "not a plain"),
    ],
)
def test_only_images(place: Path, act: str, path: Any, reason: str) -> None:
    path = path.format(place=place) if isinstance(path, str) else path
    arguments = {"path": path}
    if act == "publish":
        arguments = {"temporary": path, "path": str(place / "pool" / "x"), "mode": 384, "owner": 0, "group": 0}
    if act in ("received", "receive"):
        arguments = {"path": path, "source": "16 1 2 3"}
    with pytest.raises(gate.Refused, match=reason):
        ask(place, act, **arguments)
    assert (place / "secret").read_bytes() == b"secret"


def test_the_published_name_counts_too(place: Path) -> None:
    arguments = {"temporary": str(place / "pool" / "web1.qcow2"), "mode": 384, "owner": 0, "group": 0}
    with pytest.raises(gate.Refused, match="in no storage pool"):
        ask(place, "publish", path="/etc/cron.d/x", **arguments)


@pytest.mark.parametrize(
    "act, arguments, reason",
    [
        ("main", {}, "no operation"),
        ("send", {"path": "/x", "write": "x"}, "no operation"),
        ("__import__", {"name": "os"}, "no operation"),
        ("digest", {}, "digest takes path"),
        ("digest", {"path": "/x", "more": 1}, "digest takes path"),
        ("receive", {"path": "/x", "stream": "y"}, "receive takes path"),
        ("receive", {"path": "/x", "source": "1;id"}, "identity of a source"),
        ("note", {"role": "leaving", "uuid": "../../x", "told": {"made": {}}, "paths": []}, "the UUID of a domain"),
        ("note", {"role": "../x", "uuid": UUID, "told": {"made": {}}, "paths": []}, "leaving or arriving"),
        ("note", {"role": "leaving", "uuid": UUID, "told": [], "paths": []}, "a JSON object"),
        ("note", {"role": "leaving", "uuid": UUID, "told": {"made": {}}, "paths": "/x"}, "list of paths"),
        ("forget", {"role": "leaving", "uuid": UUID + "\n"}, "the UUID of a domain"),
        ("folder", {"path": "/root/x", "mode": 448}, "in no storage pool"),
        ("folder", {"path": "/var/lib/../x", "mode": 448}, "not a plain"),
        ("look", {"paths": "/etc"}, "list of paths"),
        ("look", {"paths": [1]}, "list of paths"),
        ("publish", {"mode": 0o4755, "owner": 0, "group": 0}, "mode 4755"),
        ("publish", {"mode": "0600", "owner": 0, "group": 0}, "are numbers"),
        ("publish", {"mode": 384, "owner": -1, "group": 0}, "are numbers"),
        ("publish", {"mode": True, "owner": 0, "group": 0}, "are numbers"),
    ],
)
def test_only_what_far_side_does(place: Path, act: str, arguments: Any, reason: str) -> None:
    if act == "publish":
        pool = place / "pool"
        arguments = dict(arguments, temporary=str(pool / "web1.qcow2"), path=str(pool / "x"))
    with pytest.raises(gate.Refused, match=reason):
        ask(place, act, **arguments)


@pytest.mark.parametrize(
    "sent, reason",
    [
        (b"", "length of a program"),
        (b"x\n", "length of a program"),
        (b"-1\n", "length of a program"),
        (b"9999999\n", "length of a program"),
        (b"1" * 64, "length of a program"),
        (b"10\nabc", "ended early"),
        (b"0\n", "cannot be read"),
        (b"0\nnull\n", "cannot be read"),
        (b"0\n[]\n", "cannot be read"),
        (b'0\n{"do": 1, "with": {}}\n', "cannot be read"),
        (b'0\n{"do": "look", "with": []}\n', "cannot be read"),
        (b"0\n" + b"[" * 100000 + b"\n", "cannot be read"),
    ],
)
def test_requests_that_are_none(place: Path, sent: bytes, reason: str) -> None:
    with pytest.raises(gate.Refused, match=reason):
        gate.serve(far_side.PROTOCOL, far_side, io.BytesIO(sent), (set(), set()))


def test_another_protocol_says_what_to_do(place: Path) -> None:
    with pytest.raises(gate.Refused, match="speaks protocol") as refused:
        ask(place, "look", protocol=far_side.PROTOCOL + 1, paths=[])
    assert "kvmops.fleet.site" in str(refused.value)


def test_places_are_those_of_the_pools(tmp_path: Path) -> None:
    def pool(name: str, kind: str, path: Any) -> None:
        text = "<pool type='%s'><name>%s</name><target><path>%s</path></target></pool>" % (kind, name, path)
        (tmp_path / (name + ".xml")).write_text("<poolstate>%s</poolstate>" % text if name == "state" else text)

    for name, kind, path in [
        ("default", "dir", tmp_path / "images"),
        ("state", "netfs", tmp_path / "nfs"),
        ("vg", "logical", "/dev/vg0"),
        ("evil", "dir", "/etc"),
        ("evil2", "dir", "/"),
        ("evil3", "dir", "/usr/local/lib/kvmops"),
        ("evil4", "logical", "/dev"),
        ("evil5", "dir", tmp_path / "link"),
        ("iscsi", "iscsi", "/dev/disk/by-path"),
    ]:
        pool(name, kind, path)
    (tmp_path / "link").symlink_to("/root")
    (tmp_path / "broken.xml").write_text("<pool")
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"image_dirs": [str(tmp_path / "more"), "/boot"]}))
    files_in, volumes = gate.image_roots([str(tmp_path / "*.xml")], str(settings))
    assert files_in == {"/var/lib/libvirt", *(str(tmp_path / name) for name in ("images", "nfs", "more"))}
    assert volumes == {"/dev/vg0"}


def test_notes_are_kept_and_forgotten(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far_side, "JOURNALS", str(place / "notes"))
    image = str(place / "pool" / "web1.qcow2")
    told = {"made": {}, "created": [image], "temporary": []}
    kept = ask(place, "note", role="arriving", uuid=UUID, told=told, paths=[image])["answer"]
    assert kept["made"] == {image: Path(image).stat().st_ino}
    seen = ask(place, "survey", paths=[], role="arriving", uuid=UUID)["answer"]
    assert seen["note"] == kept and seen["files"][image]["exists"]
    assert ask(place, "survey", paths=[], role="leaving", uuid=UUID)["answer"] == {"files": {}, "note": None}
    assert (place / "notes" / "arriving" / (UUID + ".json")).stat().st_mode & 0o777 == 0o600
    assert ask(place, "forget", role="arriving", uuid=UUID) == {"answer": {}}
    assert ask(place, "survey", paths=[], role="arriving", uuid=UUID)["answer"]["note"] is None


def test_this_is_protocol_2() -> None:
    """Whoever changes one of these raises PROTOCOL and this test."""
    assert far_side.PROTOCOL == 2
    assert {act.__name__: list(inspect.signature(act).parameters) for act in far_side.SERVED} == {
        "look": ["paths"],
        "survey": ["paths", "role", "uuid"],
        "digest": ["path"],
        "received": ["path", "source"],
        "receive": ["path", "source", "stream"],
        "publish": ["temporary", "path", "mode", "owner", "group"],
        "remove": ["path"],
        "folder": ["path", "mode"],
        "note": ["role", "uuid", "told", "paths"],
        "forget": ["role", "uuid"],
    }
    assert far_side.RECORD.format == ">QQ"


def test_foreign_text_is_made_harmless() -> None:
    assert "\n" not in gate.printable("a\nb\x1b[31m") and len(gate.printable("x" * 999)) == 200


NAMES = {
    "web1.example": "10.0.0.5",
    "rebound.example": "127.0.0.1",
    "v6.example": "fd00::5",
    "mapped": "::ffff:127.0.0.1",
}
OURS = ("10.0.0.1", "fd00::1")


def resolve(address: str, port: None, **how: Any) -> Any:
    if not address[0].isdigit() and ":" not in address and address not in NAMES:
        raise OSError("Name or service not known")
    return [(2, 1, 6, "", (NAMES.get(address, address), 0))]


def sent(request: Any) -> io.BytesIO:
    """The request behind hostile program text."""
    text = b"import os; os.system('id > /root/hacked')"
    return io.BytesIO(b"%d\n%s%s\n" % (len(text), text, json.dumps(request).encode()))


def read(**more: Any) -> Any:
    asked = dict(Probe("tcp", "10.0.0.5", 22).request(), **more)
    return gate.read_probe(sent(asked), resolve, lambda address: address in OURS)


def test_probes_are_admitted_with_their_address_resolved() -> None:
    assert read() == Probe("tcp", "10.0.0.5", 22).request()
    assert read(type="icmp", port=None)["port"] is None
    web = Probe("http", "web1.example", 8080, "/health?x=1", expect="204", interval_ms=5, timeout_ms=60000).request()
    told = gate.read_probe(sent(web), resolve, lambda address: False)
    assert told == dict(web, address="10.0.0.5") and told["host"] == "web1.example"
    assert read(address="v6.example")["address"] == "fd00::5"


@pytest.mark.parametrize(
    "more, reason",
    [
        ({"type": "agent"}, "no probe"),
        ({"type": ["tcp"]}, "no probe"),
        ({"address": "-oProxyCommand=id"}, "not a plain host name"),
        ({"address": "a\r\nX: y"}, "not a plain host name"),
        ({"address": None}, "not a plain host name"),
        ({"host": "a\r\nX: y"}, "not a plain host name"),
        ({"address": "nobody.example"}, "not known"),
        ({"address": "127.0.0.1"}, "not the address of a guest"),
        ({"address": "rebound.example"}, "not the address of a guest"),
        ({"address": "mapped"}, "not the address of a guest"),
        ({"address": "0.0.0.0"}, "not the address of a guest"),
        ({"address": "169.254.169.254"}, "not the address of a guest"),
        ({"address": "fe80::1%eth0"}, "not a plain host name"),
        ({"address": "224.0.0.1"}, "not the address of a guest"),
        ({"address": "10.0.0.1"}, "not the address of a guest"),
        ({"address": "fd00::1"}, "not the address of a guest"),
        ({"port": None}, "a port is"),
        ({"port": 0}, "a port is"),
        ({"port": True}, "a port is"),
        ({"port": "22"}, "a port is"),
        ({"send": "DELETE / HTTP/1.0"}, "sends no text"),
        ({"path": "x"}, "not a plain path"),
        ({"path": "/ HTTP/1.0\r\nX: y"}, "not a plain path"),
        ({"expect": 200}, "short text"),
        ({"interval_ms": 1}, "interval_ms is"),
        ({"timeout_ms": 10**9}, "timeout_ms is"),
        ({"timeout_ms": 1.5}, "timeout_ms is"),
    ],
)
def test_probes_that_are_refused(more: Any, reason: str) -> None:
    with pytest.raises(gate.Refused, match=reason) as refused:
        read(**more)
    assert refused.value.remedy


@pytest.mark.parametrize("request_", [None, [], {}, {"type": "tcp"}])
def test_probes_that_are_none(request_: Any) -> None:
    with pytest.raises(gate.Refused, match="cannot be read"):
        gate.read_probe(sent(request_), resolve, lambda address: False)


def test_a_prober_of_another_protocol_says_what_to_do() -> None:
    with pytest.raises(gate.Refused, match="protocol %d of the prober" % prober.PROTOCOL) as refused:
        gate.probe(prober.PROTOCOL + 1, prober, io.BytesIO())
    assert "kvmops.fleet.site" in str(refused.value)


def test_an_address_of_this_host_is_known() -> None:
    assert gate.is_ours("127.0.0.1") and not gate.is_ours("198.51.100.77")


def test_the_gate_runs_the_prober_that_is_installed() -> None:
    """Over real pipes: the hostile text is not run, the beat is."""
    script = (
        "import sys; sys.argv = ['x']; gate = __import__('importlib.util').util\n"
        "spec = gate.spec_from_file_location('g', %r); g = gate.module_from_spec(spec); spec.loader.exec_module(g)\n"
        "g._target = lambda address, resolve, ours: address\n"
        "g.probe(%d, g.load_program('prober', %r), sys.stdin.buffer)\n"
    ) % (str(FILE), prober.PROTOCOL, inspect.getsourcefile(prober))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asked = Probe("tcp", "127.0.0.1", listener.getsockname()[1], interval_ms=10).request()
        words = [sys.executable, "-c", script]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin and process.stdout
            process.stdin.write(sent(asked).getvalue())
            process.stdin.flush()
            assert "ready" in json.loads(process.stdout.readline())
            assert json.loads(process.stdout.readline())[1] < 1
            process.stdin.write(b"c\n")
            process.stdin.flush()
            assert any("clock" in json.loads(line) for line in process.stdout)
            process.stdin.close()
            process.stdout.read()
        assert process.returncode == 0

# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the key of a peer opens on this host: libvirt, and the image operations and the prober of kvm_migrate. Never a shell.

sshd starts this as the forced command of the key. What the peer asked for stands in SSH_ORIGINAL_COMMAND; it is only
read, never run: whatever is admitted starts one of three programs that are installed here. Every refusal goes to the
journal (`journalctl -t kvmops-ssh-gate`). Standard library only, Python 3.8 and newer.
"""

from __future__ import annotations

import glob
import importlib.machinery
import importlib.util
import inspect
import ipaddress
import json
import os
import re
import shlex
import socket
import stat
import sys
import syslog
from xml.etree import ElementTree

FAR_SIDE = "/usr/local/lib/kvmops/far_side.py"
PROBER = "/usr/local/lib/kvmops/prober.py"
SETTINGS = "/etc/kvmops/ssh-gate.json"
HELPERS = ("/usr/bin/virt-ssh-helper", "/usr/local/bin/virt-ssh-helper")
URI = "qemu:///system"
MARKS = {"kvmops-far-side": "far-side", "kvmops-prober": "prober"}
POOL_FILES = ("/etc/libvirt/storage/*.xml", "/run/libvirt/storage/*.xml")
ALWAYS = "/var/lib/libvirt"
MAX_LINE = 1024**2
MAX_PROGRAM = 1024**2
NO_PERMISSION = 77
ONE_VERSION = "Roll out both hosts with one version of kvmops.fleet (playbook kvmops.fleet.site)"

# Directories of the system, whoever calls them a pool: no image lies in them.
SYSTEM = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr"),
    *("/var/cache", "/var/lib/dpkg", "/var/lib/systemd", "/var/log", "/var/mail", "/var/spool"),
)
# And those above them: too wide.
WIDE = ("/", "/home", "/media", "/mnt", "/opt", "/srv", "/tmp", "/var", "/var/lib", "/var/tmp")


class Refused(Exception):
    """reason: what is wrong. remedy: what to do next."""

    def __init__(self, reason, remedy=ONE_VERSION):
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy

    def __str__(self):
        return "%s. %s" % (self.reason, self.remedy)


# --- what is asked for ------------------------------------------------------------------------------------------------

# The forms libvirt has sent since 6.9, runs of blanks made one: with its helper, with netcat, or whichever is there.
_HELPER = r"virt-ssh-helper(?P<ro> -r)? '(?P<uri>[^']*)'"
_NETCAT = (
    r"if '(?P<nc>[\w./-]+)' -q 2>&1 \| grep \"requires an argument\" >/dev/null 2>&1; then ARG=-q0;else ARG=;fi;"
    r"'(?P=nc)' \$ARG -U (?P<socket>[\w./-]+)"
)
_LIBVIRT = tuple(
    re.compile(r"sh -c '%s'" % form, re.ASCII)
    for form in (
        _HELPER,
        _NETCAT,
        r"which virt-ssh-helper 1>/dev/null 2>&1; if test \$\? = 0; then %s; else %s; fi" % (_HELPER, _NETCAT),
    )
)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SOCKET = re.compile(r"(?:/var)?/run/libvirt/(?:libvirt|virtqemud)-sock(?P<ro>-ro)?")
_SYSTEM_URI = re.compile(r"qemu:///system(?:\?mode=(?:auto|legacy|direct))?")
_OWN_KEY = "It is for libvirt and the copy of images between hypervisors; log in with a key of your own"


def asked(command):
    """What the peer wants: ("libvirt", read-only), ("far-side", protocol) or ("prober", protocol). Raises Refused."""
    if not command.strip():
        raise Refused("this key opens no shell", _OWN_KEY)
    libvirt = _libvirt(re.sub(" +", " ", command))
    if libvirt is not None:
        return libvirt
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if words[:2] == ["python3", "-c"]:
        return _program(words[3:])
    raise Refused("this key does not run commands", _OWN_KEY + ", or set host_base_mesh_key_options")


def _libvirt(command):
    for form in _LIBVIRT:
        found = form.fullmatch(command)
        if not found:
            continue
        parts = found.groupdict()
        uri, path = parts.get("uri"), parts.get("socket")
        if uri is not None and not _SYSTEM_URI.fullmatch(uri):
            raise Refused(
                "this key opens %s only, not %s" % (URI, printable(uri)),
                "Use an address such as qemu+ssh://root@HOST/system",
            )
        socket = _SOCKET.fullmatch(path) if path is not None else None
        if path is not None and not socket:
            raise Refused(
                "this key opens libvirt's own socket only, not %s" % printable(path),
                "Leave out socket= in the address",
            )
        return ("libvirt", bool(parts["ro"] if uri is not None else socket.group("ro")))
    return None


def _program(words):
    if len(words) != 2 or words[0] not in MARKS or not re.fullmatch("[0-9]{1,4}", words[1]):
        raise Refused("this key runs no programs of the caller; an older kvm_migrate sends such", ONE_VERSION)
    return (MARKS[words[0]], int(words[1]))


# --- which paths are images -------------------------------------------------------------------------------------------


def image_roots(pool_files=POOL_FILES, settings=SETTINGS):
    """({directories with image files}, links resolved; {directories of logical volumes})."""
    files, volumes = {os.path.realpath(ALWAYS)}, set()
    for pattern in pool_files:
        for name in glob.glob(pattern):
            kind, path = _pool(name)
            if kind == "logical" and re.fullmatch(r"/dev/[\w+.-]+", path):
                volumes.add(path)
            elif kind in ("dir", "fs", "netfs"):
                files.add(os.path.realpath(path))
    try:
        with open(settings, encoding="utf-8") as told:
            files.update(os.path.realpath(path) for path in json.load(told)["image_dirs"])
    except FileNotFoundError:
        pass
    return {path for path in files if not of_system(path)}, volumes


def _pool(name):
    """(type, target path) of a pool definition; empty words where there is none."""
    try:
        top = ElementTree.parse(name).getroot()
    except (OSError, ElementTree.ParseError):
        return "", ""
    pool = top if top.tag == "pool" else top.find("pool")
    path = (pool.findtext("target/path") or "").strip() if pool is not None else ""
    return (pool.get("type", ""), path) if path.startswith("/") else ("", "")


def of_system(path):
    """Whether a directory is the system's: no pool makes it a place for images."""
    return path in WIDE or any(path == top or path.startswith(top + "/") for top in SYSTEM)


def check_path(path, roots, volumes=()):
    """Refuse a path that is not in a place for images. Links are followed before it is judged."""
    plain = isinstance(path, str) and "\0" not in path and len(path) < 4096
    if not plain or not path.startswith("/") or path.startswith("//") or os.path.normpath(path) != path:
        raise Refused("not a plain absolute path: %s" % printable(path), "Name the image by its full path")
    if os.path.dirname(path) in volumes and _is(path, stat.S_ISBLK):
        return
    folder = os.path.realpath(os.path.dirname(path))
    if not any(folder == root or folder.startswith(root + "/") for root in roots):
        raise Refused(
            "%s is in no storage pool of this host" % printable(path),
            "Define a pool there (hypervisor_pools), or name the directory in host_base_mesh_image_dirs and roll out",
        )
    if os.path.islink(path):
        raise Refused("%s is a symbolic link" % printable(path), "Name the file itself")
    if os.path.exists(path) and not _is(path, stat.S_ISREG):
        raise Refused("%s is no ordinary file" % printable(path), "Only image files are touched")


def _is(path, kind):
    try:
        return kind(os.stat(path).st_mode)
    except OSError:
        return False


# --- serving ----------------------------------------------------------------------------------------------------------


def skip_program(stream):
    """The program text that the peer sends first is not run: this host runs its own."""
    line = stream.readline(32).strip()
    if not re.fullmatch(b"[0-9]{1,7}", line) or int(line) > MAX_PROGRAM:
        raise Refused("the request does not begin with the length of a program")
    if len(stream.read(int(line))) != int(line):
        raise Refused("the request ended early", "Run again")


def read_request(stream):
    """The image operation that the peer wants."""
    skip_program(stream)
    try:
        request = json.loads(stream.readline(MAX_LINE))
        act, arguments = request["do"], request["with"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Refused("the request cannot be read") from None
    if not isinstance(act, str) or not isinstance(arguments, dict):
        raise Refused("the request cannot be read")
    return act, arguments


def check_request(act, arguments, program, roots):
    """The function that does it. Refuses what is not one of the image operations, on images."""
    do = {one.__name__: one for one in program.SERVED}.get(act)
    if do is None:
        raise Refused("there is no operation %s" % printable(act))
    wanted = set(inspect.signature(do).parameters) - {"stream"}
    if set(arguments) != wanted:
        raise Refused("%s takes %s" % (act, ", ".join(sorted(wanted))))
    _check_note(act, arguments)
    if "paths" in wanted:  # facts about any path: preflight asks for kernels, ISO images, shared disks too
        paths = arguments["paths"]
        if not isinstance(paths, list) or not all(isinstance(path, str) and "\0" not in path for path in paths):
            raise Refused("%s takes a list of paths" % act)
        return do
    files, volumes = roots
    for name in sorted(wanted & {"path", "temporary"}):
        path = arguments[name]
        # A directory is judged by what would lie in it.
        inside = path + "/x" if act == "folder" and isinstance(path, str) else path
        check_path(inside, files, volumes if act == "digest" else ())
    numbers = [arguments[name] for name in ("mode", "owner", "group") if name in wanted]
    if not all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one < 2**31 for one in numbers):
        raise Refused("mode, owner and group are numbers")
    if arguments.get("mode", 0) > 0o777:
        raise Refused("mode %o is more than the right to read, write and execute" % arguments["mode"])
    return do


def _check_note(act, arguments):
    """The notes of moves have their own place: only the kind and the guest are named."""
    if "role" in arguments and arguments["role"] not in ("leaving", "arriving"):
        raise Refused("a note is about leaving or arriving")
    uuid = arguments.get("uuid", "")
    if "uuid" in arguments and not (isinstance(uuid, str) and _UUID.fullmatch(uuid)):
        raise Refused("%s takes the UUID of a domain" % act)
    told = arguments.get("told", {"made": {}})
    if not isinstance(told, dict) or not isinstance(told.get("made"), dict):
        raise Refused("a note is a JSON object that says what was made")
    source = arguments.get("source", "0")
    if not isinstance(source, str) or not re.fullmatch("[0-9 ]{1,99}", source):
        raise Refused("the identity of a source is made of numbers")


def serve(protocol, program, stream, roots):
    """Do one image operation; what to answer."""
    if protocol != program.PROTOCOL:
        raise Refused("this host speaks protocol %d of the image operations, not %d" % (program.PROTOCOL, protocol))
    act, arguments = read_request(stream)
    do = check_request(act, arguments, program, roots)
    if act not in ("look", "survey", "digest", "received"):
        tell(syslog.LOG_INFO, "%s %s" % (act, printable(arguments.get("path") or arguments["uuid"])))
    if act == "receive":
        arguments["stream"] = stream
    try:
        return {"answer": do(**arguments)}
    except OSError as error:
        return {"error": str(error)}


# --- probing ----------------------------------------------------------------------------------------------------------

# What plan/probe_request.py lets a user say, and nothing beyond.
_NUMBERS = {"interval_ms": (5, 10000), "timeout_ms": (1, 60000)}
_ADDRESS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?|[0-9A-Fa-f:.]{2,45}")
_PATH = re.compile(r"/[!-~]{0,2000}")


def read_probe(stream, resolve=socket.getaddrinfo, ours=None):
    """The request for the prober, its address resolved. Refuses what is not the asking of another machine.

    resolve: as socket.getaddrinfo. ours: whether an address is one of this host.
    """
    skip_program(stream)
    try:
        request = json.loads(stream.readline(MAX_LINE))
        kind, address, port = request["type"], request["address"], request["port"]
        expect, path, numbers = request["expect"], request["path"], {name: request[name] for name in _NUMBERS}
        send, host = request["send"], request["host"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Refused("the request cannot be read") from None
    if kind not in ("tcp", "icmp", "http"):
        raise Refused("there is no probe %s" % printable(kind))
    if not all(isinstance(one, str) and _ADDRESS.fullmatch(one) for one in (address, host)):
        raise Refused("not a plain host name or address: %s" % printable(address), "Correct probe.address")
    if not (port is None and kind == "icmp") and not _is_number(port, 1, 65535):
        raise Refused("a port is a number from 1 to 65535")
    if send is not None:
        raise Refused("this key sends no text to others", "Leave probe.send out, or ask from the source")
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        raise Refused("not a plain path: %s" % printable(path), "Correct probe.url")
    if not (expect is None or (isinstance(expect, str) and len(expect) <= 1000)):
        raise Refused("what is expected is a short text")
    for name, (least, most) in _NUMBERS.items():
        if not _is_number(numbers[name], least, most):
            raise Refused("%s is a number from %d to %d" % (name, least, most))
    target = _target(address, resolve, is_ours if ours is None else ours)
    return dict(numbers, type=kind, address=target, port=port, expect=expect, path=path, send=None, host=host)


def _is_number(value, least, most):
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _target(address, resolve, ours):
    """The one address that will be asked: what a name means is looked up once, so that it cannot change after it was judged."""
    try:
        target = resolve(address, None, type=socket.SOCK_STREAM)[0][4][0]
        plain = ipaddress.ip_address(target.partition("%")[0])
    except (OSError, ValueError, UnicodeError) as error:
        raise Refused("%s: %s" % (printable(address), error), "Correct probe.address") from None
    plain = getattr(plain, "ipv4_mapped", None) or plain
    special = plain.is_loopback or plain.is_unspecified or plain.is_multicast or plain.is_link_local
    if special or ours(str(plain)):
        raise Refused("%s is not the address of a guest" % printable(target), "Correct probe.address")
    return str(plain)


def is_ours(address):
    """Whether this host has the address: only then a socket can be bound to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        try:
            one.bind((address, 0))
        except OSError:
            return False
    return True


def probe(protocol, program, stream):
    """Ask as long as the peer listens. Raises Refused."""
    if protocol != program.PROTOCOL:
        raise Refused("this host speaks protocol %d of the prober, not %d" % (program.PROTOCOL, protocol))
    request = read_probe(stream)
    tell(syslog.LOG_INFO, "probe %s of %s" % (request["type"], request["address"]))
    program.serve(request, stream.fileno())


# ----------------------------------------------------------------------------------------------------------------------


def load_program(name, path):
    """One of the programs, as it is installed here."""
    spec = importlib.util.spec_from_loader(name, importlib.machinery.SourceFileLoader(name, path))
    program = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(program)
    except (OSError, SyntaxError) as error:
        raise Refused("%s cannot be loaded here: %s" % (path, error))
    return program


def printable(value):
    """Foreign text for messages: short, no control characters."""
    text = ascii(value)
    return text if len(text) <= 200 else text[:197] + "..."


def tell(level, text):
    """One line in the journal, with the address it is about."""
    peer = os.environ.get("SSH_CONNECTION", "?").split(" ")[0]
    syslog.syslog(level, "%s: %s" % (printable(peer).strip("'"), text))


def main():
    """One connection. Gives the exit code."""
    sys.dont_write_bytecode = True
    syslog.openlog("kvmops-ssh-gate", syslog.LOG_PID, syslog.LOG_AUTH)
    command = os.environ.get("SSH_ORIGINAL_COMMAND", "")
    try:
        what, detail = asked(command)
    except Refused as refused:
        tell(syslog.LOG_WARNING, "refused: %s; it sent %s" % (refused.reason, printable(command)))
        sys.stderr.write("kvmops ssh-gate on %s: refused: %s.\n" % (os.uname().nodename, refused))
        return NO_PERMISSION
    if what == "libvirt":
        return _libvirt_transport(detail)
    try:
        if what == "prober":
            probe(detail, load_program("prober", PROBER), sys.stdin.buffer)
            return 0
        answer = serve(detail, load_program("far_side", FAR_SIDE), sys.stdin.buffer, image_roots())
    except Refused as refused:
        tell(syslog.LOG_WARNING, "refused: %s" % refused.reason)
        answer = {"error": "refused by the ssh gate: %s." % refused}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def _libvirt_transport(read_only):
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": "/root"}
    for helper in HELPERS:
        if os.access(helper, os.X_OK):
            os.execve(helper, ["virt-ssh-helper", *(["-r"] if read_only else []), URI], environment)
    tell(syslog.LOG_ERR, "libvirt's virt-ssh-helper is missing")
    sys.stderr.write("kvmops ssh-gate: virt-ssh-helper is missing; install libvirt here (role hypervisor).\n")
    return 127


if __name__ == "__main__":
    sys.exit(main())

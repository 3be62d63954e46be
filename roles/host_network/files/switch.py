# Managed by kvmops.fleet host_network. It changes this host's network, and takes it back by itself.
#
# The role puts the job into FOLDER and has systemd run `apply`, away from any connection. A timer that was started before
# runs `rollback`, unless `confirm` came in time. A host that restarts in between takes it back before its network starts.
"""Change the network of this host, and take it back unless somebody says that the host can still be reached."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time

FOLDER = "/var/lib/kvmops/host_network"
JOB = FOLDER + "/job.json"
STATE = FOLDER + "/state.json"
BEFORE = FOLDER + "/before"
PENDING = FOLDER + "/pending"
TIMER = "kvmops-host-network-rollback"
BOOT_UNIT = "/etc/systemd/system/kvmops-host-network-boot.service"
BOOT_TEXT = """\
# Managed by kvmops.fleet host_network, while a change of the network waits to be confirmed.
[Unit]
Description=Take back a change of the network that nobody confirmed
DefaultDependencies=no
ConditionPathExists=%s
After=local-fs.target systemd-tmpfiles-setup.service
Before=network-pre.target systemd-networkd.service networking.service shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 %s boot

[Install]
WantedBy=multi-user.target
"""
JOINED_S = 20
COMMAND_S = 90
TRY_AGAIN, BRING_BACK = 75, 76


def main(word, *rest):
    os.makedirs(FOLDER, mode=0o700, exist_ok=True)
    with open(FOLDER + "/lock", "w") as lock:
        try:
            # Whoever asks does not wait for the change here: the connection may not outlive it.
            fcntl.flock(lock, fcntl.LOCK_EX | (fcntl.LOCK_NB if word == "confirm" else 0))
        except BlockingIOError:
            print("the change is still being made")
            return TRY_AGAIN
        if word == "confirm":
            return confirm(*rest)
        if word == "apply":
            return apply(*rest)
        return roll_back("the host restarted before the change was confirmed" if word == "boot" else rest[0], word)


def apply(number, seconds):
    """Save what is there, arrange for the way back, then change."""
    if os.path.exists(PENDING):
        say("an earlier change is not confirmed yet")
        return 1
    job = read(JOB)
    write(STATE, {"id": number, "state": "applying"})
    save(job)
    write(BOOT_UNIT, BOOT_TEXT % (PENDING, os.path.abspath(__file__)))
    run("systemctl", "daemon-reload")
    run("systemctl", "enable", os.path.basename(BOOT_UNIT))
    run("systemctl", "stop", TIMER + ".timer", check=False)
    reason = "nobody reached the host within %s s after the change" % seconds
    rollback = ["/usr/bin/python3", os.path.abspath(__file__), "rollback", reason]
    run("systemd-run", "--unit=" + TIMER, "--on-active=" + seconds, "--timer-property=AccuracySec=100ms", *rollback)
    try:
        check(job)
        for command in job["before"]:
            run(*command)
        for entry in job["files"]:
            write(entry["path"], entry["content"], entry["mode"])
        for command in job["after"]:
            run(*command)
        wait_for_ports(job)
    except (OSError, subprocess.SubprocessError, RuntimeError) as error:
        roll_back("the change failed: %s" % words(error), "rollback")
        return 1
    write(STATE, {"id": number, "state": "applied", "proof": secrets.token_hex(8)})
    say("applied; waiting %s s for the confirmation" % seconds)
    return 0


def confirm(number, proof=None):
    """The change stays once its proof comes back: it was made after the change, so it left this host and came in again.

    A question alone proves nothing. It may have come before the change, and its answer may reach nobody.
    """
    state = read(STATE)
    if state.get("id") != number or state["state"] == "applying":
        print("not applied yet")
        return TRY_AGAIN
    if state["state"] == "applied" and proof != state["proof"]:
        print(state["proof"])
        return BRING_BACK
    if state["state"] == "applied":
        end_watch()
        write(STATE, {"id": number, "state": "confirmed"})
        say("confirmed")
        return 0
    if state["state"] == "confirmed":
        return 0
    print(state["reason"])
    journal = ["journalctl", "--no-pager", "--output=cat", "--lines=25", "--unit=kvmops-host-network*"]
    journal += ["--unit=systemd-networkd", "--unit=networking"]
    print(subprocess.run(journal, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout)
    return 1


def roll_back(reason, word):
    """Old files, old state. What fails on the way does not keep the rest from being done."""
    if not os.path.exists(PENDING):
        return 0
    job, state = read(BEFORE + "/job.json"), read(STATE)
    say("taking the change back: " + reason)
    booting = word == "boot"
    if not booting:
        for command in job["undo_before"]:
            run(*command, check=False)
    restore()
    if booting:
        if job["backend"] == "netplan":
            run("netplan", "generate", check=False)
    else:
        for name in reversed(job["created"]):
            run("ip", "link", "delete", "dev", name, check=False)
        for command in job["undo_after"]:
            run(*command, check=False)
    write(STATE, {"id": state.get("id"), "state": "rolled back", "reason": reason})
    end_watch(stop_timer=not booting)
    say("taken back")
    return 0


def end_watch(stop_timer=True):
    os.unlink(PENDING)
    sync(FOLDER)
    if stop_timer:
        run("systemctl", "stop", TIMER + ".timer", check=False)
    run("systemctl", "disable", os.path.basename(BOOT_UNIT), check=False)
    os.unlink(BOOT_UNIT)
    run("systemctl", "daemon-reload", check=False)


def save(job):
    """Copies of the files that change; one that is not there is noted as absent."""
    shutil.rmtree(BEFORE, ignore_errors=True)
    os.makedirs(BEFORE, mode=0o700)
    notes = []
    for number, entry in enumerate(job["files"]):
        path, copy = entry["path"], "%s/%d" % (BEFORE, number)
        there = os.path.exists(path)
        if there:
            shutil.copy2(path, copy)
            about = os.stat(path)
            notes.append(
                {"path": path, "copy": copy, "mode": about.st_mode & 0o7777, "owner": [about.st_uid, about.st_gid]}
            )
        else:
            notes.append({"path": path, "copy": None})
    write(BEFORE + "/files.json", notes)
    write(BEFORE + "/job.json", job)
    write(PENDING, "")


def restore():
    for note in read(BEFORE + "/files.json"):
        if note["copy"]:
            with open(note["copy"], "rb") as copy:
                write(note["path"], copy.read(), note["mode"])
            os.chown(note["path"], *note["owner"])
        elif os.path.exists(note["path"]):
            os.unlink(note["path"])
            sync(os.path.dirname(note["path"]))


def check(job):
    """netplan can say beforehand that it will not take the files."""
    if job["backend"] != "netplan":
        return
    stage = FOLDER + "/stage"
    shutil.rmtree(stage, ignore_errors=True)
    shutil.copytree("/etc/netplan", stage + "/etc/netplan")
    for entry in job["files"]:
        if entry["path"].startswith("/etc/netplan/"):
            write(stage + entry["path"], entry["content"], entry["mode"])
    run("netplan", "generate", "--root-dir", stage)
    shutil.rmtree(stage, ignore_errors=True)


def wait_for_ports(job):
    deadline = time.monotonic() + JOINED_S
    missing = list(job["joined"])
    while missing:
        missing = [pair for pair in missing if not os.path.exists("/sys/class/net/%s/brif/%s" % tuple(pair))]
        if missing and time.monotonic() > deadline:
            raise RuntimeError("%s did not become a port of %s" % (missing[0][1], missing[0][0]))
        if missing:
            time.sleep(0.2)


def run(*words, check=True):
    say("$ " + " ".join(words))
    with tempfile.TemporaryFile("w+") as output:
        # Into a file: a daemon that a command leaves behind would hold a pipe open.
        try:
            done = subprocess.run(
                words, check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=COMMAND_S
            )
        except (OSError, subprocess.SubprocessError) as error:
            say(str(error))
            if check:
                raise
            return
        output.seek(0)
        done.stdout = output.read()
    if done.stdout.strip():
        say(done.stdout.strip())
    if check and done.returncode != 0:
        raise subprocess.CalledProcessError(done.returncode, words, done.stdout)


def words(error):
    if isinstance(error, subprocess.CalledProcessError):
        return "%s: %s" % (" ".join(error.cmd), (error.output or "exit code %d" % error.returncode).strip())
    return str(error)


def read(path):
    try:
        with open(path) as file:
            return json.load(file)
    except FileNotFoundError:
        return {}


def write(path, content, mode=0o600):
    """Whole or not at all, also when the power fails."""
    if not isinstance(content, (str, bytes)):
        content = json.dumps(content)
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogateescape")
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    with open(path + ".kvmops-new", "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.rename(path + ".kvmops-new", path)
    sync(os.path.dirname(path))


def sync(folder):
    number = os.open(folder, os.O_RDONLY)
    os.fsync(number)
    os.close(number)


def say(text):
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

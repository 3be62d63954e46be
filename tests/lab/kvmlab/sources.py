"""The apt sources of another release, derived from the machine's own."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kvmlab.errors import LabError

DEBIAN_SUITES = ("", "-updates", "-security", "/updates")


@dataclass(frozen=True)
class Source:
    """One archive: URI, suite, components, and the option naming its keyring (may be empty)."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""


def parse_one_line(text: str) -> list[Source]:
    """The `deb` lines of a sources.list."""
    found = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words or words[0] != "deb":
            continue
        words.pop(0)
        options = ""
        if words and words[0].startswith("["):
            while words and not options.endswith("]"):
                options = f"{options} {words.pop(0)}".strip()
        signed = [part[len("signed-by=") :] for part in options.strip("[] ").split() if part.startswith("signed-by=")]
        if len(words) >= 3:
            found.append(Source(words[0], words[1], tuple(words[2:]), "".join(signed)))
    return found


def parse_deb822(text: str) -> list[Source]:
    """The enabled `deb` stanzas of a *.sources file."""
    found = []
    for stanza in _stanzas(text):
        if "deb" not in stanza.get("types", "").split() or stanza.get("enabled", "yes").lower() == "no":
            continue
        for uri in stanza.get("uris", "").split():
            for suite in stanza.get("suites", "").split():
                found.append(
                    Source(uri, suite, tuple(stanza.get("components", "").split()), stanza.get("signed-by", ""))
                )
    return found


def _stanzas(text: str) -> Iterable[dict[str, str]]:
    stanza: dict[str, str] = {}
    key = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            if stanza:
                yield stanza
            stanza, key = {}, ""
        elif line[0] in " \t" and key:
            stanza[key] += " " + line.strip()
        else:
            key, _, value = line.partition(":")
            key = key.strip().lower()
            stanza[key] = value.strip()


def for_release(own: Iterable[Source], codename: str, release: str) -> list[str]:
    """One-line sources of `release` from the machine's Debian archives; third parties are left out."""
    lines = []
    for source in own:
        suffix = source.suite[len(codename) :] if source.suite.startswith(codename) else None
        is_debian = "main" in source.components and ("debian-archive" in source.signed_by or not source.signed_by)
        if suffix in DEBIAN_SUITES and is_debian:
            keyring = f"[signed-by={source.signed_by}] " if source.signed_by.startswith("/") else ""
            lines.append(f"deb {keyring}{source.uri} {release}{suffix} main")
    return list(dict.fromkeys(lines))


def machine_sources(release: str, etc: Path = Path("/etc")) -> list[str]:
    """Sources of `release` as this machine would reach them; LabError when it has no Debian archive."""
    mirror = os.environ.get("KVMLAB_DEBIAN_MIRROR")
    if mirror:
        return [f"deb {mirror} {release} main", f"deb {mirror} {release}-updates main"]
    own: list[Source] = []
    for path in [etc / "apt/sources.list", *sorted((etc / "apt/sources.list.d").glob("*.list"))]:
        own += parse_one_line(path.read_text()) if path.exists() else []
    for path in sorted((etc / "apt/sources.list.d").glob("*.sources")):
        own += parse_deb822(path.read_text())
    words = dict(line.split("=", 1) for line in (etc / "os-release").read_text().splitlines() if "=" in line)
    lines = for_release(own, words.get("VERSION_CODENAME", "?").strip('"'), release)
    if not lines:
        raise LabError(
            "the apt sources of this machine name no Debian archive to take packages from",
            "set KVMLAB_DEBIAN_MIRROR to the address of one",
        )
    return lines

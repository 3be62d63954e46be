# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cloud-init seed: what it holds, and what a domain remembers of it.

NoCloud's files on a disk labelled `cidata`: cloud-init, doc/rtd/reference/datasources/nocloud.rst.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Dict, Mapping, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Disk, Domain

USER_DATA, META_DATA, NETWORK_CONFIG = "user-data", "meta-data", "network-config"
PARTS = (USER_DATA, META_DATA, NETWORK_CONFIG)

# The key among the values that we keep with a domain. It is never shown.
RECORD = "cloud_init"
SUFFIX = "-cidata.iso"

# A person who may read the definition must not find a short password in it by guessing.
_ROUNDS = 20000


@dataclass(frozen=True)
class WantedSeed:
    """texts: by file name, what the seed holds. pool: where it is put; None: beside the first disk."""

    texts: Mapping[str, str] = field(repr=False)
    pool: Optional[str] = None


@dataclass(frozen=True)
class SeedFound:
    """What is at the place of the seed.

    here: whether the host's files are ours to write. tool: the program that makes ISO images, None when there is none.
    salt: random, for a new record. exists, ours: whether there is a file, and whether it is a seed of this collection.
    users: other domains that use it.
    """

    here: bool
    tool: Optional[str] = None
    salt: str = ""
    exists: bool = False
    ours: bool = False
    users: Tuple[str, ...] = ()


def record_of(texts: Mapping[str, str], salt: str) -> str:
    """What is kept with the domain: enough to tell whether another text is the same, and no more."""
    return " ".join([salt] + ["%s=%s" % (part, _hash(texts[part], salt)) for part in PARTS if part in texts])


def differing(texts: Mapping[str, str], record: Optional[str]) -> Tuple[str, ...]:
    """The parts that are not what the record was made of, in the order of PARTS. record: None counts as all of them."""
    salt, kept = _read(record or "")
    return tuple(
        part
        for part in PARTS
        if (part in texts) != (part in kept) or (part in texts and kept[part] != _hash(texts[part], salt))
    )


def _read(record: str) -> Tuple[str, Dict[str, str]]:
    words = record.split(" ")
    pairs = [word.split("=", 1) for word in words[1:] if "=" in word]
    return words[0], {pair[0]: pair[1] for pair in pairs}


def _hash(text: str, salt: str) -> str:
    return hashlib.pbkdf2_hmac("sha256", text.encode("utf-8"), salt.encode("ascii", "replace"), _ROUNDS, 16).hex()


def seed_disk(config: Optional[Domain]) -> Optional[Disk]:
    """The drive that holds the domain's seed, when the domain remembers that one was made."""
    if config is None or RECORD not in config.metadata:
        return None
    return next(
        (disk for disk in config.disks if disk.device == "cdrom" and (disk.source or "").endswith(SUFFIX)), None
    )


def own_images(config: Domain) -> Tuple[Disk, ...]:
    """What goes with the domain: the disks with its data, and its seed."""
    seed = seed_disk(config)
    return config.images + ((seed,) if seed is not None else ())


def shown_metadata(metadata: Mapping[str, str]) -> Dict[str, str]:
    return {key: value for key, value in metadata.items() if key != RECORD}


def live_metadata(values: Mapping[str, str], live: Domain) -> Dict[str, str]:
    """Metadata for the running domain, which remembers the seed that it was started with."""
    kept = {RECORD: live.metadata[RECORD]} if RECORD in live.metadata else {}
    return dict(shown_metadata(values), **kept)

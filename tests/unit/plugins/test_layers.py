# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may import whom, read from the source. docs/architecture.md says why.

Each rule is a function from a file to what it finds wrong, and is itself tried on a line that breaks it.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Sequence

import pytest

ROOT = Path(__file__).resolve().parents[3]
PLUGINS = ROOT / "plugins"
OURS = "ansible_collections.kvmops.fleet.plugins."
LAYERS = ("model", "plan", "host", "run")
# What runs on the source of a P2V, in whatever Python that has: it knows nothing of the rest.
AGENT = "p2v_agent"
LICENCE = "# SPDX-License-Identifier: GPL-3.0-or-later"
MAX_LINES = 400
MAX_MAIN_LINES = 10

LAYERS_SEEN_BY = {
    "model": {"model"},
    "plan": {"model", "plan"},
    "host": {"model", "host"},
    "run": {"model", "plan", "host", "run"},
    "p2v_agent": {"p2v_agent"},
    "modules": {"run"},
    "filter": {"model", "plan"},
    "inventory": {"plan", "run"},
    "action": {"model", "plan"},
    "plugin_utils": {"model", "plan"},
    "doc_fragments": set(),
}

# All that nouns and decisions need of the standard library: nothing here reads a file, a clock, a socket or chance.
PURE = frozenset(
    """
    __future__ abc base64 bisect collections copy dataclasses decimal enum fnmatch fractions functools hashlib heapq
    ipaddress itertools json math operator posixpath re shlex statistics string struct textwrap typing urllib.parse uuid
    """.split()
)
IMPURE_NAMES = frozenset(["open", "print", "input", "exec", "eval", "__import__", "uuid1", "uuid4", "getnode"])

# Disks that are attached to the KVM host itself are looked at by the code that looks at those of a machine.
SEES_THE_AGENT = "module_utils/host/p2v_attached.py"

MAY_START_PROCESSES = ("module_utils/host/commands.py", "module_utils/p2v_agent/processes.py")
STARTS_PROCESSES = frozenset(["subprocess", "pty", "multiprocessing", "asyncio"])
OS_STARTS_PROCESSES = ("system", "popen", "spawn", "exec", "fork", "posix_spawn")

ENDS_A_MODULE = frozenset(["check_mode", "fail_json", "exit_json"])


class Source(NamedTuple):
    """path: relative to plugins/. layer: the folder that the rules speak of."""

    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def layer(self) -> str:
        parts = self.path.split("/")
        return parts[1] if parts[0] == "module_utils" and len(parts) > 2 else parts[0]


def imports(source: Source) -> Iterator[str]:
    """Dotted names, `from a.b import c` as a.b.c; relative ones with their dots in front."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield "%s%s.%s" % ("." * node.level, node.module or "", alias.name)


def top(name: str) -> str:
    return name.split(".", 1)[0]


def names_used(source: Source) -> Iterator[str]:
    """Names, attributes and keywords of the code, and strings that could stand for one in getattr."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def os_calls(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            yield node.attr
    for name in imports(source):
        if name.startswith("os."):
            yield name.split(".")[1]


# --- the rules ------------------------------------------------------------------------------------------------------


def layer_sees_only_below(source: Source) -> Iterator[str]:
    seen = LAYERS_SEEN_BY[source.layer]
    for name in imports(source):
        if name.startswith(OURS + "module_utils."):
            other = name[len(OURS + "module_utils.") :].split(".")[0]
            if other not in seen and (other, source.path) != (AGENT, SEES_THE_AGENT):
                yield "%s/ may not import %s/ (%s)" % (source.layer, other, name)


def model_and_plan_are_pure(source: Source) -> Iterator[str]:
    if source.layer not in ("model", "plan"):
        return
    for name in imports(source):
        known = top(name) in sys.stdlib_module_names
        if known and not {top(name), name.rpartition(".")[0]} & PURE:
            yield "%s/ may import only the pure part of the standard library, not %s" % (source.layer, name)
    used = [node.id for node in ast.walk(source.tree) if isinstance(node, ast.Name)]
    for name in sorted(IMPURE_NAMES.intersection([*used, *(name.rpartition(".")[2] for name in imports(source))])):
        yield "%s/ may not call %s" % (source.layer, name)


def other_packages_have_their_place(source: Source) -> Iterator[str]:
    if source.layer not in (*LAYERS, AGENT, "modules"):
        return
    for name in imports(source):
        if top(name) in sys.stdlib_module_names or name.startswith(OURS):
            continue
        if not any(top(name) == package and fits(source) for package, fits, words in PLACES):
            allowed = [words for package, fits, words in PLACES if package == top(name)]
            yield "%s is imported in %s only" % (name, " or ".join(allowed) or "no file of ours")


PLACES = (
    ("ansible", lambda source: source.layer == "run", "run/"),
    ("lxml", lambda source: source.layer == "model" and source.path.endswith("_xml.py"), "model/*_xml.py"),
    ("libvirt", lambda source: source.path == "module_utils/host/libvirt_api.py", "host/libvirt_api.py"),
    ("libvirt_qemu", lambda source: source.path == "module_utils/host/libvirt_api.py", "host/libvirt_api.py"),
    ("guestfs", lambda source: source.path == "module_utils/host/guestfs_api.py", "host/guestfs_api.py"),
    ("Queue", lambda source: source.layer == "p2v_agent", "p2v_agent/ (the queue of Python 2.7)"),
)


def one_file_starts_processes(source: Source) -> Iterator[str]:
    if not source.path.startswith("module_utils/") or source.path in MAY_START_PROCESSES:
        return
    for name in imports(source):
        if top(name) in STARTS_PROCESSES:
            yield "only host/commands.py, and in the agent processes.py, start processes (%s)" % name
    for name in os_calls(source):
        if name.startswith(OS_STARTS_PROCESSES):
            yield "only host/commands.py, and in the agent processes.py, start processes (os.%s)" % name


def one_file_ends_a_module(source: Source) -> Iterator[str]:
    if source.layer not in (*LAYERS, AGENT, "modules") or source.path == "module_utils/run/sentence.py":
        return
    for name in sorted(ENDS_A_MODULE.intersection(names_used(source))):
        yield "only run/sentence.py speaks of %s" % name


def module_is_docs_and_main(source: Source) -> Iterator[str]:
    if source.layer != "modules":
        return
    for node in ast.walk(source.tree):
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda)):
            continue
        name = getattr(node, "name", "lambda")
        if name != "main":
            yield "a module holds its documentation and main(), not %s" % name
        elif (node.end_lineno or 0) - node.lineno > MAX_MAIN_LINES:
            yield "main() has more than %d lines" % MAX_MAIN_LINES
    if "main" not in {name.rpartition(".")[2] for name in (*imports(source), *names_used(source))}:
        yield "a module calls main()"


def imports_are_absolute(source: Source) -> Iterator[str]:
    for name in imports(source):
        if name.startswith("."):
            yield "imports are absolute (%s)" % name


def header_names_the_licence(source: Source) -> Iterator[str]:
    if LICENCE not in source.text.splitlines()[:6]:
        yield "the first lines name the licence: " + LICENCE


def file_is_short(source: Source) -> Iterator[str]:
    lines = source.text.count("\n")
    if lines >= MAX_LINES:
        yield "%d lines; a file has less than %d" % (lines, MAX_LINES)


def syntax_is_python_3_8(source: Source) -> Iterator[str]:
    if not source.path.startswith(("modules/", "module_utils/")):
        return
    try:
        ast.parse(source.text, feature_version=(3, 8))
    except SyntaxError as error:
        yield "line %s is not Python 3.8: %s" % (error.lineno, error.msg)


PYTHON_3_ONLY = (
    ast.AnnAssign, ast.AsyncFunctionDef, ast.Await, ast.JoinedStr, ast.NamedExpr, ast.Nonlocal, ast.Starred, ast.YieldFrom,
)  # fmt: skip


def agent_is_python_2_7_too(source: Source) -> Iterator[str]:
    """What the parser tells; vermin (make lint) knows the library. A star in a call, which 2.7 knows, is not told from
    one in a list, which it does not."""
    if source.layer != AGENT:
        return
    for node in ast.walk(source.tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, PYTHON_3_ONLY):
            yield "line %d: Python 2.7 has no %s" % (line, type(node).__name__)
        elif isinstance(node, ast.arguments) and (node.kwonlyargs or node.posonlyargs):
            yield "Python 2.7 has no keyword-only or position-only arguments"
        elif getattr(node, "annotation", None) or getattr(node, "returns", None):
            yield "line %d: Python 2.7 has no annotations" % line
        elif isinstance(node, ast.Raise) and node.cause:
            yield "line %d: Python 2.7 has no raise from" % line
        elif isinstance(node, ast.ClassDef) and node.keywords:
            yield "line %d: Python 2.7 has no class keywords" % line
    if not source.text.isascii():
        yield "Python 2.7 wants ASCII"


Rule = Callable[[Source], Iterator[str]]
RULES: Sequence[Rule] = (
    layer_sees_only_below,
    model_and_plan_are_pure,
    other_packages_have_their_place,
    one_file_starts_processes,
    one_file_ends_a_module,
    module_is_docs_and_main,
    imports_are_absolute,
    header_names_the_licence,
    file_is_short,
    syntax_is_python_3_8,
    agent_is_python_2_7_too,
)


# --- the tests ------------------------------------------------------------------------------------------------------


def sources() -> Iterator[Source]:
    for path in sorted(PLUGINS.rglob("*.py")):
        yield Source(path.relative_to(PLUGINS).as_posix(), path.read_text(encoding="utf-8"))


def named(rule: Rule) -> str:
    return rule.__name__


@pytest.mark.parametrize("rule", RULES, ids=named)
def test_every_file_keeps_the_rule(rule: Rule) -> None:
    wrong = ["plugins/%s: %s" % (source.path, finding) for source in sources() for finding in rule(source)]
    assert not wrong, "\n" + "\n".join(wrong)


def test_the_four_folders_and_the_modules_are_read() -> None:
    found = {source.layer for source in sources()}
    assert found >= {*LAYERS, "modules"}
    assert found <= set(LAYERS_SEEN_BY), "say in LAYERS_SEEN_BY what a new kind of plugin may import"


def test_module_utils_holds_the_four_folders_and_the_agent_only() -> None:
    found = {source.layer for source in sources() if source.path.startswith("module_utils/")}
    assert found == {*LAYERS, AGENT}


BROKEN = (
    (layer_sees_only_below, "module_utils/plan/x.py", "from %smodule_utils.host.commands import run" % OURS),
    (layer_sees_only_below, "module_utils/plan/x.py", "import %smodule_utils.host.commands" % OURS),
    (layer_sees_only_below, "module_utils/host/x.py", "from %smodule_utils.plan import domain" % OURS),
    (layer_sees_only_below, "module_utils/model/x.py", "from %smodule_utils.plan import domain" % OURS),
    (layer_sees_only_below, "modules/x.py", "from %smodule_utils.host import commands" % OURS),
    (layer_sees_only_below, "filter/x.py", "from %smodule_utils.host import commands" % OURS),
    (layer_sees_only_below, "module_utils/plan/x.py", "def f():\n from %smodule_utils.run import a" % OURS),
    (model_and_plan_are_pure, "module_utils/model/x.py", "import os"),
    (other_packages_have_their_place, "module_utils/model/disk.py", "from lxml import etree"),
    (other_packages_have_their_place, "module_utils/plan/disk_xml.py", "from lxml import etree"),
    (other_packages_have_their_place, "module_utils/host/x.py", "import libvirt_qemu"),
    (other_packages_have_their_place, "modules/x.py", "from ansible.module_utils.basic import AnsibleModule"),
    (model_and_plan_are_pure, "module_utils/plan/x.py", "from time import monotonic"),
    (model_and_plan_are_pure, "module_utils/plan/x.py", "import random"),
    (model_and_plan_are_pure, "module_utils/plan/x.py", "open('/etc/hosts')"),
    (model_and_plan_are_pure, "module_utils/plan/x.py", "from uuid import uuid4"),
    (other_packages_have_their_place, "module_utils/host/x.py", "from ansible.module_utils.basic import AnsibleModule"),
    (other_packages_have_their_place, "module_utils/run/x.py", "from lxml import etree"),
    (other_packages_have_their_place, "module_utils/host/x.py", "import libvirt"),
    (other_packages_have_their_place, "module_utils/run/x.py", "from libvirt import libvirtError"),
    (other_packages_have_their_place, "module_utils/host/x.py", "import guestfs"),
    (one_file_starts_processes, "module_utils/host/x.py", "import subprocess"),
    (one_file_starts_processes, "module_utils/host/x.py", "import os\nos.system('ls')"),
    (one_file_starts_processes, "module_utils/host/x.py", "from os import execv"),
    (one_file_ends_a_module, "module_utils/run/x.py", "if module.check_mode: pass"),
    (one_file_ends_a_module, "modules/x.py", "module.exit_json(changed=True)"),
    (one_file_ends_a_module, "module_utils/host/x.py", "getattr(module, 'fail_json')"),
    (module_is_docs_and_main, "modules/x.py", "def main():\n" + " a = 1\n" * 11),
    (module_is_docs_and_main, "modules/x.py", "def main():\n a = 1\ndef other():\n a = 1"),
    (module_is_docs_and_main, "modules/x.py", "DOCUMENTATION = ''"),
    (imports_are_absolute, "module_utils/plan/x.py", "from . import other"),
    (header_names_the_licence, "module_utils/plan/x.py", ""),
    (file_is_short, "module_utils/plan/x.py", "a = 1\n" * 400),
    (syntax_is_python_3_8, "module_utils/plan/x.py", "match a:\n case 1: pass"),
    (layer_sees_only_below, "module_utils/p2v_agent/x.py", "from %smodule_utils.model import names" % OURS),
    (layer_sees_only_below, "module_utils/run/x.py", "from %smodule_utils.p2v_agent import frames" % OURS),
    (layer_sees_only_below, "module_utils/host/x.py", "from %smodule_utils.p2v_agent import frames" % OURS),
    (other_packages_have_their_place, "module_utils/p2v_agent/x.py", "import six"),
    (one_file_starts_processes, "module_utils/p2v_agent/x.py", "import subprocess"),
    (agent_is_python_2_7_too, "module_utils/p2v_agent/x.py", "a = f'{b}'"),
    (agent_is_python_2_7_too, "module_utils/p2v_agent/x.py", "def f(a: int): pass"),
    (agent_is_python_2_7_too, "module_utils/p2v_agent/x.py", "def f(*, a): pass"),
    (agent_is_python_2_7_too, "module_utils/p2v_agent/x.py", "raise a from b"),
)


@pytest.mark.parametrize(("rule", "path", "text"), BROKEN)
def test_a_broken_rule_is_noticed(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, text)))


def test_every_rule_is_tried() -> None:
    assert {named(rule) for rule, path, text in BROKEN} == {named(rule) for rule in RULES}

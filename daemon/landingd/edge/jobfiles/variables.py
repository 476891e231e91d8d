"""Put in what `${...}` stands for: variables, the bundle's name and target, the names of its jobs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from landingd.edge.jobfiles.tree import NODES_MAX, Entry, Keyed, Listed, Node, Scalar, Source, plain
from landingd.errors import did_you_mean

DEPTH_MAX = 20
"""Variables within variables."""
TEXT_MAX = 100_000
"""Characters of one text with everything put in."""

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)+)\}")
_KNOWN = "${var.x}, ${bundle.name}, ${bundle.target} and ${resources.jobs.x.id} have a value"


@dataclass(frozen=True, slots=True)
class Variable:
    """Its value; None: it has none, as nobody gave one and there is no default."""

    node: Node | None
    source: Source

    @staticmethod
    def of_text(text: str, source: Source) -> "Variable":
        """A value from a command line: what it looks like, as in the file."""
        return Variable(plain(text, 0), source)


@dataclass(slots=True)
class Variables:
    """What `${...}` stands for, throughout a bundle."""

    by_name: dict[str, Variable] = field(default_factory=dict[str, Variable])
    name: str = ""
    target: str = ""
    _job_names: dict[str, str] = field(default_factory=dict[str, str])
    _left: int = NODES_MAX

    def name_jobs(self, jobs: Mapping[str, tuple[Node, Source]]) -> None:
        """What `${resources.jobs.<key>.id}` stands for: a job is known by its name, or else its key."""
        for key, (node, source) in jobs.items():
            entry = node.entries.get("name") if isinstance(node, Keyed) else None
            named = self.put_in(entry.node, source) if entry is not None else None
            self._job_names[key] = named.text if isinstance(named, Scalar) else key

    def put_in(self, node: Node, source: Source, *, at: int = 0, depth: int = 0) -> Node:
        """The node with everything put in. `at`: the line where it will stand; 0: its own."""
        self._left -= 1
        line = at or node.line
        if self._left <= 0:
            if self._left == 0:
                source.wrong(line, f"more than {NODES_MAX} values with everything put in")
            return Scalar(None, "", line)
        if isinstance(node, Listed):
            return Listed(tuple(self.put_in(item, source, at=at, depth=depth) for item in node.items), line)
        if isinstance(node, Keyed):
            entries = {
                key: Entry(self.put_in(entry.node, source, at=at, depth=depth), at or entry.line)
                for key, entry in node.entries.items()
            }
            return Keyed(entries, line)
        if "${" not in node.text:
            return replace(node, line=line)
        return self._filled(node, source, line, depth)

    def _filled(self, node: Scalar, source: Source, line: int, depth: int) -> Node:
        whole = _REFERENCE.fullmatch(node.text)
        if whole is not None:
            return self._value(whole[1], source, line, depth) or replace(node, line=line)
        text = _REFERENCE.sub(lambda match: self._as_text(match, source, line, depth), node.text)
        if len(text) > TEXT_MAX:
            source.wrong(line, f"longer than {TEXT_MAX} characters with everything put in")
            text = ""
        return Scalar(text, text, line)

    def _as_text(self, match: re.Match[str], source: Source, line: int, depth: int) -> str:
        value = self._value(match[1], source, line, depth)
        if isinstance(value, Scalar):
            return value.text
        if value is not None:
            source.wrong(line, f"${{{match[1]}}} is {value}, which cannot stand within a text")
        return match[0]

    def _value(self, name: str, source: Source, line: int, depth: int) -> Node | None:
        kind, _, rest = name.partition(".")
        if kind == "var":
            return self._variable(rest, source, line, depth)
        known = {"bundle.name": self.name, "bundle.target": self.target, "bundle.environment": self.target}
        known |= {f"resources.jobs.{key}.{what}": named for key, named in self._job_names.items() for what in _OF_JOB}
        if known.get(name):
            return Scalar(known[name], known[name], line)
        if kind == "workspace":
            source.wrong(line, f"${{{name}}} means nothing here: there is no workspace", "write the value itself")
        elif kind == "resources" and name.startswith("resources.jobs."):
            hint = did_you_mean(name, known) or f"jobs: {', '.join(self._job_names) or 'none'}"
            source.wrong(line, f"${{{name}}} is no job of this bundle", hint)
        else:
            source.wrong(line, f"${{{name}}} has no value", _KNOWN)
        return None

    def _variable(self, path: str, source: Source, line: int, depth: int) -> Node | None:
        name, *keys = path.split(".")
        variable = self.by_name.get(name)
        if variable is None:
            hint = did_you_mean(name, self.by_name) or "declare it in 'variables'"
            source.wrong(line, f"there is no variable {name!r}", hint)
        elif variable.node is None:
            source.wrong(line, f"variable {name!r} has no value", f"give it a default, or --var {name}=...")
        elif depth >= DEPTH_MAX:
            source.wrong(line, f"variable {name!r} stands for itself, through others")
        else:
            found: Node = self.put_in(variable.node, source, at=line, depth=depth + 1)
            for key in keys:
                if not isinstance(found, Keyed) or key not in found.entries:
                    source.wrong(line, f"variable {name!r} has no {'.'.join(keys)!r}")
                    return None
                found = found.entries[key].node
            return found
        return None


_OF_JOB = ("id", "name")

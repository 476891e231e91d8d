"""What must be true of the daemon's books and tables when it rests, given the model.

Which of two contents was loaded first, or whether one was seen at all before it was overwritten, is a matter of
moments. So the laws do not say what happened; they say what may be there now.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from model.contents import Content, Row
from model.world import World


@dataclass(frozen=True)
class Policy:
    """A job's answers to what producers do after the fact; its name is also that of its folder and tables."""

    name: str
    on_change: str = "replace"
    on_delete: str = "keep"
    on_duplicate: str = "skip"

    @property
    def keeps_versions(self) -> bool:
        return self.on_change == "append"


POLICIES = (
    Policy("defaults"),
    Policy("retracts", on_delete="retract"),
    Policy("loads_twins", on_delete="retract", on_duplicate="load"),
    Policy("appends", on_change="append"),
    Policy("appends_all", on_change="append", on_delete="retract", on_duplicate="load"),
    Policy("rejects", on_change="reject"),
    Policy("rejects_and_retracts", on_change="reject", on_delete="retract"),
)


@dataclass(frozen=True)
class Version:
    """A row of the ledger's `files`; `name` is below the list's folder."""

    file_id: int
    name: str
    content_hash: str | None
    state: str
    presence: str
    reason: str
    wanted: str | None
    leaving: bool
    duplicate_of: int | None
    was_loaded: bool

    def __str__(self) -> str:
        words = [f"file {self.file_id}", self.name, str(self.content_hash)[:8], self.state, self.presence]
        words += [f"({self.reason})"] if self.reason else []
        words += [f"wanted: {self.wanted}"] if self.wanted else []
        return " ".join([*words, *["leaving"] * self.leaving])

    @property
    def is_at_rest(self) -> bool:
        return self.state != "waiting" and not self.wanted and not (self.state == "loaded" and self.leaving)


@dataclass(frozen=True)
class Found:
    """What the daemon has made of one list's folder."""

    versions: Sequence[Version]
    bronze: Mapping[int, Sequence[Row]]
    """Rows by `_file_id`."""
    silver: Mapping[int, Sequence[Row]]
    gold: tuple[int, int] | None
    """Rows and the sum of their amounts."""
    loads: Mapping[tuple[str, int], tuple[str, int]]
    """`meta.loads`: by layer and `_file_id` the hash and how many rows."""


def broken(policy: Policy, world: World, found: Found) -> list[str]:
    """Every law that does not hold, in words."""
    check = _Check(policy, world, found)
    return [*check.census(), *check.only_whole_contents(), *check.whats_there(), *check.versions(), *check.tables()]


class _Check:
    def __init__(self, policy: Policy, world: World, found: Found) -> None:
        self.policy, self.world, self.found = policy, world, found
        self.disk = {name: content for name, content in world.data().items() if not world.is_open(name)}
        self.loaded = [version for version in found.versions if version.state == "loaded"]
        self.here: dict[str, list[Version]] = defaultdict(list)
        for version in found.versions:
            if version.presence == "present" and not world.is_open(version.name):
                self.here[version.name].append(version)

    def census(self) -> Iterator[str]:
        """Each file on disk is in exactly one state, for the bytes that it has; nothing else is."""
        for version in self.found.versions:
            if not version.is_at_rest and not self.world.is_open(version.name):
                yield f"{version.name}: file {version.file_id} does not rest"
        for name, content in self.disk.items():
            hashes = [version.content_hash for version in self.here[name]]
            if hashes != [content.hash]:
                yield f"{name}: holds {content}; present by the ledger: {[v.file_id for v in self.here[name]]}"
        for name in self.here.keys() - self.disk.keys():
            if self.here[name]:
                yield f"{name}: is not on disk; present by the ledger: {[v.file_id for v in self.here[name]]}"

    def only_whole_contents(self) -> Iterator[str]:
        """What was ever in a table stood complete at its path, and can be loaded."""
        for version in self.found.versions:
            if not version.was_loaded and version.state != "loaded":
                continue
            content = self.world.contents.get(version.content_hash or "")
            if version.content_hash not in self.world.stood[version.name] or content is None:
                yield f"{version.name}: file {version.file_id} was loaded and never stood there complete"
            elif not content.can_be_loaded:
                yield f"{version.name}: file {version.file_id} was loaded and is {content}"

    def whats_there(self) -> Iterator[str]:
        """What stands on disk is in the tables, or there is a reason why it is not."""
        for name, content in self.disk.items():
            for version in self.here[name]:
                if why := self._wrong_state(version, content):
                    yield f"{name}: {content} is {version.state} ({version.reason}): {why}"

    def _wrong_state(self, version: Version, content: Content) -> str:
        if not content.can_be_loaded:
            return "" if version.state == "quarantined" else "it cannot be loaded"
        match version.state:
            case "loaded":
                return ""
            case "duplicate":
                return self._wrong_duplicate(version, content)
            case "quarantined" if self.policy.on_change == "reject":
                # The path's loaded version stays, also when its bytes are those of another path that left.
                others = [v for v in self.loaded if v.name == version.name and v.content_hash != version.content_hash]
                return "" if others else "no other version of its path is loaded"
            case _:
                return "it must be loaded"

    def _wrong_duplicate(self, version: Version, content: Content) -> str:
        if self.policy.on_duplicate == "load":
            return "on_duplicate: load"
        if not content.rows:
            return ""  # the bytes are those of other lists too
        twins = [v for v in self.loaded if v.file_id == version.duplicate_of and v.content_hash == content.hash]
        return "" if twins else f"file {version.duplicate_of} is not loaded with these bytes"

    def versions(self) -> Iterator[str]:
        """No content and no path has more in the tables than the policy says."""
        for name, count in Counter(version.name for version in self.loaded).items():
            if count > 1 and not self.policy.keeps_versions:
                yield f"{name}: {count} versions are loaded"
        for content_hash, count in Counter(version.content_hash for version in self.loaded).items():
            if count > 1 and self.policy.on_duplicate == "skip":
                yield f"{self.world.contents.get(content_hash or '')} is loaded {count} times"
        for version in self.loaded:
            if why := self._overdue(version):
                yield f"{version.name}: file {version.file_id} is still loaded, {why}"

    def _overdue(self, version: Version) -> str:
        """Why a loaded version's rows should have left."""
        if version.presence == "present":
            return ""
        if self.world.is_open(version.name):
            return ""  # its rows stay until the new ones come
        if version.name not in self.disk:
            return "its file is gone" if self.policy.on_delete == "retract" else ""
        if self.policy.keeps_versions:
            return ""
        taken_over = [v.file_id for v in self.here[version.name] if v.state in {"loaded", "duplicate"}]
        return f"other bytes stand there as file {taken_over[0]}" if taken_over else ""

    def tables(self) -> Iterator[str]:
        """Every row of every loaded version once, in each layer; and none besides."""
        expected = {v.file_id: self.world.contents[v.content_hash or ""] for v in self.loaded if self._is_known(v)}
        for layer, rows in (("bronze", self.found.bronze), ("silver", self.found.silver)):
            for file_id in rows.keys() | expected.keys():
                wanted = sorted(of_layer(layer, expected[file_id])) if file_id in expected else []
                if sorted(rows.get(file_id, ())) != wanted:
                    yield f"{layer}: file {file_id} has {_some(rows.get(file_id, ()))}, should have {_some(wanted)}"
            yield from self._lineage(layer, expected)
        positive = [row for content in expected.values() for row in of_layer("silver", content)]
        gold = (len(positive), sum(row[2] for row in positive)) if positive else None
        if self.found.gold != gold:
            yield f"gold: {self.found.gold}, should be {gold}"

    def _is_known(self, version: Version) -> bool:
        return version.content_hash in self.world.contents

    def _lineage(self, layer: str, expected: Mapping[int, Content]) -> Iterator[str]:
        loads = {file_id: load for (where, file_id), load in self.found.loads.items() if where == layer}
        wanted = {file_id: (c.hash, len(of_layer(layer, c))) for file_id, c in expected.items()}
        if loads != wanted:
            yield f"meta.loads: {layer} has {sorted(loads.items())}, should have {sorted(wanted.items())}"


def of_layer(layer: str, content: Content) -> Sequence[Row]:
    """The rows that a content leads to."""
    if layer == "bronze":
        return content.rows
    return [(number, name.upper(), amount) for number, name, amount in content.rows if amount > 0]


def lost(policy: Policy, world: World, before: Found | None, now: Found) -> list[str]:
    """What was loaded at the last rest and has to be loaded still, since nobody has written to its path."""
    if before is None:
        return []
    still = {(version.name, version.content_hash) for version in now.versions if version.state == "loaded"}
    return [
        f"{v.name}: file {v.file_id} was loaded, and nothing was written there since"
        for v in before.versions
        if v.state == "loaded" and (v.name, v.content_hash) not in still and _had_to_stay(policy, world, v)
    ]


def _had_to_stay(policy: Policy, world: World, version: Version) -> bool:
    if version.name not in world.untouched:
        return False
    return policy.on_delete == "keep" or version.name in world.data()


def _some(rows: Sequence[Row]) -> str:
    return f"{len(rows)} rows {rows[:4]}"

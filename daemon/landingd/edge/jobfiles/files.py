"""Find the files that a job names (SQL, Python, notebooks), which stand beside it or below, and read the SQL."""

import ast
import os.path
import warnings
from pathlib import Path, PurePosixPath

from landingd.edge.jobfiles.fields import Fields, is_outside
from landingd.errors import did_you_mean

SQL_BYTES_MAX = 1 << 20


def read_sql(fields: Fields, key: str) -> tuple[str | None, str | None]:
    """The text of the SQL file that this key names, and the file's name for people."""
    found = find_file(fields, key, ".sql", "put the statement into a .sql file beside the job file, and name that")
    if found is None:
        return None, None
    path, shown = found
    return _sql_text(fields, key, path, shown), shown


def read_query(fields: Fields, key: str) -> tuple[str | None, str | None]:
    """As `read_sql`, but the statement itself may stand there too."""
    text = fields.text(key)
    if text is None or (text.endswith(".sql") and not set(text) & set(" \n\t")):
        return read_sql(fields, key)
    if text.strip():
        return text, None
    fields.wrong(key, f"{key!r} must not be empty")
    return None, None


def find_file(fields: Fields, key: str, suffix: str, otherwise: str) -> tuple[Path, str] | None:
    """Where the file is that this key names, and its name for people; None, and a problem, where there is none.

    Names are relative to the job file's folder; a bundle's may lead out of it, but not out of the bundle.
    """
    name = fields.text(key)
    if name is None:
        return None
    source = fields.source
    if not name.endswith(suffix) or "\n" in name:
        fields.wrong(key, f"{name!r} is not the name of a {suffix} file", otherwise)
        return None
    root = source.root or source.path.parent
    path = Path(os.path.normpath(source.path.parent / name))
    if name.startswith("/") or "\0" in name or not _is_below(path, root, name, bundle=source.root is not None):
        fields.wrong(key, f"{name!r} is not below the {'bundle' if source.root else 'job'}'s folder")
        return None
    shown = PurePosixPath(os.path.normpath(PurePosixPath(source.shown_folder) / name)).as_posix()
    return (path, shown) if _is_there(fields, key, path, shown) else None


def check_function(fields: Fields, path: Path, shown: str, function: str) -> None:
    """That the Python file can be read, and has something of this name at its top."""
    names = fields.source.names_in.get(path)
    if names is None:
        names = fields.source.names_in[path] = _top_names(fields, path, shown)
    if names and function not in names:
        hint = did_you_mean(function, names) or f"def {function}(context): ..."
        fields.wrong("function", f"there is no function {function!r} in {shown}", hint)


def text_of(path: Path) -> str:
    """What a Python file says, as far as it is text; "" where it cannot be read, which is told elsewhere."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _top_names(fields: Fields, path: Path, shown: str) -> frozenset[str]:
    """Empty, and a problem, where the file is no Python; nothing is known of what `import *` brings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are for who runs it
            tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        fields.source.wrong(fields.line, f"{shown}:{error.lineno} is no Python: {error.msg}")
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        fields.source.wrong(fields.line, f"{shown} cannot be read: {error}")
    else:
        found: set[str] = set()
        for node in tree.body:
            for inner in ast.walk(node) if not isinstance(node, _SCOPES) else ():
                found |= _bound_by(inner)
            if isinstance(node, _SCOPES):
                found.add(node.name)
        return frozenset() if "*" in found else frozenset(found) or frozenset({""})
    return frozenset()


_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _bound_by(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return {node.id}
    return {node.name} if isinstance(node, _SCOPES) else set()


def _is_below(path: Path, root: Path, name: str, *, bundle: bool) -> bool:
    return path.is_relative_to(os.path.normpath(root)) if bundle else not is_outside(name)


def _is_there(fields: Fields, key: str, path: Path, shown: str) -> bool:
    try:
        if path.is_file():
            return True
        hint = did_you_mean(path.name, [other.name for other in path.parent.glob(f"*{path.suffix}")])
    except OSError as error:
        fields.wrong(key, f"{shown} cannot be read: {error.strerror}")
        return False
    fields.wrong(key, f"there is no file {shown}", hint)
    return False


def _sql_text(fields: Fields, key: str, path: Path, shown: str) -> str | None:
    try:
        with path.open("rb") as file:
            content = file.read(SQL_BYTES_MAX + 1)
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        fields.wrong(key, f"{shown} is not UTF-8 (line {line})")
    except OSError as error:
        fields.wrong(key, f"{shown} cannot be read: {error.strerror}")
    else:
        if len(content) > SQL_BYTES_MAX:
            fields.wrong(key, f"{shown} is larger than {SQL_BYTES_MAX} bytes")
        elif text.strip():
            return text
        else:
            fields.wrong(key, f"{shown} is empty")
    return None

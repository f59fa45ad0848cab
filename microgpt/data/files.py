"""Which files `dataset.path` names: one, several in brackets, those of a folder, or those of a pattern with *."""

import csv
import difflib
import glob
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any, NoReturn

from microgpt.config.checks import as_path
from microgpt.config.schema import typed
from microgpt.errors import UserError


def split_paths(path: Any) -> list[str]:
    """The names in `dataset.path`: those of a list, or of `[a.txt,b.txt]` if no file has this name."""
    if not isinstance(path, str):
        return [str(name) for name in path]
    if path.startswith("[") and path.endswith("]") and not as_path("dataset.path", path).exists():
        # A name that holds a comma may stand in quotes.
        with suppress(csv.Error):  # of a newline in it
            return [name.strip() for name in next(csv.reader([path[1:-1]], skipinitialspace=True, quotechar="'"), [])]
    return [path]


def find_files(path: Any) -> list[Path]:
    """The files that `dataset.path` names, at least one. Raises `UserError` for a name without a file."""
    files = [file for name in split_paths(path) for file in files_of(name)]
    return files or refuse(str(path), "names no file; give the path of a text file")


def files_of(name: str) -> list[Path]:
    """The file with this name, the files of this folder, or those that match this pattern, sorted."""
    path = as_path("dataset.path", name)
    if path.is_file():
        return [path]
    if path.is_dir():
        return visible_files(path, "**/*") or refuse(
            name, "is a folder without files; give a text file, or a folder of text files"
        )
    if path.exists():
        return refuse(name, "is neither a file nor a folder; save it as a file first")
    if glob.has_magic(name):
        first = next(i for i, part in enumerate(path.parts) if glob.has_magic(part))
        return visible_files(Path(*path.parts[:first]), "/".join(path.parts[first:])) or refuse(
            name, "no such file; no file matches this pattern, in which ** stands for any folders"
        )
    return refuse(name, describe_absence(name))


def visible_files(folder: Path, pattern: str) -> list[Path]:
    """The files below a folder that match a pattern, sorted, without hidden ones."""
    try:
        found = sorted(folder.glob(pattern))
    except (ValueError, NotImplementedError) as error:  # `a**b`, before Python 3.13
        refuse(str(folder / pattern), f"cannot be read as a pattern ({error}); give the path of a folder")
    return [file for file in found if file.is_file() and is_visible(file.relative_to(folder))]


def is_visible(path: PurePath) -> bool:
    """Whether neither a file nor a folder of it is hidden, or was added by macOS."""
    return not any(part.startswith((".", "__MACOSX")) for part in path.parts)


def refuse(name: str, problem: str) -> NoReturn:
    raise UserError(f"dataset.path={name}: {problem}")


def describe_absence(name: str) -> str:
    """What to type instead of a name that no file has."""
    path, names = as_path("dataset.path", name), [part.strip() for part in name.split(",")]
    if len(names) > 1 and all(as_path("dataset.path", part).exists() for part in names):
        several = typed("dataset.path", f"[{','.join(names)}]")
        return f"no such file; several files stand in brackets: {several}; for a run with each of them, add -m"
    beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    if close := difflib.get_close_matches(path.name, beside, n=1, cutoff=0.8):
        return f"no such file; did you mean {typed('dataset.path', path.with_name(close[0]))}?"
    return "no such file; give the path of a text file, of a CSV or JSON table, or of a folder of text files"


def describe_files(path: Any, files: Sequence[Path]) -> str:
    """`songs: 12 files (11 .txt, 1 .md)`, and how to read only some files of a folder."""
    suffixes = Counter(file.suffix or "without a suffix" for file in files).most_common(5)
    hint = ""
    if len(suffixes) > 1 and isinstance(path, str) and as_path("dataset.path", path).is_dir():
        hint = f"; dataset.path='{path}/**/*{files[0].suffix}' reads some of them"
    return f"{path}: {len(files):,} files ({', '.join(f'{n:,} {suffix}' for suffix, n in suffixes)}){hint}"

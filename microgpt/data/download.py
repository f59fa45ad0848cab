"""Downloads: a corpus is fetched once, its checksum is verified, and it is kept in a folder."""

import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from microgpt.config.schema import typed
from microgpt.data.cache import file_checksum
from microgpt.errors import UserError, os_error_line

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

BYTES_AT_ONCE = 1 << 16
MAX_BYTES = 10 << 30  # of a download: a server that never stops sending does not fill the disk
MAX_REDIRECTS = 5
PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers of a server that may be others a moment later
PAUSE = 1.0  # seconds before the second attempt; before each further one, a second more
PARTIAL = ".partial"  # ends the name of the folder of a download that is not complete

DOWNLOAD_HINT = "train on dataset=colors, which needs no download, or point datasets_dir= at a folder that holds it"

log = logging.getLogger(__name__)


class DownloadError(Exception):
    """Why a download failed, in one clause. `may_pass`: whether another attempt may succeed."""

    def __init__(self, reason: str, may_pass: bool = True) -> None:
        super().__init__(reason)
        self.may_pass = may_pass


def fetch(name: str, url: str, sha256: str, file: str, folder: Path, retries: int = 3, timeout: float = 30) -> Path:
    """The path of the cached file, which is downloaded from `url` if it is missing.

    `timeout` is the longest time without new data, in seconds. A failure that may pass is followed by another attempt,
    at most `retries` of them. Raises `UserError` if the download fails, if the cached file does not have the checksum
    `sha256`, or if the folder cannot be read or written.
    """
    path = folder / file
    made = [parent for parent in path.parents if not os.path.lexists(parent)]
    try:
        if path.exists():
            return check_cached(name, path, sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_left_overs(path.parent)
        log.info("fetching %s from %s", name, url)
        for attempt in range(retries + 1):
            time.sleep(attempt * PAUSE)
            try:
                download(name, url, sha256, path, timeout)
                return path
            except DownloadError as error:
                if attempt == retries or not error.may_pass:
                    problem = f"dataset={name}: could not fetch {url}: {error}"
                    raise UserError(f"{problem}; {DOWNLOAD_HINT} ({file})") from None
    except OSError as error:
        reason = os_error_line(error, ", or choose another folder with datasets_dir=")
        raise UserError(f"datasets_dir={folder}: {reason}") from None
    finally:
        for parent in made:
            with suppress(OSError):  # it holds the file
                parent.rmdir()
    raise AssertionError("the last attempt returns or raises")


def check_cached(name: str, path: Path, sha256: str) -> Path:
    """The path. Raises `UserError` if the file does not have the checksum."""
    if file_checksum(path) != sha256.lower():
        raise UserError(
            f"dataset={name}: {path} does not have the checksum of the corpus; delete it to download it"
            f" again, or train on it as it is with dataset=file {typed('dataset.path', path)}"
        )
    return path


def download(name: str, url: str, sha256: str, path: Path, timeout: float) -> None:
    """Download `url` once, and keep it as `path` if it has the checksum. Raises `DownloadError` and `OSError`."""
    import pooch  # imported here: a cached corpus does not need it

    pooch.get_logger().setLevel(logging.ERROR)
    with partial_folder(path) as folder:
        try:
            receiver: Any = partial(receive, name=name, timeout=timeout)
            found = pooch.retrieve(url, f"sha256:{sha256.lower()}", path.name, folder, downloader=receiver)
        except ValueError:
            raise DownloadError("the downloaded file does not have the checksum of the corpus") from None
        Path(found).replace(path)


def receive(url: str, file: str, _: object, *, name: str, timeout: float) -> None:
    """A downloader of pooch, which writes the body of the answer to `file`. Raises `DownloadError` and `OSError`.

    pooch's own asks a second time for what is not there, follows 30 redirects and has no end.
    """
    import requests
    from requests.exceptions import InvalidHeader, RequestException, Timeout, TooManyRedirects
    from urllib3.exceptions import ReadTimeoutError

    silence = f"the server sent nothing for {timeout:g} s"
    try:
        with requests.Session() as session:
            session.max_redirects = MAX_REDIRECTS
            with session.get(url, stream=True, timeout=timeout) as response:
                if response.status_code != 200:
                    reason = f"the server answers {response.status_code}"
                    raise DownloadError(reason, response.status_code in PASSING)
                save(response, name, Path(file))
    except TooManyRedirects:
        raise DownloadError(f"it redirects more than {MAX_REDIRECTS} times", may_pass=False) from None
    except Timeout:
        raise DownloadError(silence) from None
    except InvalidHeader:
        raise DownloadError("the answer of the server is malformed") from None
    except ValueError:  # an address is no URL, not of HTTP, or its host is no name
        reason = "this address, or one that it redirects to, is malformed or not one of http or https"
        raise DownloadError(reason, may_pass=False) from None
    except RequestException as error:
        timed_out = any(isinstance(cause, ReadTimeoutError) for cause in error.args)
        raise DownloadError(silence if timed_out else "there is no connection, or it broke off") from None


def save(response: Any, name: str, path: Path) -> None:
    """Write the body of a response to `path`. Raises `DownloadError` and `OSError`."""
    n_bytes = 0
    with path.open("wb") as file, DownloadBar(name, response.headers.get("Content-Length")) as bar:
        for block in response.iter_content(BYTES_AT_ONCE):
            n_bytes += len(block)
            if n_bytes > MAX_BYTES:
                raise DownloadError(f"it sends more than {MAX_BYTES / 1e9:.0f} GB", may_pass=False)
            file.write(block)
            bar.update(len(block))
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def partial_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path`, locked by this process, which is removed at the end."""
    folder = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    folder.mkdir()
    with lock_if_free(folder):
        # Only now has it the name by which others find what is left over: it is locked.
        folder = folder.rename(folder.with_name(folder.name + PARTIAL))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def lock_if_free(folder: Path) -> Iterator[bool]:
    """A context in which this process has locked a folder, until it ends; False if another process has locked it.

    Without locks, as on Windows and on some network file systems, nobody knows: False.
    """
    if fcntl is None:
        yield False
        return
    file = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_locked = True
        except OSError:
            is_locked = False
        yield is_locked
    finally:
        os.close(file)


def remove_left_overs(folder: Path) -> None:
    """Remove what killed downloads left in `folder`: partial folders that no process has locked."""
    for left in folder.glob(f".*{PARTIAL}"):
        with suppress(OSError), lock_if_free(left) as is_locked:
            if is_locked:
                shutil.rmtree(left)


class DownloadBar:
    """A progress bar, drawn by rich; only in a terminal. `size`: the bytes to come, if they are known."""

    def __init__(self, name: str, size: str | None) -> None:
        from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

        self.bar = Progress("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self.bar.disable = not self.bar.console.is_terminal
        self.task = self.bar.add_task(name, total=int(size) if size and size.isdecimal() else None)

    def __enter__(self) -> "DownloadBar":
        self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def update(self, amount: int) -> None:
        self.bar.update(self.task, advance=amount)

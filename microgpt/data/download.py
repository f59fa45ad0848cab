"""Downloads: a corpus is fetched once, its checksum is verified, and it is kept in a folder."""

import hashlib
import logging
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from microgpt.config.schema import typed
from microgpt.data.cache import file_checksum
from microgpt.errors import UserError, os_error_line

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be removed
    fcntl = None

BYTES_AT_ONCE = 1 << 16
MAX_BYTES = 10 << 30  # of a download: a server that never stops sending does not fill the disk
MAX_REDIRECTS = 5
PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers of a server that may be others a moment later
PAUSE = 1.0  # seconds before the second attempt; before each further one, a second more
PARTIAL = ".partial"  # ends the name of a file while it is downloaded

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
    import requests  # imported here: a cached corpus does not need it
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
                save(response, name, sha256, path)
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


def save(response: Any, name: str, sha256: str, path: Path) -> None:
    """Write the body of a response to `path` if it has the checksum. Raises `DownloadError` and `OSError`."""
    digest, n_bytes = hashlib.sha256(), 0
    with partial_file(path) as file, DownloadBar(name, response.headers.get("Content-Length")) as bar:
        for block in response.iter_content(BYTES_AT_ONCE):
            n_bytes += len(block)
            if n_bytes > MAX_BYTES:
                raise DownloadError(f"it sends more than {MAX_BYTES / 1e9:.0f} GB", may_pass=False)
            digest.update(block)
            file.write(block)
            bar.update(len(block))
        if digest.hexdigest() != sha256.lower():
            raise DownloadError("the downloaded file does not have the checksum of the corpus")
        file.flush()
        os.fsync(file.fileno())
        if fcntl is None:
            file.close()  # Windows renames no open file
        Path(file.name).replace(path)


@contextmanager
def partial_file(path: Path) -> Iterator[BinaryIO]:
    """A new file beside `path`, open and locked, which is removed at the end if it has not been renamed by then."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        with partial.open("xb") as file:
            with suppress(OSError):  # a file system without locks
                lock(file)
            yield file
    finally:
        partial.unlink(missing_ok=True)


def lock(file: BinaryIO) -> None:
    """Lock an open file until it is closed, or its process ends. Raises `OSError` if another process has locked it."""
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove_left_overs(folder: Path) -> None:
    """Remove what killed downloads left in `folder`: partial files that no process has locked."""
    for partial in folder.glob(f".*{PARTIAL}"):
        with suppress(OSError), partial.open("rb") as file:
            lock(file)
            if fcntl is None:
                file.close()
            partial.unlink()


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

"""Downloads: a corpus fetched once, verified against its checksum, kept in a folder."""

import hashlib
import logging
from pathlib import Path
from typing import Any

from microgpt.errors import UserError

log = logging.getLogger(__name__)

WAY_OUT = "train on dataset=colors, which needs no download, or point datasets_dir= at a folder that holds it"


def fetch(name: str, url: str, sha256: str, file: str, folder: Path, retries: int = 3, timeout: float = 30) -> Path:
    """The cached file, downloaded from `url` if it is not there; `timeout` is seconds without a byte.

    Raises `UserError` when the download fails `retries` + 1 times or the cached file is not the pinned one.
    """
    path = folder / file
    if path.exists():
        if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise UserError(
                f"dataset={name}: {path} is not the file that the corpus is pinned to; delete it to fetch it"
                f" again, or train on it as it is with dataset=file dataset.path={path}"
            )
        return path
    import pooch  # here, so that a cached corpus needs neither it nor requests
    from requests.exceptions import HTTPError, RequestException, Timeout
    from urllib3.exceptions import ReadTimeoutError

    pooch.get_logger().setLevel(logging.ERROR)
    log.info("fetching %s from %s", name, url)
    retriever = pooch.create(
        path=folder,
        base_url="",
        registry={file: f"sha256:{sha256}"},
        urls={file: url},
        retry_if_failed=retries,
    )
    bar: Any = DownloadBar(name)
    downloader: Any = pooch.HTTPDownloader(timeout=timeout, progressbar=bar)
    try:
        return Path(retriever.fetch(file, downloader=downloader))
    except HTTPError as error:
        reason = f"the server answers {error.response.status_code if error.response is not None else error}"
    except Timeout:
        reason = f"nothing came for {timeout:g} s"
    except RequestException as error:
        timed_out = any(isinstance(cause, ReadTimeoutError) for cause in error.args)
        reason = f"nothing came for {timeout:g} s" if timed_out else "there is no connection, or it broke off"
    except ValueError:
        reason = "what the server sends does not match the checksum of the corpus"
    raise UserError(f"dataset={name}: could not fetch {url}: {reason}; {WAY_OUT} ({file})")


class DownloadBar:
    """pooch's progress interface, drawn by rich; silent outside a terminal."""

    def __init__(self, name: str) -> None:
        from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

        self.bar = Progress("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self.bar.disable = not self.bar.console.is_terminal
        self.task = self.bar.add_task(name, total=None)
        self.total = 0

    def update(self, amount: int) -> None:
        self.bar.start()
        self.bar.update(self.task, total=self.total, advance=amount)

    def reset(self) -> None:
        self.bar.reset(self.task)

    def close(self) -> None:
        self.bar.stop()

"""Downloads: a corpus is fetched once, its checksum is verified, and it is kept in a folder."""

import hashlib
import logging
from pathlib import Path
from typing import Any

from microgpt.config.schema import typed
from microgpt.errors import UserError

log = logging.getLogger(__name__)

DOWNLOAD_HINT = "train on dataset=colors, which needs no download, or point datasets_dir= at a folder that holds it"


def fetch(name: str, url: str, sha256: str, file: str, folder: Path, retries: int = 3, timeout: float = 30) -> Path:
    """The path of the cached file, which is downloaded from `url` if it is missing.

    `timeout` is the longest time without new data, in seconds. Raises `UserError` if the download fails `retries` + 1
    times, or if the cached file does not have the checksum `sha256`.
    """
    path = folder / file
    if path.exists():
        if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise UserError(
                f"dataset={name}: {path} does not have the checksum of the corpus; delete it to download it"
                f" again, or train on it as it is with dataset=file {typed('dataset.path', path)}"
            )
        return path
    import pooch  # imported here: a cached corpus needs neither pooch nor requests
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
        reason = f"the server sent nothing for {timeout:g} s"
    except RequestException as error:
        timed_out = any(isinstance(cause, ReadTimeoutError) for cause in error.args)
        reason = (
            f"the server sent nothing for {timeout:g} s" if timed_out else "there is no connection, or it broke off"
        )
    except ValueError:
        reason = "the downloaded file does not have the checksum of the corpus"
    raise UserError(f"dataset={name}: could not fetch {url}: {reason}; {DOWNLOAD_HINT} ({file})")


class DownloadBar:
    """A progress bar with the interface that pooch expects, drawn by rich; only in a terminal."""

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

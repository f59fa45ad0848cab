"""Bytes → text: compression, the encoding, and one line about a file that is no text. Imports no torch."""

import bz2
import codecs
import difflib
import gzip
import lzma
import shlex
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from encodings.aliases import aliases
from pathlib import Path
from typing import Any

from microgpt.errors import UserError

BYTES_AT_ONCE = 1 << 18  # of a file, to bound the memory

# What a compressed file or archive may unpack to: text is rarely compressed to a twentieth.
MAX_UNPACKED = 4 << 30  # bytes
MAX_RATIO = 100  # bytes for each byte of the file, once they are more than ANY_RATIO bytes
ANY_RATIO = 16 << 20

HEAD = 16  # bytes that tell a byte order mark and most kinds of files
CONTEXT = 1 << 16  # bytes after the place that cannot be decoded, of which the encoding is guessed

COMPRESSED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}

# UTF-32 first: its little-endian mark begins with that of UTF-16.
MARKS = {codecs.BOM_UTF32_LE: "utf-32-le", codecs.BOM_UTF32_BE: "utf-32-be", codecs.BOM_UTF8: "utf-8"}
MARKS |= {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}

# What a file is that begins with these bytes, and what to do with it.
KINDS = {
    b"%PDF-": ("a PDF", "convert it to text with pdftotext {path} text.txt"),
    b"SQLite format 3\0": ("an SQLite database", 'export its text with sqlite3 {path} "select …" > text.txt'),
    b"PAR1": ("a Parquet table", "export its text column as CSV"),
    b"ARROW1": ("an Arrow table", "export its text column as CSV"),
    b"{\\rtf": ("a document in RTF", "save it as plain text"),
    b"\xd0\xcf\x11\xe0": ("an Office document", "save it as plain text or CSV"),
    b"7z\xbc\xaf": ("a 7z archive", "unpack it, and give its folder as dataset.path"),
    b"Rar!": ("a RAR archive", "unpack it, and give its folder as dataset.path"),
    b"\x28\xb5\x2f\xfd": ("compressed by zstd", "unpack it with unzstd {path}"),
    b"\x89PNG": ("a picture", "give a text file"),
    b"\xff\xd8\xff": ("a picture", "give a text file"),
    b"GIF8": ("a picture", "give a text file"),
    b"MThd": ("a MIDI file", "convert it to text, for example to ABC with midi2abc {path}"),
    b"\x93NUMPY": ("a numpy array", "give a text file"),
    b"\x89HDF": ("an HDF5 file", "export its text as CSV"),
    b"\x7fELF": ("a program", "give a text file"),
}
# What a ZIP archive is that holds these bytes near its beginning.
ZIPS = {
    b"[Content_Types].xml": ("an Office document", "save it as plain text or CSV"),
    b"application/vnd.oasis": ("an OpenDocument file", "save it as plain text or CSV"),
    b"application/epub": ("an EPUB", "convert it to text with pandoc -t plain {path} -o text.txt"),
}

# Encodings in use (those of the WHATWG Encoding Standard, but for rare ones), the more frequent first. UTF-16 is
# known by its zeros.
LIKELY = ["cp1252", "gb18030", "cp932", "cp1251", "euc_jp", "euc_kr", "big5", "koi8_r"]
LIKELY += ["cp1250", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp874", "iso8859_2", "iso8859_5", "iso8859_7"]
NO_TEXT = ("idna", "punycode", "unicode-escape", "raw-unicode-escape", "unicode_escape", "raw_unicode_escape")
MAX_CHAOS = 0.4  # of charset-normalizer, from 0 to 1: more of it is no text


@dataclass(frozen=True)
class Source:
    """Where bytes are from, for messages: a file, or a `member` of an archive."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"dataset.path={self.path}" + (f": {self.member} in it" if self.member else "")

    def advice(self, what: str) -> str:
        """What to do with the file: `what`, in which {path} stands for it. A member must be unpacked before."""
        if self.member:
            return "unpack the archive, convert or remove this file, and give the folder as dataset.path"
        return what.format(path=shlex.quote(str(self.path)))


def read_file(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file. Raises `UserError` if it is none."""
    return "".join(read_parts(path, encoding))


def read_parts(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """The text of a file in parts of at most BYTES_AT_ONCE characters. Raises `UserError` if it is none."""
    return decode(read_blocks(path), path, encoding)


def read_blocks(path: Path) -> Iterator[bytes]:
    """The bytes of a file in blocks, unpacked if gzip, bzip2 or xz compressed them; the first has HEAD or more."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    opener = next((opener for magic, opener in COMPRESSED.items() if head.startswith(magic)), None)
    if opener is None:
        with path.open("rb") as file:
            yield from blocks_of(file)
        return
    try:
        with opener(path, mode="rb") as file:
            n_unpacked = 0
            for block in blocks_of(file):
                n_unpacked += len(block)
                check_unpacked(n_unpacked, path)
                yield block
    except MemoryError:  # xz: the file asks for it
        raise UserError(f"dataset.path={path}: takes too much memory to unpack; unpack it, and give the text") from None
    except (EOFError, ValueError, zlib.error, lzma.LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # of the disk; one of the content has no number
            raise
        raise UserError(f"dataset.path={path}: the compressed file is damaged or cut off; fetch it again") from None


def blocks_of(file: Any) -> Iterator[bytes]:
    """What an open file holds, in blocks of BYTES_AT_ONCE; the first has HEAD bytes or more."""
    size = max(HEAD, BYTES_AT_ONCE)
    while block := file.read(size):
        yield block
        size = BYTES_AT_ONCE


def check_unpacked(n_bytes: int, path: Path) -> None:
    """Raise `UserError` if `path` unpacks to so many bytes that they are hardly text."""
    limit = min(MAX_UNPACKED, max(ANY_RATIO, MAX_RATIO * path.stat().st_size))
    if n_bytes > limit:
        raise UserError(
            f"dataset.path={path}: unpacks to more than {limit / 1e6:,.0f} MB, {limit // path.stat().st_size:,} times"
            " its size; if you trust it, unpack it, and give what was in it as dataset.path"
        )


def decode(blocks: Iterable[bytes], path: Path, encoding: str = "utf-8", member: str = "") -> Iterator[str]:
    """The text of blocks of bytes, one part for each, without a byte order mark, which goes before `encoding`.

    They are the content of `path`, or of the file `member` in this archive. Raises `UserError` if they are no text in
    this encoding.
    """
    source = Source(path, member)
    check_encoding(encoding)
    decoder, n_read = None, 0
    for block in blocks:
        n_read += len(block)
        if decoder is None:
            refuse_other_kinds(block, source)
            mark = next((mark for mark in MARKS if block.startswith(mark)), b"")
            encoding, block = MARKS.get(mark, encoding), block[len(mark) :]
            refuse_zeros(block, source, encoding)
            decoder = codecs.getincrementaldecoder(encoding)()
        yield decode_block(decoder, block, n_read, source, encoding)
    if decoder is not None:
        yield decode_block(decoder, b"", n_read, source, encoding)


def decode_block(decoder: codecs.IncrementalDecoder, block: bytes, n_read: int, source: Source, encoding: str) -> str:
    """The text of the next block, b"" for the end; `n_read` bytes have been read with it."""
    try:
        return decoder.decode(block, final=not block)
    except UnicodeDecodeError as error:
        # `error.object` is the block, and before it what the decoder has kept of earlier ones.
        place = n_read - len(error.object) + error.start
        raise UserError(f"{source}: {describe_failure(error, place, encoding, source)}") from None
    except UnicodeError as error:  # UTF-16 or UTF-32 without a byte order mark
        hint = f"add dataset.encoding={encoding}-le or dataset.encoding={encoding}-be"
        raise UserError(f"{source}: not {encoding.upper()} ({error}); {hint}") from None


def check_encoding(encoding: str) -> None:
    """Raise `UserError` for a name that is no encoding of text."""
    try:
        " ".encode(encoding)
        if codecs.lookup(encoding).name in NO_TEXT:
            raise LookupError
    except (LookupError, ValueError, TypeError):
        known = [
            "utf_8",
            *LIKELY,
            *(name for name in aliases.values() if not name.endswith("_codec") and name != "rot_13"),
        ]
        close = difflib.get_close_matches(encoding.lower().replace("-", "_"), known, n=1)
        hint = f"did you mean {close[0].replace('_', '-')}?" if close else "the default is utf-8"
        raise UserError(f"dataset.encoding={encoding}: Python knows no such encoding of text; {hint}") from None


def refuse_other_kinds(head: bytes, source: Source) -> None:
    """Raise `UserError` if bytes are the beginning of a file that is known to be no text."""
    kind = next((kind for magic, kind in KINDS.items() if head.startswith(magic)), None)
    if head.startswith(b"PK\x03\x04"):
        zipped = ("a ZIP archive", "dataset.reader=zip reads the text files in it")
        kind = next((kind for magic, kind in ZIPS.items() if magic in head[:2048]), zipped)
    if head[257:262] == b"ustar":
        kind = ("a tar archive", "unpack it, and give its folder as dataset.path")
    if kind:
        raise UserError(f"{source}: is {kind[0]}, no text; {source.advice(kind[1])}")


def refuse_zeros(block: bytes, source: Source, encoding: str) -> None:
    """Raise `UserError` for bytes with so many zeros that they are UTF-16, UTF-32 or no text; all decode as UTF-8."""
    if not block.count(0) or codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")):
        return
    ends = {"utf-16-le": block.count(b"\n\0"), "utf-16-be": block.count(b"\0\n")}  # in any script, lines end so
    likely = [found for found, n in ends.items() if 2 * n > block.count(b"\n")]
    if not likely and block.count(0) * 10 <= len(block):
        return
    zeros = [block[i::4].count(0) * 4 / len(block) for i in range(4)]  # shares of zeros at each of four bytes
    wide = {"utf-32-le": min(zeros[2:]) - zeros[0], "utf-32-be": min(zeros[:2]) - zeros[3]}
    narrow = {"utf-16-le": min(zeros[1::2]) - max(zeros[::2]), "utf-16-be": min(zeros[::2]) - max(zeros[1::2])}
    likely = [found for found, share in (wide | narrow).items() if share > (0.9 if found in wide else 0.2)] or likely
    if not likely:
        raise UserError(f"{source}: holds {block.count(0):,} zero bytes, so it is no text; give a text file")
    raise UserError(
        f"{source}: looks like {likely[0].upper()} without a byte order mark; add dataset.encoding={likely[0]}"
    )


def describe_failure(error: UnicodeDecodeError, place: int, encoding: str, source: Source) -> str:
    """What is wrong with bytes that cannot be decoded, and what to type."""
    start = error.object.rfind(b"\n", 0, error.start) + 1
    data = error.object[start : error.start + CONTEXT]
    wrong = f"not {encoding.upper()} at byte {place:,}"
    if codecs.lookup(encoding).name == "utf-8":
        text = error.object[max(0, start - CONTEXT) : error.start + CONTEXT].decode("utf-8", "replace")
        damaged = text.count("\ufffd")
        if sum(char > "\x7f" for char in text) > 5 * damaged:
            repair = source.advice("leave out what is damaged with iconv -c -f utf-8 -t utf-8 {path} > repaired.txt")
            return f"{wrong}, though most of it is; {repair}"
    fitting = [other for other in likely_encodings(data) if codecs.lookup(other) != codecs.lookup(encoding)]
    if not fitting:
        return f"{wrong}, nor in another encoding that is in use: give a text file"
    first, *others = fitting
    line = error.object[start : error.start + 20].decode(first, "replace").partition("\n")[0]
    also = f"; {' and '.join(others[:2])} would be possible as well" if others else ""
    return f"{wrong}; likeliest it is {first}, which reads {line!r} there: add dataset.encoding={first}{also}"


def likely_encodings(data: bytes) -> list[str]:
    """The encodings in which bytes are text, the likeliest first: in their order in LIKELY if they fit equally well."""
    import charset_normalizer

    found = charset_normalizer.from_bytes(data, cp_isolation=LIKELY, threshold=MAX_CHAOS)
    ranked = [
        (round(match.chaos, 1), -round(match.coherence, 1), LIKELY.index(encoding))
        for match in found
        for encoding in match.could_be_from_charset
        if encoding in LIKELY
    ]
    return [LIKELY[place].replace("_", "-") for *_, place in sorted(ranked)]

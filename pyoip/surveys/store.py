"""A survey in one file: SQLite, written piece by piece, readable while it is written.

Every piece of work is one transaction, its results together with the row in ``tasks`` that says
it is done: a process that is killed loses the piece at hand and nothing else. The file is in WAL
mode, in which readers see the last transaction and never wait. What is stored depends on the plan
alone, but for the table ``sessions``, which keeps when and how fast it was worked on.

Tables
------
plan (name, value)
    What `Plan.as_texts` says, one row an attribute.
maps (map, real, bound)
    What real images reach, and what no image can exceed; NULL where unknown.
tasks (kind, mix, first, engine)
    Pieces that are done; one that scores several mixes stands under the first.
scores (mix, first, count, alive, awake, numbers, scores)
    Of the pieces that score start images; arrays as in `work.Scored`.
oips (mix, alive, map, activation, preactivation, verdict, woke, steps, stop, start, image)
    The best of each mix for each map; ``alive`` of the mix's start images activate it.
article (map, …, start)
    The same for the article's way, one start image after the other, without images.
sessions (began, seconds, ascents, images, engine)
    Wall time; no part of the findings.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..settings import Constraint, require
from ..summary import ranges
from .plan import Plan, Task
from .work import Climbed, Found, Numbers, Scored, merged

APPLICATION = 0x4F495053  # "OIPS", in the file's header
VERSION = 3
PAGE_BYTES = 2**14  # several images: fewer pages are fewer writes

_OIP = """
    map INTEGER, activation REAL NOT NULL, preactivation REAL NOT NULL, verdict TEXT NOT NULL,
    woke INTEGER NOT NULL, steps INTEGER NOT NULL, stop TEXT NOT NULL, start INTEGER NOT NULL
"""
_TABLES = (
    "CREATE TABLE plan (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE maps (map INTEGER PRIMARY KEY, real REAL, bound REAL)",
    "CREATE TABLE tasks (kind TEXT, mix INTEGER, first INTEGER, engine TEXT NOT NULL, "
    "PRIMARY KEY (kind, mix, first)) WITHOUT ROWID",
    "CREATE TABLE scores (mix INTEGER, first INTEGER, count INTEGER NOT NULL, "
    "alive BLOB NOT NULL, awake BLOB NOT NULL, numbers BLOB NOT NULL, scores BLOB NOT NULL, "
    "PRIMARY KEY (mix, first))",
    f"CREATE TABLE oips (mix INTEGER, alive INTEGER NOT NULL, {_OIP}, image BLOB NOT NULL, "
    "PRIMARY KEY (mix, map))",
    f"CREATE TABLE article ({_OIP}, PRIMARY KEY (start, map))",
    "CREATE TABLE sessions (began REAL PRIMARY KEY, seconds REAL NOT NULL, "
    "ascents INTEGER NOT NULL, images INTEGER NOT NULL, engine TEXT NOT NULL)",
)


class Store:
    """The file of a survey, open for writing by this process alone.

    Parameters
    ----------
    path : path
        Made where it does not exist, in a folder that does.
    plan : Plan
        What an existing file must have been begun with.

    Raises
    ------
    DataError
        Another writer has it; it is something else; it was begun with another model or other
        settings (the message names the first difference); it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], plan: Plan) -> None:
        self.path, self.plan = as_file(path), plan
        self._lock = _Lock(self.path.resolve())
        try:
            with self._told():
                self._database = _opened(self.path)
                self._begin()
        except BaseException:
            self._lock.release()
            raise
        self._began, self._since = time.time(), time.perf_counter()
        self._ascents = self._images = 0

    def close(self) -> None:
        """Let others write."""
        self._database.close()
        self._lock.release()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- reading -------------------------------------------------------------------------------

    def done(self) -> set[tuple[str, int, int]]:
        """Keys of the pieces that are stored."""
        return set(self._database.execute("SELECT kind, mix, first FROM tasks"))

    def starts_of(self, task: Task) -> Numbers:
        """The best start images (mixes, n, ascents) of a piece, whose mixes are all scored."""
        best = np.stack([self._best_of(mix) for mix in task.covered])
        return best[:, task.first : task.first + task.count]

    def _best_of(self, mix: int) -> Numbers:
        rows = self._database.execute(
            "SELECT alive, numbers, scores FROM scores WHERE mix = ? ORDER BY first", (mix,)
        )
        return merged([_scored(self.plan, row) for row in rows])

    def awake(self) -> set[int]:
        """Maps that something stored activates: a start image that is scored, or an ascent."""
        climbed = "SELECT map FROM {} WHERE activation > 0"
        asked = f"{climbed.format('oips')} UNION {climbed.format('article')}"
        found = {number for (number,) in self._database.execute(asked)}
        for (blob,) in self._database.execute("SELECT alive FROM scores"):
            found.update(np.array(self.plan.maps)[np.frombuffer(blob, np.int64) > 0].tolist())
        return found

    # --- writing -------------------------------------------------------------------------------

    def put_maps(self, real: Sequence[float], bounds: Sequence[float]) -> None:
        """Keep what is known of the maps before any start image."""
        rows = zip(self.plan.maps, map(_or_none, real), map(_or_none, bounds), strict=True)
        with self._transaction():
            self._many("INSERT OR IGNORE INTO maps VALUES (?, ?, ?)", rows)

    def put(self, task: Task, found: Found, engine: str) -> None:
        """Keep a piece of work, all of it or nothing."""
        if isinstance(found, Climbed):
            self._put_climbed(task, found, engine)
        else:
            self._put_scored(task, found, engine)

    def _put_scored(self, task: Task, found: tuple[Scored, ...], engine: str) -> None:
        rows = [
            (mix, task.first, task.count, *_blobs(one))
            for mix, one in zip(task.covered, found, strict=True)
        ]
        with self._transaction():
            self._many("INSERT INTO scores VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            self._finish(task, engine, images=task.count * task.mixes)

    def _put_climbed(self, task: Task, found: Climbed, engine: str) -> None:
        with self._transaction():
            if task.kind == "article":
                self._many("INSERT INTO article VALUES (?, ?, ?, ?, ?, ?, ?, ?)", _rows(found))
            else:
                pairs = zip(self._pairs(task), _rows(found), strict=True)
                rows = ((*pair, *row) for pair, row in pairs)
                self._many("INSERT INTO oips VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            starts = self.plan.ascents if task.kind == "climb" else 1
            self._finish(task, engine, ascents=len(found.maps) * starts)

    def _pairs(self, task: Task) -> Iterator[tuple[int, int]]:
        """Of every pair of mix and map: the mix; how many of its start images activate the map."""
        for mix in task.covered:
            rows = self._database.execute("SELECT alive FROM scores WHERE mix = ?", (mix,))
            total = np.sum([np.frombuffer(blob, np.int64) for (blob,) in rows], axis=0)
            for alive in total[task.first : task.first + task.count].tolist():
                yield mix, alive

    def _finish(self, task: Task, engine: str, *, ascents: int = 0, images: int = 0) -> None:
        self._many("INSERT INTO tasks VALUES (?, ?, ?, ?)", [(*task.key, engine)])
        self._ascents += ascents
        self._images += images
        seconds = time.perf_counter() - self._since
        row = (self._began, seconds, self._ascents, self._images, engine)
        self._many("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?)", [row])

    def _many(self, statement: str, rows: Any) -> None:
        self._database.executemany(statement, rows)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._told():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what file system and SQLite raise into one line that says how to go on."""
        try:
            yield
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror or error}") from None
        except sqlite3.Error as error:
            raise DataError(f"{self.path}: {_reason(error)}") from None

    # --- beginning -----------------------------------------------------------------------------

    def _begin(self) -> None:
        found = self._database.execute("PRAGMA application_id").fetchone()[0]
        tables = self._database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        if not tables:
            self._create()
        elif found != APPLICATION:
            raise DataError(f"{self.path}: a database, but no survey; choose another file")
        else:
            _check_version(self._database, self.path)
            self._compare()

    def _create(self) -> None:
        # Of a file that holds nothing yet nothing can be lost: no need to wait for the disk.
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        self._database.execute("PRAGMA journal_mode = WAL")
        with self._transaction():
            for statement in _TABLES:
                self._database.execute(statement)
            self._many("INSERT INTO plan VALUES (?, ?)", self.plan.as_texts().items())
            self._database.execute(f"PRAGMA user_version = {VERSION}")
            self._database.execute(f"PRAGMA application_id = {APPLICATION}")
        _sync(self._database)

    def _compare(self) -> None:
        stored = dict(self._database.execute("SELECT name, value FROM plan"))
        difference = _difference(Plan.from_texts(stored), self.plan)
        if difference:
            raise DataError(
                f"{self.path}: was begun with {difference}; go on with the same, or choose another "
                "file"
            )


def _rows(found: Climbed) -> Iterator[tuple[Any, ...]]:
    images = () if found.images is None else ([image.tobytes() for image in found.images],)
    return zip(
        found.maps.tolist(),
        found.activations.tolist(),
        found.preactivations.tolist(),
        found.verdicts,
        found.woke.tolist(),
        found.steps.tolist(),
        found.stops,
        found.starts.tolist(),
        *images,
        strict=True,
    )


def _blobs(found: Scored) -> tuple[bytes, ...]:
    arrays = found.numbers.tobytes(), found.scores.tobytes()
    return found.alive.tobytes(), found.awake, *arrays


def _scored(plan: Plan, row: tuple[bytes, bytes, bytes]) -> Scored:
    alive, numbers, scores = row
    shape = (len(plan.maps), plan.ascents)
    return Scored(
        np.frombuffer(alive, np.int64),
        b"",
        np.frombuffer(numbers, np.int64).reshape(shape),
        np.frombuffer(scores, np.float32).reshape(shape),
    )


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _difference(stored: Plan, asked: Plan) -> str:
    """The first attribute in which two plans differ, in words; "" if none.

    The model is known by its checksum: under whatever name it goes, it is the same.
    """
    for name, before in sorted(vars(stored).items(), key=lambda item: item[0] != "sha256"):
        now = getattr(asked, name)
        if before == now or name == "network":
            continue
        if name == "settings":
            for part, value in vars(before).items():
                if value != getattr(now, part):
                    return f"{part}={_short(value)}, not {_short(getattr(now, part))}"
        if name == "maps":
            return (
                f"the maps {ranges(sorted(before))}, not {ranges(sorted(now))}{_order(before, now)}"
            )
        if name == "mixes":
            return _other_mixes(before, now)
        if name == "sha256":
            return f"another model of checksum {before[:12]}…, not {now[:12]}…"
        return f"{name}={_short(before)}, not {_short(now)}"
    return ""


def _order(before: tuple[int, ...], now: tuple[int, ...]) -> str:
    return ", in this order" if sorted(before) == sorted(now) else ""


def _other_mixes(before: tuple[Any, ...], now: tuple[Any, ...]) -> str:
    if len(before) != len(now):
        return f"{len(before)} mixes, not {len(now)}"
    pairs = enumerate(zip(before, now, strict=True))
    return next(f"mix {i} of {a}, not {b}" for i, (a, b) in pairs if a != b)


def _short(value: object) -> str:
    if isinstance(value, Constraint):
        box = value.kind == "clip"
        return f"'{value.kind}' to {value.low:g} … {value.high:g}" if box else repr(value.kind)
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


# --- files -------------------------------------------------------------------------------------


def _opened(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, timeout=30.0)
    _sync(database)
    return database


def _sync(database: sqlite3.Connection) -> None:
    """A killed process loses nothing that was committed.

    Nor does the machine's own end damage the file, which then may lack the last pieces.
    """
    database.execute("PRAGMA synchronous = NORMAL")


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[sqlite3.Connection]:
    """The file of a survey, to be read while others may write.

    Raises
    ------
    DataError
        There is none, or it is something else.
    """
    file = as_file(path)
    if not file.is_file():
        raise DataError(f"{file}: no such file; 'pyoip survey MODEL --out {file}' makes it")
    try:
        with closing(_connected(file)) as database:
            database.execute("BEGIN")  # one state of the file for all that is read
            if database.execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
                raise DataError(f"{file}: {_not_a_survey(database)}")
            _check_version(database, file)
            yield database
    except sqlite3.Error as error:
        raise DataError(f"{file}: {_reason(error)}") from None


def _connected(file: Path) -> sqlite3.Connection:
    """A connection that reads: one that also tidies up behind the last writer where it may.

    In a folder that cannot be written SQLite's own files cannot be made; there the file is taken
    as it stands.
    """
    address = file.resolve().as_uri()
    unwritten = file.with_name(file.name + "-wal")
    still = not (unwritten.exists() and unwritten.stat().st_size)
    for way in ("mode=rw", "mode=ro"):
        try:
            return _tried(f"{address}?{way}")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise
    if not still:
        raise DataError(
            f"{file}: its last pieces are in {unwritten.name}, which cannot be read in a folder "
            "that cannot be written; copy both elsewhere"
        )
    return _tried(f"{address}?immutable=1")


def _tried(address: str) -> sqlite3.Connection:
    database = sqlite3.connect(address, uri=True, isolation_level=None, timeout=30.0)
    try:
        database.execute("PRAGMA query_only = 1")
        database.execute("SELECT COUNT(*) FROM sqlite_master")
    except sqlite3.Error:
        database.close()
        raise
    return database


def _not_a_survey(database: sqlite3.Connection) -> str:
    if database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
        return "a database, but no survey"
    return "empty; a survey that writes it has not begun yet"


def as_file(path: str | os.PathLike[str]) -> Path:
    """`path` as one, unless it is none or a folder."""
    ok = isinstance(path, str | os.PathLike) and str(path) != ""
    require(ok, "out", path, "the path of a file")
    file = Path(path)
    if file.is_dir():
        raise DataError(f"{file}: is a folder; must be a file")
    return file


def _check_version(database: sqlite3.Connection, path: Path) -> None:
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version != VERSION:
        raise DataError(f"{path}: a survey of format {version}; this pyoip reads format {VERSION}")


def _reason(error: sqlite3.Error) -> str:
    text = str(error)
    if "full" in text or "disk I/O" in text:
        return (
            f"cannot be written ({text}); all finished pieces are kept: make room, then run the "
            "same command again"
        )
    if "readonly" in text or "unable to open" in text:
        return f"cannot be opened for writing ({text}); look at the rights of file and folder"
    if isinstance(error, sqlite3.IntegrityError):
        return f"was written by another process meanwhile ({text}); run the same command again"
    if "not a database" in text or "malformed" in text:
        return f"no survey, or a damaged one ({text}); choose another file"
    return text


class _Lock:
    """A lock on the file ``PATH-lock`` that dies with the process that holds it."""

    def __init__(self, path: Path) -> None:
        self._name = path.with_name(path.name + "-lock")
        while True:
            self._file = self._locked(path)
            if self._current():
                return
            self._file.close()  # its last holder has removed it in between

    def _locked(self, path: Path) -> Any:
        try:
            file = open(self._name, "ab")  # noqa: SIM115 - open for as long as the lock is held
        except OSError as error:
            raise DataError(
                f"{path}: cannot be opened for writing ({error.strerror}); look at the rights of "
                "file and folder"
            ) from None
        try:
            _lock_file(file)
        except OSError:
            file.close()
            raise DataError(
                f"{path}: another process is writing it; wait for it, or choose another file"
            ) from None
        return file

    def _current(self) -> bool:
        """Whether the name still stands for the file that is locked."""
        try:
            return os.path.samestat(os.stat(self._name), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let others write, and leave no trace."""
        if os.name == "posix":  # elsewhere an open file cannot be removed
            self._name.unlink(missing_ok=True)
        self._file.close()


def _lock_file(file: Any) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

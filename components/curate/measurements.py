"""Measurements in the object store: parts that are only ever added, found by listing.

    measurements/NAME/KEY/PART.parquet    one row a source; PART is the SHA-256 of the bytes

KEY holds all that a measurement depends on beside the source, and no threshold, so a row is right wherever its key is
met: in another run, from another image, for a longer list of sources. Two that measure at the same time write the
same rows twice, and the first part counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.references import digest_bytes
from zoetrope.infra.store import Store
from zoetrope.infra.store.content import parquet_of, table_of

if TYPE_CHECKING:
    import pyarrow

FOLDER = "measurements"
SOURCE = "source"
READERS = 16
"""Parts that are read at the same time."""


class Measurement:
    """The rows of one measurement, in the store and in memory.

    Args:
        store: where they lie.
        name: of the measurement, e.g. `motion`.
        key: digest of all that it depends on beside the source.
        schema: columns of a row beside `source`, the SHA-256 of the file that was measured.
    """

    def __init__(self, store: Store, name: str, key: str, schema: pyarrow.Schema) -> None:
        import pyarrow

        self.name, self.key = name, key
        self._store = store
        self._schema = pyarrow.schema([pyarrow.field(SOURCE, pyarrow.string()), *schema])
        self._tables: list[pyarrow.Table] = []
        self._waiting: list[dict[str, Any]] = []
        self._places: dict[str, tuple[int, int]] = {}

    def load(self, sources: Iterable[str]) -> None:
        """Reads what is stored of these sources.

        Raises:
            ZoetropeError: a part is damaged.
        """
        import pyarrow
        import pyarrow.compute

        wanted = pyarrow.array(sorted(sources), pyarrow.string())
        with ThreadPoolExecutor(READERS, "measurements") as pool:
            for table in pool.map(self._read, self._store.list(self._folder)):
                self._take(table.filter(pyarrow.compute.is_in(table[SOURCE], wanted)))

    def __contains__(self, source: str) -> bool:
        return source in self._places

    def row(self, source: str) -> dict[str, Any]:
        """The row of one source."""
        table, place = self._places[source]
        row: dict[str, Any] = self._tables[table].slice(place, 1).to_pylist()[0]
        return row

    def column(self, name: str) -> dict[str, Any]:
        """Source -> value of one column."""
        found = [table[name].to_pylist() for table in self._tables]
        return {source: found[table][place] for source, (table, place) in self._places.items()}

    def add(self, source: str, values: Mapping[str, Any]) -> None:
        """Takes a row; `write` puts it into the store."""
        self._waiting.append({SOURCE: source, **values})

    def write(self) -> None:
        """Writes what was added as one part."""
        import pyarrow

        if not self._waiting:
            return
        table = pyarrow.Table.from_pylist(self._waiting, self._schema)
        data = parquet_of(table)
        self._store.put_bytes(f"{self._folder}{digest_bytes(data)}.parquet", data)
        self._take(table)
        self._waiting = []

    def table(self, sources: Sequence[str]) -> pyarrow.Table:
        """The rows of these sources, in their order."""
        import pyarrow

        starts = [0]
        for each in self._tables:
            starts.append(starts[-1] + each.num_rows)
        rows = [starts[table] + place for table, place in (self._places[source] for source in sources)]
        return pyarrow.concat_tables([self._schema.empty_table(), *self._tables]).take(pyarrow.array(rows, "int64"))

    @property
    def _folder(self) -> str:
        return f"{FOLDER}/{self.name}/{self.key}/"

    def _read(self, uri: str) -> pyarrow.Table:
        data = self._store.read(uri)
        if digest_bytes(data) != uri.rpartition("/")[2].removesuffix(".parquet"):
            raise ZoetropeError(
                f"{uri}: content does not match the digest in its name",
                "the object was changed or damaged; delete it and run again, which measures its sources anew",
            )
        return table_of(data, self._schema)

    def _take(self, table: pyarrow.Table) -> None:
        for place, source in enumerate(table[SOURCE].to_pylist()):
            self._places.setdefault(source, (len(self._tables), place))
        self._tables.append(table)

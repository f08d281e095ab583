"""Opening a ledger: what is not one, what is too old or too new, and disks that fail."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from store_world import World, check_cells

from evalkit.errors import UserError
from evalkit.store import Ledger, frames, schema
from evalkit.store.migrations import apply, upgrade


def make(path: Path) -> Path:
    with Ledger.open(str(path)) as ledger:
        World(ledger)
    return path


def set_version(url: str, version: str) -> None:
    with Ledger.open(url) as ledger, ledger.write() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{version}'")


def said(url: str, **options: bool) -> str:
    with pytest.raises(UserError) as error:
        Ledger.open(url, **options).close()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_migrations_make_the_tables_that_the_schema_declares(url: str) -> None:
    def described(engine: sa.Engine) -> dict[str, object]:
        found: dict[str, object] = {}
        inspect = sa.inspect(engine)
        for table in [*sorted(schema.Base.metadata.tables), "alembic_version"]:
            columns = [(c["name"], str(c["type"]), c["nullable"]) for c in inspect.get_columns(table)]
            keys = sorted(
                (tuple(k["constrained_columns"]), k["referred_table"]) for k in inspect.get_foreign_keys(table)
            )
            unique = sorted(str(u["name"]) for u in inspect.get_unique_constraints(table))
            checks = sorted(str(c["name"]) for c in inspect.get_check_constraints(table))
            found[table] = (columns, inspect.get_pk_constraint(table)["constrained_columns"], keys, unique, checks)
        return found

    with Ledger.open(url) as ledger:  # which makes them without Alembic
        made, version = described(ledger.engine), "SELECT version_num FROM alembic_version"
        with ledger.engine.connect() as connection:
            indexes, stamp = _indexes(connection), connection.exec_driver_sql(version).all()
        with ledger.write() as connection:
            schema.Base.metadata.drop_all(connection)
            connection.exec_driver_sql("DROP TABLE alembic_version")
        apply(ledger.engine, url)
        assert described(ledger.engine) == made
        with ledger.engine.connect() as connection:
            assert _indexes(connection) == indexes
            assert connection.exec_driver_sql(version).all() == stamp == [(schema.VERSION,)]


def _indexes(connection: sa.Connection) -> list[str]:
    # Not by inspection, which does not see indexes on expressions.
    query = "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    if connection.dialect.name == "postgresql":
        query = "SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema() AND tablename <> 'alembic_version'"
    return sorted(connection.exec_driver_sql(query).scalars())


def test_version_constant_is_the_newest_migration() -> None:
    from alembic.script import ScriptDirectory

    folder = Path(schema.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == schema.VERSION


def test_older_ledger_says_what_to_type_and_upgrade_reports(url: str) -> None:
    Ledger.open(url).close()
    assert upgrade(url) == (schema.VERSION, schema.VERSION)
    set_version(url, "0000")
    assert re.search(r"older version 0000.*type: evalkit db upgrade", said(url))


def test_upgrade_runs_the_missing_versions_in_one_transaction(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from evalkit.store import migrations

    Ledger.open(url).close()
    folder = tmp_path / "migrations"
    shutil.copytree(Path(migrations.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    before, after = schema.VERSION, f"{int(schema.VERSION) + 1:04d}"
    step = folder / "versions" / f"v{after}.py"
    head = f"from alembic import op\nimport sqlalchemy as sa\nrevision, down_revision = '{after}', '{before}'\n\n"
    body = "def upgrade():\n    op.add_column('run', sa.Column('note', sa.Text()))\n"
    step.write_text(head + body + "    op.execute('SELECT * FROM no_such_table')\n")
    monkeypatch.setattr(migrations, "__file__", str(folder / "__init__.py"))
    monkeypatch.setattr(schema, "VERSION", after)
    with pytest.raises((UserError, sa.exc.DBAPIError)):
        upgrade(url)
    assert f"older version {before}" in said(url)
    step.write_text(head + body)
    shutil.rmtree(folder / "versions" / "__pycache__", ignore_errors=True)
    assert upgrade(url) == (before, after)
    with Ledger.open(url) as ledger:
        assert "note" in [column["name"] for column in sa.inspect(ledger.engine).get_columns("run")]


def test_newer_ledger_is_left_alone(url: str) -> None:
    Ledger.open(url).close()
    set_version(url, "9999")
    assert re.search(r"newer version 9999.*pip install -U evalkit", said(url))
    with pytest.raises(UserError, match="newer version 9999"):
        upgrade(url)


def test_other_databases_and_files_are_refused_and_unchanged(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE notes (text)")
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but rather long " * 100)
    before = [path.read_bytes() for path in (other, text)]
    assert re.search(r"other\.db' is a database, but not an evalkit ledger", said(str(other)))
    assert re.search(r"notes\.txt' is not a ledger: it is not even a SQLite database", said(str(text)))
    assert "not an evalkit ledger" in said(f"sqlite:///{other}", readonly=True)
    assert "it is not even" in said(str(text), readonly=True)
    with pytest.raises(UserError, match="not an evalkit ledger"):
        upgrade(str(other))
    assert [path.read_bytes() for path in (other, text)] == before


def test_missing_places(tmp_path: Path) -> None:
    assert re.search(r"the folder '.*absent' does not exist", said(str(tmp_path / "absent" / "x.db")))
    assert re.search(r"there is no ledger at '.*x\.db'", said(str(tmp_path / "x.db"), create=False))
    assert "there is no ledger" in said(str(tmp_path / "x.db"), readonly=True)
    assert "is a folder" in said(str(tmp_path))
    with pytest.raises(UserError, match="there is no ledger"):
        upgrade(str(tmp_path / "x.db"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "sqlite:///:memory:", "nonsense://x", "://"])
def test_urls_that_cannot_be_ledgers(url: str) -> None:
    assert said(url).startswith("store: ")


def test_unreachable_server_and_hidden_password() -> None:
    pytest.importorskip("psycopg", reason="no PostgreSQL driver: pip install 'evalkit[postgres]'")
    sentence = said("postgresql://me:secret@127.0.0.1:9/x")
    assert "does not answer" in sentence and "secret" not in sentence


def test_paths_with_signs_that_mean_something_in_urls(tmp_path: Path) -> None:
    path = tmp_path / "a b?c#d%20é.db"
    make(path)
    assert path.exists()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_reading_only(tmp_path: Path) -> None:
    path = make(tmp_path / "x.db")
    with Ledger.open(str(path), readonly=True) as ledger:
        with pytest.raises(UserError, match="is read-only; nothing was written"):
            ledger.add_dataset("d", [])
        assert ledger.find_responses(["0" * 64]) == {}


def test_postgres_reading_only(postgres: str) -> None:
    Ledger.open(postgres).close()
    with (
        Ledger.open(postgres, readonly=True) as ledger,
        pytest.raises(UserError, match="was opened for reading only"),
    ):
        ledger.add_dataset("d", [])


AS_NOBODY = """
import os, sys
from evalkit.errors import UserError
from evalkit.store import Ledger
folder, other, uid = sys.argv[1], sys.argv[2], int(sys.argv[3])
Ledger.open(other).close()  # imports all it takes: nobody may not be allowed to read the modules
if uid:
    os.setgid(uid)
    os.setuid(uid)
path = os.path.join(folder, "x.db")
with Ledger.open(path, readonly=True) as ledger:
    print("read", ledger.find_responses(["0" * 64]))
try:
    with Ledger.open(path) as ledger:
        ledger.add_dataset("d", [])
except UserError as error:
    print(error)
try:
    Ledger.open(os.path.join(folder, "new.db"))
except UserError as error:
    print(error)
"""


def test_read_only_file_in_a_read_only_folder(tmp_path: Path) -> None:
    uid = pwd.getpwnam("nobody").pw_uid if os.getuid() == 0 else 0  # root may write anywhere
    folder = Path("/tmp") / f"evalkit-readonly-{os.getpid()}"
    folder.mkdir()
    try:
        make(folder / "x.db").chmod(0o444)
        folder.chmod(0o555)
        env = os.environ | {"PYTHONPATH": str(Path(schema.__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-c", AS_NOBODY, str(folder), str(tmp_path / "other.db"), str(uid)]
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)
    lines = done.stdout.splitlines()
    assert lines[:1] == ["read {}"], done.stderr
    assert "read-only" in lines[1] and len(lines) == 3
    assert "cannot be opened; check the path, its permissions" in lines[2] or "read-only" in lines[2]


def test_full_disk_loses_nothing_and_goes_on_after(world: World) -> None:
    ledger = world.ledger
    if ledger.engine.dialect.name != "sqlite":
        pytest.skip("a full disk is simulated by SQLite's page limit")
    ledger.add_responses(world.run, [world.row(0)])
    ledger.engine.dispose()
    limit = "PRAGMA max_page_count = {}"

    @sa.event.listens_for(ledger.engine, "connect")
    def full(connection: sqlite3.Connection, _record: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(limit.format(pages + 2))

    big = [world.row(i, body="x" * 20_000 + str(i)) for i in range(1, 10)]
    with pytest.raises(UserError, match=r"the disk that holds .* is full; what was committed is safe"):
        ledger.add_responses(world.run, big)
    sa.event.remove(ledger.engine, "connect", full)
    ledger.engine.dispose()
    check_cells(ledger)
    ledger.add_responses(world.run, big)
    check_cells(ledger)
    with ledger.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        assert connection.exec_driver_sql("SELECT count(*) FROM response").scalar() == 10


def test_damaged_file_is_said_to_be_damaged_by_reads_too(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with Ledger.open(str(path)) as ledger:
        world = World(ledger, 300)
        ledger.add_responses(world.run, [world.row(i) for i in range(300)])
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 4096 // 2 * 4096
    whole[middle:] = b"\xff" * (len(whole) - middle)
    path.write_bytes(whole)
    with pytest.raises(UserError, match=r"is damaged; `sqlite3 FILE \.recover`"), Ledger.open(str(path)) as ledger:
        frames.responses(ledger, world.run, limit=None, texts=True)
        frames.runs(ledger)
        frames.items(ledger, "d")


def test_queries_of_the_documentation_run(ledger: Ledger) -> None:
    text = (Path(schema.__file__).parents[2] / "docs" / "ledger.md").read_text()
    (block,) = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    queries = [query for query in block.split(";") if query.strip()]
    assert len(queries) >= 4
    with ledger.engine.connect() as connection:
        for query in queries:
            connection.execute(sa.text(query)).all()

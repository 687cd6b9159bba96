"""The tables in an application's own migrations, as Alembic makes, applies, compares and takes them back."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.pool import NullPool

from engines import URLS
from resetkit.stores.sqlalchemy import SQLAlchemyTokenStore, token_tables
from resetkit.testing._records import record
from servers import Servers

SERVER_OF = {"psycopg": "postgres", "pymysql": "mariadb", "sqlite3": None}
ENVIRONMENT = """
import sqlalchemy as sa
from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=context.config.attributes["metadata"],
    include_name=lambda name, kind, parents: kind != "table" or name.startswith("auth_"),
)
with context.begin_transaction():
    context.run_migrations()
"""


@pytest.fixture(params=sorted(SERVER_OF))
def url(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path) -> str:
    server = SERVER_OF[request.param]
    return URLS[request.param].format(servers[server] if server else tmp_path)


def test_alembic_finds_makes_keeps_and_drops_the_tables(url: str, tmp_path: Path) -> None:
    metadata = sa.MetaData()
    tables = token_tables(metadata, prefix="auth_reset_")
    engine = sa.create_engine(url, poolclass=NullPool)
    config = Config(tmp_path / "alembic.ini")
    config.set_main_option("script_location", str(tmp_path / "migrations"))
    command.init(config, str(tmp_path / "migrations"))
    (tmp_path / "migrations" / "env.py").write_text(ENVIRONMENT)
    with engine.begin() as connection:
        config.attributes |= {"connection": connection, "metadata": metadata}
        command.revision(config, "password reset", autogenerate=True)
        command.upgrade(config, "head")
        command.check(config)  # nothing left to do: no migration comes up again and again
    store = SQLAlchemyTokenStore(engine, tables=tables)
    made = record("alembic")
    assert store.add(made, quotas=[], keep=2)
    assert store.get(made.selector) == made
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        left = [name for name in sa.inspect(connection).get_table_names() if name.startswith("auth_")]
    assert left == []

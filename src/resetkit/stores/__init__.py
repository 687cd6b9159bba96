"""Where records are kept: in memory, or in an SQLite file."""

from resetkit.stores.memory import AsyncMemoryTokenStore, MemoryTokenStore
from resetkit.stores.sqlite import AsyncSQLiteTokenStore, SQLiteTokenStore

__all__ = ["AsyncMemoryTokenStore", "AsyncSQLiteTokenStore", "MemoryTokenStore", "SQLiteTokenStore"]

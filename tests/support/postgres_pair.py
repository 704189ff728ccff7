"""A PostgreSQL server and its standby."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.postgres import PostgresServer, running_server, short_folder


class Pair:
    """A primary and its standby, and the URL of a database on whichever of them accepts writes."""

    def __init__(self, primary: PostgresServer, standby: PostgresServer) -> None:
        self.primary = primary
        self.standby = standby

    def url(self, database: str) -> str:
        name = database.split("dbname=")[1].split()[0]
        return f"host={self.primary.folder},{self.standby.folder} port=5432,5432 dbname={name} user=postgres"

    def until_followed(self) -> None:
        """Wait until the standby has all that was written, even what is not on the disk: a row that was given free."""
        wanted = "SELECT pg_current_wal_insert_lsn() <= replay_lsn FROM pg_stat_replication"
        while self.primary.execute(wanted) != [(True,)]:
            pass

    def fail_over(self) -> None:
        """Let the primary be gone, and the standby take over with what it has."""
        self.primary.stop("immediate")
        if not self.standby.is_running():
            self.standby.start()
        self.standby.promote()

    def wait_for_standbys(self) -> None:
        """Let each commit from now on wait until the standby has it: synchronous replication."""
        self.primary.configure("synchronous_standby_names = '*'")
        self.primary.reload()
        while self.primary.execute("SELECT sync_state FROM pg_stat_replication") != [("sync",)]:
            pass


@contextmanager
def running_pair(bin_folder: Path) -> Iterator[Pair]:
    """Yield a new server that runs, and its standby. They end with the block."""
    with running_server(bin_folder) as primary, short_folder() as folder:
        standby = PostgresServer(folder / "s", bin_folder)
        standby.follow(primary)
        standby.start()
        try:
            yield Pair(primary, standby)
        finally:
            if standby.is_running():
                standby.stop("immediate")

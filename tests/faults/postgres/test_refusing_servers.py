"""A server that refuses a statement, because the role has no rights."""

import pytest
from faults.postgres_parts import Login, opened
from support.postgres import PostgresServer

from authstate import AuthError

READS = "GRANT SELECT ON ALL TABLES IN SCHEMA authstate TO {role}"


@pytest.mark.parametrize("rights", ["none", "reads"])
async def test_a_role_without_rights_is_told_what_to_do(
    rights: str, postgres_server: PostgresServer, database_url: str
) -> None:
    login = Login()
    name = database_url.split("dbname=")[1].split()[0]
    role = f"{name}_{rights}"
    async with opened(database_url) as database:
        await login.store_in(database)
    postgres_server.execute(f"CREATE ROLE {role} LOGIN")
    if rights == "reads":
        for statement in (f"GRANT USAGE ON SCHEMA authstate TO {role}", READS.format(role=role)):
            postgres_server.execute(statement, database=name)
    async with opened(postgres_server.url(name, role)) as database:
        with pytest.raises(AuthError, match="grant it the rights"):
            await login.refresh(database)
    assert login.authority.sent == []

-- Makes the role of the brokers, and gives it the password of a file for libpq. It may be repeated.
\set password `cut -d : -f 5 "$AGENTS_PGPASS"`
-- A file that cannot be read is an error: division by zero.
SELECT 1 / (length(:'password') > 0)::int AS password_was_read;
SELECT 'CREATE ROLE agents LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'agents') \gexec
SET log_statement = none;
ALTER ROLE agents PASSWORD :'password';

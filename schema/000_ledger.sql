-- What must be there before the first migration. Not one of them: it runs at every apply, and is not in
-- the ledger itself.

CREATE SCHEMA IF NOT EXISTS chat;

CREATE TABLE IF NOT EXISTS chat.schema_migrations (
    version int PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL, -- SHA-256 of the file, hexadecimal
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- The role through which workers get their rights. Roles belong to all databases of a server, so that
-- another one may be making it at the same time.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'chat_worker') THEN
        CREATE ROLE chat_worker NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
END
$$;

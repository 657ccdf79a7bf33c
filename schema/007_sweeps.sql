-- How far the ends of turns that never came were looked for. A full index on the time and this mark in place
-- of a small one on the open turns: an index that knows the state makes its change one of all indexes, which
-- cost a turn 25 microseconds of PostgreSQL's, and this 10.
CREATE INDEX turns_created_idx ON chat.turns (created_at);

-- Of nobody: no tenant, no person. Whoever holds the row's lock is the one that sweeps.
CREATE TABLE chat.sweeps (
    name text PRIMARY KEY,
    swept_until timestamptz NOT NULL -- nothing is left to be done before this time
);
INSERT INTO chat.sweeps (name, swept_until)
    SELECT 'turns', coalesce(min(created_at), now()) FROM chat.turns;
GRANT SELECT, UPDATE ON chat.sweeps TO chat_worker;

-- Which dead letters were given back to the fleet, or dropped: chatfleet dlq writes here before it does
-- something, so that a dead letter is never replayed twice. Only the administrator's: a dead letter may be
-- of any tenant, and of nobody.
CREATE DOMAIN chat.replay_state AS text
    CONSTRAINT replay_ledger_state_check CHECK (VALUE IN ('claimed', 'replayed', 'dropped'));

CREATE TABLE chat.replay_ledger (
    dead_letter_id uuid NOT NULL,
    fingerprint uuid NOT NULL, -- of what it says: callers may use a message_id for many messages
    queue text NOT NULL, -- where it failed
    operation text,
    message_id text,
    tenant_id text,
    failed_at timestamptz,
    state chat.replay_state NOT NULL,
    target text, -- the operation it was given to instead (--to)
    edited boolean NOT NULL DEFAULT false, -- its body was changed (--edit)
    claim uuid NOT NULL, -- of one attempt: whoever wrote it may go on
    run uuid NOT NULL,
    claimed_by text NOT NULL, -- user@host:pid
    claimed_at timestamptz NOT NULL DEFAULT now(),
    done_at timestamptz,
    PRIMARY KEY (dead_letter_id, fingerprint)
);

-- What a tool that was killed left behind.
CREATE INDEX replay_ledger_claimed_idx ON chat.replay_ledger (queue) WHERE state = 'claimed';

-- No policy and no grants: it is closed to all who are bound by row level security.
ALTER TABLE chat.replay_ledger ENABLE ROW LEVEL SECURITY;
ALTER TABLE chat.replay_ledger FORCE ROW LEVEL SECURITY;

-- Turns (a question and its answer, under way or ended), what answers cost, and what was asked before.

CREATE DOMAIN chat.turn_kind AS text CONSTRAINT turns_kind_check CHECK (VALUE IN ('send', 'regenerate'));
CREATE DOMAIN chat.turn_state AS text
    CONSTRAINT turns_state_check CHECK (VALUE IN ('accepted', 'completed', 'failed', 'stopped'));

CREATE TABLE chat.turns (
    id uuid PRIMARY KEY, -- the message_id of the request that began it
    tenant_id text NOT NULL,
    user_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    kind chat.turn_kind NOT NULL,
    state chat.turn_state NOT NULL DEFAULT 'accepted',
    epoch int NOT NULL DEFAULT 0, -- how often its answer's generation was started
    question_id uuid NOT NULL,
    answer_id uuid NOT NULL,
    idempotency_key text,
    problem jsonb, -- why it failed, as it was told to the caller
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CONSTRAINT turns_conversation_fkey FOREIGN KEY (tenant_id, user_id, conversation_id)
        REFERENCES chat.conversations (tenant_id, user_id, id) ON DELETE CASCADE
) WITH (fillfactor = 80); -- room for its end within a page

-- No index knows the state: its change would then be one of all indexes.
CREATE INDEX turns_conversation_idx ON chat.turns (conversation_id, question_id);

-- The id is the turn's, so that an answer which was generated twice is billed once. Deleting a
-- conversation does not delete what it cost.
CREATE TABLE chat.usage_tracking (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    user_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    message_id uuid NOT NULL, -- the answer
    model_used varchar(100) NOT NULL,
    prompt_tokens int NOT NULL DEFAULT 0,
    completion_tokens int NOT NULL DEFAULT 0,
    total_tokens int NOT NULL DEFAULT 0,
    cost_credits numeric(12, 6) NOT NULL DEFAULT 0,
    is_free_model boolean NOT NULL DEFAULT false,
    processing_time_ms int,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT usage_tracking_conversation_fkey FOREIGN KEY (tenant_id, user_id, conversation_id)
        REFERENCES chat.conversations (tenant_id, user_id, id)
);

CREATE INDEX usage_tracking_user_idx ON chat.usage_tracking (tenant_id, user_id, created_at);
CREATE INDEX usage_tracking_conversation_idx ON chat.usage_tracking (conversation_id, created_at);

-- What a client's Idempotency-Key stands for: the same key and payload give the first outcome.
CREATE TABLE chat.idempotency_keys (
    tenant_id chat.tenant_name NOT NULL,
    user_id uuid NOT NULL,
    key text NOT NULL,
    operation text NOT NULL,
    payload_hash uuid NOT NULL,
    message_id uuid NOT NULL, -- of the first request: the conversation or turn that it made
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, user_id, key),
    CONSTRAINT idempotency_keys_key_check CHECK (char_length(key) BETWEEN 1 AND 255)
);

CREATE INDEX idempotency_keys_created_idx ON chat.idempotency_keys (created_at);

-- The original subject of a token whose subject is no UUID: user_id was made from it.
CREATE TABLE chat.identities (
    tenant_id chat.tenant_name NOT NULL,
    user_id uuid NOT NULL,
    subject text NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, user_id)
);

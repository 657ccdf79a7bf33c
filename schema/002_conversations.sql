-- Conversations. The unique key beside the primary one is what the other tables' foreign keys point
-- at: a row of theirs cannot belong to another user or tenant than its conversation.
-- What a column may hold is said by domains: PostgreSQL parses a table's CHECK constraints anew for each
-- statement that writes to it, and keeps a domain's.
CREATE DOMAIN chat.tenant_name AS text
    CONSTRAINT tenant_name_check CHECK (char_length(VALUE) BETWEEN 1 AND 64);
CREATE DOMAIN chat.context_type AS varchar(50)
    CONSTRAINT conversations_context_type_check
    CHECK (VALUE IN ('general', 'assessment', 'career_guidance'));
CREATE DOMAIN chat.conversation_status AS varchar(20)
    CONSTRAINT conversations_status_check CHECK (VALUE IN ('active', 'archived', 'deleted'));

CREATE TABLE chat.conversations (
    id uuid PRIMARY KEY,
    tenant_id chat.tenant_name NOT NULL,
    user_id uuid NOT NULL REFERENCES auth.users (id),
    title varchar(255) NOT NULL DEFAULT 'New Conversation',
    context_type chat.context_type NOT NULL DEFAULT 'general',
    context_data jsonb,
    status chat.conversation_status NOT NULL DEFAULT 'active',
    metadata jsonb,
    next_seq bigint NOT NULL DEFAULT 1, -- of its next message; locked and counted up in one transaction
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT conversations_owner_key UNIQUE (tenant_id, user_id, id)
) WITH (fillfactor = 80); -- room for next_seq to count up within a page

CREATE INDEX conversations_list_idx
    ON chat.conversations (tenant_id, user_id, status, updated_at DESC, id DESC);

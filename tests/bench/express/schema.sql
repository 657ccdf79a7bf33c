-- The tables of the source documents, in the schema that the search path names; with an index that
-- serves the history, which theirs lack.
CREATE TABLE conversations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    title varchar(255) DEFAULT 'New Conversation',
    context_type varchar(50) DEFAULT 'general',
    context_data jsonb,
    status varchar(20) DEFAULT 'active',
    metadata jsonb,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    CONSTRAINT conversations_status_check CHECK (status IN ('active', 'archived', 'deleted')),
    CONSTRAINT conversations_context_type_check
        CHECK (context_type IN ('general', 'assessment', 'career_guidance'))
);

CREATE TABLE messages (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    conversation_id uuid NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    sender_type varchar(20) NOT NULL,
    content text NOT NULL,
    content_type varchar(20) DEFAULT 'text',
    metadata jsonb,
    parent_message_id uuid REFERENCES messages (id),
    created_at timestamptz DEFAULT now(),
    CONSTRAINT messages_sender_type_check CHECK (sender_type IN ('user', 'assistant', 'system')),
    CONSTRAINT messages_content_type_check CHECK (content_type IN ('text', 'image', 'file'))
);

CREATE TABLE usage_tracking (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    conversation_id uuid NOT NULL REFERENCES conversations (id),
    message_id uuid NOT NULL REFERENCES messages (id),
    model_used varchar(100) NOT NULL,
    prompt_tokens integer NOT NULL DEFAULT 0,
    completion_tokens integer NOT NULL DEFAULT 0,
    total_tokens integer NOT NULL DEFAULT 0,
    cost_credits decimal(10, 6) DEFAULT 0,
    is_free_model boolean DEFAULT false,
    processing_time_ms integer,
    created_at timestamptz DEFAULT now()
);

CREATE INDEX idx_conversations_user_id ON conversations (user_id);
CREATE INDEX idx_messages_conversation_created ON messages (conversation_id, created_at);
CREATE INDEX idx_usage_tracking_conversation_id ON usage_tracking (conversation_id);

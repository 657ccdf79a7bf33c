-- Messages, a partition for each month of their ids' times. No foreign key points at this table (one
-- would block dropping a month), and no unique constraint can hold (conversation_id, seq) over all
-- partitions: seq is counted under the conversation's lock.
CREATE DOMAIN chat.sender_type AS varchar(20)
    CONSTRAINT messages_sender_type_check CHECK (VALUE IN ('user', 'assistant', 'system'));
CREATE DOMAIN chat.content_type AS varchar(20)
    CONSTRAINT messages_content_type_check CHECK (VALUE IN ('text', 'image', 'file'));

CREATE TABLE chat.messages (
    id uuid PRIMARY KEY, -- of version 7
    tenant_id text NOT NULL,
    user_id uuid NOT NULL, -- the conversation's owner
    conversation_id uuid NOT NULL,
    seq bigint NOT NULL, -- its place in the conversation, from 1 on
    sender_type chat.sender_type NOT NULL,
    sender_id uuid, -- who wrote it, where that is a person
    content text NOT NULL,
    content_type chat.content_type NOT NULL DEFAULT 'text',
    metadata jsonb,
    parent_message_id uuid,
    chosen boolean NOT NULL DEFAULT true, -- of several answers to one question, the one in the history
    turn_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT messages_conversation_fkey FOREIGN KEY (tenant_id, user_id, conversation_id)
        REFERENCES chat.conversations (tenant_id, user_id, id) ON DELETE CASCADE
) PARTITION BY RANGE (id);

CREATE INDEX messages_conversation_idx ON chat.messages (conversation_id, seq);

-- What fits no month. It should stay empty: its rows are moved when their month's partition is made.
CREATE TABLE chat.messages_default PARTITION OF chat.messages DEFAULT;
ALTER TABLE chat.messages_default ENABLE ROW LEVEL SECURITY;
ALTER TABLE chat.messages_default FORCE ROW LEVEL SECURITY;

-- Make the partitions that are missing from last month to months_ahead months from now; returns how
-- many were made. A partition is filled first and then attached: that locks the tables in the order in
-- which workers lock them, and chat.messages itself for nobody. Partitions have row level security without
-- a policy, and no grants: they are reached through chat.messages or not at all.
CREATE FUNCTION chat.messages_partitions_ensure(months_ahead int) RETURNS int
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    this_month CONSTANT timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
    first timestamp;
    low uuid;
    high uuid;
    partition text;
    made int := 0;
BEGIN
    FOR i IN -1 .. months_ahead LOOP
        first := this_month + make_interval(months => i);
        partition := to_char(first, '"messages_"YYYY_MM');
        CONTINUE WHEN to_regclass('chat.' || partition) IS NOT NULL;
        LOCK TABLE chat.conversations IN SHARE ROW EXCLUSIVE MODE; -- ATTACH copies the foreign key
        LOCK TABLE chat.messages_default IN ACCESS EXCLUSIVE MODE;
        low := chat.uuid7_floor(first AT TIME ZONE 'UTC');
        high := chat.uuid7_floor((first + interval '1 month') AT TIME ZONE 'UTC');
        EXECUTE format('CREATE TABLE chat.%I (LIKE chat.messages INCLUDING ALL)', partition);
        EXECUTE format('ALTER TABLE chat.%I ENABLE ROW LEVEL SECURITY', partition);
        EXECUTE format('ALTER TABLE chat.%I FORCE ROW LEVEL SECURITY', partition);
        EXECUTE format('WITH moved AS (DELETE FROM chat.messages_default WHERE id >= %L AND id < %L RETURNING *)
                        INSERT INTO chat.%I SELECT * FROM moved', low, high, partition);
        EXECUTE format('ALTER TABLE chat.messages ATTACH PARTITION chat.%I FOR VALUES FROM (%L) TO (%L)',
                       partition, low, high);
        made := made + 1;
    END LOOP;
    RETURN made;
END
$function$;
REVOKE ALL ON FUNCTION chat.messages_partitions_ensure(int) FROM PUBLIC;

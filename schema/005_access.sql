-- Row level security and grants, table by table: GRANT … ON ALL TABLES would open the partitions.
DO $$
DECLARE
    relation text;
BEGIN
    FOREACH relation IN ARRAY ARRAY['conversations', 'messages', 'turns', 'usage_tracking',
                                    'idempotency_keys', 'identities'] LOOP
        PERFORM chat.protect(('chat.' || relation)::regclass);
    END LOOP;
END
$$;

GRANT SELECT ON chat.schema_migrations TO chat_worker;

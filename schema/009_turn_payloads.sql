-- What a turn's idempotency key stands for. The key is free again when the turn fails; a step that is carried
-- out late may only complete the turn if it gets the key back, and puts this beside it.
ALTER TABLE chat.turns ADD COLUMN payload_hash uuid;

-- The messages that changed a conversation last, the latest first: one of them that is delivered again
-- must not undo what came behind it.
ALTER TABLE chat.conversations ADD COLUMN changes uuid[];

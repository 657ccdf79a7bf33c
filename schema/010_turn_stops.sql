-- Since when a turn is to be stopped. It is kept, so that a stop counts that came before the answer was begun,
-- or of which the process that makes it never heard.
ALTER TABLE chat.turns ADD COLUMN stop_requested_at timestamptz;

-- A row for each request to a provider that may have cost something, whatever became of it. That of a turn's
-- answer has the turn's id and no turn_id; any other has an id of its own. What is not known is marked, and
-- never guessed: cost_credits is 0 then. No domain for the status: adding one would rewrite the table.
ALTER TABLE chat.usage_tracking
    ALTER COLUMN cost_credits TYPE numeric, -- prices of a single token have more than six decimals
    ADD COLUMN turn_id uuid,
    ADD COLUMN request_id uuid, -- the same when the fleet tells of a request again
    ADD COLUMN epoch int,
    ADD COLUMN provider text,
    ADD COLUMN generation_id text, -- the provider's own
    ADD COLUMN status text NOT NULL DEFAULT 'completed', -- or stopped, broken, failed, begun, lost
    ADD COLUMN cost_known boolean NOT NULL DEFAULT true,
    ADD COLUMN tokens_estimated boolean NOT NULL DEFAULT false;

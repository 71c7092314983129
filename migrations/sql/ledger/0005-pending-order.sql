-- The outbox is taken in the order it was written in, whichever process wrote: ids are drawn by each process on its own
-- clock, and after a move two of them have written.
ALTER TABLE log.pending ADD COLUMN IF NOT EXISTS seq bigint GENERATED ALWAYS AS IDENTITY;
ALTER TABLE log.pending DROP CONSTRAINT IF EXISTS pending_pkey;
ALTER TABLE log.pending ADD PRIMARY KEY (jurisdiction, seq);

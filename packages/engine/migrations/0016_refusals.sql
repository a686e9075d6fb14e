-- Whom does a refusal speak of: this lead, or the lane? What came before it tells.

-- Whether a call was accepted since the last refusal that speaks of the lane. Not what a person hopes who lets it go on.
ALTER TABLE carillon.lanes ADD COLUMN IF NOT EXISTS trusted boolean NOT NULL DEFAULT true;
-- Refusals in a row with codes that the driver's table does not have. An accepted call sets it back.
ALTER TABLE carillon.lanes ADD COLUMN IF NOT EXISTS unlisted_refusals integer NOT NULL DEFAULT 0;
-- Of a refusal that speaks of the lane: it came while the lane was trusted, so that the lead may be to blame. Else NULL.
ALTER TABLE carillon.attempts ADD COLUMN IF NOT EXISTS lane_was_trusted boolean;

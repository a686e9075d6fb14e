-- Whose is a call that a carrier lists? Looked up by its id among all that were ever made: its lead may be erased, or have
-- another number by now, and history keeps no numbers. Only who asks for a call id can mean this index.
CREATE INDEX IF NOT EXISTS attempts_by_call ON carillon.attempts (business_id, call_id) WHERE call_id IS NOT NULL;

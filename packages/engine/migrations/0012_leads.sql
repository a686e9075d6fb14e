-- Leads are searched, changed and erased; a run may take up the unreached of an earlier one.

-- An erased person's row stays, because jobs count it, but nothing is left in it. No number: nobody to call.
ALTER TABLE carillon.leads ALTER COLUMN phone DROP NOT NULL;
ALTER TABLE carillon.leads ADD COLUMN IF NOT EXISTS erased_at timestamptz;
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_constraint
                 WHERE conrelid = 'carillon.leads'::regclass AND conname = 'erased_is_empty') THEN
    ALTER TABLE carillon.leads ADD CONSTRAINT erased_is_empty CHECK (CASE WHEN erased_at IS NULL THEN phone IS NOT NULL
      ELSE num_nonnulls(phone, name, external_id, time_zone) = 0 AND attributes = '{}' END);
  END IF;
END $$;

-- Searched by how they begin. In the order of bytes and compared with < and >=, because under row security an index is
-- used for leakproof comparisons only, and neither LIKE nor lower() is one; hence also a column for the small letters.
-- Partial, so that no look-up by number or id can take one of these indexes for its own: see docs/adr/0003.
ALTER TABLE carillon.leads ADD COLUMN IF NOT EXISTS search_name text GENERATED ALWAYS AS (lower(left(name, 200))) STORED;
CREATE INDEX IF NOT EXISTS leads_by_name ON carillon.leads (business_id, search_name COLLATE "C", lead_id)
  WHERE search_name IS NOT NULL;
CREATE INDEX IF NOT EXISTS leads_by_external_id ON carillon.leads (business_id, external_id COLLATE "C", lead_id)
  WHERE external_id IS NOT NULL;

-- A follow-up run: over the leads of from_run_id whose jobs ended as from_outcomes says. No foreign key: runs never go,
-- and checking the rows that are there would run into the forced row security.
ALTER TABLE carillon.outbound_call_runs ADD COLUMN IF NOT EXISTS from_run_id bigint;
ALTER TABLE carillon.outbound_call_runs ADD COLUMN IF NOT EXISTS from_outcomes text[];
-- Partial, so that no look-up of a run by its number can take it for its own, as one did: it is younger than the primary
-- key, and both look equally cheap before anything is known of the table. See docs/adr/0003.
ALTER TABLE carillon.outbound_call_runs DROP CONSTRAINT IF EXISTS unique_run_idempotency_key;
CREATE UNIQUE INDEX IF NOT EXISTS unique_run_idempotency_key ON carillon.outbound_call_runs (business_id, idempotency_key)
  WHERE idempotency_key IS NOT NULL;

-- The leads of a follow-up run, fixed when it starts, in the order of its jobs: those numbered from first_seq on. Each
-- row is deleted when its jobs are made.
CREATE TABLE IF NOT EXISTS carillon.run_leads (
  business_id bigint NOT NULL,
  run_id      bigint NOT NULL,
  first_seq   integer NOT NULL CHECK (first_seq >= 1),
  lead_ids    bigint[] NOT NULL CHECK (cardinality(lead_ids) BETWEEN 1 AND 10000),
  PRIMARY KEY (business_id, run_id, first_seq),
  FOREIGN KEY (business_id, run_id) REFERENCES carillon.outbound_call_runs
);
-- Some kilobytes of numbers that hardly compress.
ALTER TABLE carillon.run_leads ALTER COLUMN lead_ids SET STORAGE EXTERNAL;
ALTER TABLE carillon.run_leads ENABLE ROW LEVEL SECURITY;
ALTER TABLE carillon.run_leads FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS business_wall ON carillon.run_leads;
CREATE POLICY business_wall ON carillon.run_leads
  USING (business_id = current_setting('carillon.business_id')::bigint)
  WITH CHECK (business_id = current_setting('carillon.business_id')::bigint);

-- Asked for by name, so to speak: only a statement that says due_us > 0 can use it, and none that means a job by its
-- number reads through a run's whole schedule instead.
DROP INDEX IF EXISTS carillon.job_schedule_due;
CREATE INDEX IF NOT EXISTS job_schedule_by_due ON carillon.job_schedule (business_id, run_id, due_us, seq) WHERE due_us > 0;
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_constraint
                 WHERE conrelid = 'carillon.job_schedule'::regclass AND conname = 'due_after_1970') THEN
    ALTER TABLE carillon.job_schedule ADD CONSTRAINT due_after_1970 CHECK (due_us > 0);
  END IF;
END $$;

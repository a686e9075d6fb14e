-- Attempts: the only thing that a carrier is ever asked to do. Open ones live in a small table of their own, keyed so
-- that a job can't have two; a lane's lines are counted from its rows, never incremented and decremented.

CREATE TABLE IF NOT EXISTS carillon.open_attempts (
  business_id        bigint NOT NULL,
  run_id             bigint NOT NULL,
  seq                integer NOT NULL,
  attempt_no         integer NOT NULL,
  -- Which writing of this attempt's history the closing will be: 0, or higher after late evidence reopened it.
  revision           integer NOT NULL DEFAULT 0,
  carrier_account_id bigint NOT NULL,
  lead_id            bigint NOT NULL,
  token              text NOT NULL CHECK (length(token) = 22),
  state              text NOT NULL CHECK (state IN ('dialing', 'placed', 'ringing', 'in_call', 'unknown')),
  worker_id          text NOT NULL,
  lease_epoch        integer NOT NULL,
  control_epoch      integer NOT NULL,
  from_number        text NOT NULL,
  to_number          text NOT NULL,
  -- All times in microseconds of the database's clock since 1970.
  intent_us          bigint NOT NULL,
  deadline_us        bigint NOT NULL,
  call_max_ms        integer NOT NULL,
  call_id            text,
  placed_us          bigint,
  ringing_us         bigint,
  answered_us        bigint,
  unknown_us         bigint,
  cause              text,
  -- The last evidence, and the last time that somebody asked the carrier (or hung up): the pollers' turn-taking.
  heard_us           bigint NOT NULL,
  asked_us           bigint NOT NULL DEFAULT 0,
  -- Who wants this call ended: a stop or pause of the run, or the cancelling of this one job. A durable intent.
  hang_up            text CHECK (hang_up IN ('run', 'job')),
  PRIMARY KEY (business_id, run_id, seq),
  FOREIGN KEY (business_id, run_id, seq) REFERENCES carillon.outbound_call_jobs
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000);
ALTER TABLE carillon.open_attempts ENABLE ROW LEVEL SECURITY;
ALTER TABLE carillon.open_attempts FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS business_wall ON carillon.open_attempts;
CREATE POLICY business_wall ON carillon.open_attempts
  USING (business_id = current_setting('carillon.business_id')::bigint)
  WITH CHECK (business_id = current_setting('carillon.business_id')::bigint);

-- Closed attempts, append-only: the application may insert and read, nothing else. A revision above 0 is better
-- evidence about the same attempt; the highest is the truth, the lower ones are what was believed before.
-- No number of the called person: the lead's row has it, and can be erased.
CREATE TABLE IF NOT EXISTS carillon.attempts (
  business_id        bigint NOT NULL,
  run_id             bigint NOT NULL,
  seq                integer NOT NULL,
  attempt_no         integer NOT NULL,
  revision           integer NOT NULL,
  carrier_account_id bigint NOT NULL,
  lead_id            bigint NOT NULL,
  token              text NOT NULL,
  worker_id          text NOT NULL,
  lease_epoch        integer NOT NULL,
  control_epoch      integer NOT NULL,
  from_number        text NOT NULL,
  intent_us          bigint NOT NULL,
  call_id            text,
  placed_us          bigint,
  ringing_us         bigint,
  answered_us        bigint,
  ended_us           bigint NOT NULL,
  duration_s         integer,
  outcome            text NOT NULL CHECK (outcome IN ('completed', 'busy', 'no_answer', 'voicemail', 'failed',
    'cancelled', 'rejected', 'not_dialed', 'absent', 'unknown')),
  cause              text,
  PRIMARY KEY (business_id, run_id, seq, attempt_no, revision),
  FOREIGN KEY (business_id, run_id, seq) REFERENCES carillon.outbound_call_jobs
);
ALTER TABLE carillon.attempts ENABLE ROW LEVEL SECURITY;
ALTER TABLE carillon.attempts FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS business_wall ON carillon.attempts;
CREATE POLICY business_wall ON carillon.attempts
  USING (business_id = current_setting('carillon.business_id')::bigint)
  WITH CHECK (business_id = current_setting('carillon.business_id')::bigint);

-- The processes that work. Global: a worker serves every business and the row tells nothing of any. It is how workers
-- share the runs evenly and how readiness sees that somebody is alive.
CREATE TABLE IF NOT EXISTS carillon.workers (
  worker_id  text PRIMARY KEY,
  started_at timestamptz NOT NULL DEFAULT now(),
  seen_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- After a restore from a backup or a failover the database may have forgotten calls that were made (docs/adr/0009). One
-- row says where the database stood when a person last said that all is well, and whether it is suspected since.
CREATE TABLE IF NOT EXISTS carillon.installation_state (
  singleton    boolean PRIMARY KEY CHECK (singleton),
  -- System identifier, database, table and timeline; NULL until the first process writes it.
  place        text,
  -- How many restores were noticed so far.
  restores     integer NOT NULL DEFAULT 0,
  suspected_at timestamptz,
  reason       text,
  CHECK ((suspected_at IS NULL) = (reason IS NULL))
) WITH (fillfactor = 50);
INSERT INTO carillon.installation_state (singleton) VALUES (true) ON CONFLICT (singleton) DO NOTHING;

-- Each process counts in a row of its own, which nobody else writes, and remembers how far it got: a database that has
-- less is an older one.
CREATE TABLE IF NOT EXISTS carillon.witnesses (
  witness_id text PRIMARY KEY,
  beat       bigint NOT NULL,
  seen_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- Up to which restore this account's calls were compared with its carrier's list, and what stood in the way last.
ALTER TABLE carillon.lanes ADD COLUMN IF NOT EXISTS restores_settled integer NOT NULL DEFAULT 0;
ALTER TABLE carillon.lanes ADD COLUMN IF NOT EXISTS restore_problem text;
ALTER TABLE carillon.lanes ADD COLUMN IF NOT EXISTS restore_asked_us bigint NOT NULL DEFAULT 0;

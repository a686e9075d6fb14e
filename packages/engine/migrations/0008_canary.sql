-- What the readiness check needs: businesses of its own that it can make on a live installation and take away again, and
-- the two moments that nobody kept so far.

-- A canary calls nobody, and is seen by nobody but the check that made it. Set when the row is made and never changed:
-- the application may update the other columns only, so an ordinary business can't be turned into one that is removable.
ALTER TABLE carillon.businesses ADD COLUMN IF NOT EXISTS canary boolean NOT NULL DEFAULT false;

-- When this account's carrier last sent a callback that bore its signature; written at most every half minute.
ALTER TABLE carillon.carrier_accounts ADD COLUMN IF NOT EXISTS last_callback_at timestamptz;

-- How far the worker's clock is ahead of the database's.
ALTER TABLE carillon.workers ADD COLUMN IF NOT EXISTS skew_ms bigint;

-- Removes a canary with everything in it, also what the application may only add to (attempts, trail). It runs as the
-- owner, for whom row security holds as well: it reaches the business that the calling transaction has set, and no other.
-- False: there is no such business (any more). Any other business is refused.
CREATE OR REPLACE FUNCTION carillon.remove_canary(wanted bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  is_canary boolean;
  remaining oid[];
  leaf oid;
BEGIN
  SELECT canary INTO is_canary FROM carillon.businesses WHERE business_id = wanted;
  IF is_canary IS NULL THEN RETURN false; END IF;
  IF NOT is_canary THEN
    RAISE EXCEPTION 'business % is no canary, and stays', wanted USING ERRCODE = 'insufficient_privilege';
  END IF;
  -- The order in which everybody locks: the runs, then the business, whose row each writer of the trail refers to.
  PERFORM FROM carillon.outbound_call_runs WHERE business_id = wanted ORDER BY run_id FOR UPDATE;
  PERFORM FROM carillon.businesses WHERE business_id = wanted FOR UPDATE;
  -- Every table with a business_id, those to come included; each after those that refer to it.
  remaining := ARRAY(SELECT c.oid FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
                      WHERE c.relnamespace = 'carillon'::regnamespace AND c.relkind IN ('r', 'p')
                        AND a.attname = 'business_id' AND NOT a.attisdropped);
  WHILE cardinality(remaining) > 0 LOOP
    SELECT t INTO leaf FROM unnest(remaining) t
     WHERE NOT EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.confrelid = t AND f.conrelid <> t
                          AND f.conrelid = ANY (remaining))
     LIMIT 1;
    IF leaf IS NULL THEN RAISE EXCEPTION 'the tables of a business refer to each other in a circle'; END IF;
    EXECUTE format('DELETE FROM %s WHERE business_id = $1', leaf::regclass) USING wanted;
    remaining := array_remove(remaining, leaf);
  END LOOP;
  RETURN true;
END $$;
REVOKE ALL ON FUNCTION carillon.remove_canary(bigint) FROM PUBLIC;

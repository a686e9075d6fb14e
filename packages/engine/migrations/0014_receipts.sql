-- What a person asks of the API leaves a receipt in its own transaction. Where the connection breaks between COMMIT and
-- its answer, the transaction is run again with the same receipt, and finds in this table whether it was committed: see
-- docs/adr/0010-receipts.md.

-- No foreign key: a business that is being made has its receipt before its row. Nothing is ever updated; what is old goes
-- in the order of the key, a few with each new one.
CREATE TABLE IF NOT EXISTS carillon.receipts (
  business_id bigint NOT NULL,
  -- Microseconds since 1970 by the clock of the process that was asked.
  at_us       bigint NOT NULL,
  nonce       bigint NOT NULL,
  PRIMARY KEY (business_id, at_us, nonce)
) WITH (fillfactor = 100, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000);
ALTER TABLE carillon.receipts ENABLE ROW LEVEL SECURITY;
ALTER TABLE carillon.receipts FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS business_wall ON carillon.receipts;
CREATE POLICY business_wall ON carillon.receipts
  USING (business_id = current_setting('carillon.business_id')::bigint)
  WITH CHECK (business_id = current_setting('carillon.business_id')::bigint);

-- Lists as people have them: what an import found in its file and did to leads that were there, and who agreed to be
-- called.

-- updated: leads of the business that got a new value. reasons: lines by reason. file: how the file was read (format,
-- encoding, columns). bytes_read: of the upload, while it runs.
ALTER TABLE carillon.list_imports ADD COLUMN IF NOT EXISTS updated integer NOT NULL DEFAULT 0;
ALTER TABLE carillon.list_imports ADD COLUMN IF NOT EXISTS reasons jsonb NOT NULL DEFAULT '{}';
ALTER TABLE carillon.list_imports ADD COLUMN IF NOT EXISTS file jsonb;
ALTER TABLE carillon.list_imports ADD COLUMN IF NOT EXISTS bytes_read bigint NOT NULL DEFAULT 0;
CREATE INDEX IF NOT EXISTS list_imports_of_list ON carillon.list_imports (business_id, list_id, import_id);

-- accepted: the line made a member, and there is something about it that a person should see.
ALTER TABLE carillon.import_lines DROP CONSTRAINT IF EXISTS import_lines_verdict_check;
ALTER TABLE carillon.import_lines ADD CONSTRAINT import_lines_verdict_check
  CHECK (verdict IN ('accepted', 'rejected', 'duplicate'));

-- That a person agreed to be called: where from, when, and to which words. The newest one that was given; a time that
-- nobody knows is older than any other. In a table of its own, so that a look-up of a lead doesn't carry the text along.
CREATE TABLE IF NOT EXISTS carillon.lead_consents (
  business_id bigint NOT NULL,
  lead_id     bigint NOT NULL,
  source      text,
  given_at    timestamptz,
  consent_text text,
  recorded_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (business_id, lead_id),
  FOREIGN KEY (business_id, lead_id) REFERENCES carillon.leads ON DELETE CASCADE,
  CHECK (num_nonnulls(source, given_at, consent_text) > 0)
);
ALTER TABLE carillon.lead_consents ENABLE ROW LEVEL SECURITY;
ALTER TABLE carillon.lead_consents FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS business_wall ON carillon.lead_consents;
CREATE POLICY business_wall ON carillon.lead_consents
  USING (business_id = current_setting('carillon.business_id')::bigint)
  WITH CHECK (business_id = current_setting('carillon.business_id')::bigint);

-- What the last pause or stop wanted done with live calls; NULL while the run goes on. An open attempt bears the wish
-- itself, but one that was believed absent by then has left the table, and its call may show up after all.
ALTER TABLE carillon.outbound_call_runs ADD COLUMN IF NOT EXISTS live_calls text
  CHECK (live_calls IN ('drain', 'hang_up'));

-- An owner reads the few security events among the many changes.
CREATE INDEX IF NOT EXISTS audit_events_of_kind ON carillon.audit_events (business_id, kind, event_id);

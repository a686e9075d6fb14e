/** One row of each table with a business_id, for business 1 and for business 2. A new table gets its line here. */
export const SEED = `
SET search_path = carillon;
INSERT INTO businesses (business_id, name) SELECT b, 'Business ' || b FROM generate_series(1, 2) b;
INSERT INTO api_keys (business_id, key_id, role, secret_hash)
  SELECT b, b, 'owner', decode(repeat('00', 32), 'hex') FROM generate_series(1, 2) b;
INSERT INTO carrier_accounts (business_id, carrier_account_id, name, driver, base_url, account_sid, auth_token_sealed, from_numbers)
  SELECT b, b, 'Account', 'twilio', 'http://127.0.0.1', 'AC1', '\\x00', '{+15005550006}' FROM generate_series(1, 2) b;
INSERT INTO lanes (business_id, carrier_account_id, concurrency_limit, calls_per_second)
  SELECT b, b, 3, 1 FROM generate_series(1, 2) b;
INSERT INTO unwanted_calls (business_id, carrier_account_id, call_id, reason)
  SELECT b, b, 'CA1', 'test' FROM generate_series(1, 2) b;
INSERT INTO leads (business_id, lead_id, phone) SELECT b, b, '+97250123456' || b FROM generate_series(1, 2) b;
INSERT INTO lists (business_id, list_id, name, leads) SELECT b, b, 'List', 1 FROM generate_series(1, 2) b;
INSERT INTO list_members (business_id, list_id, position, lead_id) SELECT b, b, 1, b FROM generate_series(1, 2) b;
INSERT INTO list_imports (business_id, import_id, list_id, state) SELECT b, b, b, 'done' FROM generate_series(1, 2) b;
INSERT INTO import_lines (business_id, import_id, line, verdict, reason, original)
  SELECT b, b, 1, 'rejected', 'test', 'x' FROM generate_series(1, 2) b;
INSERT INTO lead_consents (business_id, lead_id, source) SELECT b, b, 'form' FROM generate_series(1, 2) b;
INSERT INTO outbound_call_runs (business_id, run_id, name, status, list_id, carrier_account_id, concurrency, answer,
    total_leads, filled_seq, in_progress, created_by)
  SELECT b, b, 'Run', 'running', b, b, 3, '{}', 1, 1, 1, 'test' FROM generate_series(1, 2) b;
INSERT INTO outbound_call_jobs (business_id, run_id, seq, lead_id, status, attempts)
  SELECT b, b, 1, b, 'in_progress', 1 FROM generate_series(1, 2) b;
INSERT INTO run_leads (business_id, run_id, first_seq, lead_ids) SELECT b, b, 1, ARRAY[b] FROM generate_series(1, 2) b;
INSERT INTO job_schedule (business_id, run_id, seq, due_us, reason) SELECT b, b, 1, 1, 'retry' FROM generate_series(1, 2) b;
INSERT INTO open_attempts (business_id, run_id, seq, attempt_no, carrier_account_id, lead_id, token, state, worker_id,
    lease_epoch, control_epoch, from_number, to_number, intent_us, deadline_us, call_max_ms, heard_us)
  SELECT b, b, 1, 1, b, b, repeat('a', 22), 'dialing', 'w', 1, 0, '+15005550006', '+972501234567', 0, 0, 1, 0
    FROM generate_series(1, 2) b;
INSERT INTO attempts (business_id, run_id, seq, attempt_no, revision, carrier_account_id, lead_id, token, worker_id,
    lease_epoch, control_epoch, from_number, intent_us, ended_us, outcome)
  SELECT b, b, 1, 1, 0, b, b, repeat('a', 22), 'w', 1, 0, '+15005550006', 0, 0, 'busy' FROM generate_series(1, 2) b;
INSERT INTO adoptions (business_id, adoption_id, source, old_business) SELECT b, b, 'old', b FROM generate_series(1, 2) b;
INSERT INTO adopted_runs (business_id, adoption_id, old_run_id, run_id, jobs, row)
  SELECT b, b, b, b, 1, '{}' FROM generate_series(1, 2) b;
INSERT INTO adopted_leads (business_id, adoption_id, old_lead_id, lead_id, made)
  SELECT b, b, b, b, true FROM generate_series(1, 2) b;
INSERT INTO adopted_jobs (business_id, run_id, seq, lead_id, old_job_id, rank, status)
  SELECT b, b, 1, b, b, 1, 'queued' FROM generate_series(1, 2) b;
INSERT INTO adopted_rows (business_id, adoption_id, kind, old_id, reason, lead_id, row)
  SELECT b, b, 'job', b, 'duplicate', b, '{}' FROM generate_series(1, 2) b;
INSERT INTO receipts (business_id, at_us, nonce) SELECT b, 1, b FROM generate_series(1, 2) b;
INSERT INTO audit_events (business_id, kind, action, actor) SELECT b, 'change', 'run.created', 'test' FROM generate_series(1, 2) b;
`;

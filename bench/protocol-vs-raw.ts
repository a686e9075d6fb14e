/**
 * The claim and settle transactions beside hand-written SQL that makes the same row changes with nothing around it:
 * no reads, no decisions, no row security, no retries. Both on one PostgreSQL in one run, in turn; what counts is the
 * ratio. Usage: node bench/protocol-vs-raw.ts [jobs] [batch] [rounds]
 */
import { BusinessId, type RunId } from '@carillon/contract';
import {
  type AttemptKey,
  claim,
  defaultLimits,
  type Evidence,
  openDatabase,
  localActor,
  recordEvidence,
  systemClock,
} from '@carillon/engine';
import type pg from 'pg';
import { median, withDatabase } from './support.ts';

const jobs = Number(process.argv[2] ?? 100_000);
const batch = Number(process.argv[3] ?? 500);
const rounds = Number(process.argv[4] ?? 3);
const LINES = 10_000;
const SIDES = 2;
const limits = {
  ...defaultLimits,
  claim_batch_attempts: batch,
  claim_ahead_ms: 1_000_000_000,
  lease_ttl_ms: 3_600_000,
};

interface Side {
  business_id: BusinessId;
  run_id: RunId;
  account: number;
}

/** A leased run over `jobs` leads, filled; each side has a lane of its own, as two runs of two businesses would. */
async function prepare(superuser: pg.Pool): Promise<Side> {
  const one = async (sql: string, params: unknown[] = []) => Number((await superuser.query(sql, params)).rows[0]?.id);
  const business_id = await one("INSERT INTO carillon.businesses (name) VALUES ('bench') RETURNING business_id AS id");
  const account = await one(
    `INSERT INTO carillon.carrier_accounts (business_id, name, driver, base_url, account_sid, auth_token_sealed, from_numbers)
     VALUES ($1, 'x', 'twilio', 'http://127.0.0.1', 'AC1', '\\x00', '{+97231110000}') RETURNING carrier_account_id AS id`,
    [business_id],
  );
  await superuser.query(
    'INSERT INTO carillon.lanes (business_id, carrier_account_id, concurrency_limit, calls_per_second) VALUES ($1, $2, $3, 1000)',
    [business_id, account, LINES],
  );
  const run_id = await one(
    `INSERT INTO carillon.outbound_call_runs (business_id, name, status, carrier_account_id, concurrency, answer, created_by,
       total_leads, queued, filled_seq, locked_by_worker, lock_ts, lease_epoch, started_at, policy)
     VALUES ($1, 'bench', 'running', $2, $3, '{}', 'bench', $4, $4, $4, 'bench', now(), 1, now(), '{"retry":{}}') RETURNING run_id AS id`,
    [business_id, account, LINES, jobs],
  );
  await superuser.query(
    `WITH people AS (
       INSERT INTO carillon.leads (business_id, phone)
       SELECT $1, '+9725' || lpad(n::text, 8, '0') FROM generate_series(1, $3::int) n RETURNING lead_id)
     INSERT INTO carillon.outbound_call_jobs (business_id, run_id, seq, lead_id)
     SELECT $1, $2, row_number() OVER (), lead_id FROM people`,
    [business_id, run_id, jobs],
  );
  return { business_id: BusinessId.parse(business_id), run_id: run_id as RunId, account };
}

const BENCH = localActor('bench');

async function drainByProtocol(appUrl: string, side: Side, placed: boolean): Promise<void> {
  const db = openDatabase({ app_url: appUrl, pool_connections: 1 });
  const lease = { ...side, carrier_account_id: side.account, lease_epoch: 1 };
  for (let done = 0; done < jobs; ) {
    const { attempts } = await claim(db, lease, 'bench', systemClock, limits);
    if (attempts.length === 0) throw new Error('nothing to claim');
    const all = (evidence: (key: AttemptKey) => Evidence) =>
      recordEvidence(
        db,
        side.business_id,
        side.run_id,
        attempts.map((key) => ({ key, evidence: evidence(key), actor: BENCH })),
        limits,
      );
    if (placed) await all((key) => ({ kind: 'accepted', call_id: `CA${key.seq}` }));
    await all((key) => ({
      kind: 'call',
      call: {
        call_id: `CA${key.seq}`,
        phase: 'ended',
        outcome: 'completed',
        duration_s: 3,
        created_at_s: null,
        cause: null,
      },
    }));
    done += attempts.length;
  }
  await db.close();
}

const TOKEN = 'tokentokentokentokento';

async function drainByHand(superuser: pg.Pool, side: Side, placed: boolean): Promise<void> {
  const client = await superuser.connect();
  const key = [side.business_id, side.run_id];
  for (let from = 1; from <= jobs; from += batch) {
    const to = Math.min(from + batch - 1, jobs);
    const n = to - from + 1;
    await client.query('BEGIN');
    await client.query(
      `UPDATE carillon.outbound_call_jobs SET status = 'in_progress', attempts = attempts + 1, updated_at = now()
       WHERE business_id = $1 AND run_id = $2 AND seq BETWEEN $3 AND $4`,
      [...key, from, to],
    );
    await client.query(
      `INSERT INTO carillon.open_attempts (business_id, run_id, seq, attempt_no, carrier_account_id, lead_id, token, state,
         worker_id, lease_epoch, control_epoch, from_number, to_number, intent_us, deadline_us, heard_us, call_max_ms)
       SELECT $1, $2, seq, 1, $5, lead_id, $6, 'dialing', 'bench', 1, 0, '+97231110000', '+972500000000', 1, 1, 1, 1
       FROM carillon.outbound_call_jobs WHERE business_id = $1 AND run_id = $2 AND seq BETWEEN $3 AND $4`,
      [...key, from, to, side.account, TOKEN],
    );
    await client.query(
      `UPDATE carillon.outbound_call_runs SET claim_cursor = $3, queued = queued - $4, in_progress = in_progress + $4,
         updated_at = now() WHERE business_id = $1 AND run_id = $2`,
      [...key, to + 1, n],
    );
    await client.query(
      'UPDATE carillon.lanes SET tat_us = tat_us + 1 WHERE business_id = $1 AND carrier_account_id = $2',
      [side.business_id, side.account],
    );
    await client.query('COMMIT');
    if (placed)
      await client.query(
        `UPDATE carillon.open_attempts SET state = 'placed', call_id = 'CA' || seq, placed_us = 1, heard_us = 1
         WHERE business_id = $1 AND run_id = $2 AND seq BETWEEN $3 AND $4`,
        [...key, from, to],
      );
    await client.query('BEGIN');
    await client.query(
      `WITH gone AS (
         DELETE FROM carillon.open_attempts WHERE business_id = $1 AND run_id = $2 AND seq BETWEEN $3 AND $4 RETURNING *)
       INSERT INTO carillon.attempts (business_id, run_id, seq, attempt_no, revision, carrier_account_id, lead_id, token,
         worker_id, lease_epoch, control_epoch, from_number, intent_us, call_id, placed_us, ended_us, duration_s, outcome)
       SELECT business_id, run_id, seq, attempt_no, revision, carrier_account_id, lead_id, token, worker_id, lease_epoch,
         control_epoch, from_number, intent_us, 'CA' || seq, 1, 1, 3, 'completed' FROM gone`,
      [...key, from, to],
    );
    await client.query(
      `UPDATE carillon.outbound_call_jobs SET status = 'completed', last_outcome = 'completed', updated_at = now()
       WHERE business_id = $1 AND run_id = $2 AND seq BETWEEN $3 AND $4`,
      [...key, from, to],
    );
    await client.query(
      `UPDATE carillon.outbound_call_runs SET in_progress = in_progress - $3, completed = completed + $3, updated_at = now()
       WHERE business_id = $1 AND run_id = $2`,
      [...key, n],
    );
    await client.query('COMMIT');
  }
  client.release();
}

await withDatabase(async ({ appUrl, superuser }) => {
  for (const placed of [false, true]) {
    const rates = { protocol: [] as number[], raw: [] as number[] };
    for (let round = 0; round < rounds; round++) {
      for (const kind of ['protocol', 'raw'] as const) {
        const sides = await Promise.all(Array.from({ length: SIDES }, () => prepare(superuser)));
        await superuser.query('VACUUM ANALYZE carillon.outbound_call_jobs');
        await superuser.query('CHECKPOINT');
        const before = await superuser.query<{ lsn: string }>('SELECT pg_current_wal_lsn() AS lsn');
        const started = performance.now();
        await Promise.all(
          sides.map((side) =>
            kind === 'protocol' ? drainByProtocol(appUrl, side, placed) : drainByHand(superuser, side, placed),
          ),
        );
        const rate = (jobs * SIDES) / ((performance.now() - started) / 1_000);
        const wal = await superuser.query<{ bytes: string }>('SELECT pg_current_wal_lsn() - $1::pg_lsn AS bytes', [
          before.rows[0]?.lsn,
        ]);
        rates[kind].push(rate);
        console.log(
          `${placed ? 'with' : 'without'} placed, ${kind}: ${Math.round(rate)} jobs/s, ${Math.round(Number(wal.rows[0]?.bytes) / (jobs * SIDES))} B of WAL a job`,
        );
      }
    }
    console.log(
      `${placed ? 'with' : 'without'} a transaction for placed: protocol ${Math.round(median(rates.protocol))}, raw ${Math.round(median(rates.raw))} jobs/s, ratio ${(median(rates.protocol) / median(rates.raw)).toFixed(2)}`,
    );
  }
  const hot = await superuser.query(
    `SELECT relname, n_tup_upd, round(100.0 * n_tup_hot_upd / greatest(n_tup_upd, 1), 1) AS hot_percent
     FROM pg_stat_user_tables WHERE schemaname = 'carillon' AND n_tup_upd > 0 ORDER BY n_tup_upd DESC`,
  );
  console.table(hot.rows);
});

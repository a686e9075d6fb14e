import { randomBytes } from 'node:crypto';
import {
  type BusinessId,
  CarrierAccountId,
  ImportId,
  type KeyId,
  type LeadId,
  ListId,
  type RunId,
  type Seq,
} from '@carillon/contract';
import {
  createBusiness,
  createCarrierAccount,
  createKey,
  createList,
  importLeads,
  recordEvidence,
  reportForgottenCall,
} from '../../src/index.ts';
import type { OpenAttempt } from '../../src/call/attempt.ts';
import { actor, claimAll, ended, type Fixture, lease, live, review, startRun } from './fixture.ts';
import { csv } from './leads.ts';

/** One business with something in every table, all of it marked by a name that no other business has. */
export interface Inhabitant {
  business_id: BusinessId;
  key: string;
  key_id: KeyId;
  carrier_account_id: CarrierAccountId;
  list_id: ListId;
  import_id: ImportId;
  lead_ids: LeadId[];
  run_id: RunId;
  /** Of a job whose call is under way. */
  open: OpenAttempt;
  /** A job that waits for a person, and one that is done. */
  review: { run_id: RunId; seq: Seq };
  done: { run_id: RunId; seq: Seq };
  unwanted_call_id: string;
  idempotency_key: string;
}

export const SECRET = randomBytes(32);
const LEADS = 8;

export async function inhabit(fixture: Fixture, mark: string, first_number: number): Promise<Inhabitant> {
  const { db, limits } = fixture;
  const { business_id, key } = await createBusiness(db, { name: `${mark} business` }, actor);
  const { key_id } = await createKey(db, business_id, { role: 'admin', label: `${mark} key` }, actor);
  const { carrier_account_id } = await createCarrierAccount(
    db,
    business_id,
    {
      name: `${mark} account`,
      driver: 'twilio',
      base_url: 'http://127.0.0.1:1',
      account_sid: `AC-${mark}`,
      auth_token: `${mark} token`,
      from_numbers: [`+9723999${String(first_number).slice(-4)}`],
      concurrency_limit: 100,
      calls_per_second: 1_000,
    },
    SECRET,
    actor,
  );
  const list_id = ListId.parse((await createList(db, business_id, { name: `${mark} list` }, actor)).list_id);
  const lines = Array.from({ length: LEADS }, (_, n) => `${mark} person ${n},+97252${first_number + n},${mark}-${n}`);
  const file = ['name,phone,external_id', ...lines, `${mark} nobody,no number,x`].join('\n');
  const { import_id } = await importLeads(db, business_id, list_id, csv(file), { actor });
  const idempotency_key = `${mark} button`;
  const tenant = { business_id, carrier_account_id: CarrierAccountId.parse(carrier_account_id), list_id };
  const run_id = await startRun(fixture, tenant, { name: `${mark} run` }, idempotency_key);
  const attempts = await claimAll(fixture, await lease(fixture, tenant, run_id), 5);
  const [first, second, third] = attempts;
  if (!first || !second || !third) throw new Error('nothing was claimed');
  const evidence = (key: typeof first, evidence: ReturnType<typeof live>) => ({ key, evidence, actor });
  await recordEvidence(
    db,
    business_id,
    run_id,
    [evidence(first, live(`CA-${mark}-1`, 'in_call')), evidence(second, ended(`CA-${mark}-2`, 'completed'))],
    limits,
  );
  await recordEvidence(db, business_id, run_id, [evidence(third, await review(fixture, third))], limits);
  const unwanted_call_id = `CA-${mark}-forgotten`;
  await reportForgottenCall(db, business_id, tenant.carrier_account_id, unwanted_call_id, actor);
  const [open] = await fixture.rows<OpenAttempt>(
    'SELECT * FROM carillon.open_attempts WHERE business_id = $1 AND seq = $2',
    [business_id, first.seq],
  );
  const leads = await fixture.rows<{ lead_id: string }>(
    'SELECT lead_id FROM carillon.leads WHERE business_id = $1 ORDER BY lead_id',
    [business_id],
  );
  if (!open) throw new Error('no attempt is open');
  return {
    key,
    key_id,
    ...tenant,
    import_id: ImportId.parse(import_id),
    lead_ids: leads.map(({ lead_id }) => Number(lead_id) as LeadId),
    run_id,
    open: { ...open, run_id, lead_id: Number(open.lead_id), carrier_account_id: tenant.carrier_account_id },
    review: { run_id, seq: third.seq },
    done: { run_id, seq: second.seq },
    unwanted_call_id,
    idempotency_key,
  };
}

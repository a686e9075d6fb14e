import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sqlState, violatedConstraint } from '../src/db/database.ts';
import { actor, createFixture, createTenant, type Fixture, readRow, startRun } from './support/fixture.ts';

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture();
});
afterAll(async () => await fixture.close());

describe('unique_run_lead', () => {
  it('refuses a second job for one lead and run by that name', async () => {
    const tenant = await createTenant(fixture, { leads: 3 });
    const run_id = await startRun(fixture, tenant);
    const second = fixture.rows(
      `INSERT INTO carillon.outbound_call_jobs (business_id, run_id, seq, lead_id)
       SELECT business_id, run_id, 99, lead_id FROM carillon.outbound_call_jobs WHERE run_id = $1 AND seq = 1`,
      [run_id],
    );
    const error: unknown = await second.catch((caught: unknown) => caught);
    expect(sqlState(error)).toBe('23505');
    expect(violatedConstraint(error)).toBe('unique_run_lead');
  });

  it('is what answers when a request names a lead twice, and nothing of the run remains', async () => {
    const tenant = await createTenant(fixture, { leads: 2 });
    const [lead] = await fixture.rows<{ lead_id: string }>(
      'SELECT lead_id FROM carillon.leads WHERE business_id = $1 LIMIT 1',
      [tenant.business_id],
    );
    const lead_id = Number(lead?.lead_id) as never;
    await expect(startRun(fixture, tenant, { lead_ids: [lead_id, lead_id] })).rejects.toMatchObject({
      code: 'duplicate_lead',
      details: { constraint: 'unique_run_lead' },
    });
    expect(
      await fixture.rows('SELECT 1 FROM carillon.outbound_call_runs WHERE business_id = $1', [tenant.business_id]),
    ).toEqual([]);
  });

  it('stands beside the uniqueness of numbers: a business has no two leads with one', async () => {
    const tenant = await createTenant(fixture, { leads: 1 });
    const copy = fixture.rows(
      'INSERT INTO carillon.leads (business_id, phone) SELECT business_id, phone FROM carillon.leads WHERE business_id = $1',
      [tenant.business_id],
    );
    expect(violatedConstraint(await copy.catch((caught: unknown) => caught))).toBe('unique_lead_phone');
    const other = await createTenant(fixture, { leads: 1 });
    const shared = fixture.rows(
      'INSERT INTO carillon.leads (business_id, phone) SELECT $2, phone FROM carillon.leads WHERE business_id = $1 RETURNING 1',
      [tenant.business_id, other.business_id],
    );
    expect(await shared).toHaveLength(1);
  });
});

describe('creating a run', () => {
  it('gives the same run for the same key and request, at once from two places', async () => {
    const tenant = await createTenant(fixture, { leads: 5 });
    const runs = await Promise.all(Array.from({ length: 8 }, () => startRun(fixture, tenant, {}, 'the-key')));
    expect(new Set(runs).size).toBe(1);
    await expect(startRun(fixture, tenant, { concurrency: 3 }, 'the-key')).rejects.toMatchObject({
      code: 'idempotency_conflict',
    });
  });

  it('refuses what is another business’s in the words for what does not exist', async () => {
    const mine = await createTenant(fixture, { leads: 1 });
    const other = await createTenant(fixture, { leads: 1 });
    await expect(startRun(fixture, mine, { list_id: other.list_id })).rejects.toMatchObject({ code: 'list_not_found' });
    await expect(startRun(fixture, mine, { carrier_account_id: other.carrier_account_id })).rejects.toMatchObject({
      code: 'carrier_account_not_found',
    });
    const [lead] = await fixture.rows<{ lead_id: string }>(
      'SELECT lead_id FROM carillon.leads WHERE business_id = $1',
      [other.business_id],
    );
    await expect(startRun(fixture, mine, { lead_ids: [Number(lead?.lead_id) as never] })).rejects.toMatchObject({
      code: 'lead_not_found',
    });
  });

  it('makes a draft that calls nobody until it is resumed', async () => {
    const tenant = await createTenant(fixture, { leads: 4 });
    const run_id = await startRun(fixture, tenant, { draft: true });
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'draft', total_leads: 0 });
    const { resumeRun } = await import('../src/run/resume.ts');
    const run = await resumeRun(fixture.db, tenant.business_id, run_id, fixture.limits, actor);
    expect(run).toMatchObject({ status: 'pending', total_leads: 4, queued: 4 });
  });
});

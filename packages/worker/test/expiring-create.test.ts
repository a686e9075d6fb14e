import { generateKeyPairSync } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import { type HoldingRelay, startHoldingRelay } from '../../../test/support/holding-relay.ts';
import { callsByNumber, createInstallation, type Installation } from './support/installation.ts';

/**
 * A request that the network holds up for longer than any delay that was reckoned with. Where creates expire the carrier
 * refuses it, however late it comes; where they do not, only the reckoning stands between it and a second call.
 */

const { publicKey, privateKey } = generateKeyPairSync('rsa', {
  modulusLength: 2048,
  publicKeyEncoding: { type: 'spki', format: 'pem' },
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
});
const KEY = { credential_sid: 'CR1', signing_key_sid: 'SK1', private_key_pem: privateKey };

let here: Installation;
let relay: HoldingRelay;
afterEach(async () => {
  await here.close();
  await relay.close();
});

/** A run of one lead, whose first create is held up until the lead has been called again and the run is over. */
async function holdUp(expiring: boolean) {
  // The reckoning is wrong on purpose: the held request arrives long after this.
  here = await createInstallation({ limits: { carrier_effect_delay_ms: 200 } });
  relay = await startHoldingRelay(here.sim.url);
  const tenant = await here.business({
    leads: 1,
    base_url: relay.url,
    client_validation: expiring ? KEY : undefined,
  });
  here.sim.behaviour = {
    default: { ring_ms: 20, talk_ms: 20, outcomes: { answered: 1 } },
    accounts: expiring
      ? { [tenant.account.account_sid]: { client_validation: { public_key_pem: publicKey } } }
      : undefined,
  };
  relay.holdNextCreate();
  const run_id = await here.run(tenant);
  here.start();
  await until(() => relay.held() === 1, { deadline_ms: 30_000, what: 'a create that is held up' });
  const held_ms = performance.now();
  expect(await here.ended(tenant, run_id)).toMatchObject({ status: 'completed', completed: 1 });
  return { run_id, recovered_ms: performance.now() - held_ms };
}

describe('a create that is held up on its way', { timeout: 90_000 }, () => {
  it('beyond its expiry makes no call, however late it arrives: its lead was called once', async () => {
    const { run_id, recovered_ms } = await holdUp(true);
    // On a busy machine some are not dialled before their deadline.
    const made = await here.rows<{ outcome: string }>(
      "SELECT outcome FROM carillon.attempts WHERE run_id = $1 AND outcome <> 'not_dialed' ORDER BY attempt_no",
      [run_id],
    );
    expect(made).toEqual([{ outcome: 'absent' }, { outcome: 'completed' }]);
    // An expiry is in whole seconds, and the request must be listed: the grace that the driver declares.
    expect(recovered_ms).toBeGreaterThan(here.limits.dial_deadline_ms + here.limits.carrier_listing_delay_ms);
    expect(await relay.letArrive()).toMatch(/^HTTP\/1\.1 401 /);
    expect([...callsByNumber(here.sim).values()]).toEqual([1]);
  });

  it('becomes a second call where creates do not expire and the reckoning was wrong', async () => {
    await holdUp(false);
    expect(await relay.letArrive()).toMatch(/^HTTP\/1\.1 201 /);
    expect([...callsByNumber(here.sim).values()]).toEqual([2]);
  });
});

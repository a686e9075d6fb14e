import type { BehaviourInput, LedgerEntry, Totals } from '@carillon/carrier-sim';
import { TRIAL } from './limits.ts';

type Lane = NonNullable<BehaviourInput['accounts']>[string];

/** The simulated carrier, which is the judge: it is never killed, and its own doors stay open when it is "down". */
export interface Carrier {
  url: string;
  port: number;
  /** How an account's calls go when no fault is on. */
  behave(account_sid: string, lane: Lane): Promise<void>;
  /** Adds to the behaviour of every account until the returned function takes it away. */
  disturb(fault: Lane): Promise<() => Promise<void>>;
  /** In the order of their acceptance. */
  ledger(): Promise<LedgerEntry[]>;
  totals(): Promise<Totals & { accounts: Record<string, Totals> }>;
}

export function createCarrier(url: string): Carrier {
  const lanes: Record<string, Lane> = {};
  const faults = new Set<Lane>();
  let putting = Promise.resolve();

  /** One after the other, each with what is in force by then: an older one never overwrites a newer. */
  async function put(): Promise<void> {
    putting = putting.then(async () => {
      const added = Object.assign({}, ...faults) as Lane;
      const accounts = Object.fromEntries(
        Object.entries(lanes).map(([sid, lane]) => [
          sid,
          { ...lane, ...added, callback: { ...lane.callback, ...added.callback } },
        ]),
      );
      const body: BehaviourInput = { body_timeout_ms: TRIAL.carrier_body_timeout_ms, accounts };
      const response = await fetch(`${url}/_sim/behaviour`, {
        method: 'PUT',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
      if (!response.ok) throw new Error(`the simulator refuses this behaviour: ${await response.text()}`);
    });
    await putting;
  }

  return {
    url,
    port: Number(new URL(url).port),
    async behave(account_sid, lane) {
      lanes[account_sid] = lane;
      await put();
    },
    async disturb(fault) {
      // An object of its own, so that two faults of a kind are two.
      const mine = { ...fault };
      faults.add(mine);
      await put();
      return async () => {
        faults.delete(mine);
        await put();
      };
    },
    async ledger() {
      const text = await (await fetch(`${url}/_sim/ledger`)).text();
      return text
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as LedgerEntry);
    },
    async totals() {
      return (await (await fetch(`${url}/_sim/totals`)).json()) as Totals & { accounts: Record<string, Totals> };
    },
  };
}

import { faultPoint } from '@carillon/contract';
import {
  accountIsSettled,
  accountIsUnsettled,
  type AccountToSettle,
  accountsToSettle,
  reviewForgotten,
  type Settlement,
  takeSettleTurn,
} from '@carillon/engine';
import type { WorkerContext } from './context.ts';

/** How far the carrier's clock, and a database's that was set, may be off before a call could be overlooked in the list. */
const MARGIN_MS = 3_600_000;

export interface SettleState {
  /** Of which restore, and since when this process has known of it, on its monotonic clock. */
  restores: number;
  since_ms: number;
}

export function createSettleState(): SettleState {
  return { restores: 0, since_ms: 0 };
}

/**
 * While a restore is not acknowledged: asks each account's carrier for its calls, and puts every job under review whose
 * lead has a call that no attempt has. Asked only once whatever was under way when the database was replaced must be in
 * the list, by this process's own clock.
 */
export async function settleRestore(
  context: WorkerContext,
  state: SettleState,
  suspected: { restores: number } | null,
): Promise<void> {
  const { clock, db, limits, log } = context;
  if (suspected === null) return;
  if (state.restores !== suspected.restores)
    Object.assign(state, { restores: suspected.restores, since_ms: clock.monotonicMs() });
  for (const account of await accountsToSettle(db, suspected.restores)) {
    if (context.stopping()) return;
    try {
      const problem = await settle(context, state, account);
      if (problem !== null) await accountIsUnsettled(db, account, problem);
    } catch (error) {
      log.warn({ err: error, ...account }, 'an account was not compared with its carrier’s list; trying again');
    }
  }

  async function settle({ actor }: WorkerContext, { restores, since_ms }: SettleState, account: AccountToSettle) {
    const { credentials, driver } = await context.account(account.business_id, account.carrier_account_id);
    if (!driver.list) return `the driver ${driver.name} can not list calls`;
    const { effect_delay_ms, listing_delay_ms } = driver.capabilities(credentials);
    const under_way_ms = limits.dial_deadline_ms + (effect_delay_ms ?? limits.carrier_effect_delay_ms);
    const grace_ms = under_way_ms + listing_delay_ms + limits.reconcile_margin_ms;
    if (clock.monotonicMs() - since_ms < grace_ms) return null;
    const turn = await takeSettleTurn(db, account, limits.reconcile_every_ms);
    if (turn === null) return null;
    const total: Settlement = { listed: 0, forgotten: 0, reviewed: 0 };
    const created_from_ms = (turn.since_ms ?? turn.now_ms) - MARGIN_MS;
    let page: string | null = null;
    do {
      const wanted = { created_from_ms, created_to_ms: turn.now_ms + MARGIN_MS, page };
      faultPoint('list', 'before_request');
      const listed = await driver.list(credentials, wanted);
      faultPoint('list', 'answered');
      if (listed.kind === 'error') return `the carrier did not list its calls: ${listed.cause}`;
      const found = await reviewForgotten(db, account, listed.calls, { limits, actor });
      total.listed += found.listed;
      total.forgotten += found.forgotten;
      total.reviewed += found.reviewed;
      page = listed.next;
    } while (page !== null);
    await accountIsSettled(db, account, restores, total, actor);
    log.warn({ ...account, ...total }, 'an account was compared with its carrier’s list');
    return null;
  }
}

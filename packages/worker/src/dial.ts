import { callbackUrls, faultPoint, type PlaceResult } from '@carillon/contract';
import { type ClaimedAttempt, type Evidence, OWN_ERROR } from '@carillon/engine';
import type { WorkerContext } from './context.ts';
import type { Pacer } from './pacer.ts';
import type { Signal } from './waiting.ts';

/**
 * Dials one committed attempt and records what came of it. Never throws and never tries twice: what can't be recorded
 * here is found by the reapers, from the committed intent.
 */
export async function dial(context: WorkerContext, pacer: Pacer, stop: Signal, attempt: ClaimedAttempt): Promise<void> {
  const said = { account: false, go: false };
  const evidence = await ask(context, pacer, stop, attempt, said).catch((error: unknown): Evidence => {
    // Until the gate said "go" the carrier was asked nothing; after it, nobody knows.
    context.log.error({ err: error, run_id: attempt.run_id, seq: attempt.seq }, 'a dial failed');
    if (said.go) return { kind: 'unknown', cause: OWN_ERROR };
    return { kind: 'not_dialed', cause: said.account ? OWN_ERROR : 'the account can not be used', unreachable: true };
  });
  try {
    const recorded = await context.gatherer.record({ key: attempt, evidence, actor: context.actor });
    if (recorded === 'unknown_attempt') context.log.error({ run_id: attempt.run_id }, 'a dialled attempt is unknown');
  } catch (error) {
    context.log.error(
      { err: error, run_id: attempt.run_id, seq: attempt.seq },
      'the outcome of a dial was not recorded',
    );
  }
}

async function ask(
  context: WorkerContext,
  pacer: Pacer,
  stop: Signal,
  attempt: ClaimedAttempt,
  said: { account: boolean; go: boolean },
): Promise<Evidence> {
  const { clock, limits } = context;
  const { credentials, driver } = await context.account(attempt.business_id, attempt.carrier_account_id);
  // What fails from here on may be for this lead alone.
  said.account = true;
  let refusedByUs: string | null = null;
  faultPoint('dial', 'before_connect', attempt.to);
  const result = await driver.place(
    {
      credentials,
      to: attempt.to,
      from: attempt.from,
      ...callbackUrls(context.public_url, credentials.driver, attempt, attempt.carrier_account_id),
      ring_timeout_ms: limits.ring_timeout_ms,
      call_max_ms: limits.call_max_ms,
      // By the database's clock, on which the reconciler counts from the deadline; or by this process's, if that is ahead
      // of it: it takes two clocks that are ahead for a create to live on.
      expires_at_ms: Math.min(attempt.deadline_us / 1_000, attempt.deadline_wall_ms),
    },
    {
      async pace() {
        faultPoint('dial', 'headers_out', attempt.to);
        const lane = `${attempt.business_id}/${attempt.carrier_account_id}`;
        const start_ms = pacer.place(lane, attempt.start_monotonic_ms, attempt.interval_ms);
        for (
          let left = start_ms - clock.monotonicMs();
          left > 0 && !context.stopping();
          left = start_ms - clock.monotonicMs()
        )
          await stop.wait(left);
      },
      // Asked in the same turn that writes the body. The monotonic clock stands still while a machine is suspended and
      // the wall clock can be set back: either one that says "past" is believed.
      mayStart() {
        if (context.stopping()) refusedByUs = 'the worker is stopping';
        else if (clock.monotonicMs() >= attempt.deadline_monotonic_ms || clock.wallMs() >= attempt.deadline_wall_ms)
          refusedByUs = 'the dial deadline is past';
        said.go = refusedByUs === null;
        return said.go;
      },
    },
  );
  if (said.go) faultPoint('dial', 'answered', attempt.to);
  return toEvidence(result, refusedByUs);
}

function toEvidence(result: PlaceResult, refusedByUs: string | null): Evidence {
  switch (result.kind) {
    case 'accepted':
      return { kind: 'accepted', call_id: result.call_id };
    case 'rejected':
      return { kind: 'rejected', code: result.code, class: result.class };
    case 'not_dialed':
      return { kind: 'not_dialed', cause: refusedByUs ?? result.cause, unreachable: refusedByUs === null };
    case 'unknown':
      return { kind: 'unknown', cause: result.cause };
  }
}

import type { ReadinessResult } from '@carillon/contract';
import type { Clock } from '@carillon/engine';

/** What a proof has found: a sentence, what it rests on, and whether it is as it must be. */
export interface Finding {
  ok: boolean;
  warning?: boolean;
  sentence: string;
  evidence: Record<string, unknown>;
}

/** Runs a proof. One that can't be brought to its end has not proven anything: it fails, with the reason. */
export async function prove(clock: Clock, point: string, work: () => Promise<Finding>): Promise<ReadinessResult> {
  const began_ms = clock.monotonicMs();
  const found = await work().catch(
    (error: unknown): Finding => ({
      ok: false,
      sentence: `It could not be proven: ${reasonOf(error)}`,
      evidence: { error: reasonOf(error) },
    }),
  );
  const { ok, sentence, evidence, warning = false } = found;
  return { point, ok, warning, sentence, evidence, took_ms: Math.round(clock.monotonicMs() - began_ms) };
}

/** A sentence begins with a capital letter, whatever comes first. */
export function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** The driver's errors often come as several, one for each address that was tried, without a message of their own. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return error.errors.map(reasonOf).join('; ');
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message} (${reasonOf(error.cause)})` : error.message;
}

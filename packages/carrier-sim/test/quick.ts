import type { BehaviourInput } from '../src/index.ts';

/** Everybody answers at once and talks for a moment, unless a test says otherwise. */
export const quick: NonNullable<BehaviourInput['default']> = {
  response_delay_ms: 0,
  ring_ms: 10,
  talk_ms: 10,
  outcomes: { answered: 1 },
  callback: { delay_ms: 0 },
};
